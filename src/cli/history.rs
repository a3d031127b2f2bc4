//! `vwatch history NAME`: lists the versions that are kept of a name, page by page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};

use super::args;
use super::client::{Answer, Client, OrFailure, Request};
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on, check_name};
use super::output::{Format, in_a_line, print, rfc3339, table};
use crate::client::url::{parameter, with_query};
use crate::wire::history::{ReceivedEntry, ReceivedHistory};
use crate::wire::text::{Escaped, json_escaped};

/// Most versions of one request: as many as a node returns at once.
const MAX_PAGE: u64 = 100;
/// Longest data in a table, in characters.
const MAX_DATA_CHARS: usize = 40;

/// List the versions that are kept of a name, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch history repo/artifact:latest
  vwatch history --limit 1 NAME            the newest one
  vwatch history -w simple NAME            revision, type and version, one a line
  vwatch history -w json NAME | jq -r '.versions[].data' | base64 -d

A revision is the last-sync of a version in microseconds: read one with 'vwatch get --revision', and write it again with \
'vwatch revert'. The last line of the table says whether the history is complete: whether older versions may have been \
dropped ('vwatch history-depth', 'vwatch compact').

The table has the first characters of the data; -w json has all of it, as base64. A name of which nothing is kept: exit \
code 4.")]
pub(super) struct History {
    /// The name, without any change
    name: String,
    /// Most versions to list [default: all]
    #[arg(long, value_name = "COUNT", value_parser = args::count)]
    limit: Option<u64>,
    /// Form of the output: json, table or simple [env: VWATCH_OUTPUT]
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    format: Format,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &History) -> Result<(), Failure> {
    check_name(&args.name)?;
    let mut client = args.nodes.readers(Some(args.time.timeout))?;
    let listed = block_on(list(args, &mut client))?;
    print(listed.printed(&args.name, args.format).as_bytes())
}

/// The versions of a name.
struct Listed {
    entries: Vec<Entry>,
    /// Whether nothing can have been dropped below the last one.
    complete: bool,
    /// Whether the limit ended the list.
    is_limited: bool,
}

/// A version.
struct Entry {
    revision: u64,
    kind: String,
    /// Version and data; `None` of a delete.
    value: Option<(String, Vec<u8>)>,
    /// When the value ends, or ended that the delete is about, in µs since 1970.
    expires: Option<u64>,
}

async fn list(args: &History, client: &mut Client) -> Result<Listed, Failure> {
    let limit = args.limit.unwrap_or(u64::MAX);
    let mut listed = Listed { entries: Vec::new(), complete: false, is_limited: false };
    loop {
        let left = limit - listed.entries.len() as u64;
        let page = left.min(MAX_PAGE);
        let last = listed.entries.last().map(|entry: &Entry| entry.revision);
        let mut parameters = vec![parameter("limit", &page.to_string())];
        parameters.extend(last.map(|last| parameter("before", &last.to_string())));
        let request = Request::get(with_query(&args.within.place().history_of(&args.name), &parameters));
        let answer = client.send(&request).await?.or_refusal(&args.name)?;
        let (entries, complete) = entries(&answer)?;
        let count = entries.len() as u64;
        for entry in entries {
            // the newest come first: so a list that repeats itself ends
            if listed.entries.last().is_some_and(|last| last.revision < entry.revision) {
                return Err(Failure::Failed(format!(
                    "the history of {} is out of order: revision {} comes again or late: check the proxies in between, \
                     or name another node with --client-url",
                    answer.from, entry.revision
                )));
            }
            listed.entries.push(entry);
        }
        listed.complete = complete;
        if complete || count < page {
            return Ok(listed);
        }
        if count >= left {
            listed.is_limited = true;
            return Ok(listed);
        }
    }
}

fn entries(answer: &Answer) -> Result<(Vec<Entry>, bool), Failure> {
    let unreadable = |why: String| {
        Failure::Failed(format!("the history of {} cannot be read: {why}: is it a vwatch node?", answer.from))
    };
    let history: ReceivedHistory =
        serde_json::from_slice(&answer.body).map_err(|error| unreadable(error.to_string()))?;
    let entry = |entry: ReceivedEntry| -> Result<Entry, Failure> {
        let value = entry.version.map(|version| {
            let data = STANDARD.decode(entry.data.unwrap_or_default());
            data.map(|data| (version, data)).map_err(|error| unreadable(format!("bad base64: {error}")))
        });
        let value = value.transpose()?;
        Ok(Entry { revision: entry.revision, kind: entry.kind, value, expires: entry.expires })
    };
    let entries = history.versions.into_iter().map(entry).collect::<Result<_, Failure>>()?;
    Ok((entries, history.complete))
}

impl Listed {
    fn printed(&self, name: &str, format: Format) -> String {
        match format {
            Format::Json => {
                let versions: Vec<Value> = self.entries.iter().map(Entry::json).collect();
                let json = json!({"name": name, "versions": versions, "complete": self.complete}).to_string();
                format!("{}\n", json_escaped(&json))
            }
            Format::Simple => self.entries.iter().map(Entry::line).collect(),
            Format::Table => {
                let rows: Vec<_> = self.entries.iter().map(Entry::cells).collect();
                let header = ["REVISION", "TIME", "TYPE", "VERSION", "DATA"];
                format!("{}{}\n", table(&header, &rows), self.verdict())
            }
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.complete, self.is_limited) {
            (true, _) => "complete: nothing older was dropped",
            (false, true) => "not complete: --limit ends the list here",
            (false, false) => "not complete: older versions may have been dropped",
        }
    }
}

