//! Quantities with units: periods, sizes, rates, and bounds on them.
//!
//! A bare number is never a period or a size: `30` needs a unit.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::scalar::{Scalar, quote, scalar_serde};

/// A second in the base unit of [`Period`], for the bounds of a [`Bounded`].
pub const SECOND: u64 = 1_000;
/// A minute in the base unit of [`Period`].
pub const MINUTE: u64 = 60 * SECOND;
/// An hour in the base unit of [`Period`].
pub const HOUR: u64 = 60 * MINUTE;
/// A day in the base unit of [`Period`].
pub const DAY: u64 = 24 * HOUR;
/// 1,024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1,024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1,024 MiB.
pub const GIB: u64 = 1 << 30;
/// 1,024 GiB.
pub const TIB: u64 = 1 << 40;

/// Maximum period, a century: adding a period to a point in time never overflows.
const MAX_PERIOD: u64 = 36_500 * DAY;
/// Maximum size, 1 PiB.
const MAX_BYTES: u64 = 1 << 50;

/// The units of periods, largest first: also the order in which they are written.
const PERIODS: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];
/// The units of sizes.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", KIB),
    ("MB", 1_000_000),
    ("MiB", MIB),
    ("GB", 1_000_000_000),
    ("GiB", GIB),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// A value that is measured in a base unit, so that it can have bounds.
pub trait Measure: Scalar + Copy + fmt::Display {
    /// What it is, with its article: "a period".
    const KIND: &'static str;
    /// The value in its base unit: milliseconds, bytes, or the number itself.
    fn base(self) -> u64;
    /// The value of this many base units, or the nearest one that exists.
    fn from_base(base: u64) -> Self;
}

/// A [`Measure`] that can be used in a [`Rate`].
pub trait Amount: Measure {
    /// A rate of it, as an example.
    const RATE: &'static str;
    /// Reads the amount before the slash. The error continues a sentence that begins with the key.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A span of time in whole milliseconds, at most a century. Written as `"90s"`, `"10m"`, `"7d"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

impl Period {
    /// A period of this many milliseconds, at most a century.
    pub const fn from_millis(millis: u64) -> Period {
        Period(if millis > MAX_PERIOD { MAX_PERIOD } else { millis })
    }

    /// A period of this many seconds, at most a century.
    pub const fn from_secs(seconds: u64) -> Period {
        Period::from_millis(seconds.saturating_mul(SECOND))
    }

    /// The length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The period as a [`std::time::Duration`].
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        let mut gap = "";
        for (unit, size) in PERIODS {
            if rest >= size {
                write!(f, "{gap}{}{unit}", rest / size)?;
                rest %= size;
                gap = " ";
            }
        }
        Ok(())
    }
}

impl Scalar for Period {
    fn expected() -> String {
        "a period such as \"30s\" or \"1h 30m\"".into()
    }

    fn from_text(text: &str) -> Result<Period, String> {
        let mut rest = text.trim();
        let mut sum = 0_u64;
        let mut last = u64::MAX;
        if rest.is_empty() {
            return Err(wrong::<Period>(text));
        }
        while !rest.is_empty() {
            let (number, unit, tail) = number_and_unit(rest).ok_or_else(|| wrong::<Period>(text))?;
            if unit.is_empty() {
                let alone = rest == text.trim() && tail.is_empty();
                return Err(if alone { needs_unit_of_time(number) } else { wrong::<Period>(text) });
            }
            let size = unit_of(&PERIODS, unit)?;
            // "30m 1h" and "1h 1h" are more likely typing errors.
            if size >= last {
                return Err(wrong::<Period>(text));
            }
            last = size;
            sum = number
                .checked_mul(size)
                .and_then(|part| sum.checked_add(part))
                .filter(|sum| *sum <= MAX_PERIOD)
                .ok_or_else(|| format!("has to be at most {}, not {}", Period(MAX_PERIOD), quote(text)))?;
            rest = tail.trim_start();
        }
        Ok(Period(sum))
    }

