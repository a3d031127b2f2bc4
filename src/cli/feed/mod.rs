//! The names that a command follows, from a cursor on: by a stream of `/v1/watch`, or by batches.

pub(super) mod checkpoint;
pub(super) mod follower;
mod kept_cursor;
pub(super) mod printer;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::client::{Answer, Request, Source};
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::check_name;
use crate::client::files::CursorFile;
pub(super) use crate::client::transport::ReceivedBatch;
use crate::client::url::{parameter, with_query};
use crate::wire::date::parse_time;
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_PARTIAL;
use checkpoint::KeptCheckpoint;
use kept_cursor::KeptCursor;

/// Longest target of a request, in bytes, that every node and most proxies take. A longer one is sent as a body.
const MAX_TARGET_BYTES: usize = 4096;

/// Which names, and which of their changes.
#[derive(Debug, Default, Args)]
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
    /// Keep the cursor in this file: begin after it if it is there, and write it after what was told
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
    kept: KeptCursor,
    /// Only a node that holds all names is a source, and a cursor that is not accepted is dropped.
    is_copy: bool,
    /// It is told what happens to leases, too.
    with_leases: bool,
}

/// Why a node cannot answer now.
#[derive(Debug)]
pub(super) struct Later {
    /// The reason.
    pub(super) why: String,
    /// The pause that the node requests.
    pub(super) retry_after: Option<Duration>,
}

