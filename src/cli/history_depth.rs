//! `vwatch history-depth [N]`: shows or sets how many versions a name keeps.

use clap::{Args, value_parser};
use hyper::Method;
use serde::Deserialize;

use super::client::{Answer, OrFailure, Request};
use super::cluster_view;
use super::failure::Failure;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, print};
use crate::client::url::{parameter, with_query};
use crate::core::limits::MAX_HISTORY_VERSIONS;
use crate::wire::text::json_escaped;

/// Show or set how many versions a name keeps
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch history-depth       how many versions a name keeps now
  vwatch history-depth 20    from now on 20, on all nodes
  vwatch history-depth 1     the present version only: no history

The present version is one of them. Less drops the oldest versions at once; more brings nothing back. The latest \
setting holds on all nodes.")]
pub(super) struct HistoryDepth {
    /// Versions of a name, 1 to 64
    #[arg(value_name = "N", value_parser = value_parser!(u8).range(1..=i64::from(MAX_HISTORY_VERSIONS)))]
    versions: Option<u8>,
    /// Form of the output: json, table (a sentence) or simple (the number) [env: VWATCH_OUTPUT]
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    format: Format,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &HistoryDepth) -> Result<(), Failure> {
    let mut client = args.nodes.writers()?.within(args.time.timeout);
    let answer = block_on(async { client.send(&request(args)).await })?.or_refusal("history-depth")?;
    print(printed(args, &answer)?.as_bytes())
}

fn request(args: &HistoryDepth) -> Request {
    match args.versions {
        None => Request::get("/v1/cluster".to_owned()),
        Some(versions) => {
            let parameters = [parameter("versions", &versions.to_string())];
            Request::setting(Method::PUT, with_query("/v1/history-depth", &parameters))
        }
    }
}

/// The answer to a new depth.
#[derive(Debug, Deserialize)]
struct NewDepth {
    /// The depth.
    versions: u8,
    /// The least depth that was ever in force.
    least: u8,
}

fn printed(args: &HistoryDepth, answer: &Answer) -> Result<String, Failure> {
    if args.versions.is_none() {
        return present(args.format, answer);
    }
    let depth: NewDepth = answer.json()?;
    Ok(match args.format {
        Format::Json => format!("{}\n", json_escaped(String::from_utf8_lossy(&answer.body).trim_end())),
        Format::Simple => format!("{}\n", depth.versions),
        Format::Table => {
            let least = match depth.least < depth.versions {
                true => format!("; it was {}, so older versions may be missing", depth.least),
                false => String::new(),
            };
            format!("from now on a name keeps {}{least}\n", versions(depth.versions))
        }
    })
}

/// The depth that a node shows in its view of the cluster.
fn present(format: Format, answer: &Answer) -> Result<String, Failure> {
    let depth = match cluster_view::parse(answer)?.node.set.history_versions {
        0 => {
            return Err(Failure::Failed(format!(
                "no history: {} does not say how many versions a name keeps: upgrade it, or name another node with \
                 --server-url",
                answer.from
            )));
        }
        depth => depth,
    };
    Ok(match format {
        Format::Json => format!("{}\n", serde_json::json!({"versions": depth})),
        Format::Simple => format!("{depth}\n"),
        Format::Table => format!("a name keeps {}\n", versions(depth)),
    })
}

fn versions(count: u8) -> String {
    if count == 1 { "1 version: no history".to_owned() } else { format!("{count} versions") }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    async fn shown(line: &str, body: &str) -> (Result<String, Failure>, String) {
        let typed = std::iter::once("history-depth").chain(line.split_whitespace());
        let matches = HistoryDepth::augment_args(Command::new("history-depth")).get_matches_from(typed);
        let args = HistoryDepth::from_arg_matches(&matches).unwrap();
        let fake = Fake::start(vec![answer("200 OK", &[], body)]);
        let answer = fake.client().send(&request(&args)).await.unwrap();
        (printed(&args, &answer), fake.seen()[0].lines().next().unwrap().to_owned())
    }

    #[tokio::test]
    async fn the_present_depth_is_in_the_view_of_the_cluster() {
        let body = r#"{"node":{"incarnation":"1","set":{"history_versions":8}}}"#;
        for (line, said) in
            [("", "a name keeps 8 versions\n"), ("-w simple", "8\n"), ("-w json", "{\"versions\":8}\n")]
        {
            let (found, asked) = shown(line, body).await;
            assert_eq!((found.unwrap().as_str(), asked.as_str()), (said, "GET /v1/cluster HTTP/1.1"));
        }
        let (found, _) = shown("", r#"{"node":{"incarnation":"1"}}"#).await;
        assert!(matches!(found, Err(Failure::Failed(_))), "{found:?}");
    }

    #[tokio::test]
    async fn a_new_depth_is_set_and_what_is_missing_is_said() {
        let body = r#"{"versions":20,"least":8,"epoch":5}"#;
        for (line, said) in [
            ("20", "from now on a name keeps 20 versions; it was 8, so older versions may be missing\n"),
            ("-w simple 20", "20\n"),
            ("-w json 20", "{\"versions\":20,\"least\":8,\"epoch\":5}\n"),
        ] {
            let (found, asked) = shown(line, body).await;
            assert_eq!(found.unwrap(), said);
            assert_eq!(asked, "PUT /v1/history-depth?versions=20 HTTP/1.1");
        }
        let (found, _) = shown("1", r#"{"versions":1,"least":1,"epoch":5}"#).await;
        assert_eq!(found.unwrap(), "from now on a name keeps 1 version: no history\n");
    }
}
