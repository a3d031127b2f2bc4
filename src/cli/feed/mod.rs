//! The names that a command follows, from a cursor on, by batches of `/v1/watch`.

pub(super) mod checkpoint;
pub(super) mod cursor_file;
pub(super) mod printer;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Answer, Request};
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::check_name;
use crate::wire::date::parse_time;
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;
use checkpoint::KeptCheckpoint;
use cursor_file::CursorFile;

/// Which names, and which of their changes.
#[derive(Debug, Args)]
pub(super) struct FeedArgs {
    /// Follow all names that begin with this; may be given several times. An empty one is every name
    #[arg(long, value_name = "PREFIX")]
    pub(super) prefix: Vec<String>,
    /// Where to begin: after a cursor, or now, oldest, or a time in microseconds or RFC 3339
    #[arg(long, value_name = "CURSOR|now|oldest|TIME")]
    pub(super) since: Option<String>,
    /// latest: the newest state of each name; all: every version that is kept, in the order of the node
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    pub(super) mode: Option<Mode>,
    /// Only these kinds of changes, comma separated: create, update, put (both), delete
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(super) types: Vec<String>,
    /// Keep the cursor in this file: begin after it if it is there, and write it after each batch of changes
    #[arg(long, value_name = "FILE")]
    pub(super) cursor_file: Option<PathBuf>,
}

/// Which changes of its names a feed tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    Latest,
    All,
}

impl FeedArgs {
    /// Whether any of the options was given, so that the command follows names by their cursor.
    pub(super) fn is_given(&self) -> bool {
        !self.prefix.is_empty()
            || self.since.is_some()
            || self.mode.is_some()
            || !self.types.is_empty()
            || self.cursor_file.is_some()
    }
}

/// The names that a command follows, and where it stands.
pub(super) struct Feed {
    path: String,
    names: Vec<String>,
    prefixes: Vec<String>,
    mode: Option<&'static str>,
    types: Vec<String>,
    since: Option<String>,
    pub(super) file: Option<CursorFile>,
    pub(super) checkpoint: Option<KeptCheckpoint>,
}

/// A batch of events.
#[derive(Debug, Deserialize)]
pub(super) struct ReceivedBatch {
    pub(super) events: Vec<Map<String, Value>>,
    pub(super) cursor: String,
    pub(super) more: bool,
}

/// The effect of an answer.
#[derive(Debug)]
pub(super) enum FeedStep {
    /// Events, perhaps none.
    Batch(ReceivedBatch),
    /// The node cannot answer now.
    Later {
        /// The reason.
        why: String,
        /// The pause that the node requests.
        retry_after: Option<Duration>,
    },
}

impl Feed {
    /// A feed of what was typed. A cursor in the file goes before `--since`, which is for the first run.
    ///
    /// # Errors
    /// If a name is none, or the file cannot be read.
    pub(super) fn new(names: &[String], args: &FeedArgs, within: &InNamespace) -> Result<Self, Failure> {
        names.iter().try_for_each(|name| check_name(name))?;
        if names.is_empty() && args.prefix.is_empty() {
            return Err(Failure::Usage(
                "no names: give a NAME, or --prefix PREFIX; --prefix '' is every name".into(),
            ));
        }
        let file = args.cursor_file.clone().map(CursorFile::new);
        let kept = file.as_ref().map(CursorFile::read).transpose()?.flatten();
        let since = kept.or_else(|| args.since.as_deref().map(since));
        let mode = args.mode.map(|mode| if mode == Mode::All { "all" } else { "latest" });
        Ok(Self {
            path: within.watch(),
            names: names.to_vec(),
            prefixes: args.prefix.clone(),
            mode,
            types: args.types.clone(),
            since,
            file,
            checkpoint: None,
        })
    }

    /// Keeps the cursor in a checkpoint too, and begins there if there is one. It goes before `--since`, which is for
    /// the first run.
    ///
    /// # Errors
    /// If the nodes do not say whether there is one.
    pub(super) async fn keep_in(&mut self, mut checkpoint: KeptCheckpoint) -> Result<(), Failure> {
        if let Some(since) = checkpoint.read().await? {
            self.since = Some(since);
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Whether there is a place to begin.
    pub(super) fn has_since(&self) -> bool {
        self.since.is_some()
    }

    /// The next request: it may wait for so long, and is answered with about `limit` events at most.
    pub(super) fn question(&self, wait: Duration, limit: Option<u64>) -> Request {
        let mut body = json!({
            "names": self.names,
            "prefixes": self.prefixes,
            "timeout": GoDuration(wait).to_string(),
        });
        // a node of a later version may have another default
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        add("since", self.since.as_deref().map(Value::from));
        add("mode", self.mode.map(Value::from));
        add("types", (!self.types.is_empty()).then(|| json!(self.types)));
        add("limit", limit.map(Value::from));
        Request::question(self.path.clone(), body.to_string().into_bytes()).may_take(wait)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A permanent error of the node.
    pub(super) fn absorb(&self, answer: &Answer) -> Result<FeedStep, Failure> {
        let status = answer.status;
        let why = || answer.refusal(|| format!("the node answers {status}"));
        let later = |why| FeedStep::Later { why, retry_after: answer.retry_after() };
        if status == StatusCode::OK {
            return Ok(match answer.json() {
                Ok(batch) => FeedStep::Batch(batch),
                // a proxy in front of the nodes may answer for them for a while
                Err(failure) => later(failure.line().unwrap_or_default().to_owned()),
            });
        }
        if is_passing(status) {
            return Ok(later(why()));
        }
        let is_about_the_cursor =
            matches!(answer.error_code(), Some(ErrorCode::BadCursor | ErrorCode::OtherScope));
        Err(Failure::Failed(match (&self.file, &self.checkpoint) {
            (Some(file), _) if is_about_the_cursor => {
                format!("{}: it is kept in {}: remove the file to begin again", why(), file.shown())
            }
            (_, Some(checkpoint)) if is_about_the_cursor => format!("{}: {}", why(), checkpoint.advice()),
            _ => why(),
        }))
    }

    /// Goes on after a batch that is told.
    ///
    /// # Errors
    /// If the cursor cannot be kept.
    pub(super) fn advance(&mut self, cursor: String) -> Result<(), Failure> {
        if self.since.as_ref() != Some(&cursor) {
            if let Some(file) = &self.file {
                file.write(&cursor)?;
            }
            if let Some(checkpoint) = &mut self.checkpoint {
                checkpoint.take(&cursor);
            }
            self.since = Some(cursor);
        }
        Ok(())
    }
}

/// What the node is asked for: a time alone is the records from then on.
pub(super) fn since(typed: &str) -> String {
    if parse_time(typed).is_some() { format!("at:{typed}") } else { typed.to_owned() }
}

/// Whether a status may pass: it is about the present state of the node, and not about the request.
fn is_passing(status: StatusCode) -> bool {
    use StatusCode as S;
    status.is_server_error() || matches!(status, S::CONFLICT | S::REQUEST_TIMEOUT | S::TOO_MANY_REQUESTS)
}
