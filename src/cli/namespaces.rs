//! `vwatch namespaces [PREFIX]`: lists namespaces, with what they hold.

use clap::Args;
use serde::Serialize;

use super::client::{Client, OrFailure, Request};
use super::failure::Failure;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, Output, print, table};
use crate::client::url::{parameter, with_query};
use crate::wire::namespaces::{Listed, from_json};
use crate::wire::text::Escaped;

const PATH: &str = "/v1/ns";

/// List namespaces in order, with what they hold
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch namespaces                 all, one a line
  vwatch namespaces log.            those that begin with log.: the logs
  vwatch namespaces -w table        with names and bytes
  vwatch ls --namespace NAMESPACE   the names of one

A namespace begins with its first write and ends with its last record: 'vwatch put --namespace NAMESPACE NAME VALUE'. \
Names without a namespace and the nodes' own namespaces are not in the list.")]
pub(super) struct Namespaces {
    /// Only namespaces that begin with this
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Namespaces) -> Result<(), Failure> {
    let mut client = args.nodes.readers(Some(args.time.timeout))?;
    let listed = block_on(list(args.prefix.as_deref().unwrap_or(""), &mut client))?;
    print(printed(&listed, args.output.format).as_bytes())
}

/// The namespaces that begin with a text, with all pages.
///
/// # Errors
/// If they cannot be listed.
pub(super) async fn list(prefix: &str, client: &mut Client) -> Result<Vec<Listed>, Failure> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let mut parameters = vec![parameter("prefix", prefix)];
        parameters.extend(all.last().map(|last| parameter("after", &last.namespace)));
        let answer = client.send(&Request::get(with_query(PATH, &parameters))).await?;
        let answer = answer.or_refusal("namespaces")?;
        let page = from_json(&answer.body).map_err(|why| {
            let from = &answer.from;
            Failure::Failed(format!("the list of {from} cannot be read: {why}: is it a vwatch node?"))
        })?;
        // each page begins after the last one of the page before: so a list that repeats itself ends
        let is_ahead = |one: &Listed| all.last().is_none_or(|last| last.namespace < one.namespace);
        if !page.first().is_none_or(is_ahead) || !page.is_sorted_by(|a, b| a.namespace < b.namespace) {
            return Err(Failure::Failed(format!(
                "the list of {} does not end: check the proxies in between, or name another node with --client-url",
                answer.from
            )));
        }
        let is_last = page.is_empty() || answer.header("link").is_none();
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn printed(listed: &[Listed], format: Format) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        namespaces: &'a [Listed],
    }
    match format {
        Format::Simple => listed.iter().map(|one| format!("{}\n", Escaped(&one.namespace))).collect(),
        Format::Json => {
            serde_json::to_string(&List { namespaces: listed }).expect("texts and numbers") + "\n"
        }
        Format::Table => {
            let cells = |one: &Listed| {
                let numbers = [one.names, one.bytes, one.history_bytes].map(|number| number.to_string());
                std::iter::once(one.namespace.clone()).chain(numbers).collect()
            };
            let rows: Vec<Vec<String>> = listed.iter().map(cells).collect();
            table(&["NAMESPACE", "NAMES", "BYTES", "HISTORY"], &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn page(namespaces: &[&str], more: bool) -> String {
        let one =
            |text: &&str| format!(r#"{{"namespace":"{text}","names":1,"bytes":200,"history_bytes":9}}"#);
        let json = namespaces.iter().map(one).collect::<Vec<_>>().join(",");
        let link = [("Link", "</v1/ns?after=x>; rel=\"next\"")];
        answer("200 OK", if more { &link } else { &[] }, &format!("{{\"namespaces\":[{json}]}}"))
    }

    async fn listed(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("namespaces").chain(line.split_whitespace());
        let matches = Namespaces::augment_args(Command::new("namespaces")).get_matches_from(typed);
        let args = Namespaces::from_arg_matches(&matches).unwrap();
        Ok(printed(
            &list(args.prefix.as_deref().unwrap_or(""), &mut fake.client()).await?,
            args.output.format,
        ))
    }

    #[tokio::test]
    async fn all_pages_come_in_turn() {
        let fake = Fake::start(vec![page(&["a", "b"], true), page(&["c"], false)]);
        assert_eq!(listed(&fake, "").await.unwrap(), "a\nb\nc\n");
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/ns?prefix= HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].starts_with("GET /v1/ns?prefix=&after=b HTTP/1.1\r\n"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_table_and_json_have_what_they_hold() {
        let fake = Fake::start(vec![page(&["log.a"], false)]);
        let text = listed(&fake, "log. -w table").await.unwrap();
        assert_eq!(text, "NAMESPACE  NAMES  BYTES  HISTORY\nlog.a      1      200    9\n");
        assert!(fake.seen()[0].starts_with("GET /v1/ns?prefix=log. "));
        let text = listed(&Fake::start(vec![page(&["a"], false)]), "-w json").await.unwrap();
        let json = r#"{"namespaces":[{"namespace":"a","names":1,"bytes":200,"history_bytes":9}]}"#;
        assert_eq!(text, format!("{json}\n"));
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_or_is_none_is_a_failure() {
        for pages in [vec![page(&["a"], true), page(&["a"], true)], vec![answer("200 OK", &[], "<html>")]] {
            assert!(matches!(listed(&Fake::start(pages), "").await, Err(Failure::Failed(_))));
        }
    }
}
