//! The writes of an import, and what the nodes make of them.

use std::cell::RefCell;
use std::time::Duration;

use hyper::StatusCode;

use super::super::client::{Answer, Client, OrFailure, Request};
use super::super::failure::Failure;
use super::super::progress::Progress;
use super::super::set_line::Record;
use super::super::workers::Workers;
use super::Import;
use super::counts::{Counts, Fault};
use super::lines::{Numbered, OfAName};
use crate::client::place::Place;
use crate::client::url::{Url, parameter, with_query};
use crate::core::Stamp;
use crate::node::clock;
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;

/// The clients of an import.
pub(super) struct Writing {
    writers: Workers,
    /// For the question whether an older version is there already.
    readers: Option<Workers>,
}

/// What became of a record.
enum Outcome {
    Imported,
    Ended,
    /// A newer write stands.
    Older(String),
    /// The node does not take this record.
    Refused(String),
}

/// An older version that lost to a newer write: it may be there already.
struct Lost {
    numbered: Numbered,
    why: String,
}

/// What several requests count at a time.
struct Shared<'a> {
    counts: &'a mut Counts,
    progress: &'a mut Progress,
    lost: Vec<Lost>,
}

impl Writing {
    pub(super) fn new(args: &Import, writers: &[Url], readers: Option<&[Url]>) -> Self {
        let workers = |urls: &[Url], flag| Workers::new(urls, flag, args.connections.into(), args.timeout);
        Self {
            writers: workers(writers, "server-url"),
            readers: readers.map(|readers| workers(readers, "client-url")),
        }
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// If no node answers, or it takes nothing at all.
    pub(super) async fn write(
        &mut self,
        batch: Vec<OfAName>,
        counts: &mut Counts,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let shared = RefCell::new(Shared { counts, progress, lost: Vec::new() });
        let write = async |client: &mut Client, name: OfAName| {
            for numbered in name {
                let outcome = write_one(&numbered.record, client).await?;
                shared.borrow_mut().count(numbered, outcome);
            }
            Ok(())
        };
        self.writers.each(batch.into_iter(), write).await?;
        let lost = std::mem::take(&mut shared.borrow_mut().lost);
        let Some(readers) = &mut self.readers else {
            lost.into_iter().for_each(|lost| shared.borrow_mut().older(&lost));
            return Ok(());
        };
        let check = async |client: &mut Client, lost: Lost| {
            let is_present = is_present(&lost.numbered.record, client).await?;
            let mut shared = shared.borrow_mut();
            match is_present {
                true => shared.counts.present += 1,
                false => shared.older(&lost),
            }
            Ok(())
        };
        readers.each(lost.into_iter(), check).await
    }
}

impl Shared<'_> {
    fn count(&mut self, numbered: Numbered, outcome: Outcome) {
        match outcome {
            Outcome::Imported => self.counts.imported += 1,
            Outcome::Ended => self.counts.ended += 1,
            Outcome::Older(why) if numbered.record.is_past => self.lost.push(Lost { numbered, why }),
            Outcome::Older(why) => self.counts.note(numbered.line, &Fault::Older, &why, self.progress),
            Outcome::Refused(why) => self.counts.note(numbered.line, &Fault::Refused, &why, self.progress),
        }
    }

    fn older(&mut self, lost: &Lost) {
        self.counts.note(lost.numbered.line, &Fault::Older, &lost.why, self.progress);
    }
}

async fn write_one(record: &Record, client: &mut Client) -> Result<Outcome, Failure> {
    if record.end.is_some_and(|end| end <= clock::now()) {
        return Ok(Outcome::Ended);
    }
    outcome(record, client.send(&request(record)).await?)
}

fn request(record: &Record) -> Request {
    let path = Place::of(record.namespace.clone()).path_of(&record.name);
    let request = match &record.value {
        None => Request::delete(path),
        Some((version, data)) => {
            let mut parameters = vec![parameter("version", version)];
            parameters.extend(record.end.map(|end| parameter("expires", &lasts(record.stamp, end))));
            Request::put(with_query(&path, &parameters), data.clone())
        }
    };
    request.stamped(Some(record.stamp))
}

/// How long a value of this stamp lasts, as a parameter.
fn lasts(stamp: Stamp, end: Stamp) -> String {
    GoDuration(Duration::from_micros(end.micros().saturating_sub(stamp.micros()))).to_string()
}

fn outcome(record: &Record, answer: Answer) -> Result<Outcome, Failure> {
    use ErrorCode as C;
    if answer.status.is_success() {
        answer.check_stamp()?;
        return Ok(Outcome::Imported);
    }
    let code = answer.error_code();
    // a new name may say more than the node about why it is not taken: the line has it first
    let why = |failure: Failure| format!("{:?}: {}", record.name, failure.line().unwrap_or_default());
    Ok(match code {
        Some(C::Older) => Outcome::Older(why(refused(answer, &record.name))),
        Some(C::StampTooOld) if record.value.is_none() => Outcome::Ended,
        // its end came while it was on its way
        Some(C::BadParameter) if record.end.is_some_and(|end| end <= clock::now()) => Outcome::Ended,
        Some(
            C::BadRequest
            | C::BadName
            | C::BadNamespace
            | C::BadParameter
            | C::StampInFuture
            | C::StampTooOld
            | C::NotGranted
            | C::Contradicts
            | C::LeaseNotHeld
            | C::TooLarge
            | C::NameTooLong
            | C::Locked
            | C::NamespaceFull
            | C::TooManyNamespaces,
        ) => Outcome::Refused(why(refused(answer, &record.name))),
        // a node without codes
        None if answer.status == StatusCode::CONFLICT => Outcome::Older(why(refused(answer, &record.name))),
        _ => return Err(refused(answer, &record.name)),
    })
}

