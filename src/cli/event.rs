//! `vwatch event put TYPE [FILE|-]`: adds an event to a log.

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::client::{Answer, OrFailure, Request};
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on, check_name};
use super::output::{Format, Output, Row, print};
use super::put::{MAX_INPUT_BYTES, read_input, too_large};
use super::under_lease::UnderLease;
use crate::wire::text::Escaped;

/// Add an event to a log
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export VWATCH_NAMESPACE=log.deploys
  vwatch event put deploy/web --data 'v42 by ana'   prints the name of the event
  vwatch event put deploy/web report.json           the data is a file
  date | vwatch event put tick                      the data is standard input
  vwatch ls deploy/                                 the events of a type by time
  vwatch get NAME                                   one of them

A log is a namespace that begins with log. The node names the event: its type, its time and an id, so that events of one \
type sort by time. An event is kept until a compaction passes it ('vwatch compact', or the node's --history-age).

An event that was sent and not answered may have been added, or be added later: exit code 6. The command does not send \
it again, because that would be a second event.")]
pub(super) struct Put {
    /// The type of the event: what its name begins with
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The file with the data; '-' or nothing reads standard input
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    /// The data, in the place of a file
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    data: Option<String>,
    #[command(flatten)]
    under: UnderLease,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// The command with its subcommands, each as `client` makes it.
pub(super) fn command(client: impl Fn(Command) -> Command) -> Command {
    Command::new("event")
        .about("Add events to a log")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(client(Put::augment_args(Command::new("put").args_override_self(true))))
}

/// Runs the subcommand.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("put", matches)) => {
            let args = Put::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
            put(&args)
        }
        _ => Err(Failure::Usage("event: no subcommand: use 'vwatch event put'".to_owned())),
    }
}

fn put(args: &Put) -> Result<(), Failure> {
    check_name(&args.kind)?;
    if !args.within.namespace.is_log() {
        return Err(Failure::Usage(format!(
            "no log: {:?}: name one that begins with log., such as --namespace log.deploys, or use 'vwatch put'",
            args.within.namespace.as_str()
        )));
    }
    let client = args.nodes.writers()?;
    let data = match (&args.data, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) if file != "-" => read_file(Path::new(file))?,
        (None, _) => read_input()?,
    };
    let request = request(args, data)?;
    let mut client = client.within(args.time.timeout);
    let answer = block_on(async { client.send(&request).await })?.of_record(&args.kind)?;
    print(printed(args, &answer)?.as_bytes())
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: &std::io::Error| {
        let path = path.display();
        Failure::Usage(format!("cannot read {path}: {error}: use --data for a text, or - for standard input"))
    };
    // a file of any size is not read to find that it is too large
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > MAX_INPUT_BYTES {
        return Err(too_large());
    }
    std::fs::read(path).map_err(|error| failed(&error))
}

fn request(args: &Put, data: Vec<u8>) -> Result<Request, Failure> {
    let request = Request::event(args.within.place().events_of(&args.kind), data);
    args.under.of(request, &args.kind, &args.within)
}

fn printed(args: &Put, answer: &Answer) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Event {
        name: String,
    }
    let Event { name } = answer.json()?;
    let row = Row::written(&name, answer, false);
    Ok(match args.output.format {
        Format::Simple => format!("{}\n", Escaped(&name)),
        format => row.printed(format),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &str) -> Put {
        let typed = std::iter::once("put").chain(line.split_whitespace());
        Put::from_arg_matches(&Put::augment_args(Command::new("put")).get_matches_from(typed)).unwrap()
    }

    #[tokio::test]
    async fn posts_the_data_and_prints_the_name() {
        let headers = [("ETag", "\"v\""), ("X-Last-Sync", "7")];
        let body =
            r#"{"name":"a/b/1-2","version":"v","revision":7,"last-sync":"1970-01-01T00:00:00.000007Z"}"#;
        for (line, said) in [
            ("--namespace log.x a/b", "a/b/1-2\n"),
            (
                "--namespace log.x -w json a/b",
                "{\"name\":\"a/b/1-2\",\"version\":\"v\",\"last_sync\":\"1970-01-01T00:00:00.000007Z\",\
                 \"last-sync\":\"1970-01-01T00:00:00.000007Z\"}\n",
            ),
        ] {
            let fake = Fake::start(vec![answer("201 Created", &headers, body)]);
            let args = args(line);
            let answer = fake.client().send(&request(&args, b"data".to_vec()).unwrap()).await.unwrap();
            assert_eq!(printed(&args, &answer.of_record("a/b").unwrap()).unwrap(), said);
            let seen = &fake.seen()[0];
            assert!(seen.starts_with("POST /v1/ns/log.x/events/a/b HTTP/1.1\r\n"), "{seen}");
            assert!(seen.ends_with("\r\n\r\ndata"), "{seen}");
        }
    }

    #[test]
    fn an_event_needs_a_log_and_data_that_can_be_read() {
        for line in ["--data x a", "--namespace a --data x a", "--namespace log.x a /no/such/file"] {
            assert!(matches!(put(&args(line)), Err(Failure::Usage(_))), "{line}");
        }
    }
}
