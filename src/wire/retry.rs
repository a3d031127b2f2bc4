//! `Retry-After`: for how long a server wants no requests (RFC 9110 §10.2.3).

use std::time::Duration;

use super::date::parse_http_date;
use crate::core::Stamp;

/// Longest pause after one answer of a server.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Whether an answer with this status means that the server is at a limit, and says nothing about the requested
/// resource: 429, and 403, 413 and 503 with `Retry-After`. Other errors usually concern one resource, even with
/// `Retry-After`.
#[must_use]
pub fn is_limit(status: u16, has_retry_after: bool) -> bool {
    match status {
        429 => true,
        403 | 413 | 503 => has_retry_after,
        _ => false,
    }
}

/// The pause of the field: seconds, also with a fraction, or a date; at most [`LONGEST_RETRY_AFTER`]. A date in the
/// past is zero; `None` if the text is neither.
#[must_use]
pub fn parse_retry_after(text: &str, now: Stamp) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse::<f64>() {
        Ok(seconds) if seconds >= LONGEST_RETRY_AFTER.as_secs_f64() => LONGEST_RETRY_AFTER,
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => Duration::from_micros(parse_http_date(text)?.micros().saturating_sub(now.micros())),
    };
    Some(pause.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now = parse_http_date("Thu, 13 Mar 2025 03:48:12 GMT").unwrap();
        for (text, expected) in [
            ("7", Some(7_000)),
            (" 0 ", Some(0)),
            ("1.5", Some(1_500)),
            ("99999999999999999999999", Some(3_600_000)),
            ("inf", Some(3_600_000)),
            ("-1", None),
            ("NaN", None),
            ("", None),
            ("soon", None),
            ("Thu, 13 Mar 2025 03:48:15 GMT", Some(3_000)),
            ("Thu, 13 Mar 2025 03:48:00 GMT", Some(0)),
            ("Sat, 13 Mar 2055 03:48:00 GMT", Some(3_600_000)),
        ] {
            assert_eq!(parse_retry_after(text, now), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn answers_of_a_server_at_its_limit_are_recognised() {
        assert!(is_limit(429, false) && is_limit(429, true));
        for status in [403, 413, 503] {
            assert!(is_limit(status, true) && !is_limit(status, false), "{status}");
        }
        for status in [200, 302, 304, 401, 404, 410, 500, 502] {
            assert!(!is_limit(status, true), "{status}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_is_never_longer(text in "\\PC{0,40}", number: f64, now in 0_u64..4_000_000_000_000_000) {
            let now = Stamp::from_micros(now).unwrap();
            for text in [text, number.to_string()] {
                prop_assert!(parse_retry_after(&text, now).is_none_or(|pause| pause <= LONGEST_RETRY_AFTER));
            }
        }
    }
}
