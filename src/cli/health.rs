//! `vwatch health`: asks a node how it is. For what has neither shell nor curl, such as the image.

use std::time::Duration;

use clap::Args;

use super::client::{Answer, Client, Request};
use super::environment;
use super::failure::Failure;
use super::nodes::block_on;
use super::url::Url;
use crate::wire::duration::{self, GoDuration};

/// Where a node on this machine listens if nobody says otherwise.
const DEFAULT: &str = "127.0.0.1:8008";

/// Where the node of this environment listens.
const LISTEN: &str = "VWATCH_LISTEN_SERVER";

/// Ask a node whether it is ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch health                   is the node on this machine ready?
  vwatch health --live            does its process work, ready or not?
  vwatch health http://node:8008  another node, by either port

Without a URL it asks the node that VWATCH_LISTEN_SERVER tells where to listen, else those of VWATCH_SERVER_URL or \
VWATCH_CLIENT_URL, else 127.0.0.1:8008: on a server port there is a place however many read. Of several URLs, \
comma separated, all must be ready.

Exit codes: 0 it is; 1 it is not, or does not answer; the line on standard error says why.")]
pub(super) struct Health {
    /// Which node, by its client or server port
    #[arg(value_name = "URL", conflicts_with = "url")]
    typed_url: Option<String>,
    /// Only ask whether the process works (/healthz), not whether it takes reads and writes (/readyz)
    #[arg(long)]
    live: bool,
    /// Which node, by its client or server port [also: --server-url, --client-url]
    #[arg(long, value_name = "URL", aliases = ["server-url", "client-url"])]
    url: Option<String>,
    /// How long it may take to answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    timeout: Duration,
}

pub(super) fn run(args: &Health) -> Result<(), Failure> {
    let typed =
        args.typed_url.as_ref().map(|url| ("URL", url)).or(args.url.as_ref().map(|url| ("--url", url)));
    let urls = whom(typed, environment::variable)?;
    block_on(async {
        for url in urls {
            ask(args, url).await?;
        }
        Ok(())
    })
}

/// The nodes that are asked.
fn whom(
    typed: Option<(&'static str, &String)>,
    of_env: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Url>, Failure> {
    let listen = || of_env(LISTEN).map(|text| (LISTEN, near(&text)));
    let named = |variable| of_env(variable).map(|text| (variable, text));
    let (source, text) = typed
        .map(|(source, text)| (source, text.clone()))
        .or_else(listen)
        .or_else(|| named("VWATCH_SERVER_URL"))
        .or_else(|| named("VWATCH_CLIENT_URL"))
        .unwrap_or_else(|| ("URL", DEFAULT.to_owned()));
    Url::parse_list(&text).map_err(|why| Failure::Usage(format!("bad {source}: {why}")))
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
    judge(&answer.map_err(|_| late())??)
}

fn judge(answer: &Answer) -> Result<(), Failure> {
    let Answer { from, status, .. } = answer;
    if !status.is_success() {
        return Err(Failure::Failed(
            answer.refusal(|| format!("not well: {from} answers {status}: see its log")),
        ));
    }
    // any server may have a page there
    answer.check_node()
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
        let asked = |typed: Option<&str>, set: &[(&str, &str)]| {
            let typed = typed.map(str::to_owned);
            let of_env =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned());
            whom(typed.as_ref().map(|url| ("URL", url)), of_env)
                .map(|urls| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        };
        let listens = |at| [(LISTEN, at), ("VWATCH_SERVER_URL", "other:1")];
        for (typed, set, url) in [
            (None, &[][..], "http://127.0.0.1:8008"),
            (None, &listens(":7000"), "http://127.0.0.1:7000"),
            (None, &listens("0.0.0.0:7000"), "http://127.0.0.1:7000"),
            (None, &listens("[::]:7000"), "http://[::1]:7000"),
            (None, &listens("10.0.0.1:7000"), "http://10.0.0.1:7000"),
            (Some("node:1"), &listens(":7000"), "http://node:1"),
            (
                None,
                &[("VWATCH_SERVER_URL", "a:1,b:2"), ("VWATCH_CLIENT_URL", "c:3")],
                "http://a:1,http://b:2",
            ),
            (None, &[("VWATCH_CLIENT_URL", "c:3")], "http://c:3"),
        ] {
            assert_eq!(asked(typed, set).unwrap(), url);
        }
        let line = |typed, set: &[(&str, &str)]| asked(typed, set).unwrap_err().line().unwrap().to_owned();
        assert!(line(None, &[(LISTEN, "nonsense")]).starts_with("bad VWATCH_LISTEN_SERVER: "));
        assert!(line(Some("https://node:1"), &[]).starts_with("bad URL: "));
        for typed in [&["a:1"][..], &["--url", "a:1"], &["--server-url", "a:1"], &["--client-url", "a:1"]] {
            let args = args(typed);
            assert_eq!(args.typed_url.or(args.url).as_deref(), Some("a:1"));
        }
    }

    #[tokio::test]
    async fn ready_and_live_are_two_questions() {
        for (line, path) in [(&[][..], "/readyz"), (&["--live"][..], "/healthz")] {
            let fake = Fake::without_probes(vec![answer("200 OK", &[("X-Vwatch-Node", "n")], "ok\n")]);
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
    async fn only_a_node_is_well() {
        let headers = [("ETag", "\"5f\""), ("Content-Type", "text/html"), ("Server", "nginx")];
        let fake = Fake::start(vec![answer("200 OK", &headers, "<h1>welcome</h1>")]);
        let line = ask(&args(&[]), fake.url()).await.unwrap_err().line().unwrap().to_owned();
        assert!(line.starts_with("not a vwatch node: http://127.0.0.1:"), "{line}");
        assert!(line.contains("answers 200 OK with text/html of nginx, and without X-Vwatch-Node"), "{line}");
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
