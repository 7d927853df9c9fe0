use super::*;
use proptest::prelude::*;

fn error<T: Scalar + fmt::Debug>(text: &str) -> String {
    T::from_text(text).expect_err(text)
}

#[test]
fn a_period_is_read_with_and_without_spaces() {
    for (text, millis) in [
        ("90s", 90_000),
        ("10m", 600_000),
        ("7d", 7 * DAY),
        ("1h 30m", 90 * MINUTE),
        ("1h30m", 90 * MINUTE),
        (" 10 m ", 600_000),
        ("250ms", 250),
        ("1s 1ms", 1_001),
        ("0s", 0),
    ] {
        assert_eq!(Period::from_text(text), Ok(Period(millis)), "{text}");
    }
}

#[test]
fn a_period_is_written_in_its_largest_units() {
    for (millis, text) in [(0, "0s"), (90_000, "1m 30s"), (DAY, "1d"), (DAY + 1, "1d 1ms"), (36 * HOUR, "1d 12h")] {
        assert_eq!(Period(millis).to_string(), text);
    }
}

#[test]
fn a_period_without_a_unit_is_told_an_example_of_its_own() {
    assert_eq!(error::<Period>("90"), "needs a unit, for example \"90s\"");
    assert_eq!(Period::from_integer(90), Err("needs a unit, for example \"90s\"".into()));
    assert_eq!(Bytes::from_integer(10), Err("needs a unit, for example \"10 B\"".into()));
    assert_eq!(error::<Bytes>("10"), "needs a unit, for example \"10 B\"");
}

#[test]
fn the_example_is_as_much_as_the_number_in_bytes_or_seconds() {
    let example = |told: String| told.strip_prefix("needs a unit, for example ").expect("an example").to_owned();
    for (number, size) in
        [(131_072, "128 KiB"), (131_073, "131073 B"), (50_000, "50 KB"), (1 << 30, "1 GiB"), (0, "0 B")]
    {
        assert_eq!(example(Bytes::from_integer(number).expect_err("no unit")), format!("\"{size}\""));
        assert_eq!(example(error::<Bytes>(&number.to_string())), format!("\"{size}\""));
    }
    for (number, time) in
        [(3_600, "1h"), (3_601, "3601s"), (120, "2m"), (86_400, "1d"), (0, "0s"), (i64::MAX, "9223372036854775807s")]
    {
        assert_eq!(example(Period::from_integer(number).expect_err("no unit")), format!("\"{time}\""));
        assert_eq!(example(error::<Period>(&number.to_string())), format!("\"{time}\""));
    }
}

#[test]
fn a_unit_that_is_none_is_told_the_units() {
    assert_eq!(error::<Period>("90sec"), "has the unknown unit \"sec\"; the units are d, h, m, s, ms");
    assert_eq!(
        error::<Bytes>("1 kb"),
        "has the unknown unit \"kb\"; the units are B, KB, KiB, MB, MiB, GB, GiB, TB, TiB"
    );
    assert_eq!(error::<Rate<u32>>("5/m"), "has to be for each s, min, h or d, not \"m\"");
    assert_eq!(error::<Rate<Bytes>>("5/min"), "needs a unit, for example \"5 B\"");
}

#[test]
fn what_is_no_quantity_is_told_what_one_looks_like() {
    for text in ["", "soon", "-5s", "1.5h", "30m 1h", "1h 1h", "1h 30", "1s;", "99999999999999999999s"] {
        let expected = format!("has to be a period such as \"30s\" or \"1h 30m\", not {text:?}");
        assert_eq!(error::<Period>(text), expected);
    }
    for text in ["", "much", "-5 B", "1.5 MB", "1 MB 5 KB"] {
        let expected = format!("has to be a size such as \"10 KiB\" or \"100 MB\", not {text:?}");
        assert_eq!(error::<Bytes>(text), expected);
    }
    assert_eq!(error::<Rate<Bytes>>("5 KB"), "has to be a rate such as \"50 KB/s\", not \"5 KB\"");
    assert_eq!(error::<Rate<u32>>("5"), "has to be a rate such as \"5/min\", not \"5\"");
    assert_eq!(error::<Rate<u32>>("+5/s"), "has to begin with a whole number up to 4294967295, not \"+5\"");
    assert_eq!(error::<Rate<u32>>("0/s"), "has to let something through, not \"0/s\"");
    assert_eq!(Rate::<u32>::from_integer(5), Err("has to be a rate such as \"5/min\", not 5".into()));
}

