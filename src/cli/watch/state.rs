//! The state of a watcher, its next request, and the effect of an answer. Pure: no sockets and no clock.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;

use super::super::client::{Answer, NotANode, Request};
use super::super::failure::{Failure, complain};
use super::super::runner::RunInput;
use crate::client::url::{parameter, with_query};
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{X_VWATCH_GENESIS, X_VWATCH_LOST_SINCE};

/// A change to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: String,
    /// `None` for a delete.
    pub(super) version: Option<String>,
    pub(super) data: Bytes,
    pub(super) last_sync: Option<u64>,
}

impl Change {
    /// What a command gets that runs for it.
    pub(super) fn input(&self) -> RunInput {
        let mut variables = vec![
            ("VWATCH_NAME", self.name.clone()),
            ("VWATCH_VERSION", self.version.clone().unwrap_or_default()),
            ("VWATCH_LAST_SYNC", self.last_sync.map_or_else(String::new, |micros| micros.to_string())),
        ];
        if self.version.is_none() {
            variables.push(("VWATCH_DELETED", "1".to_owned()));
        }
        RunInput { variables, data: self.data.clone() }
    }
}

/// The last reported state, or the one from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Version(String),
    Deleted,
}

/// The effect of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WatchStep {
    /// A change to report.
    News(Change),
    /// Nothing new.
    Nothing,
    /// Nothing new, and another request follows at once.
    AskOtherwise,
    /// The node cannot answer now.
    Later {
        /// The reason.
        why: String,
        /// The pause that the node requests.
        retry_after: Option<Duration>,
    },
}

/// A watcher of one name.
#[derive(Debug)]
pub(super) struct WatchState {
    path: String,
    name: String,
    timeout: Duration,
    told: Told,
    /// The name does not exist: the request waits for its creation.
    is_gone: bool,
    /// The newest stamp so far, so that the watcher never goes back in time.
    last_sync: Option<u64>,
}

impl WatchState {
    /// A watcher of the name with this path that begins with the present record, or after the version `known`. An empty
    /// one means that the name does not exist.
    pub(super) fn new(path: &str, name: &str, known: Option<&str>, timeout: Duration) -> Self {
        let told = match known {
            None | Some("") => Told::Nothing,
            Some(version) => Told::Version(version.to_owned()),
        };
        Self {
            path: path.to_owned(),
            name: name.to_owned(),
            timeout,
            told,
            is_gone: known == Some(""),
            last_sync: None,
        }
    }

    /// The next request.
    pub(super) fn question(&self) -> Request {
        let known = match &self.told {
            _ if self.is_gone => Some(""),
            Told::Version(version) => Some(version.as_str()),
            Told::Nothing | Told::Deleted => None,
        };
        let path = self.path.clone();
        let Some(known) = known else { return Request::get(path).may_take(self.timeout) };
        let request = Request::get(with_query(&path, &[parameter("version", known)]));
        let request = request.parks_for(self.timeout);
        match self.last_sync {
            Some(micros) => request.header("x-last-sync", micros.to_string()),
            None => request,
        }
    }

    /// Applies an answer.
    ///
    /// # Errors
    /// A permanent error of the node.
    pub(super) fn absorb(&mut self, answer: &Answer) -> Result<WatchStep, Failure> {
        if let Some(why) = not_of_a_node(answer) {
            // a proxy in front of the nodes may answer for them for a while
            return Ok(WatchStep::Later { why, retry_after: answer.retry_after() });
        }
        match answer.status {
            StatusCode::OK => Ok(self.absorb_value(answer)),
            StatusCode::GONE => Ok(self.absorb_delete(answer)),
            StatusCode::NOT_FOUND if is_absence(answer) => Ok(self.absorb_absence()),
            status if is_passing(status) => Ok(WatchStep::Later {
                why: answer.refusal(|| format!("the node answers {status}")),
                retry_after: answer.retry_after(),
            }),
            status => Err(Failure::Failed(answer.refusal(|| format!("the node answers {status}")))),
        }
    }

