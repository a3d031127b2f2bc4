//! Durations as Go writes them (`10s`, `1m30s`, `250ms`): the notation of vwatch's flags, `?timeout=` and
//! `Server-Timing`.

use std::fmt;
use std::time::Duration;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// It has a minus sign; Go accepts negative durations, but no setting needs one.
    Negative,
    /// A number without unit, which could mean anything.
    NoUnit,
    /// Longer than 2^63 - 1 ns, about 292 years: Go's longest.
    TooLong,
    /// It does not have the form of a duration.
    Malformed,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negative => "it is negative",
            Self::NoUnit => "a number without unit",
            Self::TooLong => "longer than 292 years",
            Self::Malformed => "not a duration such as 10s, 1m30s or 250ms",
        })
    }
}

impl std::error::Error for DurationError {}

/// Reads a duration as Go's `time.ParseDuration` does, but none below zero.
///
/// One or more decimal numbers, each with an optional fraction and a unit of `ns`, `us`, `µs`, `ms`, `s`, `m` or `h`.
/// `0` alone needs no unit. Fractions of a nanosecond are cut off.
///
/// # Errors
/// If the text is no such duration; see [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match parse_unsigned(unsigned) {
        // Go reads -0 as nothing, and so do we
        Ok(duration) if negative && !duration.is_zero() => Err(DurationError::Negative),
        parsed => parsed,
    }
}

fn parse_unsigned(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = digits(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Malformed);
        }
        let unit_len =
            after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_len);
        let unit_ns: u128 = match unit {
            "" => return Err(DurationError::NoUnit),
            "ns" => 1,
            // both the micro sign and the Greek letter
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(DurationError::Malformed),
        };
        total_ns = whole_ns(whole, unit_ns)?
            .checked_add(fraction_ns(fraction, unit_ns))
            .and_then(|ns| total_ns.checked_add(ns))
            .filter(|&ns| ns <= i64::MAX as u128)
            .ok_or(DurationError::TooLong)?;
        rest = after_unit;
    }
    Ok(Duration::from_nanos(u64::try_from(total_ns).expect("at most i64::MAX")))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn whole_ns(digits: &str, unit_ns: u128) -> Result<u128, DurationError> {
    if digits.is_empty() {
        return Ok(0);
    }
    digits.parse::<u128>().ok().and_then(|n| n.checked_mul(unit_ns)).ok_or(DurationError::TooLong)
}

/// The part of a unit behind the point. Digits past the twentieth are below a nanosecond for every unit.
fn fraction_ns(digits: &str, unit_ns: u128) -> u128 {
    let digits = &digits[..digits.len().min(20)];
    let scale = 10u128.pow(u32::try_from(digits.len()).expect("at most 20"));
    digits.parse::<u128>().unwrap_or(0) * unit_ns / scale
}

/// Writes a duration as Go's `Duration.String` does: `0s`, `1.5ms`, `2.671s`, `1m30s`, `24h0m0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Rounded to whole milliseconds, half up, as vwatch rounds what it puts into `Server-Timing`.
    #[must_use]
    pub fn rounded_to_ms(duration: Duration) -> Self {
        let ms = (duration.as_nanos() + 500_000) / 1_000_000;
        Self(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        match ns {
            0 => write!(f, "0s"),
            1..1_000 => write!(f, "{ns}ns"),
            1_000..1_000_000 => write!(f, "{}µs", Decimal(ns, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", Decimal(ns, 1_000_000)),
            _ => {
                let (minutes, ns_left) = (ns / 60_000_000_000, ns % 60_000_000_000);
                let (hours, minutes_left) = (minutes / 60, minutes % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if minutes > 0 {
                    write!(f, "{minutes_left}m")?;
                }
                write!(f, "{}s", Decimal(ns_left, 1_000_000_000))
            }
        }
    }
}

/// `ns / unit` without trailing zeros.
struct Decimal(u128, u128);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ns, unit) = *self;
        write!(f, "{}", ns / unit)?;
        if ns % unit == 0 {
            return Ok(());
        }
        let width = unit.ilog10() as usize;
        let fraction = format!("{:0width$}", ns % unit);
        write!(f, ".{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, ns) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("+5s", 5_000_000_000),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("250ms", 250_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("10us", 10_000),
            ("10\u{b5}s", 10_000),
            ("10\u{3bc}s", 10_000),
            ("1h1h", 7_200_000_000_000),
            ("0.1ns", 0),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn each_mistake_has_its_error() {
        use DurationError::{Malformed, Negative, NoUnit, TooLong};
        for (text, error) in [
            ("", Malformed),
            ("abc", Malformed),
            ("10", NoUnit),
            ("1m30", NoUnit),
            ("-1s", Negative),
            ("1d", Malformed),
            ("s", Malformed),
            (".s", Malformed),
            ("1 s", Malformed),
            ("--1s", Malformed),
            ("-1", NoUnit),
            ("2562047h47m16.854775808s", TooLong),
            ("99999999999999999999999999999999999999999999h", TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    /// An earlier version removed each sign with a recursive call, and a request line is long enough to overflow the
    /// stack.
    #[test]
    fn any_number_of_signs_is_one_mistake() {
        for sign in ["-", "+"] {
            assert_eq!(parse(&sign.repeat(1_000_000)), Err(DurationError::Malformed));
        }
    }

    #[test]
    fn writes_as_go_does() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (2_671_000_000, "2.671s"),
            (60_000_000_000, "1m0s"),
            (90_500_000_000, "1m30.5s"),
            (86_400_000_000_000, "24h0m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ] {
            assert_eq!(GoDuration(Duration::from_nanos(ns)).to_string(), text);
        }
    }

    #[test]
    fn rounds_half_up_to_ms() {
        for (us, text) in [(499, "0s"), (500, "1ms"), (2_671_400, "2.671s"), (59_999_700, "1m0s")] {
            assert_eq!(GoDuration::rounded_to_ms(Duration::from_micros(us)).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(ns in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse(&GoDuration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn never_panics(text in "\\PC{0,24}|[-+.0-9a-zµ]{0,24}") {
            let _ = parse(&text);
        }
    }
}
