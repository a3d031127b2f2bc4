//! `vwatch lease grant|renew|release|ls`: leases step by step, for scripts. `vwatch lock` holds one for a command.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use hyper::Method;
use serde_json::json;
use tokio::time::Instant;

use super::client::{Answer, Client, OrFailure, Request};
use super::failure::{Failure, complain};
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, Output, print, rfc3339, table};
use crate::client::lease::random_id;
use crate::client::url::{parameter, with_query};
use crate::wire::duration::{self, GoDuration};
use crate::wire::leases::{GrantedLease, LeaseList, ListedLease};
use crate::wire::text::{Escaped, json_escaped};

/// Longest time for which a node holds a request.
const MOST_WAIT: Duration = Duration::from_secs(600);

/// The lease that a command wants.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The name to lock, or the path of many; with --prefix '' is all names of the namespace
    pub(super) path: String,
    /// Lock all names below the path too
    #[arg(long)]
    pub(super) prefix: bool,
    /// How long the lease lasts without a renewal, from 1s to the most that the nodes allow [default: 10s, or that]
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    pub(super) ttl: Option<Duration>,
    /// How long to wait until it is granted, at most 10m; without it a lease that is held is a failure at once
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = wait)]
    pub(super) wait: Duration,
    /// How many slots the path has, for several holders at a time; all of them have to name the same number
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) slots: Option<u32>,
    /// How many of the slots to take [default: 1]
    #[arg(long, value_name = "COUNT", requires = "slots", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) claim: Option<u32>,
    /// A text about the holder that others are shown
    #[arg(long, value_name = "TEXT")]
    pub(super) holder: Option<String>,
}

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

/// Acquire a lease, and print its token and its id
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch lease grant jobs/nightly            TOKEN, tab, id: for renew and release
  vwatch lease grant -w json --ttl 30s NAME  the JSON of the node
  vwatch lease grant --prefix --wait 1m jobs/nightly

'vwatch lock' acquires a lease, renews it and releases it around a command; this is for a script that has to do it \
itself. The time of the lease counts from the moment at which the request was sent, so after --wait renew it before the \
work begins. Another lease stands in the way: exit code 76.")]
struct Grant {
    #[command(flatten)]
    wanted: Wanted,
    /// 32 hexadecimal digits, or a UUID: the same request again gets the same lease [default: random]
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Renew a lease
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch lease renew jobs/nightly TOKEN ID
  vwatch lease renew --ttl 30s -w json NAME TOKEN ID

Renew it when a third of its time is over. It is lost: exit code 75.")]
struct Renew {
    /// The path of the lease
    path: String,
    /// Its token
    token: u64,
    /// Its id
    id: String,
    /// The lease is on all names below the path too
    #[arg(long)]
    prefix: bool,
    /// How long it lasts from now on without another renewal [default: 10s, or the most that the nodes allow]
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

/// Release a lease
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch lease release jobs/nightly TOKEN

The token is in the list of all leases, so an operator can release the lease of a holder that is gone. To release it \
again succeeds. Another lease is live: exit code 76.")]
struct Release {
    /// The path of the lease
    path: String,
    /// Its token
    token: u64,
    /// The lease is on all names below the path too
    #[arg(long)]
    prefix: bool,
    #[command(flatten)]
    common: Common,
}

/// List the live leases by path
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch lease ls                            the paths, one a line
  vwatch lease ls -w table jobs/             those that begin with jobs/, with their holders
  vwatch lease ls --namespace team           those of a namespace")]
struct Ls {
    /// Only paths that begin with this
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Action {
    Grant(Grant),
    Renew(Renew),
    Release(Release),
    Ls(Ls),
}

/// The command with its subcommands, each as `client` makes it.
pub(super) fn command(client: impl Fn(Command) -> Command) -> Command {
    let command = Command::new("lease")
        .about("Acquire, renew, release and list leases: locks that expire")
        .subcommand_required(true)
        .arg_required_else_help(true);
    Action::augment_subcommands(command).mut_subcommands(|command| client(command.args_override_self(true)))
}

/// Runs the subcommand.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let action = Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    let (common, wait) = match &action {
        Action::Grant(Grant { common, wanted, .. }) => (common, wanted.wait),
        Action::Renew(Renew { common, .. })
        | Action::Release(Release { common, .. })
        | Action::Ls(Ls { common, .. }) => (common, Duration::ZERO),
    };
    let mut client = common.nodes.writers()?.within(common.time.timeout + wait);
    let printed = block_on(act(&action, &mut client))?;
    print(printed.as_bytes())
}

/// What to say about a path that is most likely a time to live in seconds, as `etcdctl lease grant 60` has it.
fn of_etcd(path: &str) -> Option<String> {
    let is_number = !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| {
        format!("the lease is on the name {path:?}: for a value that ends use vwatch put --expires {path}s NAME VALUE")
    })
}

