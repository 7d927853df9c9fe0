//! XEP-0082: XMPP Date and Time Profiles.
//!
//! The moment in time as a number, and the DateTime profile (§3.2) in which it is written: `2026-11-22T07:40:00Z`. The
//! form that older protocols keep (§4: `jabber:x:delay`, `jabber:iq:time`) is `20261122T07:40:00`.
//!
//! Limits: 1970 to 9999, milliseconds, 64 bytes of text
//! Not:    dates and times alone (§3.1, §3.3), leap seconds, years with a sign or more than four digits (§5)

use std::fmt;
use std::time::Duration;

/// The longest text looked at. Fractions of a second may have any number of digits; more than nine say nothing.
const MAX_TEXT: usize = 64;

const DAY: u64 = 86_400_000;

/// A moment in UTC, in milliseconds since 1970-01-01T00:00:00Z; never later than the end of the year 9999, so that
/// every moment can be written in the profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Why a text is no moment in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DateTimeError {
    /// It does not have the form of the profile; a missing time zone is such a case.
    #[error("not a date and time in the form of XEP-0082")]
    Form,
    /// The form is right but there is no such day, hour, minute, second or time zone.
    #[error("no such date or time")]
    NoSuchTime,
    /// Before 1970 or, brought to UTC, after 9999.
    #[error("a date outside 1970 to 9999")]
    OutOfRange,
}

impl Timestamp {
    /// The last moment there is: 9999-12-31T23:59:59.999Z.
    pub const MAX: Timestamp = Timestamp(days_before_year(10_000) * DAY - 1);

    /// `millis` milliseconds after the beginning of 1970; what lies after the year 9999 becomes [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Timestamp {
        if millis > Timestamp::MAX.0 { Timestamp::MAX } else { Timestamp(millis) }
    }

    /// Milliseconds since the beginning of 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `later` after this one, at most [`Timestamp::MAX`]. Parts of a millisecond are dropped.
    #[must_use]
    pub fn plus(self, later: Duration) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `earlier` before this one, at least the beginning of 1970. Parts of a millisecond are dropped.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time that has passed since `earlier`; nothing if that is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads the DateTime profile, `CCYY-MM-DDThh:mm:ss[.sss]TZD` (§3.2).
    ///
    /// What §3.2 leaves to the `dateTime` of XML Schema is taken from there: white space around it is dropped, a time
    /// zone is at most 14 hours away, `24:00:00` is the midnight that follows. Fractions beyond milliseconds are cut
    /// off.
    pub fn parse(text: &str) -> Result<Timestamp, DateTimeError> {
        let mut rest = Reader::new(text)?;
        let date = rest.date("-")?;
        let time = rest.time()?;
        let millis = rest.fraction()?;
        let zone = rest.zone()?;
        rest.end()?;
        assemble(date, time, millis, zone)
    }

    /// Reads a stamp of `jabber:x:delay` or `jabber:iq:time`: the form `CCYYMMDDThh:mm:ss`, which means UTC, or the
    /// DateTime profile (§4: be liberal there).
    pub fn parse_legacy(text: &str) -> Result<Timestamp, DateTimeError> {
        let mut rest = Reader::new(text)?;
        if rest.0.get(4) == Some(&b'-') {
            return Timestamp::parse(text);
        }
        let date = rest.date("")?;
        let time = rest.time()?;
        rest.end()?;
        assemble(date, time, 0, 0)
    }

    /// The form `20261122T07:40:00` for protocols that keep it (§4). Whole seconds.
    pub fn legacy(self) -> impl fmt::Display {
        Legacy(self)
    }

    fn civil(self) -> Civil {
        let (year, month, day) = date_of(self.0 / DAY);
        let second = self.0 % DAY / 1000;
        let time = (second / 3600, second / 60 % 60, second % 60);
        Civil { year, month, day, time, millis: self.0 % 1000 }
    }
}

/// The DateTime profile in UTC, as §6 advises: `2026-11-22T07:40:00Z`, with `.123` before the `Z` if there are
/// milliseconds. 20 or 24 bytes.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, time: (h, m, s), millis } = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")?;
        if millis != 0 { write!(f, ".{millis:03}Z") } else { f.write_str("Z") }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = DateTimeError;

    fn from_str(text: &str) -> Result<Timestamp, DateTimeError> {
        Timestamp::parse(text)
    }
}

struct Legacy(Timestamp);

