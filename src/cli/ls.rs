//! `vwatch ls [PREFIX]`: lists names, page by page.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Deserialize;

use super::args;
use super::client::{Answer, Client, OrFailure, Request};
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on};
use super::output::{Data, Format, Output, Row, table};
use crate::client::url::{parameter, with_query};
use crate::core::Stamp;
use crate::wire::duration;
use crate::wire::text::Escaped;
use crate::wire::version_set::parse_rfc3339;

/// Most rows of a table. The command holds all rows before it prints them, in about 150 MB.
const MAX_TABLE_ROWS: usize = 1_000_000;
/// Most names of one request: fewer than a node returns at once.
const MAX_PAGE: u64 = 1000;

/// List names in order, with all pages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch ls                         all names, one a line
  vwatch ls --prefix repo/          or: vwatch ls repo/
  vwatch ls -w table --limit 20
  vwatch ls --namespace team-a      its names; 'vwatch namespaces' lists namespaces
  vwatch ls -w json                 one VersionSet, with data unless --keys-only")]
pub(super) struct Ls {
    /// Only names that begin with this
    #[arg(value_name = "PREFIX", conflicts_with = "prefix")]
    typed_prefix: Option<String>,
    /// Only names that begin with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Most names to list
    #[arg(long, value_name = "COUNT", value_parser = args::count)]
    limit: Option<u64>,
    /// Leave the data out of -w json
    #[arg(long)]
    keys_only: bool,
    /// How long the command may take in all, with all pages and all nodes [default: as long as pages come]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Ls) -> Result<(), Failure> {
    let mut client = args.nodes.readers(args.timeout)?;
    let mut out = std::io::stdout().lock();
    block_on(list(args, &mut client, &mut out))
}

async fn list(args: &Ls, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let mut printer = Printer { format: args.output.format, rows: Vec::new(), printed: 0 };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut query = first_query(args);
    let mut last: Option<String> = None;
    loop {
        let answer =
            client.send(&Request::get(with_query(&args.within.list(), std::slice::from_ref(&query)))).await?;
        let answer = answer.or_refusal("list").map_err(|failure| match failure {
            // a list that does not exist is not a name that does not exist
            Failure::Missing(line) => Failure::Failed(line),
            failure => failure,
        })?;
        let rows = rows(&answer, args.keys_only)?;
        let (before, next) = (printer.printed, answer.next_query());
        for row in rows {
            // each page begins after the last name: so a list that repeats itself ends at its second round
            if last.as_ref().is_some_and(|last| *last >= row.name) {
                return Err(leads_nowhere(&answer, &format!("{} comes again, or out of order", row.name)));
            }
            if left == 0 {
                break;
            }
            left -= 1;
            last = Some(row.name.clone());
            printer.row(row, out)?;
        }
        match next {
            Some(_) if left > 0 && printer.printed == before => {
                return Err(leads_nowhere(&answer, "a page without names has a next page"));
            }
            Some(next) if left > 0 => query = next,
            _ => return printer.end(out),
        }
    }
}

fn leads_nowhere(answer: &Answer, why: &str) -> Failure {
    Failure::Failed(format!(
        "the list of {} does not end: {why}: check the proxies in between, or name another node with --client-url",
        answer.from
    ))
}

fn first_query(args: &Ls) -> String {
    let prefix = args.typed_prefix.as_deref().or(args.prefix.as_deref()).unwrap_or("");
    let mut parameters = vec![parameter("prefix", prefix)];
    parameters.extend(args.limit.map(|limit| parameter("limit", &limit.min(MAX_PAGE).to_string())));
    // data that is not printed is not requested
    if args.keys_only || args.output.format != Format::Json {
        parameters.push("keys-only".to_owned());
    }
    parameters.join("&")
}

#[derive(Deserialize)]
struct Page {
    versions: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    name: String,
    version: String,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    last_sync: Option<String>,
}

fn rows(answer: &Answer, keys_only: bool) -> Result<Vec<Row>, Failure> {
    let unreadable = |why: String| {
        let from = &answer.from;
        Failure::Failed(format!("the list of {from} cannot be read: {why}: is it a vwatch node?"))
    };
    let page: Page = serde_json::from_slice(&answer.body).map_err(|error| unreadable(error.to_string()))?;
    let row = |listed: Listed| {
        let data = match listed.data {
            _ if keys_only => Data::Unasked,
            Some(text) => {
                Data::Bytes(STANDARD.decode(text).map_err(|e| unreadable(format!("bad base64: {e}")))?)
            }
            None => Data::None,
        };
        let last_sync = listed.last_sync.and_then(|text| parse_rfc3339(&text).ok()).map(Stamp::micros);
        Ok(Row { name: listed.name, version: listed.version, data, last_sync, deleted: false })
    };
    page.versions.into_iter().map(row).collect()
}

struct Printer {
    format: Format,
    /// The rows of a table, which must all be known for its column widths.
    rows: Vec<Vec<String>>,
    printed: u64,
}

impl Printer {
    fn row(&mut self, row: Row, out: &mut impl Write) -> Result<(), Failure> {
        match self.format {
            Format::Simple => writeln!(out, "{}", Escaped(&row.name))?,
            Format::Table if self.rows.len() == MAX_TABLE_ROWS => {
                return Err(Failure::Failed(format!(
                    "too many names for a table: over {MAX_TABLE_ROWS}: use -w simple or json, a prefix, or --limit"
                )));
            }
            Format::Json => {
                let before = if self.printed == 0 { "{\"versions\":[\n" } else { ",\n" };
                write!(out, "{before}{}", row.json())?;
            }
            Format::Table => {
                let cells = vec![row.shown_version(), row.shown_last_sync()];
                self.rows.push(std::iter::once(row.name).chain(cells).collect());
            }
        }
        self.printed += 1;
        Ok(())
    }