#[test]
fn no_quantity_is_beyond_what_can_be_computed_with() {
    assert_eq!(Period::from_text("36500d"), Ok(Period(MAX_PERIOD)));
    assert_eq!(error::<Period>("36501d"), "has to be at most 36500d, not \"36501d\"");
    assert_eq!(error::<Period>("36500d 1ms"), "has to be at most 36500d, not \"36500d 1ms\"");
    assert_eq!(error::<Period>("18446744073709551615d"), "has to be at most 36500d, not \"18446744073709551615d\"");
    assert_eq!(Bytes::from_text("1024 TiB"), Ok(Bytes(MAX_BYTES)));
    assert_eq!(error::<Bytes>("1025 TiB"), "has to be at most 1024 TiB, not \"1025 TiB\"");
    assert_eq!(Period::from_secs(u64::MAX), Period(MAX_PERIOD));
    assert_eq!(Bytes::new(u64::MAX), Bytes(MAX_BYTES));
}

#[test]
fn a_size_is_written_in_the_unit_that_leaves_the_smallest_number() {
    for (size, text) in [(0, "0 B"), (999, "999 B"), (50_000, "50 KB"), (10_240, "10 KiB"), (1 << 20, "1 MiB")] {
        assert_eq!(Bytes(size).to_string(), text);
    }
}

#[test]
fn bounds_belong_to_the_values_they_bound() {
    type Short = Bounded<Period, SECOND, HOUR>;
    assert_eq!(Short::from_text("1s").map(|period| *period), Ok(Period(SECOND)));
    assert_eq!(Short::from_text("1h").map(|period| *period), Ok(Period(HOUR)));
    assert_eq!(error::<Short>("999ms"), "has to be between 1s and 1h, not 999ms");
    assert_eq!(error::<Short>("2h"), "has to be between 1s and 1h, not 2h");
    assert_eq!(Short::from_integer(5), Err("needs a unit, for example \"5s\"".into()));

    type Few = Bounded<u32, 1, 100>;
    assert_eq!(Few::from_integer(100).map(Few::get), Ok(100));
    for number in [0, 101, -1, i64::MAX] {
        assert_eq!(Few::from_integer(number), Err(format!("has to be between 1 and 100, not {number}")));
    }
    assert_eq!(error::<Few>("5"), "has to be a whole number without quotes, not \"5\"");
    assert_eq!((Few::clamp(0).get(), Few::clamp(7).get(), Few::clamp(101).get()), (1, 7, 100));
}

#[test]
fn a_rate_knows_its_amount_and_its_time() {
    let rate = Rate::<Bytes>::from_text("50 KB/min").expect("a rate");
    assert_eq!((rate.amount(), rate.per().period()), (Bytes(50_000), Period(MINUTE)));
    assert_eq!(Rate::new(0, Per::Day).amount(), 1);
}

fn round_trip<T: Scalar + fmt::Display + fmt::Debug + PartialEq>(value: T) -> Result<(), TestCaseError> {
    prop_assert_eq!(T::from_text(&value.to_string()), Ok(value));
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_quantity(
        millis in 0..=MAX_PERIOD, size in 0..=MAX_BYTES, round in 0..=1024_u64, power in 0..5_u32,
        count in 1..=u32::MAX, per in 0..4_usize,
    ) {
        let per = Per::ALL[per].1;
        round_trip(Period(millis))?;
        round_trip(Period(round * SECOND))?;
        round_trip(Bytes(size))?;
        round_trip(Bytes(round * 1024_u64.pow(power)))?;
        round_trip(Rate::new(count, per))?;
        round_trip(Rate::new(Bytes(size.max(1)), per))?;
        round_trip(Bounded::<Period, 0, DAY>::clamp(Period(millis)))?;
    }

    #[test]
    fn no_text_makes_a_quantity_panic(any in "\\PC{0,40}", near in "[0-9dhmskKMGTiB/ .-]{0,30}") {
        for text in [any, near] {
            if let Ok(period) = Period::from_text(&text) {
                round_trip(period)?;
            }
            if let Ok(size) = Bytes::from_text(&text) {
                round_trip(size)?;
            }
            let _ = Rate::<u32>::from_text(&text);
            let _ = Rate::<Bytes>::from_text(&text);
        }
    }
}