impl fmt::Display for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, time: (h, m, s), .. } = self.0.civil();
        write!(f, "{year:04}{month:02}{day:02}T{h:02}:{m:02}:{s:02}")
    }
}

/// A moment as people count it, in UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    time: (u64, u64, u64),
    millis: u64,
}

fn assemble(
    (year, month, day): (u64, u64, u64),
    (hour, minute, second): (u64, u64, u64),
    millis: u64,
    zone_minutes: i64,
) -> Result<Timestamp, DateTimeError> {
    let length = days_in_month(year, month).ok_or(DateTimeError::NoSuchTime)?;
    let midnight = hour == 24 && (minute, second, millis) == (0, 0, 0);
    if day < 1 || day > length || (hour > 23 && !midnight) || minute > 59 || second > 59 {
        return Err(DateTimeError::NoSuchTime);
    }
    if year < 1970 {
        // The last hours of 1969 in a zone west of Greenwich are in 1970 here; nobody needs them.
        return Err(DateTimeError::OutOfRange);
    }
    let days = days_before_year(year) + days_before_month(year, month) + day - 1;
    let local = days * DAY + (hour * 3600 + minute * 60 + second) * 1000 + millis;
    let utc = local.checked_add_signed(-zone_minutes * 60_000).ok_or(DateTimeError::OutOfRange)?;
    if utc > Timestamp::MAX.0 { Err(DateTimeError::OutOfRange) } else { Ok(Timestamp(utc)) }
}

/// What is left of a text; every method takes one part off its front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn new(text: &str) -> Result<Reader<'_>, DateTimeError> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        if text.len() > MAX_TEXT { Err(DateTimeError::Form) } else { Ok(Reader(text.as_bytes())) }
    }

    /// Exactly `count` digits, no more than four, as a number.
    fn digits(&mut self, count: usize) -> Result<u64, DateTimeError> {
        let (digits, rest) = self.0.split_at_checked(count).ok_or(DateTimeError::Form)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(DateTimeError::Form);
        }
        self.0 = rest;
        Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn literal(&mut self, text: &str) -> Result<(), DateTimeError> {
        self.0 = self.0.strip_prefix(text.as_bytes()).ok_or(DateTimeError::Form)?;
        Ok(())
    }

    fn date(&mut self, separator: &str) -> Result<(u64, u64, u64), DateTimeError> {
        let year = self.digits(4)?;
        self.literal(separator)?;
        let month = self.digits(2)?;
        self.literal(separator)?;
        let day = self.digits(2)?;
        self.literal("T")?;
        Ok((year, month, day))
    }

    fn time(&mut self) -> Result<(u64, u64, u64), DateTimeError> {
        let hour = self.digits(2)?;
        self.literal(":")?;
        let minute = self.digits(2)?;
        self.literal(":")?;
        Ok((hour, minute, self.digits(2)?))
    }

    /// Milliseconds of `.sss` if it is there: any number of digits, but one at least.
    fn fraction(&mut self) -> Result<u64, DateTimeError> {
        let Some(rest) = self.0.strip_prefix(b".") else { return Ok(0) };
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = rest.split_at_checked(count).ok_or(DateTimeError::Form)?;
        if digits.is_empty() {
            return Err(DateTimeError::Form);
        }
        self.0 = rest;
        let first_three = digits.iter().copied().chain(std::iter::repeat(b'0')).take(3);
        Ok(first_three.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    /// Minutes ahead of UTC.
    fn zone(&mut self) -> Result<i64, DateTimeError> {
        let (sign, rest) = match self.0.split_first() {
            Some((b'Z', rest)) => {
                self.0 = rest;
                return Ok(0);
            }
            Some((b'+', rest)) => (1, rest),
            Some((b'-', rest)) => (-1, rest),
            _ => return Err(DateTimeError::Form),
        };
        self.0 = rest;
        let hours = self.digits(2)?;
        self.literal(":")?;
        let minutes = self.digits(2)?;
        let offset = hours * 60 + minutes;
        if minutes > 59 || offset > 14 * 60 {
            return Err(DateTimeError::NoSuchTime);
        }
        Ok(sign * i64::try_from(offset).map_err(|_| DateTimeError::NoSuchTime)?)
    }

    fn end(&self) -> Result<(), DateTimeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DateTimeError::Form) }
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Leap years from the year 1 up to and with `year`.
const fn leap_years_until(year: u64) -> u64 {
    year / 4 - year / 100 + year / 400
}

