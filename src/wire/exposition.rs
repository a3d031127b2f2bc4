//! The two text forms of metrics: `OpenMetrics` 1.0, and the older one of Prometheus (0.0.4) that most tools read.

use std::fmt::Write as _;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus text, version 0.0.4.
    Text,
    /// `OpenMetrics` text, version 1.0.0.
    OpenMetrics,
}

impl Form {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The form that `Accept` asks for. A client gets `OpenMetrics` if it names it with at least the weight of the text
    /// form; any other client gets the text form, as with Prometheus' own libraries.
    #[must_use]
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut text, mut open_metrics) = (0, 0);
        for range in accept.into_iter().flat_map(|line| line.split(|byte| *byte == b',')) {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let kind = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
            let weight = weight.map_or(1000, thousandths);
            if kind.eq_ignore_ascii_case(b"application/openmetrics-text") {
                open_metrics = open_metrics.max(weight);
            } else if [&b"text/plain"[..], b"text/*", b"*/*"]
                .iter()
                .any(|known| kind.eq_ignore_ascii_case(known))
            {
                text = text.max(weight);
            }
        }
        if open_metrics > 0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// A weight between 0 and 1, in thousandths; 0 if the text is no weight.
fn thousandths(weight: &[u8]) -> u32 {
    let weight: Option<f64> = std::str::from_utf8(weight).ok().and_then(|text| text.parse().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u32)
}

/// Converts metrics from `OpenMetrics` to Prometheus text: there, a counter has the name of its samples, and there are
/// no units and no end mark.
#[must_use]
pub fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // the help of a metric comes before its type, and its name depends on the type
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            // writing into a String does not fail
            if let Some(help) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_that_names_the_newer_form_gets_it_unless_it_prefers_the_older_one() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, form) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("text/plain;version=0.0.4", Form::Text),
            ("text/plain; version=0.0.4; q=0.5, */*;q=0.1", Form::Text),
            ("text/html, image/gif, *; q=.2, */*; q=.2", Form::Text),
            ("application/openmetrics-text", Form::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", Form::OpenMetrics),
            (prometheus, Form::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5", Form::Text),
            ("application/openmetrics-text;q=0", Form::Text),
            ("application/openmetrics-text;q=x", Form::Text),
            ("application/json", Form::Text),
        ] {
            assert_eq!(Form::accepted([accept.as_bytes()]), form, "{accept}");
        }
        assert_eq!(Form::accepted([]), Form::Text);
        assert_eq!(
            Form::accepted([&b"text/plain;q=0.1"[..], b"application/openmetrics-text"]),
            Form::OpenMetrics
        );
    }

    #[test]
    fn text_has_the_names_of_samples_and_no_units() {
        let open = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{x=\"y z\"} 1.5\n\
                    # HELP b Now.\n# TYPE b gauge\nb 3\n# HELP c What.\n# TYPE c info\nc_info{v=\"1\"} 1\n\
                    # TYPE d unknown\nd NaN\n# EOF\n";
        let text = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"y z\"} 1.5\n\
                    # HELP b Now.\n# TYPE b gauge\nb 3\n# HELP c_info What.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n\
                    # TYPE d untyped\nd NaN\n";
        assert_eq!(to_text(open), text);
    }

    proptest! {
        #[test]
        fn never_panics(accept in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,80}") {
            let _ = Form::accepted([&accept[..]]);
            let _ = to_text(&text);
        }
    }
}
