//! The forms in which a watch is answered, by `Accept`.

use super::list::elements;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchForm {
    /// What there is to tell, as one JSON document.
    Batch,
    /// What there is to tell, and then what comes.
    Stream(StreamForm),
}

/// The form of an answer that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamForm {
    /// Server-sent events, as `EventSource` of a browser reads them.
    EventStream,
    /// A JSON object a line.
    Lines,
}

impl WatchForm {
    const ALL: [Self; 3] =
        [Self::Batch, Self::Stream(StreamForm::EventStream), Self::Stream(StreamForm::Lines)];

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Batch => "application/json",
            Self::Stream(form) => form.media_type(),
        }
    }

    /// The form that a reader accepts: the first one that it names, and [`WatchForm::Batch`] if it names none and
    /// accepts anything, as without `Accept` (RFC 9110, 12.5.1). `None` if it accepts none of them.
    #[must_use]
    pub fn accepted<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut is_empty, mut accepts_any) = (true, false);
        for element in lines.flat_map(elements) {
            is_empty = false;
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().unwrap_or_default();
            // a weight of zero means never
            let is_refused = |weight: &[u8]| {
                weight.strip_prefix(b"q=").is_some_and(|q| q.iter().all(|byte| matches!(byte, b'0' | b'.')))
            };
            if parts.any(is_refused) {
                continue;
            }
            let named =
                Self::ALL.into_iter().find(|form| range.eq_ignore_ascii_case(form.media_type().as_bytes()));
            if named.is_some() {
                return named;
            }
            accepts_any |= [&b"*/*"[..], b"application/*"].iter().any(|any| range.eq_ignore_ascii_case(any));
        }
        (is_empty || accepts_any).then_some(Self::Batch)
    }
}

impl StreamForm {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(lines: &[&'static str]) -> Option<WatchForm> {
        WatchForm::accepted(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn the_first_form_that_is_named_is_accepted() {
        let events = Some(WatchForm::Stream(StreamForm::EventStream));
        let lines = Some(WatchForm::Stream(StreamForm::Lines));
        assert_eq!(accepted(&["text/event-stream"]), events);
        assert_eq!(accepted(&["*/*", "Text/Event-Stream; charset=utf-8"]), events);
        assert_eq!(accepted(&["application/x-ndjson, text/event-stream"]), lines);
        assert_eq!(accepted(&["text/event-stream;q=0, application/x-ndjson;q=0.1"]), lines);
        assert_eq!(accepted(&["application/json, text/event-stream"]), Some(WatchForm::Batch));
    }

    #[test]
    fn json_is_the_form_of_a_reader_that_accepts_anything() {
        for lines in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["Application/JSON; charset=utf-8"],
            &["text/html, application/json;q=0.1"],
            &["text/html", "*/*;q=0.8"],
        ] {
            assert_eq!(accepted(lines), Some(WatchForm::Batch), "{lines:?}");
        }
        for lines in [
            &["text/html"][..],
            &["text/event-stream;q=0"],
            &["application/json;q=0"],
            &["*/*; q=0.000", "text/*"],
        ] {
            assert_eq!(accepted(lines), None, "{lines:?}");
        }
    }
}
