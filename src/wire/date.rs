//! Times as text: stamps in the form of `Last-Modified`, to the second, and the times that a client may name.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::version_set::parse_rfc3339;
use crate::core::Stamp;

/// A stamp as an RFC 1123 date in GMT: `Thu, 13 Mar 2025 03:48:12 GMT`. Fractions of a second are cut off.
pub fn http_date(stamp: Stamp) -> impl fmt::Display {
    HttpDate::from(UNIX_EPOCH + Duration::from_micros(stamp.micros()))
}

/// Reads a date in any of the three forms of HTTP (RFC 9110 §5.6.7), from 1970 on.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<Stamp> {
    let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Stamp::from_micros(u64::try_from(since_epoch.as_micros()).ok()?).ok()
}

/// Reads a stamp in µs since 1970, or in RFC 3339.
#[must_use]
pub fn parse_time(text: &str) -> Option<Stamp> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Stamp::parse(text.as_bytes()).ok() } else { parse_rfc3339(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_rejects_the_rest() {
        let stamp = Stamp::from_micros(1_741_837_692_999_999).unwrap();
        assert_eq!(http_date(stamp).to_string(), "Thu, 13 Mar 2025 03:48:12 GMT");
        assert_eq!(http_date(Stamp::MAX).to_string(), "Thu, 30 Dec 9999 21:59:59 GMT");
        let whole = Stamp::from_micros(1_741_837_692_000_000).unwrap();
        assert_eq!(parse_http_date("Thu, 13 Mar 2025 03:48:12 GMT"), Some(whole));
        for bad in ["", "now", "1741837692", "Thu, 13 Mar 2025 03:48:12 PST", "Thu, 13 Mar 1960 03:48:12 GMT"]
        {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_is_micros_or_rfc_3339() {
        let stamp = Stamp::from_micros(1_741_837_692_000_000).ok();
        assert_eq!(parse_time("1741837692000000"), stamp);
        assert_eq!(parse_time("2025-03-13T03:48:12Z"), stamp);
        for bad in ["", "-1", "1e3", "yesterday", "2025-03-13", "99999999999999999999"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