fn refused(answer: Answer, name: &str) -> Failure {
    match answer.or_refusal(name) {
        Err(failure) => failure,
        Ok(answer) => Failure::Failed(format!("{}: no refusal, and no success", answer.from)),
    }
}

/// Whether this very version is kept of its name.
async fn is_present(record: &Record, client: &mut Client) -> Result<bool, Failure> {
    let path = Place::of(record.namespace.clone()).path_of(&record.name);
    let request = Request::get(with_query(&path, &[parameter("revision", &record.stamp.to_string())]));
    let answer = client.send(&request).await?;
    if answer.last_sync() != Some(record.stamp.micros()) {
        return Ok(false);
    }
    Ok(match &record.value {
        None => answer.error_code() == Some(ErrorCode::Deleted),
        Some((version, data)) => {
            let stands = answer.version().map(|version| version.to_string());
            answer.status.is_success() && stands.as_ref() == Some(version) && answer.body == data[..]
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::super::super::set_line::parse;
    use super::*;
    use crate::client::testing::{Node, answer};
    use crate::wire::headers::X_VWATCH_ERROR;

    fn args() -> Import {
        let command = Import::augment_args(Command::new("import"));
        Import::from_arg_matches(&command.get_matches_from(["import"])).unwrap()
    }

    fn numbered(line: u64, text: &str) -> Numbered {
        Numbered { line, record: parse(text.as_bytes()).unwrap() }
    }

    async fn written(answers: Vec<String>, lines: &[&str]) -> (Result<(), Failure>, Counts, Vec<String>) {
        let node = Node::with(answers);
        let url = [Url::parse(&node.url()).unwrap()];
        let mut writing = Writing::new(&args(), &url, Some(&url));
        let (mut counts, mut progress) = (Counts::default(), Progress::new());
        let name = lines.iter().zip(1..).map(|(text, line)| numbered(line, text)).collect();
        let done = writing.write(vec![name], &mut counts, &mut progress).await;
        (done, counts, node.seen())
    }

    fn refusal(status: &str, code: &str) -> String {
        answer(status, &[(X_VWATCH_ERROR, code), ("Content-Type", "text/plain")], "a line\n")
    }

    #[tokio::test]
    async fn a_record_is_written_with_its_stamp_and_its_end() {
        let good = || answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "7")], "");
        let far = 4_000_000_000_000_000_u64;
        let lines = [
            r#"{"name":"a b","version":"v","revision":7,"data":"x"}"#.to_owned(),
            format!(
                r#"{{"namespace":"t","name":"a","version":"v","revision":{},"expires":{far},"data":""}}"#,
                far - 1_500_001
            ),
            r#"{"name":"a","revision":8,"deleted":true}"#.to_owned(),
            r#"{"name":"a","version":"v","revision":7,"expires":8,"data":"it has ended"}"#.to_owned(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let (done, counts, seen) = written(vec![good(), good(), good()], &lines).await;
        assert_eq!((done, counts.imported, counts.ended), (Ok(()), 3, 1));
        assert!(seen[0].starts_with("PUT /v1/versions/a%20b?version=v&modified=7 HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[0].ends_with("\r\n\r\nx"), "{seen:?}");
        let target =
            format!("PUT /v1/ns/t/versions/a?version=v&expires=1.500001s&modified={} ", far - 1_500_001);
        assert!(seen[1].starts_with(&target), "{seen:?}");
        assert!(seen[2].starts_with("DELETE /v1/versions/a?modified=8 HTTP/1.1\r\n"), "{seen:?}");
    }

    #[tokio::test]
    async fn an_older_version_that_is_there_is_no_fault() {
        let kept = |version: &str| answer("200 OK", &[("ETag", version), ("X-Last-Sync", "7")], "x");
        let past = r#"{"name":"a","version":"v","revision":7,"data":"x","past":true}"#;
        let present = r#"{"name":"a","version":"v","revision":7,"data":"x"}"#;
        let older = || refusal("409 Conflict", "older");
        let (_, counts, seen) = written(vec![older(), kept("\"v\"")], &[past]).await;
        assert_eq!((counts.present, counts.older, counts.outcome()), (1, 0, Ok(())));
        assert!(seen[1].starts_with("GET /v1/versions/a?revision=7 HTTP/1.1\r\n"), "{seen:?}");
        let (_, counts, _) = written(vec![older(), kept("\"w\"")], &[past]).await;
        assert_eq!((counts.present, counts.older), (0, 1));
        let (_, counts, _) = written(vec![older()], &[present]).await;
        assert_eq!((counts.older, counts.outcome()), (1, Err(Failure::Told(5))));
    }

    #[tokio::test]
    async fn what_is_about_one_record_does_not_end_it() {
        let line = r#"{"name":"a","version":"v","revision":7,"data":"x"}"#;
        let good = answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "7")], "");
        let answers = vec![refusal("413 Payload Too Large", "too-large"), good];
        let (done, counts, _) = written(answers, &[line, line]).await;
        assert_eq!((done, counts.refused, counts.imported), (Ok(()), 1, 1));
        for (status, code) in [
            ("507 Insufficient Storage", "set-full"),
            ("401 Unauthorized", "no-token"),
            ("405 Method Not Allowed", "method-not-allowed"),
            ("503 Service Unavailable", "joining"),
        ] {
            let (done, counts, seen) = written(vec![refusal(status, code)], &[line, line]).await;
            assert!(matches!(done, Err(Failure::Failed(_))), "{done:?}");
            assert_eq!((counts.refused, counts.imported, seen.len()), (0, 0, 1), "{code}");
        }
    }
}