    fn from_integer(number: i64) -> Result<Period, String> {
        Err(needs_unit_of_time(number.unsigned_abs()))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Measure for Period {
    const KIND: &'static str = "a period";

    fn base(self) -> u64 {
        self.0
    }

    fn from_base(base: u64) -> Period {
        Period::from_millis(base)
    }
}

/// A size in bytes, at most 1 PiB. Written as `"10 KiB"`, `"100 MB"`, `"512 B"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// A size of this many bytes, at most 1 PiB.
    pub const fn new(bytes: u64) -> Bytes {
        Bytes(if bytes > MAX_BYTES { MAX_BYTES } else { bytes })
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a `usize`, saturating.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The unit that gives the smallest whole number. Bytes always give one, and zero is zero in the first unit.
        let (unit, size) = SIZES
            .into_iter()
            .filter(|(_, size)| self.0.is_multiple_of(*size))
            .min_by_key(|(_, size)| self.0 / size)
            .unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / size)
    }
}

impl Scalar for Bytes {
    fn expected() -> String {
        "a size such as \"10 KiB\" or \"100 MB\"".into()
    }

    fn from_text(text: &str) -> Result<Bytes, String> {
        Bytes::parse(text)
    }

    fn from_integer(number: i64) -> Result<Bytes, String> {
        Err(needs_unit_of_size(number.unsigned_abs()))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Measure for Bytes {
    const KIND: &'static str = "a size";

    fn base(self) -> u64 {
        self.0
    }

    fn from_base(base: u64) -> Bytes {
        Bytes::new(base)
    }
}

impl Amount for Bytes {
    const RATE: &'static str = "50 KB/s";

    fn parse(text: &str) -> Result<Bytes, String> {
        let (number, unit, tail) = number_and_unit(text.trim()).ok_or_else(|| wrong::<Bytes>(text))?;
        if !tail.is_empty() {
            return Err(wrong::<Bytes>(text));
        }
        if unit.is_empty() {
            return Err(needs_unit_of_size(number));
        }
        number
            .checked_mul(unit_of(&SIZES, unit)?)
            .filter(|size| *size <= MAX_BYTES)
            .map(Bytes)
            .ok_or_else(|| format!("has to be at most {}, not {}", Bytes(MAX_BYTES), quote(text)))
    }
}

impl Scalar for u32 {
    fn expected() -> String {
        "a whole number".into()
    }

    fn from_text(text: &str) -> Result<u32, String> {
        Err(format!("has to be a whole number without quotes, not {}", quote(text)))
    }

    fn from_integer(number: i64) -> Result<u32, String> {
        u32::try_from(number).map_err(|_| format!("has to be a whole number up to {}, not {number}", u32::MAX))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    const BARE: bool = true;
}

impl Measure for u32 {
    const KIND: &'static str = "a whole number";

    fn base(self) -> u64 {
        self.into()
    }

    fn from_base(base: u64) -> u32 {
        u32::try_from(base).unwrap_or(u32::MAX)
    }
}

impl Amount for u32 {
    const RATE: &'static str = "5/min";

    fn parse(text: &str) -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .ok_or_else(|| format!("has to begin with a whole number up to {}, not {}", u32::MAX, quote(text)))
    }
}

/// The unit of time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// `/s`
    Second,
    /// `/min`
    Minute,
    /// `/h`
    Hour,
    /// `/d`
    Day,
}

impl Per {
    const ALL: [(&'static str, Per); 4] = [("s", Per::Second), ("min", Per::Minute), ("h", Per::Hour), ("d", Per::Day)];

    /// The length of it.
    pub const fn period(self) -> Period {
        Period(match self {
            Per::Second => SECOND,
            Per::Minute => MINUTE,
            Per::Hour => HOUR,
            Per::Day => DAY,
        })
    }
}

/// An amount per unit of time, never zero: `Rate<u32>` counts (`"5/min"`), `Rate<Bytes>` measures (`"50 KB/s"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate<T> {
    amount: T,
    per: Per,
}

impl<T: Amount> Rate<T> {
    /// `amount` in each `per`; zero becomes the smallest amount.
    pub fn new(amount: T, per: Per) -> Rate<T> {
        Rate { amount: if amount.base() == 0 { T::from_base(1) } else { amount }, per }
    }

    /// How much.
    pub fn amount(self) -> T {
        self.amount
    }

    /// In how long.
    pub fn per(self) -> Per {
        self.per
    }
}

impl<T: fmt::Display> fmt::Display for Rate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Per::ALL.into_iter().find(|(_, per)| *per == self.per).map_or("s", |(name, _)| name);
        write!(f, "{}/{name}", self.amount)
    }
}

