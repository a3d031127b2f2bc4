//! A checkpoint that keeps the cursor of a watch at the nodes.

use std::time::{Duration, Instant};

use hyper::Method;

use super::super::args::quoted;
use super::super::client::{Client, OrFailure, Request};
use super::super::failure::{Failure, complain};
use super::super::namespace::InNamespace;

/// A checkpoint is written at most this often: a busy watch must not become a busy writer.
const PAUSE: Duration = Duration::from_secs(10);

/// A checkpoint that a watch writes.
pub(in crate::cli) struct KeptCheckpoint {
    client: Client,
    id: String,
    path: String,
    /// How the command that removes it is typed.
    remove: String,
    /// When it was written the last time, or tried to be.
    tried: Option<Instant>,
    /// What it has not been written with.
    pending: Option<String>,
    /// The last attempt has failed.
    fails: bool,
}

impl KeptCheckpoint {
    /// The checkpoint with this id, at the nodes of `client`, which goes to their server ports.
    pub(in crate::cli) fn new(client: Client, id: &str, within: &InNamespace) -> Self {
        let remove = format!("vwatch checkpoint rm {}{}", within.typed(), quoted(id));
        let path = within.place().checkpoint_of(id);
        Self { client, id: id.to_owned(), path, remove, tried: None, pending: None, fails: false }
    }

    /// What to do about a checkpoint of another watch.
    pub(super) fn advice(&self) -> String {
        format!("it is in the checkpoint {}: name another one, or remove it: {}", self.id, self.remove)
    }

    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// If the nodes do not say.
    pub(super) async fn read(&mut self) -> Result<Option<String>, Failure> {
        let answer = self.client.send(&Request::get(self.path.clone())).await?;
        match answer.of_record(&self.id) {
            Ok(answer) => Ok(Some(String::from_utf8_lossy(&answer.body).trim().to_owned())),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Takes the cursor after what was handled. It is written by [`KeptCheckpoint::write_if_due`].
    pub(super) fn take(&mut self, cursor: &str) {
        self.pending = Some(cursor.to_owned());
    }

    /// Writes it, unless that was done a moment ago. A node that does not take it does not end the watch.
    pub(in crate::cli) async fn write_if_due(&mut self) {
        if self.tried.is_none_or(|tried| tried.elapsed() >= PAUSE) {
            self.write().await;
        }
    }

    /// Writes what is not written yet.
    pub(in crate::cli) async fn write(&mut self) {
        let Some(cursor) = self.pending.clone() else { return };
        self.tried = Some(Instant::now());
        let request = Request::setting(Method::PUT, self.path.clone()).with_body(cursor.into_bytes());
        let written = self.client.send(&request).await.and_then(|answer| answer.of_record(&self.id));
        match written {
            Ok(_) => (self.pending, self.fails) = (None, false),
            Err(failure) => {
                if !self.fails {
                    let why = failure.line().unwrap_or("the node does not answer");
                    complain(&format!("the checkpoint {} is not written: {why}: trying again", self.id));
                }
                self.fails = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::super::super::testing::{Fake, answer};
    use super::*;

    fn checkpoint(fake: &Fake) -> KeptCheckpoint {
        let matches =
            InNamespace::augment_args(Command::new("x")).get_matches_from(["x", "--namespace", "a"]);
        KeptCheckpoint::new(fake.client(), "r", &InNamespace::from_arg_matches(&matches).unwrap())
    }

    #[tokio::test]
    async fn it_is_read_once_and_written_now_and_then() {
        let stamp = [("X-Last-Sync", "7")];
        let done = || answer("204 No Content", &stamp, "");
        let fake = Fake::start(vec![answer("200 OK", &stamp, "c1.a"), done(), done()]);
        let mut kept = checkpoint(&fake);
        assert_eq!(kept.read().await, Ok(Some("c1.a".to_owned())));
        for cursor in ["c1.b", "c1.c", "c1.d"] {
            kept.take(cursor);
            kept.write_if_due().await;
        }
        kept.write().await;
        kept.write().await;
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/ns/a/checkpoints/r HTTP/1.1\r\n"), "{seen:?}");
        let puts: Vec<&str> = seen[1..].iter().filter_map(|put| put.split("\r\n\r\n").nth(1)).collect();
        assert_eq!(puts, ["c1.b", "c1.d"], "the first, and the last at the end");
        assert!(seen[1].starts_with("PUT /v1/ns/a/checkpoints/r HTTP/1.1\r\n"), "{seen:?}");
        assert!(kept.advice().ends_with("vwatch checkpoint rm --namespace a r"), "{}", kept.advice());
    }

    #[tokio::test]
    async fn there_may_be_none_and_a_node_may_refuse_it() {
        let refused = |status: &str, code: &str| {
            let headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Vwatch-Error", code)];
            answer(status, &headers, "no: x: y\n")
        };
        let fake = Fake::start(vec![
            refused("404 Not Found", "not-found"),
            refused("400 Bad Request", "bad-name"),
            refused("507 Insufficient Storage", "too-many-checkpoints"),
        ]);
        let mut kept = checkpoint(&fake);
        assert_eq!(kept.read().await, Ok(None));
        assert_eq!(kept.read().await, Err(Failure::Failed("no: x: y".to_owned())));
        kept.take("c1.b");
        kept.write().await;
        assert!(kept.fails && kept.pending.is_some(), "it is tried again");
    }
}
