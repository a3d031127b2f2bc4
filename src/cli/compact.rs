//! `vwatch compact TIME`: drops older versions from before a time.

use clap::Args;
use hyper::Method;
use serde::Deserialize;

use super::args;
use super::client::{Answer, OrFailure, Request};
use super::failure::{Failure, tell};
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, print, rfc3339};
use crate::client::url::{parameter, with_query};
use crate::wire::text::json_escaped;

/// Drop the older versions from before a time
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch compact 24h                      keep older versions of a day
  vwatch compact 2026-11-28T12:00:00Z
  vwatch compact 1741837692000000         microseconds since 1970
  vwatch compact now                      keep the present versions only

The present version of each name always stays. What is dropped is dropped on all nodes, and does not come back.

A write may still come with a stamp of the last seconds. So the time that is printed can be earlier than TIME: it stays \
--max-future and a second behind the clock of the cluster. To drop the rest too, run the command again later.")]
pub(super) struct Compact {
    /// Microseconds since 1970, RFC 3339, an age such as 24h, or now
    #[arg(value_name = "TIME", value_parser = checked)]
    before: String,
    /// Form of the output: json (the node's answer), table (a sentence) or simple (microseconds) [env: VWATCH_OUTPUT]
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    format: Format,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

/// Checks a time, which the node reads by its own clock.
fn checked(text: &str) -> Result<String, &'static str> {
    args::time(text).map(|_| text.to_owned())
}

pub(super) fn run(args: &Compact) -> Result<(), Failure> {
    let mut client = args.nodes.writers()?.within(args.time.timeout);
    let answer = block_on(async { client.send(&request(args)).await })?.or_refusal("compact")?;
    let compacted = answer.json()?;
    print(printed(&compacted, args.format, &answer).as_bytes())?;
    compacted.held().iter().for_each(|line| tell(line));
    Ok(())
}

fn request(args: &Compact) -> Request {
    let target = with_query("/v1/compact", &[parameter("before", &args.before)]);
    Request::setting(Method::POST, target)
}

/// The answer to a compaction.
#[derive(Debug, Deserialize)]
struct Compacted {
    /// Where the compaction horizon stands now.
    horizon: u64,
    /// Where it was asked to stand.
    asked: u64,
    /// What keeps it from there.
    #[serde(default)]
    held_by: Option<String>,
}

fn printed(compacted: &Compacted, format: Format, answer: &Answer) -> String {
    let horizon = compacted.horizon;
    match format {
        Format::Json => format!("{}\n", json_escaped(String::from_utf8_lossy(&answer.body).trim_end())),
        Format::Simple => format!("{horizon}\n"),
        Format::Table => {
            format!("older versions from before {} ({horizon} µs) are dropped\n", rfc3339(horizon))
        }
    }
}

impl Compacted {
    /// What keeps the horizon from the time that was asked for, in words.
    fn held(&self) -> Option<String> {
        let asked = rfc3339(self.asked);
        let (reason, advice) = match self.held_by.as_deref()? {
            "clock" => (
                "a write may still come with a stamp of the time in between: the compaction stays --max-future and a \
                 second behind the clock"
                    .to_owned(),
                "run the command again later to drop the rest".to_owned(),
            ),
            other => match other.strip_prefix("checkpoint ") {
                None => (other.to_owned(), "run the command again later to drop the rest".to_owned()),
                Some(of) => {
                    let typed = match of.split_once(" of ") {
                        Some((id, namespace)) => format!("--namespace {namespace} {id}"),
                        None => of.to_owned(),
                    };
                    (
                        format!("the reader of the checkpoint {of} may not have been told the rest"),
                        format!("let it go on, or give it up: vwatch checkpoint rm {typed}"),
                    )
                }
            },
        };
        Some(format!("not yet up to {asked} because {reason}: {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &str) -> Compact {
        let typed = std::iter::once("compact").chain(line.split_whitespace());
        Compact::from_arg_matches(&Compact::augment_args(Command::new("compact")).get_matches_from(typed))
            .unwrap()
    }

    #[tokio::test]
    async fn the_node_reads_the_time_and_its_answer_is_explained() {
        for (body, line, shown, held) in [
            (
                r#"{"horizon":1741837692000000,"asked":1741837692000000,"held_by":null}"#,
                "24h",
                "older versions from before 2025-03-13T03:48:12.000000Z (1741837692000000 µs) are dropped\n",
                false,
            ),
            (
                r#"{"horizon":1741837692000000,"asked":1741837693000000,"held_by":"clock"}"#,
                "-w simple 24h",
                "1741837692000000\n",
                true,
            ),
        ] {
            let fake = Fake::start(vec![answer("200 OK", &[], body)]);
            let args = args(line);
            let answer = fake.client().send(&request(&args)).await.unwrap().or_refusal("compact").unwrap();
            let compacted = answer.json().unwrap();
            assert_eq!(printed(&compacted, args.format, &answer), shown);
            assert_eq!(printed(&compacted, Format::Json, &answer), format!("{body}\n"));
            assert_eq!(compacted.held().is_some_and(|line| line.contains("may still come")), held);
            // no stamp of its own: it is no write of a record
            let seen = &fake.seen()[0];
            assert!(seen.starts_with("POST /v1/compact?before=24h HTTP/1.1\r\n"), "{seen}");
        }
    }

    #[test]
    fn a_checkpoint_that_holds_it_back_is_named() {
        for (held_by, advice) in [
            ("checkpoint r", ": let it go on, or give it up: vwatch checkpoint rm r"),
            ("checkpoint r of a", ": let it go on, or give it up: vwatch checkpoint rm --namespace a r"),
            ("of a later version", " of a later version: run the command again later to drop the rest"),
        ] {
            let compacted = Compacted { horizon: 1, asked: 2, held_by: Some(held_by.to_owned()) };
            let line = compacted.held().unwrap();
            assert!(line.ends_with(advice), "{line}");
        }
    }

    #[test]
    fn a_time_is_checked_before_it_is_sent() {
        assert!(["now", "24h", "1", "2026-11-28T12:00:00Z"].iter().all(|text| checked(text).is_ok()));
        assert!(["", "-1h", "tomorrow"].iter().all(|text| checked(text).is_err()));
    }
}
