//! `vwatch get NAMES`: reads names, or waits until the version of one differs.

mod prefix;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::args::{self, Time, quoted};
use super::client::{Answer, Client, OrFailure, Request};
use super::failure::{Failure, each, tell};
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on, check_name};
use super::output::{Data, Format, Output, Row, as_data, print, rfc3339, rows_as_table};
use crate::client::url::{parameter, with_query};
use crate::core::Stamp;
use crate::node::clock;
use crate::wire::duration;
use crate::wire::error_code::ErrorCode;
use crate::wire::etag::parse_tag;
use crate::wire::headers::X_VWATCH_FINAL;

/// How long the command may take in all, unless an option says otherwise.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a read without a timeout of its own.
const UNSAID_PARK: Duration = Duration::from_secs(10);

/// Read one or more names, also as they were
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch get repo/artifact:latest       prints the data and nothing else
  vwatch get -v repo/artifact:latest    version and time on standard error
  vwatch get -w table NAME1 NAME2       one after the other
  vwatch get -w json NAME | jq -r .version
  vwatch get --prefix repo/             all names that begin so: NAME, tab,
                                        VERSION, tab, data; 'vwatch ls' has
                                        the names alone
  vwatch get --namespace team-a NAME    that of a namespace
  vwatch get --version V1 NAME          waits until the version is not V1
  vwatch get --version '' NAME          waits until there is such a name
  vwatch get --at 5m NAME               what it was five minutes ago
  vwatch get --at 2026-11-28T12:00:00Z NAME
  vwatch get --revision 1741837692000000 NAME
                                        exactly that version: 'vwatch history'
                                        lists revisions

A pipe or a file gets the data byte for byte. On a terminal, control characters except line feeds and tabs are \
printed as escapes, and the last line ends with a line feed.

After the timeout the command prints the present record, with exit code 3 if its version is still that of --version. \
A name that does not exist or is deleted: exit code 4, also for the past, and if what there was then is not kept any more. With several names, each failure is printed on standard error, \
and the exit code is that of the first one.")]
pub(super) struct Get {
    /// The names to read, without any change
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", value_name = "NAME")]
    names: Vec<String>,
    /// Read all names that begin with this, in order; an empty one is every name
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Most names to read of --prefix
    #[arg(long, value_name = "COUNT", value_parser = args::count)]
    limit: Option<u64>,
    /// Wait until the version is not this one
    #[arg(long, value_name = "VERSION", conflicts_with = "prefix")]
    version: Option<String>,
    /// Read the version with exactly this revision: its last-sync in microseconds since 1970
    #[arg(
        long,
        visible_alias = "rev",
        value_name = "MICROS",
        value_parser = args::stamp,
        conflicts_with_all = ["version", "at", "prefix"]
    )]
    revision: Option<Stamp>,
    /// Read the version that was present at this time: microseconds since 1970, RFC 3339, or an age such as 5m
    #[arg(long, value_name = "TIME", value_parser = args::time, conflicts_with_all = ["version", "prefix"])]
    at: Option<Time>,
    /// How long the command may take in all, with waiting and with all nodes; with --version at most the node's
    /// --block-for or 1m [default: 30s; of --prefix as long as pages come]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Print version, time, source and Server-Timing on standard error
    #[arg(short, long, conflicts_with = "prefix")]
    verbose: bool,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

impl Get {
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(USUAL_TIMEOUT)
    }
}

pub(super) fn run(args: &Get) -> Result<(), Failure> {
    if let Some(prefix) = &args.prefix {
        return prefix::run(args, prefix);
    }
    // clap drops a requirement that names conflict with
    if args.limit.is_some() {
        return Err(Failure::Usage("--limit without --prefix: it is for all names that begin so".to_owned()));
    }
    args.names.iter().try_for_each(|name| check_name(name))?;
    if let (Some(version), [first, _, ..]) = (&args.version, &args.names[..]) {
        return Err(Failure::Usage(format!(
            "--version is for one name: got {}: run vwatch get --version {} {}, and the same for each other name",
            args.names.len(),
            quoted(version),
            quoted(first),
        )));
    }
    if let (Some(revision), [first, _, ..]) = (args.revision, &args.names[..]) {
        return Err(Failure::Usage(format!(
            "--revision is for one name: got {}: run vwatch get --revision {revision} {}, and use --at for a time of \
             several names",
            args.names.len(),
            quoted(first),
        )));
    }
    let past = Past::of(args, clock::now());
    let mut client = args.nodes.readers(Some(args.timeout()))?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut printer = Printer { format: args.output.format, is_terminal, rows: Vec::new() };
    let outcome = block_on(each(&args.names, async |name| {
        let answer = read(args, name, past, &mut client).await?;
        if args.verbose {
            tell_about(&answer);
        }
        print(&printer.printed(name, &answer))?;
        if is_unchanged(args, &answer) { Err(Failure::Unchanged) } else { Ok(()) }
    }));
    print(printer.end().as_bytes())?;
    outcome
}

