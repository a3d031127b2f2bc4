//! What is asked of `/v1/watch`, as a query or as JSON.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::cursor::{self, CursorError};
use super::date::parse_time;
use super::duration;
use super::uri::{self, UriError};
use super::version_set::Object;
use crate::core::Stamp;
use crate::core::feed::{Cursor, Kinds, Mode};
use crate::core::limits::MAX_NAME_BYTES;

/// Most names and prefixes of a watch together.
pub const MAX_SCOPE_PARTS: usize = 64;

/// Most events of a batch.
pub const MAX_BATCH_EVENTS: usize = 10_000;

/// Events of a batch, unless the reader asks for another number.
pub const DEFAULT_BATCH_EVENTS: usize = 1_000;

/// The interval of signs of life, unless the reader asks for another one.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

/// The parameters of the query.
pub const PARAMETERS: [&str; 11] =
    ["name", "prefix", "since", "mode", "types", "data", "heartbeat", "limit", "timeout", "dots", "leases"];

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// With all that stands, or in mode=all with the oldest record that is kept.
    Oldest,
    /// With what comes.
    Now,
    /// With the records from this stamp on.
    From(Stamp),
    /// After a cursor.
    Cursor(Box<Cursor>),
}

/// How data is carried in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DataForm {
    /// As base64.
    #[default]
    Base64,
    /// As text, and as base64 where it is no UTF-8.
    Text,
    /// Not at all.
    None,
}

/// What a reader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// The names that are watched, as they were sent.
    pub names: Vec<String>,
    /// The prefixes of names that are watched.
    pub prefixes: Vec<String>,
    /// Where to begin.
    pub since: Since,
    /// Which changes of a name.
    pub mode: Mode,
    /// Which kinds of changes.
    pub kinds: Kinds,
    /// The form of data.
    pub data: DataForm,
    /// The interval of signs of life, for forms that stream.
    pub heartbeat: Duration,
    /// Most events of an answer, if the reader says so.
    pub limit: Option<usize>,
    /// Longest wait.
    pub timeout: Option<Duration>,
    /// Whether the reader is a mirror: it is told dots, and the registers of the set.
    pub dots: bool,
    /// Whether it is told what happens to leases, too.
    pub leases: bool,
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// The text is no cursor, and no other place to begin.
    Cursor(String, CursorError),
    /// No name and no prefix.
    NoScope,
    /// More names and prefixes than [`MAX_SCOPE_PARTS`].
    TooManyParts(usize),
    /// A prefix longer than any name.
    LongPrefix(usize),
    /// A prefix with a control character, which no name has.
    ControlInPrefix(char),
    /// A parameter cannot be decoded, or is repeated.
    Encoding(&'static str, UriError),
    /// A parameter has a value that it does not take.
    Value {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        got: String,
        /// What to send instead.
        send: &'static str,
    },
    /// The body is not JSON of this form.
    Json(String),
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cursor(got, error) => write!(
                f,
                "bad cursor: {}: {error}: send a cursor as you got it, or now, oldest, at:TIME or after:TIME",
                Short(got)
            ),
            Self::NoScope => write!(
                f,
                "no scope: neither a name nor a prefix is given: send name=NAME or prefix=PREFIX; prefix= is every name"
            ),
            Self::TooManyParts(parts) => write!(
                f,
                "too many names and prefixes: {parts}: send at most {MAX_SCOPE_PARTS} together, or a shorter prefix"
            ),
            Self::LongPrefix(bytes) => {
                write!(f, "bad prefix: {bytes} bytes is longer than any name: send at most {MAX_NAME_BYTES}")
            }
            Self::ControlInPrefix(found) => {
                write!(
                    f,
                    "bad prefix: control character U+{:04X}, which no name has: leave it out",
                    u32::from(*found)
                )
            }
            Self::Encoding(parameter, error) => write!(f, "bad parameter {parameter}: {error}"),
            Self::Value { parameter, got, send } => write!(f, "bad {parameter}: {}: {send}", Short(got)),
            Self::Json(error) => write!(f, "bad body: {error}: send JSON such as {{\"prefixes\":[\"a/\"]}}"),
        }
    }
}

impl std::error::Error for WatchError {}

