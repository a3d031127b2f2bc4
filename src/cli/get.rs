//! `vwatch get NAME`: reads a name, or waits until its version differs.

use std::time::Duration;

use clap::Args;

use super::client::{Answer, Request};
use super::failure::{Failure, tell};
use super::nodes::{Nodes, block_on, check_name};
use super::output::{Data, Format, Output, Row, print, rfc3339};
use super::url::{parameter, path_of, with_query};
use crate::wire::duration::{self, GoDuration};

/// How long a node may take for a read that parks for as long as it likes.
const UNSAID_PARK: Duration = Duration::from_secs(10);

/// Read a name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch get repo/artifact:latest       prints the data and nothing else
  vwatch get -v repo/artifact:latest    tells version and time on standard error
  vwatch get -w json NAME | jq -r .version
  vwatch get --version V1 NAME          waits until the version is not V1
  vwatch get --version '' NAME          waits until there is such a name

When the time is up, what stands is printed all the same. A name that does not exist or is deleted: exit code 4.")]
pub(super) struct Get {
    /// The name to read, taken as it is
    name: String,
    /// Wait until the version is not this one
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// How long to wait; the node's --block-for or 1m is the most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    /// Tell version, time, where it came from and Server-Timing on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Get) -> Result<(), Failure> {
    check_name(&args.name)?;
    let mut client = args.nodes.readers()?;
    let answer = block_on(async { client.send(&request(args)).await })?.or_refusal(&args.name)?;
    if args.verbose {
        tell_about(&answer);
    }
    print(&printed(args, &answer))
}

fn request(args: &Get) -> Request {
    let path = path_of(&args.name);
    let Some(version) = &args.version else { return Request::get(path).parks_for(UNSAID_PARK) };
    let timeout = parameter("timeout", &GoDuration(args.timeout).to_string());
    let parameters = [parameter("version", version), timeout];
    Request::get(with_query(&path, &parameters)).parks_for(args.timeout)
}

fn tell_about(answer: &Answer) {
    tell(&format!(
        "version: {}",
        answer.version().map_or_else(|| "-".to_owned(), |version| version.to_string())
    ));
    if let Some(micros) = answer.last_sync() {
        tell(&format!("last-sync: {micros} ({})", rfc3339(micros)));
    }
    // through whom it came, and how old it may be, where that is not the node itself
    for name in ["via", "age", "warning", "server-timing"] {
        if let Some(value) = answer.header(name) {
            tell(&format!("{name}: {value}"));
        }
    }
}

fn printed(args: &Get, answer: &Answer) -> Vec<u8> {
    let row = || Row {
        name: args.name.clone(),
        version: answer.shown_version(),
        data: Data::Bytes(answer.body.to_vec()),
        last_sync: answer.last_sync(),
        deleted: false,
    };
    match args.output.format {
        Format::Simple => answer.body.to_vec(),
        Format::Json => format!("{}\n", row().json()).into_bytes(),
        Format::Table => row().table().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &[&str]) -> Get {
        let typed = std::iter::once("get").chain(line.iter().copied());
        Get::from_arg_matches(&Get::augment_args(Command::new("get")).get_matches_from(typed)).unwrap()
    }

    async fn got(args: &Get, status: &str) -> (Result<String, Failure>, String) {
        let headers = [("ETag", "\"v1\""), ("X-Last-Sync", "1741837692000000")];
        let fake = Fake::start(vec![answer(status, &headers, "one line\n")]);
        let answer = fake.client().send(&request(args)).await.unwrap().or_refusal("n");
        let printed = answer.map(|answer| String::from_utf8(printed(args, &answer)).unwrap());
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
             \"last-sync\":\"2025-03-13T03:48:12.000000Z\"}\n"
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
        let advice = ": wait for it: vwatch get --version '' --timeout 30s NAME, or vwatch watch NAME";
        for (status, body, what) in [
            ("404 Not Found", "not found: \"n\": wait for it with ?version=\n", "not found: \"n\""),
            ("410 Gone", "deleted: \"n\": wait for it with ?version=\n", "deleted: \"n\""),
            ("404 Not Found", "", "n: no such name"),
        ] {
            let fake = Fake::start(vec![answer(status, &[], body)]);
            let answer = fake.client().send(&request(&args(&["n"]))).await.unwrap();
            assert_eq!(answer.or_refusal("n").unwrap_err(), Failure::Missing(format!("{what}{advice}")));
        }
    }
}
