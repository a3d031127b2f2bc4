//! The writes of a stream: events, and the cursor after them.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::lines::{LineError, Lines};
use crate::wire::error_code::ErrorCode;

/// Most bytes of the lines of one write. A node sends some 64 KiB, or one event.
const MAX_WRITE_BYTES: usize = 8 << 20;

/// Most events of one write. A node sends some hundreds.
const MAX_WRITE_EVENTS: usize = 10_000;

/// Events with the cursor after them: an answer of a node, or one write of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct ReceivedBatch {
    /// Names with a value, before the events: so a node in this process tells them.
    #[serde(skip)]
    pub(crate) puts: Vec<ReceivedPut>,
    pub(crate) events: Vec<Map<String, Value>>,
    pub(crate) cursor: String,
    /// There is more to ask for now. A stream tells it without being asked.
    #[serde(default)]
    pub(crate) more: bool,
    /// How many changes of the node lie behind the cursor, if the node knows.
    #[serde(default)]
    pub(crate) behind: Option<u64>,
    /// The clock of the node in µs since 1970. A stream does not tell it.
    #[serde(default)]
    pub(crate) now: Option<u64>,
}

/// A name that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedPut {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) revision: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) data: Option<Bytes>,
    /// It had no value before.
    pub(crate) is_added: bool,
}

/// The writes of a watch at a node in this process.
pub(crate) trait LocalStream: fmt::Debug + Send + Sync {
    /// What comes next. A caller may stop to poll at any time: nothing is lost.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next>;
}

impl ReceivedBatch {
    /// Number of events.
    pub(crate) fn len(&self) -> usize {
        self.puts.len() + self.events.len()
    }
}

/// Where the writes of a stream come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// From a node, as lines.
    Lines(Lines),
    /// From a node in this process.
    Local {
        /// Stands for the URL of the node.
        from: String,
        /// The writes.
        stream: Box<dyn LocalStream>,
    },
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Writes {
    source: Source,
    /// The events of the present write, and the bytes of their lines.
    events: Vec<Map<String, Value>>,
    bytes: usize,
    /// Since when a line is awaited, also over calls that were dropped.
    awaited_since: Option<Instant>,
    /// Number of all events so far.
    pub(crate) told: u64,
    /// Number of all writes so far.
    pub(crate) writes: u64,
}

/// What comes next of a stream.
#[derive(Debug)]
pub(crate) enum Next {
    /// A write, perhaps with no events.
    Write(ReceivedBatch),
    /// What happens to a lease, or is held, if the reader has asked for that: outside the writes and their cursors.
    Lease(Map<String, Value>),
    /// The node ends the stream.
    End,
    /// The node says why it cannot go on with it.
    Refused {
        /// It may pass.
        is_temporary: bool,
        /// Its code, if it is known.
        code: Option<ErrorCode>,
        /// The reason.
        why: String,
    },
    /// Nothing has come for too long, or the connection is lost.
    Lost(String),
    /// It is no stream of a node.
    Garbled(String),
}

impl Writes {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, events: Vec::new(), bytes: 0, awaited_since: None, told: 0, writes: 0 }
    }

    /// The URL of the node.
    pub(crate) fn from(&self) -> &str {
        match &self.source {
            Source::Lines(lines) => lines.from(),
            Source::Local { from, .. } => from,
        }
    }

    /// The next write. A caller may drop the future: nothing is lost. Nothing may come for `patience` at most, unless
    /// the node is in this process.
    pub(crate) async fn next(&mut self, patience: Duration) -> Next {
        loop {
            let lines = match &mut self.source {
                Source::Lines(lines) => lines,
                Source::Local { stream, .. } => {
                    let next = poll_fn(|cx| stream.poll_next(cx)).await;
                    if let Next::Write(batch) = &next {
                        self.told += batch.len() as u64;
                        self.writes += 1;
                    }
                    return next;
                }
            };
            let line = match line(lines, &mut self.awaited_since, patience).await {
                Ok(Some(line)) => line,
                Ok(None) => return Next::End,
                Err(next) => return next,
            };
            self.bytes += line.len();
            let from = lines.from();
            if self.bytes > MAX_WRITE_BYTES || self.events.len() >= MAX_WRITE_EVENTS {
                let most = MAX_WRITE_BYTES >> 20;
                return Next::Garbled(format!(
                    "the stream of {from} has more than {MAX_WRITE_EVENTS} events or {most} MiB without a cursor"
                ));
            }
            let event: Map<String, Value> = match serde_json::from_slice(&line) {
                Ok(event) => event,
                Err(error) => {
                    return Next::Garbled(format!(
                        "the stream of {from} cannot be read: {error}: is it a node?"
                    ));
                }
            };
            let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("type").as_str() {
                "progress" => {
                    let behind = event.get("behind").and_then(Value::as_u64);
                    let cursor = text("cursor");
                    if cursor.is_empty() {
                        return Next::Garbled(format!("the stream of {from} has a write without a cursor"));
                    }
                    let events = std::mem::take(&mut self.events);
                    self.bytes = 0;
                    self.told += events.len() as u64;
                    self.writes += 1;
                    return Next::Write(ReceivedBatch {
                        puts: Vec::new(),
                        events,
                        cursor,
                        more: false,
                        behind,
                        now: None,
                    });
                }
                "error" => {
                    // a code of a later version says nothing about the request
                    let code = ErrorCode::parse(&text("code"));
                    let is_temporary = code.is_none_or(|code| code.status() >= 500);
                    return Next::Refused { is_temporary, code, why: text("message") };
                }
                kind if is_of_leases(kind) => {
                    self.bytes -= line.len();
                    return Next::Lease(event);
                }
                _ => self.events.push(event),
            }
        }
    }
}

/// Whether an event of this type is about leases.
fn is_of_leases(kind: &str) -> bool {
    matches!(kind, "held" | "acquired" | "released" | "expired" | "leases-synced" | "leases-reset")
}

/// The next line of a node; `None` at the end. It was awaited since then, also over calls that were dropped.
async fn line(
    lines: &mut Lines,
    awaited_since: &mut Option<Instant>,
    patience: Duration,
) -> Result<Option<Bytes>, Next> {
    let began = *awaited_since.get_or_insert_with(Instant::now);
    loop {
        let until = began.max(lines.heard()) + patience;
        match timeout_at(until, lines.next()).await {
            Ok(Ok(line)) => {
                *awaited_since = None;
                return Ok(line);
            }
            Ok(Err(LineError::Lost(why))) => return Err(Next::Lost(why)),
            Ok(Err(LineError::TooLong(why))) => return Err(Next::Garbled(why)),
            // half of a line may have come meanwhile
            Err(_) if lines.heard() + patience > Instant::now() => {}
            Err(_) => {
                let from = lines.from();
                return Err(Next::Lost(format!("the stream of {from} is silent for {patience:?}")));
            }
        }
    }
}
