//! `vwatch ls [PREFIX]`: lists names, page by page, one level of them, or as a tree.

mod tree;

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::FORM;
use super::args;
use super::client::Client;
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on};
use super::output::{Format, MAX_TABLE_ROWS, Output, table};
use super::pages::{Item, Pages};
use crate::core::Delimiter;
use crate::wire::duration;
use crate::wire::text::Escaped;

/// List names in order, with all pages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch ls                         all names, one a line
  vwatch ls --prefix repo/          or: vwatch ls repo/
  vwatch ls -w table --limit 20
  vwatch ls --namespace team-a      its names; 'vwatch namespaces' lists namespaces
  vwatch ls --tree repo/            all names below repo/, drawn as a tree
  vwatch ls --delimiter / repo/     one level: repo/a, and repo/b/ for all names
                                    that begin with it
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
    /// One level: names without this text behind PREFIX, and what all others begin with, up to it
    #[arg(long, value_name = "TEXT", value_parser = Delimiter::new)]
    delimiter: Option<Delimiter>,
    /// Draw a tree, one request a level; --delimiter separates the levels [default: /]
    #[arg(long, conflicts_with_all = ["limit", FORM])]
    tree: bool,
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

impl Ls {
    fn prefix(&self) -> &str {
        self.typed_prefix.as_deref().or(self.prefix.as_deref()).unwrap_or("")
    }
}

async fn list(args: &Ls, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    if args.tree {
        return tree::draw(args, client, out).await;
    }
    let mut printer = Printer { format: args.output.format, rows: Vec::new(), printed: 0 };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let has_data = !args.keys_only && args.output.format == Format::Json;
    let (place, delimiter) = (args.within.place(), args.delimiter.as_ref());
    let mut pages = Pages::new(&place, args.prefix(), delimiter, args.limit, has_data);
    while left > 0
        && let Some(items) = pages.next(client).await?
    {
        for item in items {
            if left == 0 {
                break;
            }
            left -= 1;
            printer.item(item, out)?;
        }
    }
    printer.end(out)
}

struct Printer {
    format: Format,
    /// The rows of a table, which must all be known for its column widths.
    rows: Vec<Vec<String>>,
    printed: u64,
}

impl Printer {
    fn item(&mut self, item: Item, out: &mut impl Write) -> Result<(), Failure> {
        match self.format {
            Format::Simple => writeln!(out, "{}", Escaped(item.text()))?,
            Format::Table if self.rows.len() == MAX_TABLE_ROWS => {
                return Err(Failure::Failed(format!(
                    "too many names for a table: over {MAX_TABLE_ROWS}: use -w simple or json, a prefix, or --limit"
                )));
            }
            Format::Json => {
                let before = if self.printed == 0 { "{\"versions\":[\n" } else { ",\n" };
                write!(out, "{before}{}", item.json())?;
            }
            Format::Table => self.rows.push(match item {
                Item::Name(row) => {
                    let cells = [row.shown_version(), row.shown_last_sync()];
                    std::iter::once(row.name).chain(cells).collect()
                }
                Item::Prefix(prefix) => vec![prefix, "-".to_owned(), "-".to_owned()],
            }),
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

    fn level(items: &[&str], next: Option<&str>) -> String {
        let (prefixes, names): (Vec<&str>, Vec<&str>) = items.iter().partition(|item| item.ends_with('/'));
        let mut page: serde_json::Value =
            serde_json::from_str(self::page(&names, None).split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let versions = page["versions"].as_array_mut().unwrap();
        versions.extend(prefixes.iter().map(|prefix| serde_json::json!({ "prefix": prefix })));
        let text = |item: &serde_json::Value| {
            item.get("name").or(item.get("prefix")).unwrap().as_str().unwrap().to_owned()
        };
        versions.sort_by_key(text);
        let link = next.map(|target| format!("<{target}>; rel=\"next\""));
        let headers: Vec<_> = link.iter().map(|link| ("Link", link.as_str())).collect();
        answer("200 OK", &headers, &page.to_string())
    }

    #[tokio::test]
    async fn one_level_has_prefixes_in_each_form() {
        let pages = || vec![level(&["r/a", "r/b/"], Some("?x")), level(&["r/c/"], None)];
        let fake = Fake::start(pages());
        assert_eq!(listed(&fake, "--delimiter / r/").await.unwrap(), "r/a\nr/b/\nr/c/\n");
        assert!(fake.seen()[0].starts_with("GET /v1/versions?prefix=r/&delimiter=/&keys-only "));
        let fake = Fake::start(pages());
        let text = listed(&fake, "--delimiter / r/ -w json").await.unwrap();
        let set: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(set["versions"][0]["data"], "eA==");
        assert_eq!(set["versions"][1], serde_json::json!({"prefix": "r/b/"}));
        let fake = Fake::start(pages());
        let table = listed(&fake, "--delimiter / r/ -w table").await.unwrap();
        assert_eq!(table.lines().nth(2).unwrap(), "r/b/  -        -");
        let fake = Fake::start(pages());
        assert_eq!(listed(&fake, "--delimiter / r/ --limit 2").await.unwrap(), "r/a\nr/b/\n");
    }

    #[tokio::test]
    async fn a_tree_has_a_request_for_each_page_of_a_level() {
        let fake = Fake::start(vec![
            level(&["r/a", "r/a/"], Some("/v1/versions?prefix=r/&next")),
            // whether r/a/ is the last one is known before the next level is read
            level(&["r/z"], None),
            level(&["r/a/1", "r/a/2/"], None),
            level(&["r/a/2/\u{1b}x"], None),
        ]);
        let drawn = listed(&fake, "--tree r/").await.unwrap();
        let lines = ["r/", "├── a", "├── a/", "│   ├── 1", "│   └── 2/", "│       └── \\u{1b}x", "└── z", ""];
        assert_eq!(drawn, lines.join("\n"));
        let paths: Vec<_> =
            fake.seen().iter().map(|seen| seen.split(' ').nth(1).unwrap().to_owned()).collect();
        assert_eq!(
            paths,
            [
                "/v1/versions?prefix=r/&delimiter=/&keys-only",
                "/v1/versions?prefix=r/&next",
                "/v1/versions?prefix=r/a/&delimiter=/&keys-only",
                "/v1/versions?prefix=r/a/2/&delimiter=/&keys-only",
            ]
        );
        // a prefix that ends within a part, and another delimiter
        let fake = Fake::start(vec![level(&["r::ab"], None)]);
        assert_eq!(listed(&fake, "--tree --delimiter :: r::a").await.unwrap(), "r::\n└── ab\n");
        let fake = Fake::start(vec![level(&["a"], None)]);
        assert_eq!(listed(&fake, "--tree").await.unwrap(), "└── a\n");
        let fake = Fake::start(vec![level(&[], None)]);
        assert_eq!(listed(&fake, "--tree r/").await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_level_of_other_names_is_a_failure() {
        // of a node that does not know delimiters, of another prefix, and one that would go down for ever
        for items in [&["r/a/b"][..], &["s/"], &["r/"], &["r/a/b/"]] {
            for line in ["--tree r/", "--delimiter / r/"] {
                let fake = Fake::start(vec![level(items, None)]);
                let failure = listed(&fake, line).await.unwrap_err();
                let said = failure.line().unwrap_or_default();
                assert!(said.contains(" is not on the level"), "{items:?}: {failure:?}");
            }
        }
        let fake = Fake::start(vec![level(&["r/"], None)]);
        assert!(matches!(listed(&fake, "r").await, Err(Failure::Failed(_))), "it did not ask for prefixes");
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