impl Entry {
    fn json(&self) -> Value {
        let time = rfc3339(self.revision);
        let mut json = json!({
            "type": self.kind, "revision": self.revision, "last_sync": time, "last-sync": time,
        });
        if let Some((version, data)) = &self.value {
            json["version"] = version.as_str().into();
            json["data"] = STANDARD.encode(data).into();
        }
        if let Some(end) = self.expires {
            json["expires"] = rfc3339(end).into();
            if self.value.is_none() {
                json["expired"] = true.into();
            }
        }
        json
    }

    fn line(&self) -> String {
        let version = self.value.as_ref().map_or("-", |(version, _)| version);
        format!("{}\n", Escaped(format_args!("{} {} {version}", self.revision, self.kind)))
    }

    fn cells(&self) -> Vec<String> {
        let (version, data) = match &self.value {
            Some((version, data)) => (version.clone(), short(&in_a_line(data))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let kind = match (self.expires, &self.value) {
            (Some(end), Some(_)) => format!("{} until {}", self.kind, rfc3339(end)),
            (Some(_), None) => format!("{} (expired)", self.kind),
            (None, _) => self.kind.clone(),
        };
        vec![self.revision.to_string(), rfc3339(self.revision), kind, version, data]
    }
}

/// The beginning of a text that is too long for a table.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_DATA_CHARS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_DATA_CHARS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;
    use crate::wire::headers::X_VWATCH_ERROR;

    async fn shown(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("history").chain(line.split_whitespace());
        let matches = History::augment_args(Command::new("history")).get_matches_from(typed);
        let args = History::from_arg_matches(&matches).unwrap();
        Ok(list(&args, &mut fake.client()).await?.printed(&args.name, args.format))
    }

    fn page(revisions: impl IntoIterator<Item = u64>, complete: bool) -> String {
        let versions: Vec<_> = revisions
            .into_iter()
            .map(|revision| json!({"type": "put", "version": "v", "revision": revision, "data": "eA=="}))
            .collect();
        answer("200 OK", &[], &json!({"versions": versions, "complete": complete}).to_string())
    }

    fn two() -> String {
        let versions = json!([
            {"type": "delete", "revision": 1_741_837_692_000_001_u64},
            {"type": "put", "version": "v\u{1b}", "revision": 1_741_837_692_000_000_u64, "data": "YQpi"},
        ]);
        answer("200 OK", &[], &json!({"versions": versions, "complete": true}).to_string())
    }

    #[tokio::test]
    async fn each_form_has_the_newest_first_and_escapes_what_others_wrote() {
        let table = shown(&Fake::start(vec![two()]), "n").await.unwrap();
        assert_eq!(
            table,
            "REVISION          TIME                         TYPE    VERSION  DATA\n\
             1741837692000001  2025-03-13T03:48:12.000001Z  delete  -        -\n\
             1741837692000000  2025-03-13T03:48:12.000000Z  put     v\\u{1b}  base64:YQpi\n\
             complete: nothing older was dropped\n"
        );
        let simple = shown(&Fake::start(vec![two()]), "-w simple n").await.unwrap();
        assert_eq!(simple, "1741837692000001 delete -\n1741837692000000 put v\\u{1b}\n");
        let json = shown(&Fake::start(vec![two()]), "-w json n").await.unwrap();
        assert!(!json.trim_end().contains(char::is_control), "{json:?}");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["name"], &json["complete"]), (&json!("n"), &json!(true)));
        assert_eq!(json["versions"][0]["data"], Value::Null);
        assert_eq!(json["versions"][1]["data"], "YQpi");
        assert_eq!(json["versions"][1]["last_sync"], "2025-03-13T03:48:12.000000Z");
    }

    #[tokio::test]
    async fn pages_follow_until_the_last() {
        let fake = Fake::start(vec![page((101..=200).rev(), false), page((99..=100).rev(), false)]);
        let text = shown(&fake, "a//b").await.unwrap();
        assert_eq!(text.lines().count(), 1 + 102 + 1);
        assert!(text.ends_with("not complete: older versions may have been dropped\n"), "{text}");
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/history/a//b?limit=100 HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].starts_with("GET /v1/history/a//b?limit=100&before=101 HTTP/1.1\r\n"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_limit_ends_the_list() {
        let fake = Fake::start(vec![page((101..=200).rev(), false), page((81..=100).rev(), false)]);
        let text = shown(&fake, "--limit 120 n").await.unwrap();
        assert!(text.ends_with("not complete: --limit ends the list here\n"), "{text}");
        assert!(fake.seen()[1].starts_with("GET /v1/history/n?limit=20&before=101 "), "{:?}", fake.seen());
    }

    #[tokio::test]
    async fn a_list_that_repeats_itself_is_an_error() {
        let fake = Fake::start(vec![page((101..=200).rev(), false), page((101..=200).rev(), false)]);
        let Err(Failure::Failed(line)) = shown(&fake, "n").await else { panic!("it does not end") };
        assert!(line.contains("out of order"), "{line}");
    }

    #[tokio::test]
    async fn the_code_decides_whether_the_name_or_the_path_is_missing() {
        let of = |code| Fake::start(vec![answer("404 Not Found", &[(X_VWATCH_ERROR, code)], "x: y: z\n")]);
        assert!(matches!(shown(&of("not-found"), "n").await, Err(Failure::Missing(_))));
        assert!(matches!(shown(&of("no-such-path"), "n").await, Err(Failure::Failed(_))));
        let fake = Fake::start(vec![answer("200 OK", &[], "<html>")]);
        assert!(matches!(shown(&fake, "n").await, Err(Failure::Failed(_))));
    }

    #[test]
    fn long_data_is_cut() {
        assert_eq!(short(&"é".repeat(40)), "é".repeat(40));
        assert_eq!(short(&"é".repeat(41)), format!("{}…", "é".repeat(39)));
    }
}
