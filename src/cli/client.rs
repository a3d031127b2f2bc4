//! The client of the commands: requests to the nodes of a flag, and failures in the words of the command line.

use std::time::Duration;

use hyper::StatusCode;

use super::args::quoted;
use super::failure::Failure;
pub(super) use crate::client::transport::{Answer, NotANode, Request, Source};
use crate::client::transport::{Requester, SendError};
use crate::client::url::Url;
use crate::wire::error_code::ErrorCode;

/// Sends requests to the nodes of a list, to one at a time.
#[derive(Debug)]
pub(super) struct Client {
    requester: Requester,
    /// The flag that names the nodes, for the failure when none answers.
    flag: &'static str,
}

impl Client {
    /// A client for a list of at least one URL.
    pub(super) fn new(urls: Vec<Url>, flag: &'static str) -> Self {
        Self { requester: Requester::new(urls), flag }
    }

    /// Limits the time of all further requests together.
    pub(super) fn within(self, time: Duration) -> Self {
        Self { requester: self.requester.within(time), ..self }
    }

    /// Limits the time of the requests from now on together.
    pub(super) fn limit(&mut self, time: Duration) {
        self.requester.limit(time);
    }

    /// Makes the next address the first one for further requests.
    pub(super) fn move_on(&mut self) {
        self.requester.move_on();
    }

    /// Does `work` beside an open stream, as [`Requester::beside`].
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        self.requester.beside(work).await
    }

    /// Sends a request, as [`Requester::send`].
    ///
    /// # Errors
    /// If no node answered, or the result of a write is unknown.
    pub(super) async fn send(&mut self, request: &Request) -> Result<Answer, Failure> {
        self.requester.send(request).await.map_err(|error| failure(error, self.flag))
    }
}

/// The failure of a request to the nodes that a flag names.
pub(super) fn failure(error: SendError, flag: &str) -> Failure {
    match error {
        SendError::Unsendable(why) => {
            Failure::Usage(format!("HTTP cannot carry the request: {why}: use a shorter name"))
        }
        SendError::NoAnswer { errors, is_write, is_explained } => {
            let nothing = if is_write { ": nothing was written" } else { "" };
            let advice = match is_explained {
                true => String::new(),
                false => format!(": is a node running there? --{flag} names another one"),
            };
            Failure::Failed(format!("{}{nothing}{advice}", errors.join("; ")))
        }
        SendError::InDoubt { errors, stamp } => {
            let again = match stamp {
                Some(stamp) => {
                    format!("read the name, or repeat the command with --modified {stamp}, which is safe")
                }
                None => "read the name".to_owned(),
            };
            let errors = errors.join("; ");
            Failure::InDoubt(format!("{errors}: it may have been done, or be done later: {again}"))
        }
    }
}

impl From<NotANode> for Failure {
    fn from(NotANode(line): NotANode) -> Self {
        Self::Failed(line)
    }
}

/// The failures of the command line for answers that are no success.
pub(super) trait OrFailure: Sized {
    /// The answer about the record of `name`.
    ///
    /// # Errors
    /// If the status is no success, or the answer is not from a node.
    fn of_record(self, name: &str) -> Result<Self, Failure>;

    /// The answer to a command about `name`.
    ///
    /// # Errors
    /// If the status is no success. The code of the answer decides the kind of failure; if it has none, its status
    /// does.
    fn or_refusal(self, name: &str) -> Result<Self, Failure>;
}

impl OrFailure for Answer {
    fn of_record(self, name: &str) -> Result<Self, Failure> {
        let answer = self.or_refusal(name)?;
        answer.check_stamp()?;
        Ok(answer)
    }