    fn absorb_value(&mut self, answer: &Answer) -> WatchStep {
        let Some(version) = answer.version() else {
            let why =
                format!("an answer of {} without a version as its ETag: is it a vwatch node?", answer.from);
            return WatchStep::Later { why, retry_after: None };
        };
        if !self.advance(answer) {
            return WatchStep::Nothing;
        }
        self.is_gone = false;
        let told = Told::Version(version.to_string());
        if self.told == told {
            return WatchStep::Nothing;
        }
        self.told = told;
        WatchStep::News(self.change(Some(version.as_str()), answer))
    }

    fn absorb_delete(&mut self, answer: &Answer) -> WatchStep {
        if !self.advance(answer) {
            return WatchStep::Nothing;
        }
        self.is_gone = true;
        if self.told == Told::Deleted {
            return WatchStep::Nothing;
        }
        self.told = Told::Deleted;
        WatchStep::News(self.change(None, answer))
    }

    /// Applies a 404: the name never existed, or a new set has begun. The last reported state stays known, so that the
    /// same version, written again, is no change.
    fn absorb_absence(&mut self) -> WatchStep {
        if self.is_gone {
            return WatchStep::Nothing;
        }
        if let Told::Version(_) = self.told {
            complain(&format!("{}: the node does not have it: waiting until it is written", self.name));
        }
        self.is_gone = true;
        WatchStep::AskOtherwise
    }

    /// Records the stamp of an answer. Returns false if it is older than the newest one so far. An answer with a
    /// genesis means that earlier stamps are from before the present set, and do not count; one with the time of lost
    /// writes, that the newest one was lost with all nodes.
    fn advance(&mut self, answer: &Answer) -> bool {
        let stamp = answer.last_sync();
        if [X_VWATCH_GENESIS, X_VWATCH_LOST_SINCE].iter().any(|name| answer.header(name).is_some()) {
            self.last_sync = stamp;
            return true;
        }
        if let (Some(stamp), Some(seen)) = (stamp, self.last_sync)
            && stamp < seen
        {
            return false;
        }
        self.last_sync = stamp.or(self.last_sync);
        true
    }

    fn change(&self, version: Option<&str>, answer: &Answer) -> Change {
        Change {
            name: self.name.clone(),
            version: version.map(str::to_owned),
            data: if version.is_some() { answer.body.clone() } else { Bytes::new() },
            last_sync: answer.last_sync(),
        }
    }
}

/// The fault of an answer that is not from a node about a record.
fn not_of_a_node(answer: &Answer) -> Option<String> {
    let found = match answer.status {
        StatusCode::OK | StatusCode::GONE => answer.check_stamp(),
        StatusCode::NOT_FOUND => answer.check_refusal(),
        _ => Ok(()),
    };
    found.err().map(|NotANode(line)| line)
}

/// Whether a 404 is about the name. Another code, such as that of a path that the port does not have, is permanent.
fn is_absence(answer: &Answer) -> bool {
    answer.error_code().is_none_or(|code| code == ErrorCode::NotFound)
}