impl Later {
    pub(super) fn new(why: String) -> Self {
        Self { why, retry_after: None }
    }
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
        let kept = file.as_ref().map(CursorFile::read).transpose().map_err(Failure::Failed)?.flatten();
        let since = kept.or_else(|| args.since.as_deref().map(since));
        let mode = args.mode.map(|mode| if mode == Mode::All { "all" } else { "latest" });
        Ok(Self {
            path: within.place().watch(),
            names: names.to_vec(),
            prefixes: args.prefix.clone(),
            mode,
            types: args.types.clone(),
            since,
            kept: KeptCursor::new(file),
            is_copy: false,
            with_leases: false,
        })
    }

    /// The same feed, with what happens to leases.
    pub(super) fn with_leases(self, with_leases: bool) -> Self {
        Self { with_leases, ..self }
    }

    /// A feed of a copy of the names: it follows only nodes that hold all of them, and no filled ones. If its cursor is
    /// not accepted, it begins again with all that stands, and [`Feed::has_since`] is false until the first cursor.
    pub(super) fn of_copy(self) -> Self {
        Self { is_copy: true, ..self }
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
        self.kept.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Whether there is a place to begin.
    pub(super) fn has_since(&self) -> bool {
        self.since.is_some()
    }

    /// The place to go on from, if there is one.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Whether its cursor is kept anywhere.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_kept()
    }

    /// The next request for a batch, which is answered at once.
    pub(super) fn question(&self) -> Request {
        let mut body = self.json();
        body["timeout"] = "0s".into();
        Request::question(self.path.clone(), body.to_string().into_bytes())
    }

    /// The request for a stream, with signs of life at this interval. It ends after about `limit` events.
    pub(super) fn stream_question(&self, heartbeat: Option<Duration>, limit: Option<u64>) -> Request {
        let heartbeat = heartbeat.map(|heartbeat| GoDuration(heartbeat).to_string());
        let mut parameters = Vec::new();
        let mut add = |key: &str, value: Option<&str>| {
            parameters.extend(value.map(|value| parameter(key, value)));
        };
        self.names.iter().for_each(|name| add("name", Some(name)));
        self.prefixes.iter().for_each(|prefix| add("prefix", Some(prefix)));
        add("since", self.since.as_deref());
        add("mode", self.mode);
        add("types", (!self.types.is_empty()).then(|| self.types.join(",")).as_deref());
        add("leases", self.with_leases.then_some("true"));
        add("heartbeat", heartbeat.as_deref());
        add("limit", limit.map(|limit| limit.to_string()).as_deref());
        let target = with_query(&self.path, &parameters);
        if target.len() <= MAX_TARGET_BYTES {
            return Request::get(target).streaming();
        }
        let mut body = self.json();
        if let Some(heartbeat) = heartbeat {
            body["heartbeat"] = heartbeat.into();
        }
        if let Some(limit) = limit {
            body["limit"] = limit.into();
        }
        if self.with_leases {
            body["leases"] = true.into();
        }
        Request::question(self.path.clone(), body.to_string().into_bytes()).streaming()
    }

    /// What is asked for, as the body of a request has it.
    fn json(&self) -> Value {
        let mut body = json!({"names": self.names, "prefixes": self.prefixes});
        // a node of a later version may have another default
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        add("since", self.since.as_deref().map(Value::from));
        add("mode", self.mode.map(Value::from));
        add("types", (!self.types.is_empty()).then(|| json!(self.types)));
        body
    }

    /// Reads the answer to [`Feed::question`].
    ///
    /// # Errors
    /// Any other answer.
    pub(super) fn absorb(&self, answer: &Answer) -> Result<ReceivedBatch, Failure> {
        match answer.status {
            StatusCode::OK => Ok(answer.json()?),
            _ => Err(self.refused(answer)?.into()),
        }
    }

    /// Reads the head of the answer to [`Feed::stream_question`].
    ///
    /// # Errors
    /// A permanent error of the node.
    pub(super) fn open(&mut self, mut answer: Answer) -> Result<Result<Source, Later>, Failure> {
        match answer.lines.take() {
            Some(_) if self.is_copy && answer.headers.contains_key(X_VWATCH_PARTIAL) => {
                let from = &answer.from;
                let advice = "name nodes without an upstream";
                Ok(Err(Later::new(format!("{from} holds only the names that were asked of it: {advice}"))))
            }
            Some(lines) => Ok(Ok(lines)),
            // a proxy in front of the nodes may answer for them for a while, and other nodes may be newer
            None if answer.status == StatusCode::OK || answer.status == StatusCode::NOT_ACCEPTABLE => {
                Ok(Err(Later::new(answer.no_stream())))
            }
            None if self.is_copy && self.since.is_some() && is_about_the_cursor(&answer) => {
                self.since = None;
                let why = answer.refusal(|| "the cursor is not accepted".to_owned());
                Ok(Err(Later::new(format!("{why}: beginning again with all that stands"))))
            }
            None => self.refused(&answer).map(Err),
        }
    }

    /// The reason of an answer that is none.
    fn refused(&self, answer: &Answer) -> Result<Later, Failure> {
        let status = answer.status;
        let why = answer.refusal(|| format!("the node answers {status}"));
        if is_passing(status) {
            return Ok(Later { why, retry_after: answer.retry_after() });
        }
        match self.kept.advice().filter(|_| is_about_the_cursor(answer)) {
            Some(advice) => Err(Failure::Failed(format!("{why}: {advice}"))),
            None => Err(Failure::Failed(why)),
        }
    }

    /// Goes on after this cursor. It is kept unless something before it is left to do.
    pub(super) fn advance(&mut self, cursor: String, is_done: bool) {
        if is_done && self.since.as_ref() != Some(&cursor) {
            self.kept.take(&cursor);
        }
        self.since = Some(cursor);
    }

    /// Keeps the cursor now.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub(super) async fn keep(&mut self) -> Result<(), Failure> {
        self.kept.write().await
    }
}

impl From<Later> for Failure {
    fn from(later: Later) -> Self {
        Self::Failed(later.why)
    }
}

/// What the node is asked for: a time alone is the records from then on.
pub(super) fn since(typed: &str) -> String {
    if parse_time(typed).is_some() { format!("at:{typed}") } else { typed.to_owned() }
}

/// Whether an answer rejects the cursor.
fn is_about_the_cursor(answer: &Answer) -> bool {
    matches!(answer.error_code(), Some(ErrorCode::BadCursor | ErrorCode::OtherScope))
}

/// Whether a status may pass: it is about the present state of the node, and not about the request.
fn is_passing(status: StatusCode) -> bool {
    use StatusCode as S;
    status.is_server_error() || matches!(status, S::CONFLICT | S::REQUEST_TIMEOUT | S::TOO_MANY_REQUESTS)
}
