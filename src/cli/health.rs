//! `vwatch health`: checks a node. It works without a shell and curl, such as in the image.

use std::time::Duration;

use clap::Args;

use super::client::{Answer, Client, Request};
use super::environment;
use super::failure::Failure;
use super::nodes::{Credentials, block_on};
use crate::client::url::Url;
use crate::wire::duration::{self, GoDuration};

/// The default of `--listen-server`.
const DEFAULT: &str = "127.0.0.1:8008";

/// The variable with the server port of the node in this environment.
const LISTEN: &str = "VWATCH_LISTEN_SERVER";

/// Check whether a node is ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch health                   is the node on this machine ready?
  vwatch health --live            does its process work, ready or not?
  vwatch health http://node:8008  another node, by either port
  vwatch health https://127.0.0.1:8008 --ca ca.pem
                                  one with TLS

Without a URL it checks the node at VWATCH_LISTEN_SERVER, else those of VWATCH_SERVER_URL or VWATCH_CLIENT_URL, else \
127.0.0.1:8008: a server port accepts the connection even if readers use all those of the client port. With several \
URLs, comma separated, all must be ready.

Exit codes: 0 the node is ready; 1 it is not, or does not answer; the line on standard error says why.")]
pub(super) struct Health {
    /// Client or server port of the node
    #[arg(value_name = "URL", conflicts_with = "url")]
    typed_url: Option<String>,
    /// Check only whether the process works (/healthz), not whether it accepts reads and writes (/readyz)
    #[arg(long)]
    live: bool,
    /// Client or server port of the node [also: --server-url, --client-url]
    #[arg(long, value_name = "URL", aliases = ["server-url", "client-url"])]
    url: Option<String>,
    /// Time for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    credentials: Credentials,
}

pub(super) fn run(args: &Health) -> Result<(), Failure> {
    let typed =
        args.typed_url.as_ref().map(|url| ("URL", url)).or(args.url.as_ref().map(|url| ("--url", url)));
    let urls = args.credentials.with(urls_of(typed, environment::variable)?)?;
    block_on(async {
        for url in urls {
            ask(args, url).await?;
        }
        Ok(())
    })
}

/// The nodes to check.
fn urls_of(
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

/// An address that reaches a port of this machine, even if it listens on all addresses.
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
            "no answer: {shown} did not answer within {after}: check its log, or raise --timeout"
        ))
    };
    judge(&answer.map_err(|_| late())??)
}

fn judge(answer: &Answer) -> Result<(), Failure> {
    let Answer { from, status, .. } = answer;
    if !status.is_success() {
        return Err(Failure::Failed(
            answer.refusal(|| format!("not ready: {from} answers {status}: check its log")),
        ));
    }
    // any other server may answer this path with 200
    Ok(answer.check_node()?)
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
    fn the_node_of_this_environment_is_checked() {
        let asked = |typed: Option<&str>, set: &[(&str, &str)]| {
            let typed = typed.map(str::to_owned);
            let of_env =
                |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned());
            urls_of(typed.as_ref().map(|url| ("URL", url)), of_env)
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
        assert!(line(Some("ftp://node:1"), &[]).starts_with("bad URL: "));
        assert_eq!(asked(Some("https://node:1"), &[]).unwrap(), "https://node:1");
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
    async fn an_unhealthy_node_is_reported_with_the_reason() {
        let fake = Fake::start(vec![answer("503 Service Unavailable", &[], "joining: a: b\n")]);
        assert_eq!(ask(&args(&[]), fake.url()).await, Err(Failure::Failed("joining: a: b".to_owned())));
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let line = ask(&args(&[]), fake.url()).await.unwrap_err().line().unwrap().to_owned();
        assert!(line.starts_with("not ready: http://127.0.0.1:") && line.contains("404"), "{line}");
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
        // the system accepts the connection, and no program does
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
        let line = ask(&args(&["--timeout", "50ms"]), url).await.unwrap_err().line().unwrap().to_owned();
        assert!(line.starts_with("no answer: ") && line.contains("within 50ms"), "{line}");
    }
}