    fn end(&self, out: &mut impl Write) -> Result<(), Failure> {
        match self.format {
            Format::Simple => {}
            Format::Json if self.printed == 0 => writeln!(out, "{{\"versions\":[],\"peers\":[]}}")?,
            Format::Json => writeln!(out, "\n],\"peers\":[]}}")?,
            Format::Table => write!(out, "{}", table(&["NAME", "VERSION", "LAST-SYNC"], &self.rows))?,
        }
        out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    async fn listed(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("ls").chain(line.split_whitespace());
        let matches = Ls::augment_args(Command::new("ls")).get_matches_from(typed);
        let mut out = Vec::new();
        list(&Ls::from_arg_matches(&matches).unwrap(), &mut fake.client(), &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn page(names: &[&str], next: Option<&str>) -> String {
        let versions: Vec<_> = names
            .iter()
            .map(|name| {
                serde_json::json!({
                    "name": name, "version": "v", "data": "eA==", "last-sync": "2025-03-13T03:48:12Z"
                })
            })
            .collect();
        let link = next.map(|target| format!("<{target}>; rel=\"next\""));
        let headers: Vec<_> = link.iter().map(|link| ("Link", link.as_str())).collect();
        answer("200 OK", &headers, &serde_json::json!({"versions": versions, "peers": []}).to_string())
    }

    #[tokio::test]
    async fn all_pages_come_in_turn() {
        let pages = vec![page(&["a", "a,b"], Some("/v1/versions?prefix=a&after=a,b")), page(&["ac"], None)];
        let fake = Fake::start(pages);
        assert_eq!(listed(&fake, "a").await.unwrap(), "a\na,b\nac\n");
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/versions?prefix=a&keys-only HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].starts_with("GET /v1/versions?prefix=a&after=a,b HTTP/1.1\r\n"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_limit_ends_the_pages() {
        let fake =
            Fake::start(vec![page(&["a", "b"], Some("?after=b")), page(&["c", "d"], Some("?after=d"))]);
        assert_eq!(listed(&fake, "--limit 3").await.unwrap(), "a\nb\nc\n");
        assert_eq!(fake.seen().len(), 2);
        let fake = Fake::start(vec![page(&["a", "b"], Some("?after=b"))]);
        assert_eq!(listed(&fake, "--limit 2").await.unwrap(), "a\nb\n");
        assert!(fake.seen()[0].starts_with("GET /v1/versions?prefix=&limit=2&keys-only "));
    }

    #[tokio::test]
    async fn a_limit_above_a_page_is_requested_in_pages() {
        let fake = Fake::start(vec![page(&["a"], Some("?limit=1000&after=a")), page(&["b"], None)]);
        assert_eq!(listed(&fake, "--limit 10001").await.unwrap(), "a\nb\n");
        assert!(fake.seen()[0].starts_with("GET /v1/versions?prefix=&limit=1000&keys-only "));
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_is_an_error() {
        let circle = || [page(&["a"], Some("?after=a")), page(&["b"], Some("?after=b"))];
        let circle = || circle().into_iter().chain(circle()).collect::<Vec<_>>();
        let itself = || vec![page(&["a"], Some("?after=a")), page(&["a"], Some("?after=a"))];
        let empty = || vec![page(&["a"], Some("?after=a")), page(&[], Some("?after=b")), page(&[], None)];
        for (pages, asked) in [(circle(), 3), (itself(), 2), (empty(), 2)] {
            let fake = Fake::start(pages);
            let failure = listed(&fake, "").await.unwrap_err();
            assert!(failure.line().unwrap().contains(" does not end: "), "{failure:?}");
            assert_eq!(fake.seen().len(), asked);
        }
    }

    #[tokio::test]
    async fn names_of_a_hostile_node_are_escaped() {
        for form in ["simple", "json", "table"] {
            let fake = Fake::start(vec![page(&["a\u{1b}[2J\u{9b}"], None)]);
            let text = listed(&fake, &format!("-w {form}")).await.unwrap();
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[tokio::test]
    async fn json_is_one_version_set() {
        let fake = Fake::start(vec![page(&["a"], Some("?after=a")), page(&["b"], None)]);
        let text = listed(&fake, "-w json").await.unwrap();
        let set: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(set["versions"][1]["name"], "b");
        assert_eq!(set["versions"][1]["data"], "eA==");
        assert_eq!(set["versions"][0]["last-sync"], "2025-03-13T03:48:12.000000Z");
        assert_eq!(set["peers"], serde_json::json!([]));
        let none = Fake::start(vec![page(&[], None)]);
        assert_eq!(listed(&none, "-w json").await.unwrap(), "{\"versions\":[],\"peers\":[]}\n");
    }

    #[tokio::test]
    async fn a_table_is_aligned_over_pages() {
        let fake = Fake::start(vec![page(&["a"], Some("?after=a")), page(&["longer"], None)]);
        let table = listed(&fake, "-w table").await.unwrap();
        assert_eq!(table.lines().next().unwrap(), "NAME    VERSION  LAST-SYNC");
        assert_eq!(table.lines().nth(1).unwrap(), "a       v        2025-03-13T03:48:12.000000Z");
    }

    #[tokio::test]
    async fn what_is_no_list_is_a_failure() {
        for (status, body) in [("200 OK", "<html>"), ("404 Not Found", "no list here\n"), ("200 OK", "{}")] {
            let fake = Fake::start(vec![answer(status, &[], body)]);
            assert!(matches!(listed(&fake, "").await, Err(Failure::Failed(_))), "{status}");
        }
    }
}