/// The point in the past that a read is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Past {
    /// Exactly this revision.
    Revision(Stamp),
    /// What was present then.
    At(Stamp),
}

impl Past {
    fn of(args: &Get, now: Stamp) -> Option<Self> {
        let at = || args.at.as_ref().map(|time| Self::At(time.stamp(now)));
        args.revision.map(Self::Revision).or_else(at)
    }

    fn request(self, path: &str) -> Request {
        let parameter = match self {
            Self::Revision(stamp) => parameter("revision", &stamp.to_string()),
            Self::At(stamp) => parameter("at", &stamp.to_string()),
        };
        Request::get(with_query(path, &[parameter]))
    }

    /// Whether the answer can be about this point. A node without histories ignores it, and answers what is present.
    fn is_answered_by(self, answer: &Answer) -> bool {
        answer.last_sync().is_some_and(|micros| match self {
            Self::Revision(stamp) => micros == stamp.micros(),
            Self::At(stamp) => micros <= stamp.micros(),
        })
    }
}

/// Reads a name, which has this path, as it was; `None` if it was deleted.
///
/// # Errors
/// If there was nothing, or what there was is not known any more.
pub(super) async fn read_past(
    path: &str,
    name: &str,
    past: Past,
    client: &mut Client,
) -> Result<Option<Answer>, Failure> {
    let answer = client.send(&past.request(path)).await?;
    let was_deleted = answer.error_code() == Some(ErrorCode::Deleted);
    let answer = if was_deleted { answer } else { answer.of_record(name)? };
    match past.is_answered_by(&answer) {
        true => Ok(Some(answer).filter(|_| !was_deleted)),
        false => Err(Failure::Failed(format!(
            "no history: {} answers what is present: upgrade it, or name another node with --client-url",
            answer.from
        ))),
    }
}

async fn read(args: &Get, name: &str, past: Option<Past>, client: &mut Client) -> Result<Answer, Failure> {
    if let Some(past) = past {
        let found = read_past(&args.within.place().path_of(name), name, past, client).await;
        let found = found.map_err(|failure| args.within.advising(failure))?;
        return found.ok_or_else(|| Failure::Missing(format!("deleted: {name:?}: it was deleted then")));
    }
    let answer = client.send(&request(args, name)).await?;
    let has_no_value = answer.has_no_value();
    answer.of_record(name).map_err(|failure| match failure {
        Failure::Missing(line) if has_no_value => Failure::Missing(with_advice(&line, args, name)),
        failure => failure,
    })
}

fn request(args: &Get, name: &str) -> Request {
    let path = args.within.place().path_of(name);
    let Some(version) = &args.version else { return Request::get(path).may_take(UNSAID_PARK) };
    Request::get(with_query(&path, &[parameter("version", version)])).parks_for(args.timeout())
}

/// A line about a name without a value, with the command that waits for it.
fn with_advice(line: &str, args: &Get, name: &str) -> String {
    let nodes = [("--client-url", &args.nodes.client_url), ("--server-url", &args.nodes.server_url)];
    let nodes =
        nodes.into_iter().filter_map(|(flag, urls)| Some(format!("{flag} {} ", quoted(urls.as_ref()?))));
    let (nodes, name) = (args.within.typed() + &nodes.collect::<String>(), quoted(name));
    format!(
        "{line}: wait for it: vwatch get --version '' --timeout 30s {nodes}{name}, or vwatch watch {nodes}{name}"
    )
}

/// Whether the version is still the known one.
fn is_unchanged(args: &Get, answer: &Answer) -> bool {
    let known = args.version.as_ref().and_then(|version| parse_tag(version.as_bytes(), true).ok().flatten());
    known.is_some() && known == answer.version()
}

fn tell_about(answer: &Answer) {
    tell(&format!("version: {}", answer.version().map_or_else(|| "-".to_owned(), |v| v.to_string())));
    if let Some(micros) = answer.last_sync() {
        tell(&format!("last-sync: {micros} ({})", rfc3339(micros)));
    }
    if let Some(micros) = answer.expires() {
        tell(&format!("expires: {micros} ({})", rfc3339(micros)));
    }
    // of a read with --at: no node will ever answer otherwise
    if answer.header(X_VWATCH_FINAL) == Some("true") {
        tell("final: true");
    }
    // the nodes that it has passed, and how old it may be, if it comes from an upstream
    for name in ["via", "age", "warning", "server-timing"] {
        if let Some(value) = answer.header(name) {
            tell(&format!("{name}: {value}"));
        }
    }
}

