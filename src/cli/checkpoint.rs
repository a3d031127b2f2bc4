//! `vwatch checkpoint ls|get|set|rm`: where readers are, so that a compaction waits for them.

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use hyper::Method;
use serde_json::json;

use super::args::quoted;
use super::client::{Answer, Client, OrFailure, Request};
use super::failure::{Failure, tell};
use super::feed::since;
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, Output, print, rfc3339, table};
use super::put::read_input;
use crate::client::url::{parameter, with_query};
use crate::wire::checkpoints::{Listed, from_json};
use crate::wire::headers::X_VWATCH_EXPIRED;
use crate::wire::text::{Escaped, json_escaped};
use crate::wire::version_set::parse_rfc3339;

/// What all of these commands take.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// List checkpoints by id, with what each holds back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch checkpoint ls                   the ids, one a line
  vwatch checkpoint ls -w table billing  those that begin with billing, with what they hold back
  vwatch checkpoint ls --namespace team  those of readers of a namespace

HOLDS is the time from which on a compaction leaves all versions for the reader. It is - if the checkpoint holds nothing \
back: it is 'oldest', it has expired, or its cursor is of a set that is gone.")]
struct Ls {
    /// Only ids that begin with this
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Print a checkpoint: the cursor to go on from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch checkpoint get billing
  vwatch diff --prefix '' --mode all --since \"$(vwatch checkpoint get billing)\"

No such checkpoint: exit code 4. One that has expired is printed too, and a line on standard error says so.")]
struct Get {
    /// The id
    id: String,
    #[command(flatten)]
    common: Common,
}

/// Write a checkpoint: a compaction waits for its reader
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch checkpoint set billing \"$cursor\"           a cursor of a watch, as it was given
  vwatch checkpoint set billing - < cursor          as --cursor-file of 'vwatch watch' keeps it
  vwatch checkpoint set billing oldest              a reader that has not begun: it holds nothing back
  vwatch checkpoint set billing 2026-11-28T12:00:00Z   all versions from then on

Write it again after what was told is handled, at least once in --checkpoint-expiry (24h): one that was not written for \
longer holds nothing back. The newest one wins. It does not change how many versions a name keeps ('vwatch \
history-depth').")]
struct Set {
    /// The id: 1 to 128 characters of a to z, 0 to 9, '.' and '-'
    id: String,
    /// A cursor, oldest, a time in microseconds or RFC 3339, or - for standard input
    #[arg(value_name = "CURSOR|oldest|TIME|-")]
    since: String,
    #[command(flatten)]
    common: Common,
}

/// Remove a checkpoint: no compaction waits for its reader any more
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch checkpoint rm billing

No such checkpoint: exit code 4.")]
struct Rm {
    /// The id
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Action {
    Ls(Ls),
    Get(Get),
    Set(Set),
    Rm(Rm),
}

/// The command with its subcommands, each as `client` makes it.
pub(super) fn command(client: impl Fn(Command) -> Command) -> Command {
    let command = Command::new("checkpoint")
        .about("Keep where readers are, so that a compaction waits for them")
        .subcommand_required(true)
        .arg_required_else_help(true);
    Action::augment_subcommands(command).mut_subcommands(|command| client(command.args_override_self(true)))
}

/// Runs the subcommand.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let action = Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    let (Action::Ls(Ls { common, .. })
    | Action::Get(Get { common, .. })
    | Action::Set(Set { common, .. })
    | Action::Rm(Rm { common, .. })) = &action;
    let mut client = common.nodes.writers()?.within(common.time.timeout);
    let printed = block_on(act(&action, &mut client))?;
    print(printed.as_bytes())
}

async fn act(action: &Action, client: &mut Client) -> Result<String, Failure> {
    match action {
        Action::Ls(args) => list(args, client).await.map(|listed| shown(&listed, args.common.output.format)),
        Action::Get(Get { id, common }) => {
            let answer =
                client.send(&Request::get(common.within.place().checkpoint_of(id))).await?.of_record(id)?;
            got(id, common, &answer)
        }
        Action::Set(Set { id, since: typed, common }) => {
            let text = place(typed)?;
            let request = Request::setting(Method::PUT, common.within.place().checkpoint_of(id))
                .with_body(text.into_bytes());
            let answer = client.send(&request).await?.of_record(id)?;
            Ok(done(id, common, &answer, "is kept"))
        }
        Action::Rm(Rm { id, common }) => {
            let request = Request::setting(Method::DELETE, common.within.place().checkpoint_of(id));
            let answer = client.send(&request).await?.of_record(id)?;
            Ok(done(id, common, &answer, "is removed"))
        }
    }
}