async fn act(action: &Action, client: &mut Client) -> Result<String, Failure> {
    match action {
        Action::Grant(args) => {
            let Grant { wanted, request, common } = args;
            wanted.check()?;
            if let Some(line) = of_etcd(&wanted.path) {
                complain(&line);
            }
            let id = request.clone().unwrap_or_else(random_id);
            let target = with_query(&common.within.place().lease_of(&wanted.path), &wanted.parameters(&id));
            let request = Request::setting(Method::PUT, target).waits_until(Instant::now() + wanted.wait);
            let answer = client.send(&request).await?.or_refusal(&wanted.path)?;
            granted(&answer, common, true)
        }
        Action::Renew(Renew { path, token, id, prefix, ttl, common }) => {
            let mut parameters = vec![parameter("token", &token.to_string()), parameter("id", id)];
            parameters.extend(prefix.then(|| parameter("prefix", "true")));
            parameters.extend(ttl.map(|ttl| parameter("ttl", &GoDuration(ttl).to_string())));
            let target = with_query(&common.within.place().lease_of(path), &parameters);
            let answer = client.send(&Request::setting(Method::PUT, target)).await?.or_refusal(path)?;
            granted(&answer, common, false)
        }
        Action::Release(Release { path, token, prefix, common }) => {
            let mut parameters = vec![parameter("token", &token.to_string())];
            parameters.extend(prefix.then(|| parameter("prefix", "true")));
            let target = with_query(&common.within.place().lease_of(path), &parameters);
            client.send(&Request::setting(Method::DELETE, target)).await?.or_refusal(path)?;
            Ok(match common.output.format {
                Format::Simple => String::new(),
                Format::Json => {
                    format!("{}\n", json_escaped(&json!({"path": path, "token": token}).to_string()))
                }
                Format::Table => format!("the lease on {} is released\n", Escaped(path)),
            })
        }
        Action::Ls(Ls { prefix, common }) => {
            let parameters = [parameter("prefix", prefix.as_deref().unwrap_or_default())];
            let request = Request::get(with_query(&common.within.place().leases(), &parameters));
            let list: LeaseList = client.send(&request).await?.or_refusal("lease ls")?.json()?;
            listed(&list, common.output.format)
        }
    }
}

impl Wanted {
    /// # Errors
    /// If the path is empty, as an unset variable of a script is, and not meant as all names.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.path.is_empty() && !self.prefix {
            return Err(Failure::Usage(
                "bad path: it is empty: name at least one byte, or add --prefix for all names".to_owned(),
            ));
        }
        Ok(())
    }

    fn parameters(&self, request: &str) -> Vec<String> {
        let mut parameters = Vec::new();
        parameters.extend(self.prefix.then(|| parameter("prefix", "true")));
        parameters.extend(self.ttl.map(|ttl| parameter("ttl", &GoDuration(ttl).to_string())));
        parameters.extend(self.holder.as_ref().map(|holder| parameter("holder", holder)));
        if let Some(slots) = self.slots {
            parameters.push(parameter("slots", &slots.to_string()));
            parameters.push(parameter("claim", &self.claim.unwrap_or(1).to_string()));
        }
        parameters.push(parameter("request", request));
        parameters
    }
}