/// A text from outside, quoted, and short enough for a line.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// The texts of a request, before they are checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Texts<'a> {
    names: Vec<String>,
    prefixes: Vec<String>,
    #[serde(borrow)]
    since: Option<Cow<'a, str>>,
    mode: Option<Cow<'a, str>>,
    types: Option<Vec<String>>,
    data: Option<Cow<'a, str>>,
    heartbeat: Option<Cow<'a, str>>,
    limit: Option<u64>,
    timeout: Option<Cow<'a, str>>,
    dots: Option<bool>,
    leases: Option<bool>,
}

impl WatchRequest {
    /// Reads a query. What it does not know is ignored. `last_event_id` stands before `since`; empty it counts as
    /// absent.
    ///
    /// # Errors
    /// What is wrong.
    pub fn from_query(query: &str, last_event_id: &str) -> Result<Self, WatchError> {
        let mut texts = Texts::default();
        let mut limit = None;
        let (mut dots, mut leases) = (None, None);
        let mut types = None;
        for (name, value) in uri::parameters(query) {
            let Some(parameter) = PARAMETERS.into_iter().find(|known| *known == name) else { continue };
            let value = value.map_err(|error| WatchError::Encoding(parameter, error))?;
            let once = match parameter {
                "name" => {
                    texts.names.push(value.into_owned());
                    continue;
                }
                "prefix" => {
                    texts.prefixes.push(value.into_owned());
                    continue;
                }
                "since" => &mut texts.since,
                "mode" => &mut texts.mode,
                "types" => &mut types,
                "data" => &mut texts.data,
                "heartbeat" => &mut texts.heartbeat,
                "limit" => &mut limit,
                "timeout" => &mut texts.timeout,
                "dots" => &mut dots,
                _ => &mut leases,
            };
            if once.replace(value).is_some() {
                return Err(WatchError::Encoding(parameter, UriError::Repeated));
            }
        }
        if !last_event_id.is_empty() {
            texts.since = Some(last_event_id.into());
        }
        texts.types = types.map(|types| types.split(',').map(str::to_owned).collect());
        texts.limit = match limit {
            Some(text) => Some(text.parse().map_err(|_| bad_limit(&text))?),
            None => None,
        };
        texts.dots = flag("dots", dots.as_deref())?;
        texts.leases = flag("leases", leases.as_deref())?;
        Self::checked(texts)
    }

    /// Reads a JSON object. Members that it does not know are an error.
    ///
    /// # Errors
    /// What is wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, WatchError> {
        let Object(texts) =
            serde_json::from_slice(body).map_err(|error| WatchError::Json(error.to_string()))?;
        Self::checked(texts)
    }

    fn checked(texts: Texts<'_>) -> Result<Self, WatchError> {
        let Texts { names, prefixes, since, mode, types, data, heartbeat, limit, timeout, dots, leases } =
            texts;
        let dots = dots == Some(true);
        let parts = names.len() + prefixes.len();
        if parts == 0 {
            return Err(WatchError::NoScope);
        }
        if parts > MAX_SCOPE_PARTS {
            return Err(WatchError::TooManyParts(parts));
        }
        if let Some(prefix) = prefixes.iter().find(|prefix| prefix.len() > MAX_NAME_BYTES) {
            return Err(WatchError::LongPrefix(prefix.len()));
        }
        if let Some(found) = prefixes.iter().flat_map(|prefix| prefix.chars()).find(|char| char.is_control())
        {
            return Err(WatchError::ControlInPrefix(found));
        }
        let mode = match mode.as_deref() {
            None | Some("latest") => Mode::Latest,
            Some("all") => Mode::All,
            Some(other) => return Err(bad("mode", other, "send latest or all")),
        };
        if dots && (mode != Mode::All || types.is_some()) {
            return Err(bad("dots", "true", "send it with mode=all, and without types"));
        }
        let data = match data.as_deref() {
            None | Some("base64") => DataForm::Base64,
            Some("text") => DataForm::Text,
            Some("none") => DataForm::None,
            Some(other) => return Err(bad("data", other, "send base64, text or none")),
        };
        let limit = match limit {
            None => None,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=MAX_BATCH_EVENTS).contains(limit))
                .ok_or_else(|| bad_limit(&limit.to_string()))
                .map(Some)?,
        };
        Ok(Self {
            names,
            prefixes,
            since: Since::parse(since.as_deref().unwrap_or_default())?,
            mode,
            kinds: types.as_deref().map_or(Ok(Kinds::ALL), kinds_of)?,
            data,
            heartbeat: heartbeat.as_deref().map_or(Ok(DEFAULT_HEARTBEAT), heartbeat_of)?,
            limit,
            timeout: timeout.as_deref().map(timeout_of).transpose()?,
            dots,
            leases: leases == Some(true),
        })
    }
}