/// What a checkpoint is written with.
fn place(typed: &str) -> Result<String, Failure> {
    match typed {
        "-" => Ok(String::from_utf8_lossy(&read_input()?).trim().to_owned()),
        "now" => Err(Failure::Usage(
            "now: it is another place at each moment: take a cursor with 'vwatch diff --since now -w table --prefix \
             PREFIX', and set that"
                .to_owned(),
        )),
        typed => Ok(since(typed)),
    }
}

async fn list(args: &Ls, client: &mut Client) -> Result<Vec<Listed>, Failure> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let mut parameters = vec![parameter("prefix", args.prefix.as_deref().unwrap_or(""))];
        parameters.extend(all.last().map(|last| parameter("after", &last.id)));
        let target = with_query(&args.common.within.place().checkpoints(), &parameters);
        let answer = client.send(&Request::get(target)).await?.or_refusal("checkpoint ls")?;
        let page = from_json(&answer.body).map_err(|why| {
            let from = &answer.from;
            Failure::Failed(format!("the list of {from} cannot be read: {why}: is it a vwatch node?"))
        })?;
        // each page begins after the last one of the page before: so a list that repeats itself ends
        let is_ahead = |one: &Listed| all.last().is_none_or(|last| last.id < one.id);
        if !page.first().is_none_or(is_ahead) || !page.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Failure::Failed(format!(
                "the list of {} does not end: check the proxies in between, or name another node with --server-url",
                answer.from
            )));
        }
        let is_last = page.is_empty() || answer.header("link").is_none();
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn shown(listed: &[Listed], format: Format) -> String {
    match format {
        Format::Simple => listed.iter().map(|one| format!("{}\n", Escaped(&one.id))).collect(),
        Format::Json => format!("{}\n", json_escaped(&json!({"checkpoints": listed}).to_string())),
        Format::Table => {
            // with all digits, so that columns stay aligned
            let time = |text: &String| {
                parse_rfc3339(text).map_or_else(|_| text.clone(), |stamp| rfc3339(stamp.micros()))
            };
            let cells = |one: &Listed| {
                let holds = match &one.holds_time {
                    Some(holds) => time(holds),
                    None if one.expired => "- (expired)".to_owned(),
                    None if one.other_set => "- (another set)".to_owned(),
                    None => "-".to_owned(),
                };
                vec![one.id.clone(), holds, time(&one.written), time(&one.expires)]
            };
            let rows: Vec<Vec<String>> = listed.iter().map(cells).collect();
            table(&["ID", "HOLDS", "WRITTEN", "EXPIRES"], &rows)
        }
    }
}

fn got(id: &str, common: &Common, answer: &Answer) -> Result<String, Failure> {
    let since = String::from_utf8_lossy(&answer.body);
    let since = since.trim();
    let expired = answer.header(X_VWATCH_EXPIRED).is_some();
    if expired {
        let typed = common.within.typed();
        tell(&format!(
            "expired: {id:?}: a compaction does not wait for it any more: write it again: vwatch checkpoint set \
             {typed}{} CURSOR",
            quoted(id)
        ));
    }
    let last_sync = answer.last_sync().map(rfc3339);
    Ok(match common.output.format {
        Format::Simple => format!("{}\n", Escaped(since)),
        Format::Json => {
            let json = json!({"id": id, "since": since, "last_sync": last_sync, "expired": expired});
            format!("{}\n", json_escaped(&json.to_string()))
        }
        Format::Table => {
            let row = [id.to_owned(), last_sync.unwrap_or_default(), since.to_owned()];
            table(&["ID", "WRITTEN", "SINCE"], &[row.into()])
        }
    })
}

