//! `vwatch health`: asks a node how it is. For what has neither shell nor curl, such as the image.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::client::{Answer, Client, Request};
use super::failure::Failure;
use super::nodes::block_on;
use super::url::Url;
use crate::wire::duration::{self, GoDuration};

/// Where a node on this machine listens if nobody says otherwise.
const DEFAULT: &str = "127.0.0.1:8008";

/// Ask a node whether it is ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch health                         is the node on this machine ready?
  vwatch health --live                  does its process work, ready or not?
  vwatch health --url http://node:8008  another node, by either port

Without --url it asks the node that VWATCH_LISTEN_SERVER tells where to listen, or 127.0.0.1:8008: on that \
port there is a place however many read.

Exit codes: 0 it is; 1 it is not, or does not answer; the line on standard error says why.")]
pub(super) struct Health {
    /// Only ask whether the process works (/healthz), not whether it takes reads and writes (/readyz)
    #[arg(long)]
    live: bool,
    /// Which node, by its client or server port
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long it may take to answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    timeout: Duration,
}

pub(super) fn run(args: &Health) -> Result<(), Failure> {
    let url = whom(args.url.as_deref(), std::env::var_os("VWATCH_LISTEN_SERVER"))?;
    block_on(ask(args, url))
}

/// The node that is asked.
fn whom(typed: Option<&str>, listen: Option<OsString>) -> Result<Url, Failure> {
    let listen = listen.filter(|text| !text.is_empty()).map(|text| text.to_string_lossy().into_owned());
    let (source, text) = match (typed, listen) {
        (Some(text), _) => ("--url", text.to_owned()),
        (None, Some(text)) => ("VWATCH_LISTEN_SERVER", near(&text)),
        (None, None) => ("--url", DEFAULT.to_owned()),
    };
    Url::parse(&text).map_err(|why| Failure::Usage(format!("bad {source}: {why}")))
}

/// An address to reach what listens there: all addresses have one that is near.
fn near(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

async fn ask(args: &Health, url: Url) -> Result<(), Failure> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let shown = url.to_string();
    let mut client = Client::new(vec![url], "url");
    let answer = tokio::time::timeout(args.timeout, client.send(&Request::get(path.to_owned()))).await;
    let late = || {
        let after = GoDuration(args.timeout);
        Failure::Failed(format!(
            "no answer: {shown} said nothing within {after}: see its log, or raise --timeout"
        ))
    };
    judge(&answer.map_err(|_| late())??, &shown)
}

fn judge(answer: &Answer, url: &str) -> Result<(), Failure> {
    if answer.status.is_success() {
        return Ok(());
    }
    let status = answer.status;
    Err(Failure::Failed(answer.refusal(|| format!("not well: {url} answers {status}: see its log"))))
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &[&str]) -> Health {
        let typed = std::iter::once("health").chain(line.iter().copied());
        Health::from_arg_matches(&Health::augment_args(Command::new("health")).get_matches_from(typed))
            .unwrap()
    }

    #[test]
    fn the_node_of_this_environment_is_asked() {
        let asked =
            |typed, listen: Option<&str>| whom(typed, listen.map(Into::into)).map(|url| url.to_string());
        for (typed, listen, url) in [
            (None, None, "http://127.0.0.1:8008"),
            (None, Some(""), "http://127.0.0.1:8008"),
            (None, Some(":7000"), "http://127.0.0.1:7000"),
            (None, Some("0.0.0.0:7000"), "http://127.0.0.1:7000"),
            (None, Some("[::]:7000"), "http://[::1]:7000"),
            (None, Some("10.0.0.1:7000"), "http://10.0.0.1:7000"),
            (Some("node:1"), Some(":7000"), "http://node:1"),
        ] {
            assert_eq!(asked(typed, listen).unwrap(), url);
        }
        assert!(asked(None, Some("nonsense")).unwrap_err().line().unwrap().contains("VWATCH_LISTEN_SERVER"));
        assert!(asked(Some("https://node:1"), None).unwrap_err().line().unwrap().starts_with("bad --url: "));
    }

    #[tokio::test]
    async fn ready_and_live_are_two_questions() {
        for (line, path) in [(&[][..], "/readyz"), (&["--live"][..], "/healthz")] {
            let fake = Fake::start(vec![answer("200 OK", &[], "ok\n")]);
            assert_eq!(ask(&args(line), fake.url()).await, Ok(()));
            assert!(fake.seen()[0].starts_with(&format!("GET {path} HTTP/1.1\r\n")));
        }
    }

    #[tokio::test]
    async fn what_is_not_well_says_why() {
        let fake = Fake::start(vec![answer("503 Service Unavailable", &[], "joining: a: b\n")]);
        assert_eq!(ask(&args(&[]), fake.url()).await, Err(Failure::Failed("joining: a: b".to_owned())));
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let line = ask(&args(&[]), fake.url()).await.unwrap_err().line().unwrap().to_owned();
        assert!(line.starts_with("not well: http://127.0.0.1:") && line.contains("404"), "{line}");
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        // the system takes the connection, and nobody else does
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
        let line = ask(&args(&["--timeout", "50ms"]), url).await.unwrap_err().line().unwrap().to_owned();
        assert!(line.starts_with("no answer: ") && line.contains("within 50ms"), "{line}");
    }
}