/// Whether a status may pass: it is about the present state, and not about the request. A 409 is from a node that is
/// behind the watcher and did not catch up in time.
fn is_passing(status: StatusCode) -> bool {
    use StatusCode as S;
    status.is_server_error() || matches!(status, S::CONFLICT | S::REQUEST_TIMEOUT | S::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_command_gets_the_change() {
        let change = |version: Option<&str>| Change {
            name: "a/b".to_owned(),
            version: version.map(str::to_owned),
            data: Bytes::from_static(b"data"),
            last_sync: Some(7),
        };
        let input = change(Some("v1")).input();
        let set =
            |input: &RunInput| input.variables.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(
            (set(&input), &input.data[..]),
            (["a/b", "v1", "7"].map(str::to_owned).into(), &b"data"[..])
        );
        assert_eq!(set(&change(None).input()), ["a/b", "", "7", "1"]);
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        Answer { from: "http://n".to_owned(), status, headers, body: Bytes::from_static(b"d"), lines: None }
    }

    fn value(version: &str, micros: &str) -> Answer {
        answer(200, &[("etag", &format!("\"{version}\"")), ("x-last-sync", micros)])
    }

    fn state(known: Option<&str>) -> WatchState {
        WatchState::new("/v1/versions/n", "n", known, Duration::from_secs(30))
    }

    fn absorb(state: &mut WatchState, answer: &Answer) -> String {
        match state.absorb(answer).unwrap() {
            WatchStep::News(Change { version: Some(version), .. }) => version,
            WatchStep::News(_) => "deleted".to_owned(),
            WatchStep::Nothing => "nothing".to_owned(),
            WatchStep::AskOtherwise => "otherwise".to_owned(),
            WatchStep::Later { .. } => "later".to_owned(),
        }
    }

    #[test]
    fn never_goes_back_in_time() {
        let mut state = state(None);
        assert_eq!(absorb(&mut state, &value("b", "20")), "b");
        assert_eq!(absorb(&mut state, &value("a", "10")), "nothing", "an older state, from another node");
        assert_eq!(absorb(&mut state, &answer(410, &[("x-last-sync", "15")])), "nothing", "an older delete");
        assert_eq!(absorb(&mut state, &value("b", "25")), "nothing", "a fresh stamp on the same version");
        assert_eq!(absorb(&mut state, &value("c", "24")), "nothing", "older than the fresh stamp");
        assert_eq!(absorb(&mut state, &value("c", "25")), "c", "a tie that the node settled otherwise");
    }

    #[test]
    fn a_new_set_starts_over() {
        let mut state = state(None);
        assert_eq!(absorb(&mut state, &value("a", "20")), "a");
        assert_eq!(absorb(&mut state, &answer(404, &[])), "otherwise");
        assert_eq!(absorb(&mut state, &answer(404, &[("x-vwatch-error", "not-found")])), "nothing");
        let of_new_set = |version: &str| {
            answer(
                200,
                &[("etag", &format!("\"{version}\"")), ("x-last-sync", "5"), ("x-vwatch-genesis", "21")],
            )
        };
        assert_eq!(absorb(&mut state, &of_new_set("a")), "nothing", "written again as it was");
        assert_eq!(absorb(&mut state, &of_new_set("b")), "b");
        assert_eq!(absorb(&mut state, &value("c", "6")), "c", "the stamp from before counts no more");
    }

    #[test]
    fn what_was_lost_is_gone_back_from() {
        let mut state = state(None);
        assert_eq!(absorb(&mut state, &value("b", "20")), "b");
        let headers = [("etag", "\"a\""), ("x-last-sync", "5"), ("x-vwatch-lost-since", "10")];
        assert_eq!(absorb(&mut state, &answer(200, &headers)), "a");
        assert_eq!(absorb(&mut state, &value("c", "6")), "c", "the stamp of what was lost counts no more");
    }

    #[test]
    fn a_404_about_the_path_is_permanent() {
        let no_path = answer(404, &[("x-vwatch-error", "no-such-path")]);
        assert!(matches!(state(None).absorb(&no_path), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_deleted_name_is_reported_once_and_waited_for() {
        let mut state = state(None);
        assert_eq!(absorb(&mut state, &answer(410, &[("x-last-sync", "5")])), "deleted");
        assert_eq!(absorb(&mut state, &answer(410, &[("x-last-sync", "7")])), "nothing");
        assert_eq!(absorb(&mut state, &value("a", "8")), "a");
        assert_eq!(absorb(&mut state, &answer(410, &[("x-last-sync", "9")])), "deleted");
    }

    #[test]
    fn what_passes_is_waited_out_and_what_does_not_ends_it() {
        let mut state = state(Some("a"));
        for status in [500, 502, 503, 504, 429, 409, 408] {
            assert_eq!(absorb(&mut state, &answer(status, &[])), "later", "{status}");
        }
        assert_eq!(absorb(&mut state, &answer(200, &[])), "later", "no ETag");
        for status in [301, 400, 401, 405, 414] {
            assert!(matches!(state.absorb(&answer(status, &[])), Err(Failure::Failed(_))), "{status}");
        }
    }
}