/// Prints each name at once, or a table at the end.
struct Printer {
    format: Format,
    is_terminal: bool,
    rows: Vec<Row>,
}

impl Printer {
    /// The bytes to print at once for an answer.
    fn printed(&mut self, name: &str, answer: &Answer) -> Vec<u8> {
        let row = || Row {
            name: name.to_owned(),
            version: answer.version().map_or_else(String::new, |version| version.to_string()),
            data: Data::Bytes(answer.body.to_vec()),
            last_sync: answer.last_sync(),
            expires: answer.expires(),
            deleted: false,
        };
        match self.format {
            Format::Simple => as_data(&answer.body, self.is_terminal).into_owned(),
            Format::Json => format!("{}\n", row().json()).into_bytes(),
            Format::Table => {
                self.rows.push(row());
                Vec::new()
            }
        }
    }

    /// The bytes to print at the end.
    fn end(&self) -> String {
        if self.rows.is_empty() { String::new() } else { rows_as_table(&self.rows) }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;
    use crate::wire::headers::X_VWATCH_ERROR;

    fn args(line: &[&str]) -> Get {
        let typed = std::iter::once("get").chain(line.iter().copied());
        Get::from_arg_matches(&Get::augment_args(Command::new("get")).get_matches_from(typed)).unwrap()
    }

    async fn got(args: &Get, status: &str) -> (Result<String, Failure>, String) {
        let headers = [("ETag", "\"v1\""), ("X-Last-Sync", "1741837692000000")];
        let fake = Fake::start(vec![answer(status, &headers, "one line\n")]);
        let name = &args.names[0];
        let mut printer = Printer { format: args.output.format, is_terminal: false, rows: Vec::new() };
        let printed = read(args, name, None, &mut fake.client())
            .await
            .map(|answer| String::from_utf8(printer.printed(name, &answer)).unwrap() + &printer.end());
        (printed, fake.seen()[0].lines().next().unwrap().to_owned())
    }

    #[tokio::test]
    async fn prints_the_data_and_nothing_else_or_all_there_is() {
        let (printed, asked) = got(&args(&["a//b"]), "200 OK").await;
        assert_eq!(
            (printed.unwrap().as_str(), asked.as_str()),
            ("one line\n", "GET /v1/versions/a//b HTTP/1.1")
        );
        let (printed, _) = got(&args(&["-w", "json", "n"]), "200 OK").await;
        assert_eq!(
            printed.unwrap(),
            "{\"name\":\"n\",\"version\":\"v1\",\"data\":\"b25lIGxpbmUK\",\
             \"last_sync\":\"2025-03-13T03:48:12.000000Z\",\"last-sync\":\"2025-03-13T03:48:12.000000Z\"}\n"
        );
        let (printed, _) = got(&args(&["-w", "table", "n"]), "200 OK").await;
        assert_eq!(
            printed.unwrap(),
            "NAME  VERSION  LAST-SYNC                    DATA\n\
             n     v1       2025-03-13T03:48:12.000000Z  base64:b25lIGxpbmUK\n"
        );
    }

    #[tokio::test]
    async fn a_version_is_waited_on() {
        let (_, asked) = got(&args(&["--version", "a+b", "--timeout", "1m30s", "n"]), "200 OK").await;
        assert_eq!(asked, "GET /v1/versions/n?version=a%2Bb&timeout=1m30s HTTP/1.1");
        let (_, asked) = got(&args(&["--version", "", "n"]), "200 OK").await;
        assert_eq!(asked, "GET /v1/versions/n?version=&timeout=30s HTTP/1.1");
    }

    #[tokio::test]
    async fn a_refusal_is_passed_on_with_its_exit_code() {
        let line = || "one line".to_owned();
        for (status, failure) in [
            ("404 Not Found", Failure::Missing(line())),
            ("410 Gone", Failure::Missing(line())),
            ("409 Conflict", Failure::Lost(line())),
            ("400 Bad Request", Failure::Failed(line())),
            ("500 Internal Server Error", Failure::Failed(line())),
            ("301 Moved Permanently", Failure::Failed(line())),
        ] {
            assert_eq!(got(&args(&["n"]), status).await.0, Err(failure), "{status}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_missing_comes_with_advice_for_this_command_line() {
        let args = args(&["--client-url", "http://h:1", "it's"]);
        let advice = ": wait for it: vwatch get --version '' --timeout 30s --client-url http://h:1 'it'\\''s', \
                      or vwatch watch --client-url http://h:1 'it'\\''s'";
        for (status, code, what) in [
            ("404 Not Found", Some("not-found"), "not found: \"it's\""),
            ("410 Gone", Some("deleted"), "deleted: \"it's\""),
            ("404 Not Found", None, "it's: no such name"),
        ] {
            let headers: Vec<_> = code.map(|code| (X_VWATCH_ERROR, code)).into_iter().collect();
            let fake = Fake::start(vec![answer(status, &headers, code.unwrap_or_default())]);
            let failure = read(&args, "it's", None, &mut fake.client()).await.unwrap_err();
            assert_eq!(failure, Failure::Missing(format!("{what}{advice}")));
        }
    }

    #[tokio::test]
    async fn the_same_version_again_is_unchanged() {
        for (line, unchanged) in [
            (&["--version", "v1", "n"][..], true),
            (&["--version", "\"v1\"", "n"], true),
            (&["--version", "v0", "n"], false),
            (&["--version", "", "n"], false),
            (&["n"], false),
        ] {
            let fake = Fake::start(vec![answer("200 OK", &[("ETag", "\"v1\""), ("X-Last-Sync", "1")], "")]);
            let args = args(line);
            let answer = read(&args, "n", None, &mut fake.client()).await.unwrap();
            assert_eq!(is_unchanged(&args, &answer), unchanged, "{line:?}");
        }
    }

    #[tokio::test]
    async fn the_past_is_read_by_revision_or_time() {
        let now = Stamp::from_micros(1_000_000_000).unwrap();
        for (line, target) in [
            (&["--revision", "7", "n"][..], "/v1/versions/n?revision=7"),
            (&["--at", "8", "n"], "/v1/versions/n?at=8"),
            (&["--at", "1970-01-01T00:00:01Z", "n"], "/v1/versions/n?at=1000000"),
            (&["--at", "5m", "n"], "/v1/versions/n?at=700000000"),
        ] {
            let value = answer("200 OK", &[("ETag", "\"v\""), ("X-Last-Sync", "7")], "old");
            let fake = Fake::start(vec![value]);
            let args = args(line);
            let found = read(&args, "n", Past::of(&args, now), &mut fake.client()).await.unwrap();
            assert_eq!(&found.body[..], b"old");
            assert!(fake.seen()[0].starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{:?}", fake.seen());
        }
    }

    #[tokio::test]
    async fn a_node_that_answers_the_present_is_no_answer_about_the_past() {
        for (line, stamp, fits) in [
            (["--revision", "7", "n"], "7", true),
            (["--revision", "7", "n"], "8", false),
            (["--at", "7", "n"], "6", true),
            (["--at", "7", "n"], "8", false),
        ] {
            let value = answer("200 OK", &[("ETag", "\"v\""), ("X-Last-Sync", stamp)], "old");
            let fake = Fake::start(vec![value]);
            let args = args(&line);
            let found = read(&args, "n", Past::of(&args, clock::now()), &mut fake.client()).await;
            assert_eq!(found.is_ok(), fits, "{line:?} {stamp}");
        }
    }

    #[tokio::test]
    async fn what_the_past_does_not_have_is_missing_without_advice_to_wait() {
        for (status, code, said) in [
            ("410 Gone", "deleted", "deleted: \"n\": it was"),
            ("404 Not Found", "not-found", "not found: \"n\""),
            ("404 Not Found", "revision-unknown", "no such revision: \"n\": "),
            ("410 Gone", "compacted", "compacted: \"n\": "),
        ] {
            let fake = Fake::start(vec![answer(
                status,
                &[(X_VWATCH_ERROR, code), ("X-Last-Sync", "7")],
                "any text",
            )]);
            let args = args(&["--revision", "7", "n"]);
            let found = read(&args, "n", Past::of(&args, clock::now()), &mut fake.client()).await;
            let Err(Failure::Missing(line)) = found else { panic!("{found:?}") };
            assert!(line.starts_with(said) && !line.contains("wait"), "{line}");
        }
    }

    #[tokio::test]
    async fn several_names_come_one_after_the_other() {
        let value = |data| answer("200 OK", &[("ETag", "\"v\""), ("X-Last-Sync", "1")], data);
        for (form, printed) in [("simple", "onetwo"), ("table", "NAME  VERSION  LAST-SYNC")] {
            let fake = Fake::start(vec![value("one"), value("two")]);
            let (args, mut client) = (args(&["-w", form, "a", "b"]), fake.client());
            let mut printer = Printer { format: args.output.format, is_terminal: false, rows: Vec::new() };
            let mut text = String::new();
            for name in &args.names {
                let answer = read(&args, name, None, &mut client).await.unwrap();
                text += std::str::from_utf8(&printer.printed(name, &answer)).unwrap();
            }
            text += &printer.end();
            assert!(text.starts_with(printed), "{text}");
            assert_eq!(text.matches("NAME").count(), usize::from(form == "table"));
        }
    }
}