/// A parameter that is true or false.
fn flag(parameter: &'static str, text: Option<&str>) -> Result<Option<bool>, WatchError> {
    match text {
        Some("true") => Ok(Some(true)),
        Some("false") | None => Ok(None),
        Some(other) => Err(bad(parameter, other, "send true or false")),
    }
}

fn bad(parameter: &'static str, got: &str, send: &'static str) -> WatchError {
    WatchError::Value { parameter, got: got.to_owned(), send }
}

fn bad_limit(got: &str) -> WatchError {
    bad("limit", got, "send 1 to 10000")
}

impl Since {
    /// Reads where to begin, as a watch takes it. An empty text is [`Since::Oldest`].
    ///
    /// # Errors
    /// If it is no such place.
    pub fn parse(text: &str) -> Result<Self, WatchError> {
        const SEND: &str = "send µs since 1970, or RFC 3339 such as 2026-11-28T12:00:00Z";
        let time = |stamp: &str| parse_time(stamp).ok_or_else(|| bad("since", text, SEND));
        Ok(match text {
            "" | "oldest" => Self::Oldest,
            "now" => Self::Now,
            _ => match text.split_once(':') {
                Some(("at", stamp)) => Self::From(time(stamp)?),
                Some(("after", stamp)) => Self::From(time(stamp)?.next()),
                _ => match cursor::decode(text) {
                    Ok(cursor) => Self::Cursor(Box::new(cursor)),
                    Err(error) => return Err(WatchError::Cursor(text.to_owned(), error)),
                },
            },
        })
    }
}

fn kinds_of(types: &[String]) -> Result<Kinds, WatchError> {
    let mut kinds = Kinds { create: false, update: false, delete: false };
    for kind in types {
        match kind.as_str() {
            "create" => kinds.create = true,
            "update" => kinds.update = true,
            "put" => (kinds.create, kinds.update) = (true, true),
            "delete" => kinds.delete = true,
            other => return Err(bad("types", other, "send create, update, put and delete, or some of them")),
        }
    }
    if kinds == (Kinds { create: false, update: false, delete: false }) {
        return Err(bad("types", "", "send create, update, put and delete, or some of them"));
    }
    Ok(kinds)
}

fn heartbeat_of(text: &str) -> Result<Duration, WatchError> {
    let heartbeat = duration::parse(text).ok();
    let range = Duration::from_secs(1)..=Duration::from_secs(60);
    heartbeat
        .filter(|heartbeat| range.contains(heartbeat))
        .ok_or_else(|| bad("heartbeat", text, "send 1s to 60s"))
}

