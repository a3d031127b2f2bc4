//! `vwatch diff --since CURSOR`: what has changed since a cursor.

use std::io::{BufWriter, Write};

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::feed::printer::FeedPrinter;
use super::feed::{Feed, FeedArgs};
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, Output};

/// List what has changed since a cursor, deletes included, and end
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch diff --since now --prefix repo/         nothing, and the cursor of now
  vwatch diff --since CURSOR --prefix repo/      what has changed since then
  vwatch diff --cursor-file f --prefix repo/     what has changed since the last run
  vwatch diff --since CURSOR --mode all NAME     each version since then

A cursor is good at every node of the cluster, for the same names, prefixes, --mode and --types. The last line is the \
cursor of now: in JSON the object of type progress, in the table the line that begins with cursor:. With -w simple there \
is none: use --cursor-file.

If the node no longer knows what was deleted since then, the list is of all that stands, and standard error says so. \
'vwatch watch' goes on instead of ending.")]
pub(super) struct Diff {
    /// The names to look at, without any change
    name: Vec<String>,
    #[command(flatten)]
    feed: FeedArgs,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Diff) -> Result<(), Failure> {
    let mut feed = Feed::new(&args.name, &args.feed, &args.within)?;
    if !feed.has_since() && args.feed.cursor_file.is_none() {
        return Err(Failure::Usage(
            "no cursor: give --since CURSOR, or --cursor-file FILE; --since now gives the first one".into(),
        ));
    }
    let mut client = args.nodes.readers(Some(args.time.timeout))?;
    let mut printer = FeedPrinter::new(args.output.format, BufWriter::new(std::io::stdout()));
    block_on(differences(&mut feed, &mut client, &mut printer))
}

async fn differences<W: Write>(
    feed: &mut Feed,
    client: &mut Client,
    printer: &mut FeedPrinter<W>,
) -> Result<(), Failure> {
    loop {
        let batch = feed.absorb(&client.send(&feed.question()).await?)?;
        batch.events.iter().try_for_each(|event| printer.print(event))?;
        if batch.more {
            // kept when it is told: a run that is cut off goes on from here
            printer.flush()?;
            feed.advance(batch.cursor, true);
            feed.keep().await?;
            continue;
        }
        match printer.format {
            Format::Table => printer.line(&format!("cursor: {}", batch.cursor))?,
            Format::Json | Format::Simple => {}
        }
        printer.end(&batch)?;
        feed.advance(batch.cursor, true);
        return feed.keep().await;
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};
    use serde_json::json;

    use super::super::testing::{Fake, answer};
    use super::*;

    async fn shown(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("diff").chain(line.split_whitespace());
        let matches = Diff::augment_args(Command::new("diff")).get_matches_from(typed);
        let args = Diff::from_arg_matches(&matches).unwrap();
        let mut feed = Feed::new(&args.name, &args.feed, &args.within)?;
        let mut printer = FeedPrinter::new(args.output.format, Vec::new());
        differences(&mut feed, &mut fake.client(), &mut printer).await?;
        Ok(String::from_utf8(printer.out).unwrap())
    }

    fn batch(events: &serde_json::Value, cursor: &str, more: bool) -> String {
        let json = json!({"events": events, "cursor": cursor, "more": more, "behind": 0, "now": 1});
        answer("200 OK", &[("Content-Type", "application/json")], &json.to_string())
    }

    fn two() -> Vec<String> {
        let put = json!([{"type": "put", "name": "a\u{1b}", "version": "v", "revision": 1, "data": "eA=="}]);
        let delete = json!([{"type": "delete", "name": "b", "version": null, "revision": 2, "data": null}, {"type": "synced"}]);
        vec![batch(&put, "c1.one", true), batch(&delete, "c1.two", false)]
    }

    #[tokio::test]
    async fn each_form_has_the_changes_of_all_batches() {
        let fake = Fake::start(two());
        let table = shown(&fake, "-w table --since c1.zero --prefix a --prefix b/ n").await.unwrap();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("a\\u{1b}") && table.contains("(deleted)"), "{table}");
        assert!(table.ends_with("\ncursor: c1.two\n"), "{table}");
        let asked: Vec<serde_json::Value> = fake
            .seen()
            .iter()
            .map(|request| {
                assert!(request.starts_with("POST /v1/watch HTTP/1.1\r\n"), "{request}");
                serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
            })
            .collect();
        let expected = json!({"names": ["n"], "prefixes": ["a", "b/"], "timeout": "0s", "since": "c1.zero"});
        assert_eq!(asked[0], expected);
        assert_eq!(asked[1]["since"], "c1.one");
        let fake = Fake::start(two());
        let simple = shown(&fake, "-w simple --namespace team --since c1.zero n").await.unwrap();
        assert!(fake.seen()[0].starts_with("POST /v1/ns/team/watch HTTP/1.1\r\n"), "{:?}", fake.seen());
        assert_eq!(simple, "a\\u{1b}\tv\tx\nb\t(deleted)\n");
        let json = shown(&Fake::start(two()), "-w json --since c1.zero n").await.unwrap();
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["last_sync"], "1970-01-01T00:00:00.000001Z");
        assert_eq!(lines.last().unwrap()["cursor"], "c1.two");
    }

    #[tokio::test]
    async fn a_refusal_is_the_error() {
        let fake =
            Fake::start(vec![answer("400 Bad Request", &[("X-Vwatch-Error", "other-scope")], "no: x: y\n")]);
        assert_eq!(shown(&fake, "--since c1.x n").await, Err(Failure::Failed("no: x: y".to_owned())));
        assert!(matches!(shown(&fake, "--since c1.x").await, Err(Failure::Usage(_))));
    }
}