    fn or_refusal(self, name: &str) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        self.check_refusal()?;
        let line = |otherwise: &str| self.refusal(|| format!("{name}: {otherwise}"));
        let lost = || match self.version() {
            Some(version) => Failure::Lost(line(&format!("lost: a newer write stands: version {version}"))),
            None => Failure::Lost(line("lost: a newer write stands")),
        };
        let failed = || Failure::Failed(line(&format!("the node answers {}", self.status)));
        Err(match self.error_code() {
            // the line of the node has advice for users of HTTP: each command has its own
            Some(ErrorCode::NotFound) => Failure::Missing(format!("not found: {name:?}")),
            Some(ErrorCode::Deleted) => Failure::Missing(format!("deleted: {name:?}")),
            Some(ErrorCode::RevisionUnknown) => Failure::Missing(format!(
                "no such revision: {name:?}: see those that are kept: vwatch history {}",
                quoted(name)
            )),
            Some(ErrorCode::Compacted) => Failure::Missing(format!(
                "compacted: {name:?}: what there may have been then is not kept any more: see what is kept: \
                 vwatch history {}",
                quoted(name)
            )),
            Some(ErrorCode::Older | ErrorCode::Contradicts) => lost(),
            Some(ErrorCode::LeaseHeld | ErrorCode::Locked) => {
                Failure::Held(line("a lease stands in the way"))
            }
            Some(ErrorCode::LeaseLost | ErrorCode::LeaseNotHeld) => {
                Failure::LeaseLost(line("the lease is not live"))
            }
            Some(_) => failed(),
            None => match self.status {
                StatusCode::NOT_FOUND => Failure::Missing(line("no such name")),
                StatusCode::GONE => Failure::Missing(line("it is deleted")),
                StatusCode::CONFLICT => lost(),
                _ => failed(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;
    use crate::wire::headers::{X_VWATCH_ERROR, X_VWATCH_PORT};

    #[tokio::test]
    async fn an_answer_that_is_not_from_a_node_is_recognized() {
        let html = [("Content-Type", "text/html"), ("ETag", "\"5f\""), ("Server", "nginx")];
        for (status, headers, body, said) in [
            (
                "200 OK",
                &html[..],
                "<html>",
                "answers 200 OK with text/html of nginx, and without X-Last-Sync",
            ),
            ("204 No Content", &[], "", "answers 204 No Content with nothing, and without X-Last-Sync"),
            ("404 Not Found", &html, "<html>", "answers 404 Not Found with text/html of nginx, and not with"),
            ("409 Conflict", &[], "\n <html>", "answers 409 Conflict with 8 bytes of no type, and not with"),
            (
                "502 Bad Gateway",
                &html,
                "<html>",
                "answers 502 Bad Gateway with text/html of nginx, and not with",
            ),
            (
                "404 Not Found",
                &[("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")],
                "404 page not found\n",
                "answers 404 Not Found with text/plain; charset=utf-8, and",
            ),
        ] {
            let fake = Fake::start(vec![answer(status, headers, body)]);
            let found =
                fake.client().send(&Request::get("/".to_owned())).await.unwrap().of_record("n").unwrap_err();
            let Failure::Failed(line) = found else { panic!("{found:?} for {status}") };
            assert!(
                line.starts_with("not a vwatch node: http://127.0.0.1:") && line.contains(said),
                "{line}"
            );
        }
        // the Go vwatch answers no more than this
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let found = fake.client().send(&Request::get("/".to_owned())).await.unwrap().of_record("n");
        assert!(matches!(found, Err(Failure::Missing(_))), "{found:?}");
    }

    #[tokio::test]
    async fn the_code_of_an_error_decides_and_not_its_text() {
        let refused = async |status: &str, code: &str, body: &str| {
            let headers = [("Content-Type", "text/plain; charset=utf-8"), (X_VWATCH_ERROR, code)];
            let fake = Fake::start(vec![answer(status, &headers, body)]);
            let answer = fake.client().send(&Request::get("/".to_owned())).await.unwrap();
            (answer.has_no_value(), answer.or_refusal("n").unwrap_err())
        };
        let missing = |line: &str| (true, Failure::Missing(line.to_owned()));
        assert_eq!(refused("404 Not Found", "not-found", "any text\n").await, missing("not found: \"n\""));
        assert_eq!(refused("410 Gone", "deleted", "<odd text>\n").await, missing("deleted: \"n\""));
        let text = || "not found: \"n\"".to_owned();
        for (status, code, failure) in [
            ("404 Not Found", "no-such-path", Failure::Failed(text())),
            ("409 Conflict", "would-go-back", Failure::Failed(text())),
            ("409 Conflict", "older", Failure::Lost(text())),
            ("409 Conflict", "contradicts", Failure::Lost(text())),
            ("404 Not Found", "of-a-newer-version", Failure::Missing(text())),
            ("400 Bad Request", "of-a-newer-version", Failure::Failed(text())),
        ] {
            assert_eq!(refused(status, code, &text()).await, (false, failure), "{status} {code}");
        }
    }

    #[tokio::test]
    async fn the_other_port_of_a_node_is_recognized() {
        let refused = async |code: &str, port: Option<&str>| {
            let headers = [Some((X_VWATCH_ERROR, code)), port.map(|port| (X_VWATCH_PORT, port))];
            let headers: Vec<_> = headers.into_iter().flatten().collect();
            let fake = Fake::start(vec![answer("405 Method Not Allowed", &headers, "a line\n")]);
            let answer = fake.client().send(&Request::get("/".to_owned())).await.unwrap();
            answer.or_refusal("n").unwrap_err().line().unwrap().to_owned()
        };
        for (port, is, wanted) in [
            ("server", "is the server port of a node", "name the client port (--client-url)"),
            ("client", "is the client port of a node", "name the server port (--server-url)"),
        ] {
            for code in ["method-not-allowed", "no-such-path"] {
                let line = refused(code, Some(port)).await;
                assert!(line.starts_with("wrong port: http://127.0.0.1:"), "{line}");
                assert!(line.contains(is) && line.contains(wanted), "{line}");
            }
        }
        // a node of an older version, a follower, and another error
        assert_eq!(refused("method-not-allowed", None).await, "a line");
        assert_eq!(refused("bad-name", Some("server")).await, "a line");
    }

    #[test]
    fn a_request_without_an_answer_has_advice() {
        let errors = || vec!["a".to_owned(), "b".to_owned()];
        let line = |error| failure(error, "server-url").line().unwrap().to_owned();
        let stamp = crate::core::Stamp::from_micros(7).ok();
        assert_eq!(
            line(SendError::NoAnswer { errors: errors(), is_write: false, is_explained: false }),
            "a; b: is a node running there? --server-url names another one"
        );
        assert_eq!(
            line(SendError::NoAnswer { errors: errors(), is_write: true, is_explained: false }),
            "a; b: nothing was written: is a node running there? --server-url names another one"
        );
        assert_eq!(
            line(SendError::NoAnswer { errors: errors(), is_write: true, is_explained: true }),
            "a; b: nothing was written"
        );
        assert_eq!(
            line(SendError::InDoubt { errors: errors(), stamp: None }),
            "a; b: it may have been done, or be done later: read the name"
        );
        assert_eq!(
            line(SendError::InDoubt { errors: errors(), stamp }),
            "a; b: it may have been done, or be done later: read the name, or repeat the command with --modified 7, \
             which is safe"
        );
        let unsendable = failure(SendError::Unsendable("why".to_owned()), "server-url");
        assert_eq!(
            unsendable,
            Failure::Usage("HTTP cannot carry the request: why: use a shorter name".to_owned())
        );
    }
}