/// Days from the beginning of 1970 to the beginning of `year`, which is not before 1970.
const fn days_before_year(year: u64) -> u64 {
    (year - 1970) * 365 + leap_years_until(year - 1) - leap_years_until(1969)
}

const fn days_in_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if is_leap(year) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

fn days_before_month(year: u64, month: u64) -> u64 {
    (1..month).filter_map(|earlier| days_in_month(year, earlier)).sum()
}

/// Year, month and day of the day with this number, 0 being the first of 1970.
fn date_of(day: u64) -> (u64, u64, u64) {
    // No year is shorter than 365 days, so the guess is never too early; within 10,000 years it is at most 6 too late.
    let mut year = 1970 + day / 365;
    while days_before_year(year) > day {
        year -= 1;
    }
    let mut left = day - days_before_year(year);
    let mut month = 1;
    while let Some(length) = days_in_month(year, month)
        && left >= length
    {
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use DateTimeError::{Form, NoSuchTime, OutOfRange};
    use proptest::prelude::*;

    fn millis(text: &str) -> Result<u64, DateTimeError> {
        Timestamp::parse(text).map(Timestamp::as_millis)
    }

    #[test]
    fn moments_known_from_elsewhere_have_their_numbers() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2038-01-19T03:14:08Z", 2_147_483_648),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(millis(text), Ok(seconds * 1000), "{text}");
            assert_eq!(Timestamp::from_millis(seconds * 1000).to_string(), text);
        }
    }

    #[test]
    fn milliseconds_are_written_only_if_there_are_any() {
        assert_eq!(Timestamp::from_millis(1_000_000_000_000).to_string(), "2001-09-09T01:46:40Z");
        assert_eq!(Timestamp::from_millis(1_000_000_000_007).to_string(), "2001-09-09T01:46:40.007Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_time_zone_is_brought_to_utc() {
        assert_eq!(millis("2001-09-08T20:46:40-05:00"), Ok(1_000_000_000_000));
        assert_eq!(millis("2001-09-09T07:16:40+05:30"), Ok(1_000_000_000_000));
        assert_eq!(millis("1970-01-01T14:00:00+14:00"), Ok(0));
        assert_eq!(millis("2001-09-09T01:46:40-00:00"), Ok(1_000_000_000_000));
    }

    #[test]
    fn fractions_may_be_of_any_length_and_are_cut_after_milliseconds() {
        for (text, expected) in [("5", 500), ("05", 50), ("123", 123), ("9999", 999), ("000999999999", 0)] {
            assert_eq!(millis(&format!("1970-01-01T00:00:00.{text}Z")), Ok(expected), "{text}");
        }
    }

    #[test]
    fn white_space_around_and_the_midnight_after_follow_xml_schema() {
        assert_eq!(millis("\n 1970-01-01T00:00:01Z\t"), Ok(1000));
        assert_eq!(millis("1970-12-31T24:00:00Z"), millis("1971-01-01T00:00:00Z"));
        assert_eq!(millis("1970-12-31T24:00:01Z"), Err(NoSuchTime));
        assert_eq!(millis("1970-12-31T24:00:00.1Z"), Err(NoSuchTime));
    }

    #[test]
    fn february_has_29_days_in_leap_years_alone() {
        for (year, leap) in [(1972, true), (2000, true), (2026, false), (2028, true), (2100, false), (2400, true)] {
            assert_eq!(millis(&format!("{year}-02-29T00:00:00Z")).is_ok(), leap, "{year}");
        }
    }

    #[test]
    fn rubbish_is_refused_with_its_reason() {
        let long = format!("2026-11-22T07:40:00.{}Z", "1".repeat(60));
        for (text, reason) in [
            ("", Form),
            ("Z", Form),
            ("2026-11-22", Form),
            ("2026-11-22T07:40:00", Form),
            ("2026-11-22T07:40Z", Form),
            ("2026-11-22t07:40:00z", Form),
            ("2026-11-22 07:40:00Z", Form),
            ("2026-11-22T07:40:00.Z", Form),
            ("2026-11-22T07:40:00,5Z", Form),
            ("2026-11-22T07:40:00ZZ", Form),
            ("2026-11-22T07:40:00Z+01:00", Form),
            ("2026-11-22T07:40:00+0100", Form),
            ("2026-11-22T07:40:00+01", Form),
            ("2026-11-22T07:40:00 +01:00", Form),
            ("-026-11-22T07:40:00Z", Form),
            ("12026-11-22T07:40:00Z", Form),
            ("2026-1-22T07:40:00Z", Form),
            ("2026-+1-22T07:40:00Z", Form),
            ("20261122T07:40:00", Form),
            ("２026-11-22T07:40:00Z", Form),
            (long.as_str(), Form),
            ("2026-00-22T07:40:00Z", NoSuchTime),
            ("2026-13-22T07:40:00Z", NoSuchTime),
            ("2026-11-00T07:40:00Z", NoSuchTime),
            ("2026-11-31T07:40:00Z", NoSuchTime),
            ("2026-11-22T25:40:00Z", NoSuchTime),
            ("2026-11-22T07:60:00Z", NoSuchTime),
            ("2026-11-22T07:40:60Z", NoSuchTime),
            ("2026-11-22T07:40:00+14:01", NoSuchTime),
            ("2026-11-22T07:40:00-13:60", NoSuchTime),
            ("0000-01-01T00:00:00Z", OutOfRange),
            ("1969-07-21T02:56:15Z", OutOfRange),
            ("1970-01-01T00:00:00+00:01", OutOfRange),
            ("9999-12-31T24:00:00Z", OutOfRange),
            ("9999-12-31T23:59:00-00:01", OutOfRange),
        ] {
            assert_eq!(millis(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn the_old_form_means_utc_and_the_new_one_is_taken_there_as_well() {
        assert_eq!(Timestamp::parse_legacy("20010909T01:46:40"), Ok(Timestamp::from_millis(1_000_000_000_000)));
        assert_eq!(Timestamp::parse_legacy("2001-09-09T01:46:40Z"), Ok(Timestamp::from_millis(1_000_000_000_000)));
        assert_eq!(Timestamp::from_millis(1_000_000_000_999).legacy().to_string(), "20010909T01:46:40");
        for text in ["20010909T01:46:40Z", "20010909T014640", "20010909", "2001-0909T01:46:40", "20010931T01:46:40", ""]
        {
            assert!(Timestamp::parse_legacy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic_stays_between_1970_and_9999() {
        let second = Duration::from_secs(1);
        let start = Timestamp::default();
        assert_eq!(start.plus(second).minus(second), start);
        assert_eq!(start.minus(second), start);
        assert_eq!(start.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(u64::MAX), Timestamp::MAX);
        assert_eq!(start.plus(second).since(start), second);
        assert_eq!(start.since(start.plus(second)), Duration::ZERO);
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..=Timestamp::MAX.0 / DAY {
            assert_eq!(date_of(number), (year, month, day));
            day += 1;
            if days_in_month(year, month).is_some_and(|length| day > length) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (10_000, 1, 1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_moment(number in 0..=Timestamp::MAX.0) {
            let moment = Timestamp(number);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Ok(moment));
            let seconds = Timestamp(number / 1000 * 1000);
            prop_assert_eq!(Timestamp::parse_legacy(&moment.legacy().to_string()), Ok(seconds));
        }

        #[test]
        fn the_order_of_the_texts_is_the_order_of_the_moments(a in 0..=Timestamp::MAX.0, b in 0..=Timestamp::MAX.0) {
            let text = |number: u64| Timestamp(number / 1000 * 1000).to_string();
            prop_assert_eq!(text(a).cmp(&text(b)), (a / 1000).cmp(&(b / 1000)));
        }

        #[test]
        fn the_same_moment_in_another_zone_is_the_same_moment(
            number in 840 * 60_000..Timestamp::MAX.0 - 840 * 60_000, zone in -840_i64..=840,
        ) {
            let local = Timestamp(number.saturating_add_signed(zone * 60_000)).to_string();
            let (sign, minutes) = (if zone < 0 { '-' } else { '+' }, zone.abs());
            let text = format!("{}{sign}{:02}:{:02}", local.trim_end_matches('Z'), minutes / 60, minutes % 60);
            prop_assert_eq!(millis(&text), Ok(number), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,70}", near in "[0-9TZ:.+ -]{0,40}") {
            let _ = Timestamp::parse(&text);
            let _ = Timestamp::parse_legacy(&near);
            if let Ok(moment) = Timestamp::parse(&near) {
                prop_assert!(moment <= Timestamp::MAX);
            }
        }
    }
}
