//! The trace of a client in the lines that its request causes in the log.

use axum::http::HeaderMap;
use tracing::Span;

/// The header of W3C Trace Context, level 1.
const TRACEPARENT: &str = "traceparent";

/// A span with the trace id of a request, so that each line of the log that the request causes has it, at any level; a
/// disabled one, which costs nothing, without a valid `traceparent`.
pub(super) fn span(headers: &HeaderMap) -> Span {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    match (lines.next().and_then(|line| trace_id(line.as_bytes())), lines.next()) {
        (Some(trace), None) => tracing::error_span!("request", %trace),
        _ => Span::none(),
    }
}

/// The trace id of `version-trace-parent-flags`. Later versions may have more behind that.
fn trace_id(line: &[u8]) -> Option<&str> {
    const FIELDS: [usize; 4] = [2, 32, 16, 2];
    let mut rest = std::str::from_utf8(line).ok()?;
    let mut fields = [""; 4];
    for (at, (field, length)) in fields.iter_mut().zip(FIELDS).enumerate() {
        if at > 0 {
            rest = rest.strip_prefix('-')?;
        }
        (*field, rest) = rest.split_at_checked(length)?;
        if !field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return None;
        }
    }
    let [version, trace, parent, _] = fields;
    let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
    let ends = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    (version != "ff" && ends && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_id_is_read_as_the_standard_has_it() {
        let valid = [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-00"),
            format!("01-{TRACE}-00f067aa0ba902b7-01"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-will-be-like"),
        ];
        for line in &valid {
            assert_eq!(trace_id(line.as_bytes()), Some(TRACE), "{line}");
        }
        let zero = "0".repeat(32);
        let invalid = [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-00f067aa0ba902b7-012"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01.more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}é-00f067aa0ba902b7-01", &TRACE[2..]),
            format!("0-{TRACE}-00f067aa0ba902b7-01"),
        ];
        for line in &invalid {
            assert_eq!(trace_id(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn two_traces_are_none() {
        let mut headers = HeaderMap::new();
        assert!(span(&headers).is_none());
        headers.append(TRACEPARENT, "bad".parse().expect("a value"));
        assert!(span(&headers).is_none());
        headers.append(TRACEPARENT, format!("00-{TRACE}-00f067aa0ba902b7-01").parse().expect("a value"));
        assert!(span(&headers).is_none());
    }
}