/// Reads the time of a lease.
fn ttl(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(ttl) if ttl < Duration::from_secs(1) => Err("it is less than 1s".to_owned()),
        Ok(ttl) => Ok(ttl),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads how long a node is to hold a request.
fn wait(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(wait) if wait > MOST_WAIT => Err("it is more than 10m".to_owned()),
        Ok(wait) => Ok(wait),
        Err(error) => Err(error.to_string()),
    }
}

fn granted(answer: &Answer, common: &Common, is_new: bool) -> Result<String, Failure> {
    let lease: GrantedLease = answer.json()?;
    Ok(match common.output.format {
        Format::Simple if is_new => format!("{}\t{}\n", lease.token, Escaped(&lease.id)),
        Format::Simple => String::new(),
        Format::Json => as_json(&lease)?,
        Format::Table => {
            let expires = GoDuration(Duration::from_millis(lease.expires_in_ms)).to_string();
            let row = [lease.path, lease.holder, lease.token.to_string(), lease.id, expires];
            table(&["PATH", "HOLDER", "TOKEN", "ID", "EXPIRES-IN"], &[row.into()])
        }
    })
}

fn listed(list: &LeaseList, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Simple => list.leases.iter().map(|lease| format!("{}\n", Escaped(&lease.path))).collect(),
        Format::Json => as_json(list)?,
        Format::Table => {
            let cells = |lease: &ListedLease| {
                let slots = match (lease.slots, lease.claim) {
                    (Some(slots), claim) => format!("{}/{slots}", claim.unwrap_or(1)),
                    (None, _) => "-".to_owned(),
                };
                vec![
                    lease.path.clone(),
                    if lease.prefix { "prefix" } else { "name" }.to_owned(),
                    lease.holder.clone(),
                    lease.token.to_string(),
                    rfc3339(lease.token),
                    GoDuration(Duration::from_millis(lease.expires_in_ms)).to_string(),
                    slots,
                    lease.waiting.to_string(),
                ]
            };
            let rows: Vec<_> = list.leases.iter().map(cells).collect();
            let header = ["PATH", "ON", "HOLDER", "TOKEN", "SINCE", "EXPIRES-IN", "SLOTS", "WAITING"];
            table(&header, &rows)
        }
    })
}

fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(format!("{}\n", json_escaped(&json)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    const GRANTED: &str =
        r#"{"path":"a","prefix":false,"holder":"h","id":"5f","token":7,"ttl_ms":10000,"expires_in_ms":9500}"#;

    async fn said(fake: &Fake, line: &str) -> Result<String, Failure> {
        let typed = std::iter::once("lease").chain(line.split_whitespace());
        let matches = command(|command| command).get_matches_from(typed);
        let action = Action::from_arg_matches(&matches).unwrap();
        act(&action, &mut fake.client()).await
    }

    fn sent(fake: &Fake) -> String {
        fake.seen()[0].lines().next().unwrap().replace(" HTTP/1.1", "")
    }

    #[tokio::test]
    async fn a_lease_is_granted_renewed_and_released() {
        for (line, target, output) in [
            ("grant --request r a", "PUT /v1/leases/a?request=r", "7\t5f\n".to_owned()),
            (
                "grant --request r -w json --namespace t --prefix --ttl 30s --holder h --slots 4 a",
                "PUT /v1/ns/t/leases/a?prefix=true&ttl=30s&holder=h&slots=4&claim=1&request=r",
                format!("{GRANTED}\n"),
            ),
            (
                "renew -w table --ttl 20s --prefix a 7 5f",
                "PUT /v1/leases/a?token=7&id=5f&prefix=true&ttl=20s",
                "PATH  HOLDER  TOKEN  ID  EXPIRES-IN\na     h       7      5f  9.5s\n".to_owned(),
            ),
            ("renew a 7 5f", "PUT /v1/leases/a?token=7&id=5f", String::new()),
        ] {
            let fake = Fake::start(vec![answer("200 OK", &[], GRANTED)]);
            assert_eq!(said(&fake, line).await, Ok(output), "{line}");
            assert_eq!(sent(&fake), target);
        }
        let fake = Fake::start(vec![answer("204 No Content", &[], "")]);
        assert_eq!(said(&fake, "release -w table a 7").await.unwrap(), "the lease on a is released\n");
        assert_eq!(sent(&fake), "DELETE /v1/leases/a?token=7");
        let fake = Fake::start(vec![answer("200 OK", &[], GRANTED)]);
        said(&fake, "grant --wait 1m a").await.unwrap();
        let target = sent(&fake);
        assert!(target.contains("&wait=59.9") || target.contains("&wait=1m0s"), "{target}");
        assert_eq!(target.split("request=").nth(1).unwrap().split('&').next().unwrap().len(), 32);
    }

    #[tokio::test]
    async fn leases_are_listed() {
        let json = r#"{"leases":[{"path":"jobs/a","prefix":true,"holder":"h","token":7,"since":"1970-01-01T00:00:00.000007Z","expires_in_ms":1500,"slots":4,"claim":2,"waiting":3},{"path":"jobs/b","prefix":false,"holder":"","token":8,"since":"1970-01-01T00:00:00.000008Z","expires_in_ms":1000,"waiting":0}]}"#;
        for (line, output) in [
            ("ls jobs/", "jobs/a\njobs/b\n".to_owned()),
            ("ls -w json jobs/", format!("{json}\n")),
            (
                "ls -w table jobs/",
                "PATH    ON      HOLDER  TOKEN  SINCE                        EXPIRES-IN  SLOTS  WAITING\n\
                 jobs/a  prefix  h       7      1970-01-01T00:00:00.000007Z  1.5s        2/4    3\n\
                 jobs/b  name            8      1970-01-01T00:00:00.000008Z  1s          -      0\n"
                    .to_owned(),
            ),
        ] {
            let fake = Fake::start(vec![answer("200 OK", &[], json)]);
            assert_eq!(said(&fake, line).await, Ok(output), "{line}");
            assert!(sent(&fake).starts_with("GET /v1/leases?prefix=jobs"), "{}", sent(&fake));
        }
        let fake = Fake::start(vec![answer("200 OK", &[], "<html>")]);
        assert!(matches!(said(&fake, "ls").await, Err(Failure::Failed(_))));
    }

    #[tokio::test]
    async fn what_stands_in_the_way_and_what_is_lost_have_codes() {
        let refused = |status: &str, code: &str| {
            let headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Vwatch-Error", code)];
            Fake::start(vec![answer(status, &headers, "no: x: y\n")])
        };
        let line = || "no: x: y".to_owned();
        let held = said(&refused("409 Conflict", "lease-held"), "grant a").await;
        assert_eq!(held, Err(Failure::Held(line())));
        let lost = said(&refused("410 Gone", "lease-lost"), "renew a 7 5f").await;
        assert_eq!(lost, Err(Failure::LeaseLost(line())));
        assert_eq!((held.unwrap_err().code(), lost.unwrap_err().code()), (76, 75));
        let away = said(&refused("503 Service Unavailable", "no-majority"), "grant a").await;
        assert_eq!(away, Err(Failure::Failed(line())));
        let empty = ["lease", "grant", ""];
        let matches = command(|command| command).get_matches_from(empty);
        let action = Action::from_arg_matches(&matches).unwrap();
        let refusal = act(&action, &mut Fake::start(vec![]).client()).await;
        assert!(matches!(refusal, Err(Failure::Usage(_))), "{refusal:?}");
    }

    #[test]
    fn times_that_no_node_accepts_are_refused() {
        assert!(ttl("999ms").is_err() && ttl("1s").is_ok() && ttl("x").is_err());
        assert!(wait("10m1s").is_err() && wait("10m").is_ok() && wait("0").is_ok());
    }
}
