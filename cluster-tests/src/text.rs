//! The notations of the protocol, read without the help of the code under test.

use std::time::{Duration, UNIX_EPOCH};

use crate::http::Response;

/// Now, in µs since 1970, by the clock that the node reads too.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now_us() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test is outside of the node and has its own clock")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_micros()).expect("not that late")
}

/// A time as HTTP headers have it (IMF-fixdate), the µs cut off.
#[must_use]
pub fn http_date(us: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_micros(us))
}

/// A time as JSON has it (RFC 3339, UTC), to the µs.
///
/// # Panics
/// Beyond the year 9999.
#[must_use]
pub fn rfc3339(us: u64) -> String {
    let us = i64::try_from(us).expect("a time");
    jiff::Timestamp::from_microsecond(us).expect("a time").to_string()
}

/// Reads an RFC 3339 time, in whole µs since 1970.
///
/// # Panics
/// If it is none.
#[must_use]
#[track_caller]
pub fn rfc3339_us(text: &str) -> u64 {
    let time: jiff::Timestamp = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    u64::try_from(time.as_microsecond()).expect("a time after 1970")
}

/// Reads a duration as Go prints one that is rounded to milliseconds: `0s`, `250ms`, `2.671s`, `1m0.5s`.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0s" {
        return Some(Duration::ZERO);
    }
    if let Some(whole) = text.strip_suffix("ms") {
        let ms: u64 = whole.parse().ok()?;
        return (1..1000).contains(&ms).then(|| Duration::from_millis(ms));
    }
    let (hours, rest) = text.split_once('h').unwrap_or(("0", text));
    let (minutes, rest) = rest.split_once('m').unwrap_or(("0", rest));
    let (seconds, fraction) =
        rest.strip_suffix('s')?.split_once('.').unwrap_or((rest.strip_suffix('s')?, ""));
    if fraction.len() > 3 || fraction.ends_with('0') {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}").parse().ok()?;
    let (hours, minutes, seconds): (u64, u64, u64) =
        (hours.parse().ok()?, minutes.parse().ok()?, seconds.parse().ok()?);
    Some(Duration::from_secs((hours * 60 + minutes) * 60 + seconds) + Duration::from_millis(ms))
}

/// The values of `Server-Timing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The delay of the answer after the wake, if it has one.
    pub jitter: Option<Duration>,
    /// How long the whole read took.
    pub watch: Duration,
}

/// Reads `Server-Timing: jitter;dur=…, watch;dur=…`, of which vwatch leaves out the first part for a read that did not
/// park.
///
/// # Panics
/// If it is not of that form.
#[must_use]
#[track_caller]
pub fn timing(response: &Response) -> Timing {
    let text = response.header("Server-Timing").unwrap_or_else(|| panic!("no Server-Timing: {response:?}"));
    let (jitter, watch) = match text.split_once(", ") {
        Some((jitter, watch)) => (Some(jitter), watch),
        None => (None, text),
    };
    let read = |part: &str, key: &str| {
        let duration = part.strip_prefix(key).and_then(|rest| rest.strip_prefix(";dur="));
        duration.and_then(go_duration).unwrap_or_else(|| panic!("not vwatch's form: {text:?}"))
    };
    Timing { jitter: jitter.map(|part| read(part, "jitter")), watch: read(watch, "watch") }
}

/// The samples of a page of Prometheus text: what stands before the value, and the value.
///
/// # Panics
/// If a line is neither a comment nor a sample, or a sample has no `# TYPE` before it.
#[must_use]
#[track_caller]
pub fn samples(page: &str) -> Vec<(String, f64)> {
    let mut families: Vec<&str> = Vec::new();
    let mut samples = Vec::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (
                    Some("TYPE"),
                    Some(family),
                    Some("counter" | "gauge" | "histogram" | "summary" | "unknown" | "info"),
                ) => {
                    families.push(family);
                }
                (Some("HELP" | "UNIT"), Some(_), Some(_)) | (Some("EOF"), None, None) => {}
                _ => panic!("an unknown comment: {line:?}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no value: {line:?}"));
        let name = series.split('{').next().unwrap_or_default();
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
                && name.starts_with(|c: char| !c.is_ascii_digit()),
            "no metric name: {line:?}"
        );
        assert!(series.len() == name.len() || series.ends_with('}'), "labels without end: {line:?}");
        let typed = families.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| {
                matches!(rest, "" | "_total" | "_bucket" | "_sum" | "_count" | "_info" | "_created")
            })
        });
        assert!(typed, "no # TYPE before {line:?}");
        samples.push((series.to_owned(), value));
    }
    samples
}

/// The value of a metric without labels.
#[must_use]
#[track_caller]
pub fn metric(page: &str, name: &str) -> Option<f64> {
    samples(page).into_iter().find(|(series, _)| series == name).map(|(_, value)| value)
}

/// Demands that an answer is a refusal as all are: the status, and one line of text, `what is wrong: what was got: what
/// to do`.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn assert_refusal(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{answer:?} {:?}", String::from_utf8_lossy(&answer.body));
    let code = answer.header("X-Vwatch-Error").unwrap_or_default();
    let is_code = !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(is_code, "no X-Vwatch-Error: {answer:?}");
    let kind = answer.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "not plain text: {answer:?}");
    let line = answer.text().strip_suffix('\n').unwrap_or(answer.text());
    assert!(!line.contains(char::is_control), "not one line: {line:?}");
    let parts: Vec<&str> = line.split(": ").collect();
    assert!(
        parts.len() >= 3 && parts.iter().all(|part| !part.trim().is_empty()),
        "not `what is wrong: what was got: what to do`: {line:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_prints_them() {
        for (text, ms) in
            [("0s", 0), ("1ms", 1), ("250ms", 250), ("1s", 1000), ("2.671s", 2671), ("1m0.5s", 60_500)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(go_duration("1h0m1s"), Some(Duration::from_secs(3601)));
        for bad in ["", "1", "0ms", "1000ms", "1.50s", "1.2345s", "-1s", "1 s", "2.5ms"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_metrics() {
        let page = "# HELP a b.\n# TYPE a gauge\na 3\n# TYPE b counter\nb_total{x=\"y z\"} 1.5\n# EOF\n";
        assert_eq!(metric(page, "a"), Some(3.0));
        assert_eq!(samples(page).len(), 2);
        assert_eq!(metric(page, "c"), None);
    }
}