fn done(id: &str, common: &Common, answer: &Answer, what: &str) -> String {
    match common.output.format {
        Format::Simple => String::new(),
        Format::Json => {
            let json = json!({"id": id, "last_sync": answer.last_sync().map(rfc3339)});
            format!("{}\n", json_escaped(&json.to_string()))
        }
        Format::Table => format!("the checkpoint {} {what}\n", Escaped(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    async fn said(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("checkpoint").chain(line.split_whitespace());
        let matches = command(|command| command).get_matches_from(typed);
        let action = Action::from_arg_matches(&matches).unwrap();
        act(&action, &mut fake.client()).await
    }

    fn page(ids: &[&str], more: bool) -> String {
        let one = |id: &&str| {
            json!({"id": id, "since": "oldest", "holds": null, "holds_time": null, "written": "w",
                "expires": "e", "expired": *id == "b", "other_set": *id == "c"})
        };
        let json = json!({"checkpoints": ids.iter().map(one).collect::<Vec<_>>()}).to_string();
        let link = [("Link", "</v1/checkpoints?after=x>; rel=\"next\"")];
        answer("200 OK", if more { &link } else { &[] }, &json)
    }

    #[tokio::test]
    async fn all_pages_of_a_list_come_in_turn() {
        let fake = Fake::start(vec![page(&["a", "b"], true), page(&["c"], false)]);
        assert_eq!(said(&fake, "ls --namespace team x").await.unwrap(), "a\nb\nc\n");
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/ns/team/checkpoints?prefix=x HTTP/1.1\r\n"), "{seen:?}");
        assert!(seen[1].starts_with("GET /v1/ns/team/checkpoints?prefix=x&after=b HTTP/1.1\r\n"), "{seen:?}");
        let table = said(&Fake::start(vec![page(&["a", "b", "c"], false)]), "ls -w table").await.unwrap();
        let expected = "ID  HOLDS            WRITTEN  EXPIRES\na   -                w        e\n\
                        b   - (expired)      w        e\nc   - (another set)  w        e\n";
        assert_eq!(table, expected);
        for pages in [vec![page(&["a"], true), page(&["a"], true)], vec![answer("200 OK", &[], "<html>")]] {
            assert!(matches!(said(&Fake::start(pages), "ls").await, Err(Failure::Failed(_))));
        }
    }

    #[tokio::test]
    async fn a_checkpoint_is_set_got_and_removed() {
        let stamp = [("X-Last-Sync", "7")];
        for (typed, sent) in [
            ("c1.abc", "c1.abc"),
            ("oldest", "oldest"),
            ("at:5", "at:5"),
            ("1741837692000000", "at:1741837692000000"),
        ] {
            let fake = Fake::start(vec![answer("204 No Content", &stamp, "")]);
            assert_eq!(said(&fake, &format!("set r {typed}")).await.unwrap(), "");
            let seen = &fake.seen()[0];
            // no stamp of its own: the node gives it
            assert!(seen.starts_with("PUT /v1/checkpoints/r HTTP/1.1\r\n"), "{seen}");
            assert!(seen.ends_with(&format!("\r\n\r\n{sent}")), "{seen}");
        }
        let fake = Fake::start(vec![answer("200 OK", &stamp, "c1.abc")]);
        assert_eq!(said(&fake, "get r").await.unwrap(), "c1.abc\n");
        let expired = [("X-Last-Sync", "7"), ("X-Vwatch-Expired", "true")];
        let fake = Fake::start(vec![answer("200 OK", &expired, "c1.abc")]);
        let json = r#"{"expired":true,"id":"r","last_sync":"1970-01-01T00:00:00.000007Z","since":"c1.abc"}"#;
        assert_eq!(said(&fake, "get -w json r").await.unwrap(), format!("{json}\n"));
        let fake = Fake::start(vec![answer("204 No Content", &stamp, "")]);
        assert_eq!(said(&fake, "rm -w table r").await.unwrap(), "the checkpoint r is removed\n");
        assert!(fake.seen()[0].starts_with("DELETE /v1/checkpoints/r HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn the_code_of_an_error_decides() {
        let refused = |status: &str, code: &str| {
            let headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Vwatch-Error", code)];
            Fake::start(vec![answer(status, &headers, "no: x: y\n")])
        };
        let missing = said(&refused("404 Not Found", "not-found"), "rm r").await;
        assert_eq!(missing, Err(Failure::Missing("not found: \"r\"".to_owned())));
        for (status, code) in [
            ("400 Bad Request", "bad-cursor"),
            ("400 Bad Request", "bad-name"),
            ("507 Full", "too-many-checkpoints"),
        ] {
            let failed = said(&refused(status, code), "set r c1.x").await;
            assert_eq!(failed, Err(Failure::Failed("no: x: y".to_owned())), "{code}");
        }
        assert!(matches!(said(&Fake::start(vec![]), "set r now").await, Err(Failure::Usage(_))));
    }
}