fn timeout_of(text: &str) -> Result<Duration, WatchError> {
    duration::parse(text).map_err(|_| bad("timeout", text, "send one such as 10s"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::core::testing::at;

    fn query(query: &str) -> Result<WatchRequest, WatchError> {
        WatchRequest::from_query(query, "")
    }

    #[test]
    fn a_query_and_a_body_ask_for_the_same() {
        let asked = query(
            "name=a&prefix=b%2F&name=c+d&prefix=&since=now&mode=all&types=update,delete&data=text&heartbeat=5s&limit=7\
             &timeout=1m&dots=false&leases=true&other=x",
        );
        let body = json!({"names": ["a", "c d"], "prefixes": ["b/", ""], "since": "now", "mode": "all",
            "types": ["update", "delete"], "data": "text", "heartbeat": "5s", "limit": 7, "timeout": "1m",
            "dots": false, "leases": true});
        let expected = WatchRequest {
            names: vec!["a".to_owned(), "c d".to_owned()],
            prefixes: vec!["b/".to_owned(), String::new()],
            since: Since::Now,
            mode: Mode::All,
            kinds: Kinds { create: false, update: true, delete: true },
            data: DataForm::Text,
            heartbeat: Duration::from_secs(5),
            limit: Some(7),
            timeout: Some(Duration::from_secs(60)),
            dots: false,
            leases: true,
        };
        assert_eq!(asked.as_ref(), Ok(&expected));
        assert_eq!(WatchRequest::from_json(body.to_string().as_bytes()), Ok(expected));
        let least = WatchRequest {
            names: vec!["n".to_owned()],
            prefixes: Vec::new(),
            since: Since::Oldest,
            mode: Mode::Latest,
            kinds: Kinds::ALL,
            data: DataForm::Base64,
            heartbeat: DEFAULT_HEARTBEAT,
            limit: None,
            timeout: None,
            dots: false,
            leases: false,
        };
        assert_eq!(query("name=n&since="), Ok(least.clone()));
        assert_eq!(WatchRequest::from_json(br#"{"names":["n"]}"#), Ok(least));
    }

    #[test]
    fn a_mirror_asks_for_dots() {
        let asked = query("prefix=&mode=all&dots=true").unwrap();
        assert!(asked.dots && asked.mode == Mode::All);
        assert_eq!(WatchRequest::from_json(br#"{"prefixes":[""],"mode":"all","dots":true}"#), Ok(asked));
    }

    #[test]
    fn each_place_to_begin_is_read() {
        let since = |text: &str| query(&format!("prefix=&since={text}")).map(|asked| asked.since);
        let stamp = at(1_741_837_692_000_000);
        assert_eq!(since("oldest"), Ok(Since::Oldest));
        assert_eq!(since("at:1741837692000000"), Ok(Since::From(stamp)));
        assert_eq!(since("at:2025-03-13T03:48:12Z"), Ok(Since::From(stamp)));
        assert_eq!(since("after:1741837692000000"), Ok(Since::From(stamp.next())));
        let cursor = Cursor {
            set: 1,
            subscription: 2,
            vector: Default::default(),
            reflected: Stamp::ZERO,
            at: None,
            scan: None,
        };
        let text = cursor::encode(&cursor);
        assert_eq!(since(&text), Ok(Since::Cursor(Box::new(cursor.clone()))));
        let by_header = WatchRequest::from_query("prefix=&since=now", &text).map(|asked| asked.since);
        assert_eq!(by_header, Ok(Since::Cursor(Box::new(cursor))));
        assert!(matches!(since("now2"), Err(WatchError::Cursor(_, CursorError::OtherForm))));
        assert!(matches!(since("at:now"), Err(WatchError::Value { parameter: "since", .. })));
        assert!(matches!(since("at:"), Err(WatchError::Value { parameter: "since", .. })));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (text, said) in [
            (
                "",
                "no scope: neither a name nor a prefix is given: send name=NAME or prefix=PREFIX; prefix= is every name",
            ),
            ("prefix=%01team%01", "bad prefix: control character U+0001, which no name has: leave it out"),
            ("prefix=&mode=new", "bad mode: \"new\": send latest or all"),
            ("prefix=&mode=all&mode=all", "bad parameter mode: given more than once: give it once"),
            ("prefix=&data=%ff", "bad parameter data: not UTF-8: send UTF-8, percent-encoded"),
            ("prefix=&types=", "bad types: \"\": send create, update, put and delete, or some of them"),
            ("prefix=&limit=0", "bad limit: \"0\": send 1 to 10000"),
            ("prefix=&heartbeat=1h", "bad heartbeat: \"1h\": send 1s to 60s"),
            ("prefix=&timeout=1", "bad timeout: \"1\": send one such as 10s"),
            ("prefix=&dots=true", "bad dots: \"true\": send it with mode=all, and without types"),
            (
                "prefix=&mode=all&types=put&dots=true",
                "bad dots: \"true\": send it with mode=all, and without types",
            ),
            ("prefix=&mode=all&dots=1", "bad dots: \"1\": send true or false"),
            ("prefix=&leases=", "bad leases: \"\": send true or false"),
        ] {
            assert_eq!(query(text).unwrap_err().to_string(), said);
        }
        let many = "name=n&".repeat(MAX_SCOPE_PARTS + 1);
        assert_eq!(query(&many), Err(WatchError::TooManyParts(MAX_SCOPE_PARTS + 1)));
        let long = format!("prefix={}", "p".repeat(MAX_NAME_BYTES + 1));
        assert_eq!(query(&long), Err(WatchError::LongPrefix(MAX_NAME_BYTES + 1)));
        let mode = query(&format!("prefix=&mode={}", "m".repeat(100))).unwrap_err().to_string();
        assert!(mode.contains("m\"…:") && mode.len() < 150, "{mode}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..80), id in "\\PC{0,20}") {
            let _ = WatchRequest::from_query(&text, &id);
            let _ = WatchRequest::from_json(&bytes);
            let _ = WatchRequest::from_json(text.as_bytes());
        }
    }
}