impl<T: Amount> Scalar for Rate<T> {
    fn expected() -> String {
        format!("a rate such as {}", quote(T::RATE))
    }

    fn from_text(text: &str) -> Result<Rate<T>, String> {
        let wrong = || format!("has to be {}, not {}", Self::expected(), quote(text));
        let (amount, unit) = text.trim().rsplit_once('/').ok_or_else(wrong)?;
        let amount = T::parse(amount.trim())?;
        let unit = unit.trim();
        let Some((_, per)) = Per::ALL.into_iter().find(|(name, _)| *name == unit) else {
            return Err(format!("has to be for each s, min, h or d, not {}", quote(unit)));
        };
        if amount.base() == 0 {
            return Err(format!("has to let something through, not {}", quote(text)));
        }
        Ok(Rate { amount, per })
    }

    fn from_integer(number: i64) -> Result<Rate<T>, String> {
        Err(format!("has to be {}, not {number}", Self::expected()))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// A value between `MIN` and `MAX`, both included and both in the base unit of `T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounded<T, const MIN: u64, const MAX: u64>(T);

impl<T: Measure, const MIN: u64, const MAX: u64> Bounded<T, MIN, MAX> {
    /// The value clamped to the bounds.
    pub fn clamp(value: T) -> Self {
        Bounded(if (MIN..=MAX).contains(&value.base()) { value } else { T::from_base(value.base().clamp(MIN, MAX)) })
    }

    /// The value.
    pub fn get(self) -> T {
        self.0
    }

    fn check(value: T) -> Result<Self, String> {
        if (MIN..=MAX).contains(&value.base()) {
            return Ok(Bounded(value));
        }
        Err(format!("has to be between {} and {}, not {value}", T::from_base(MIN), T::from_base(MAX)))
    }
}

impl<T, const MIN: u64, const MAX: u64> Deref for Bounded<T, MIN, MAX> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display, const MIN: u64, const MAX: u64> fmt::Display for Bounded<T, MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Measure, const MIN: u64, const MAX: u64> Scalar for Bounded<T, MIN, MAX> {
    fn expected() -> String {
        let show = |base| if T::BARE { T::from_base(base).text() } else { quote(&T::from_base(base).text()) };
        format!("{} between {} and {}", T::KIND, show(MIN), show(MAX))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::check(T::from_text(text)?)
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        // Checked before the limits of the type, whose message says less: -1 is reported as out of these bounds.
        if T::BARE && u64::try_from(number).map_or(true, |number| !(MIN..=MAX).contains(&number)) {
            return Err(format!("has to be between {MIN} and {MAX}, not {number}"));
        }
        Self::check(T::from_integer(number)?)
    }

    fn text(&self) -> String {
        self.0.text()
    }

    const BARE: bool = T::BARE;
}

scalar_serde!(Period);
scalar_serde!(Bytes);
scalar_serde!(Rate<T>, T: Amount);
scalar_serde!(Bounded<T, MIN, MAX>, T: Measure, const MIN: u64, const MAX: u64);

/// The leading number, the letters after it, and the rest. `None` if there is no number or it does not fit.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(letters)?;
    Some((number.parse().ok()?, unit, rest))
}

fn unit_of(units: &[(&str, u64)], unit: &str) -> Result<u64, String> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size).ok_or_else(|| {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        format!("has the unknown unit {}; the units are {}", quote(unit), names.join(", "))
    })
}

/// Suggestion for a bare number, taken as seconds: in the largest unit that gives a whole number.
fn needs_unit_of_time(seconds: u64) -> String {
    let whole = |(_, size): &(&str, u64)| *size > SECOND && seconds > 0 && seconds.is_multiple_of(size / SECOND);
    let (unit, size) = PERIODS.into_iter().find(whole).unwrap_or(("s", SECOND));
    format!("needs a unit, for example \"{}{unit}\"", seconds / (size / SECOND))
}

/// Suggestion for a bare number, taken as bytes.
fn needs_unit_of_size(bytes: u64) -> String {
    let example = if bytes > MAX_BYTES { format!("{bytes} B") } else { Bytes(bytes).to_string() };
    format!("needs a unit, for example \"{example}\"")
}

fn wrong<T: Scalar>(text: &str) -> String {
    format!("has to be {}, not {}", T::expected(), quote(text))
}

#[cfg(test)]
mod tests;
