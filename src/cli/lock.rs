//! `vwatch lock PATH -- COMMAND`: runs a command while a lease is held.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep, timeout};

use super::failure::{Failure, LEASE_LOST, complain};
use super::lease::Wanted;
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::runner::Attached;
use super::stop::Stop;
use super::under_lease::{ID, NAMESPACE, PATH, PREFIX, TOKEN};
use crate::client::{BuildError, Client, Error, LeaseGuard};
use crate::wire::duration;

/// The command is killed while so much of the ttl is left, so that it has ended before the deadline.
const KILL_SHARE: u32 = 20;
/// Without a renewal the command is ended while so much of the ttl is left.
const END_SHARE: u32 = 3;
/// How often the time to kill the command is looked at: the machine may sleep meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Run a command while a lease is held
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch lock jobs/nightly -- ./nightly.sh             on one machine at a time: fails if it runs elsewhere
  vwatch lock --wait 5m jobs/nightly -- ./nightly.sh   waits for its turn, up to 5 minutes
  vwatch lock --prefix app/config -- ./migrate.sh      nothing else writes app/config and what is below it
  vwatch lock --slots 3 --wait 1m builds -- make       at most three at a time

The lease is acquired, renewed while the command runs, and released when it ends. The exit code is that of the command \
(128 and the number of the signal that ended it). Another lease stands in the way: exit code 76, and nothing was run. The \
lease was lost: exit code 75, whatever the command returned. It cannot be acquired, since too few nodes answer: 1. The \
command cannot be started: 126, or 127 if it does not exist.

The command has VWATCH_LEASE_TOKEN, VWATCH_LEASE_ID, VWATCH_LEASE_PATH and VWATCH_LEASE_NAMESPACE, VWATCH_LEASE_PREFIX=1 \
with --prefix, and VWATCH_NAMESPACE. 'vwatch put', 'del', 'revert' and 'event put' in it write under the lease without \
an option, where it may cover the name.

The lease counts as lost when a node says so, or when a third of its ttl is left and no node has renewed it. Then one \
line on standard error says why, and the command gets SIGTERM. It gets SIGKILL after --kill-after, and before the lease \
ends in any case, so that the next holder does not meet it. It is renewed meanwhile if that works.

SIGINT, SIGTERM and SIGHUP are passed on, and the lease is held until the command has ended. The command has a process \
group of its own, which gets the signals. One that reads from the terminal needs --foreground: it stays in the group of \
this process, Ctrl-C reaches it directly, and other signals reach only the command itself. What the command leaves in the \
background is not waited for. If this process is killed with SIGKILL, the command goes on, and the lease ends after its \
ttl: writes under it fail then.")]
pub(super) struct Lock {
    #[command(flatten)]
    wanted: Wanted,
    /// The command to run, behind --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// How long the command has to end after SIGTERM when the lease is lost, if the lease lasts as long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    kill_after: Duration,
    /// Keep the command in the foreground of the terminal, so that it can read from there
    #[arg(long)]
    foreground: bool,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Lock) -> Result<(), Failure> {
    args.wanted.check()?;
    let urls = args.nodes.writer_urls(false)?;
    block_on(async {
        let usage = |error: BuildError| Failure::Usage(error.to_string());
        let urls = urls.iter().map(ToString::to_string);
        let credentials = &args.nodes.credentials;
        let builder = Client::builder().servers(urls).trust(credentials.trust()?).timeout(args.time.timeout);
        let builder = match credentials.secret()? {
            Some(secret) => builder.token(secret),
            None => builder,
        };
        let client = builder.build().map_err(usage)?;
        let client = match args.within.namespace.is_plain() {
            true => client,
            false => client.namespace(args.within.namespace.as_str()).map_err(usage)?,
        };
        hold(args, &client, &mut Stop::with_children()?).await
    })
}

/// Acquires the lease, runs the command, and releases the lease.
async fn hold(args: &Lock, client: &Client, stop: &mut Stop) -> Result<(), Failure> {
    let wanted = &args.wanted;
    let mut request = client.lease(&wanted.path).wait(wanted.wait);
    if let Some(ttl) = wanted.ttl {
        request = request.ttl(ttl);
    }
    if wanted.prefix {
        request = request.prefix();
    }
    if let Some(holder) = &wanted.holder {
        request = request.holder(holder);
    }
    if let Some(slots) = wanted.slots {
        request = request.slots(slots, wanted.claim.unwrap_or(1));
    }
    let lease = stop.unless(request.acquire()).await?.map_err(|error| not_acquired(&wanted.path, error))?;
    let variables = variables(args, &lease);
    let command = Attached::start(&args.command, args.foreground, variables, stop.owns_children());
    let mut command = match command {
        Ok(command) => command,
        Err(failure) => return released(&wanted.path, lease, stop).await.and(Err(failure)),
    };
    match watch_over(args, &lease, &mut command, stop).await? {
        End::Code(code) => {
            released(&wanted.path, lease, stop).await?;
            if code == 0 { Ok(()) } else { Err(Failure::Command { code, line: None }) }
        }
        End::Lost => {
            // what is left of it is of no use here, and others may wait for it
            let left = lease.promised();
            let _ = timeout(left, stop.unless(lease.release())).await;
            Err(Failure::Told(LEASE_LOST))
        }
    }
}

/// How it ended.
enum End {
    /// The command ended by itself, with this exit code.
    Code(u8),
    /// The lease was lost, and the command was ended. A line is printed.
    Lost,
}

/// Waits for the end of the command, and ends it if the lease is lost.
async fn watch_over(
    args: &Lock,
    lease: &LeaseGuard,
    command: &mut Attached<'_>,
    stop: &mut Stop,
) -> Result<End, Failure> {
    // one that is stopped renews no lease; in the foreground Ctrl-Z stops the command too
    let _unstoppable = (!args.foreground).then(|| unix::signal(SignalKind::from_raw(Signal::TSTP.as_raw())));
    let loss = loop {
        tokio::select! {
            biased;
            code = command.wait() => return code.map(End::Code),
            loss = lease.lost_within(lease.ttl() / END_SHARE) => break loss,
            which = stop.signal() => command.pass(which),
        }
    };
    complain(&format!("{}: the lease is lost, so its command is ended: {loss}", args.wanted.path));
    let killed_at = Instant::now() + args.kill_after;
    let is_time_up = async {
        loop {
            let of_lease = lease.promised().saturating_sub(lease.ttl() / KILL_SHARE);
            let left = of_lease.min(killed_at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            sleep(left.min(LOOK)).await;
        }
    };
    let late = async {
        tokio::select! {
            () = is_time_up => {}
            _ = stop.signal() => {}
        }
    };
    command.end_unless(late).await;
    Ok(End::Lost)
}

/// Releases the lease after its command has ended. Reports it if that does not work.
///
/// # Errors
/// If the lease was lost before.
async fn released(path: &str, lease: LeaseGuard, stop: &mut Stop) -> Result<(), Failure> {
    match stop.unless(lease.release()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Error::LeaseLost { message })) => Err(Failure::LeaseLost(format!(
            "{path}: the lease was lost before its command had ended: {message}"
        ))),
        Ok(Err(error)) => {
            complain(&format!(
                "{path}: the lease is not released, and ends by itself after its ttl: {error}"
            ));
            Ok(())
        }
        Err(_) => {
            complain(&format!("{path}: the lease is not released, and ends by itself after its ttl"));
            Ok(())
        }
    }
}

fn variables(args: &Lock, lease: &LeaseGuard) -> Vec<(&'static str, String)> {
    let namespace = args.within.namespace.as_str().to_owned();
    vec![
        (TOKEN, lease.token().to_string()),
        (ID, lease.id().to_owned()),
        (PATH, args.wanted.path.clone()),
        // empty is as unset, also where this command is run by another one
        (PREFIX, if args.wanted.prefix { "1" } else { "" }.to_owned()),
        (NAMESPACE, namespace.clone()),
        ("VWATCH_NAMESPACE", namespace),
    ]
}

/// The failure of a request for a lease.
fn not_acquired(path: &str, error: Error) -> Failure {
    match error {
        Error::LeaseHeld { message, .. } => Failure::Held(message),
        Error::LeaseLost { message } => Failure::LeaseLost(format!("{path}: {message}: nothing was run")),
        Error::Unsendable { message } => Failure::Usage(format!("HTTP cannot carry the request: {message}")),
        Error::Unavailable { message, .. } => {
            Failure::Failed(format!("{path}: {message}: nothing was run: --server-url names other nodes"))
        }
        error => Failure::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use clap::{Command, FromArgMatches};

    use super::*;
    use crate::client::testing::{Folder, Node, answer, in_one_of_five};

    fn args(line: &str, script: &str) -> Lock {
        let typed = std::iter::once("lock").chain(line.split_whitespace()).chain(["--", "sh", "-c", script]);
        Lock::from_arg_matches(&Lock::augment_args(Command::new("lock")).get_matches_from(typed)).unwrap()
    }

    fn client(node: &Node) -> Client {
        Client::builder().servers([node.url()]).timeout(Duration::from_secs(3)).build().unwrap()
    }

    fn granted(ttl_ms: u64) -> String {
        let json = format!(
            r#"{{"path":"jobs/n","prefix":true,"holder":"h","id":"5f","token":7,"ttl_ms":{ttl_ms},"expires_in_ms":{ttl_ms}}}"#
        );
        answer("200 OK", &[], &json)
    }

    fn is_renewal(request: &str) -> bool {
        request.starts_with("PUT ") && request.contains("token=")
    }

    /// A node that grants a lease of this ttl, and answers each renewal with `renewed`.
    fn node(ttl_ms: u64, renewed: impl Fn() -> Option<String> + Send + 'static) -> Node {
        Node::start(move |request| match request {
            _ if request.starts_with("DELETE ") => Some(answer("204 No Content", &[], "")),
            _ if is_renewal(request) => renewed(),
            _ => Some(granted(ttl_ms)),
        })
    }

    async fn locked(node: &Node, line: &str, script: &str) -> Result<(), Failure> {
        hold(&args(line, script), &client(node), &mut Stop::default()).await
    }

    fn releases(node: &Node) -> usize {
        node.seen().iter().filter(|request| request.starts_with("DELETE ")).count()
    }

    fn in_folder(folder: &Folder, name: &str) -> PathBuf {
        folder.path().join(name)
    }

    /// The time of the file system.
    fn touched(folder: &Folder) -> std::time::SystemTime {
        let file = in_folder(folder, "begin");
        fs::write(&file, "").unwrap();
        changed(&file)
    }

    fn changed(file: &std::path::Path) -> std::time::SystemTime {
        fs::metadata(file).unwrap().modified().unwrap()
    }

    #[tokio::test]
    async fn a_command_runs_under_the_lease_and_its_code_is_returned() {
        let folder = Folder::new();
        let out = in_folder(&folder, "out");
        let script = |end: &str| format!("env | grep ^VWATCH_ | sort > '{}'; {end}", out.display());
        let node = node(10_000, || None);
        let line = "--prefix --holder h --namespace team jobs/n";
        assert_eq!(locked(&node, line, &script("exit 0")).await, Ok(()));
        let variables = fs::read_to_string(&out).unwrap();
        for variable in [
            "VWATCH_LEASE_TOKEN=7",
            "VWATCH_LEASE_ID=5f",
            "VWATCH_LEASE_PATH=jobs/n",
            "VWATCH_LEASE_PREFIX=1",
            "VWATCH_LEASE_NAMESPACE=team",
            "VWATCH_NAMESPACE=team",
        ] {
            assert!(variables.lines().any(|line| line == variable), "{variable} is not in {variables}");
        }
        assert!(node.has(0, "PUT /v1/leases/jobs/n?prefix=true&holder=h&request="));
        assert!(node.has(1, "DELETE /v1/leases/jobs/n?prefix=true&token=7&id=5f "), "{:?}", node.seen());
        for (end, code) in [("exit 9", 9), ("kill -TERM $$", 143)] {
            let ended = locked(&node, "--slots 3 jobs/n", &script(end)).await;
            assert_eq!(ended, Err(Failure::Command { code, line: None }));
        }
        assert!(node.has(2, "?slots=3&claim=1&request="), "{:?}", node.seen());
        assert!(fs::read_to_string(&out).unwrap().contains("VWATCH_LEASE_PREFIX=\n"));
        assert_eq!(releases(&node), 3);
    }

    #[tokio::test]
    async fn a_lease_that_is_not_granted_runs_nothing() {
        let folder = Folder::new();
        let out = in_folder(&folder, "out");
        let script = format!("touch '{}'", out.display());
        for (status, code, expected) in [
            ("409 Conflict", "lease-held", Failure::Held("no: b: wait".to_owned())),
            ("400 Bad Request", "bad-parameter", Failure::Failed("no: b: wait".to_owned())),
        ] {
            let headers = [("X-Vwatch-Error", code), ("Retry-After", "7")];
            let node = Node::with(vec![answer(status, &headers, "no: b: wait\n")]);
            assert_eq!(locked(&node, "jobs/n", &script).await, Err(expected));
        }
        let node = Node::start(|_| {
            Some(answer("503 Service Unavailable", &[("X-Vwatch-Error", "no-majority")], "too few\n"))
        });
        let away = locked(&node, "jobs/n", &script).await;
        assert!(matches!(&away, Err(Failure::Failed(line)) if line.contains("too few")), "{away:?}");
        assert!(!out.exists());
    }

    #[tokio::test]
    async fn a_lease_is_renewed_as_long_as_the_command_runs() {
        in_one_of_five(|| async {
            let node = node(600, || Some(granted(600)));
            assert_eq!(locked(&node, "jobs/n", "sleep 1.5").await, Ok(()));
            let renewals = node.seen().iter().filter(|request| is_renewal(request)).count();
            assert!((5..=8).contains(&renewals), "{renewals}");
            assert_eq!(releases(&node), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn the_command_ends_before_a_lease_that_no_node_renews() {
        in_one_of_five(|| async {
            let folder = Folder::new();
            let out = in_folder(&folder, "out");
            // it ends at SIGTERM, and says so
            let script = format!(
                "trap 'echo term > \"{}\"; exit 0' TERM; while :; do sleep 0.05; done",
                out.display()
            );
            let node = node(1_500, || None);
            let began = touched(&folder);
            assert_eq!(locked(&node, "jobs/n", &script).await, Err(Failure::Told(LEASE_LOST)));
            let lasted = changed(&out).duration_since(began).unwrap();
            // while a third of 1.5 s is left
            assert!(
                lasted >= Duration::from_millis(950) && lasted < Duration::from_millis(1_350),
                "{lasted:?}"
            );
            assert_eq!(fs::read_to_string(&out).unwrap(), "term\n");
        })
        .await;
    }

    #[tokio::test]
    async fn a_command_that_ignores_sigterm_is_killed_before_the_deadline() {
        in_one_of_five(|| async {
            for (line, least, most) in [("jobs/n", 1_350, 1_500), ("--kill-after 100ms jobs/n", 1_050, 1_350)]
            {
                let node = node(1_500, || None);
                let folder = Folder::new();
                let out = in_folder(&folder, "out");
                let script =
                    format!("trap '' TERM; while :; do echo >> '{}'; sleep 0.02; done", out.display());
                let began = touched(&folder);
                assert_eq!(locked(&node, line, &script).await, Err(Failure::Told(LEASE_LOST)));
                let lasted = changed(&out).duration_since(began).unwrap();
                let expected = Duration::from_millis(least)..Duration::from_millis(most);
                assert!(expected.contains(&lasted), "{line}: {lasted:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_lease_that_is_refused_ends_the_command_at_once() {
        in_one_of_five(|| async {
            let lost = || Some(answer("410 Gone", &[("X-Vwatch-Error", "lease-lost")], "lost: it expired\n"));
            let node = node(3_000, lost);
            let began = Instant::now();
            assert_eq!(locked(&node, "jobs/n", "exec sleep 20").await, Err(Failure::Told(LEASE_LOST)));
            let lasted = began.elapsed();
            assert!(
                lasted >= Duration::from_millis(950) && lasted < Duration::from_millis(2_000),
                "{lasted:?}"
            );
            assert_eq!(releases(&node), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_loss_that_shows_at_the_release_is_told() {
        let node = Node::start(|request| {
            Some(match request.starts_with("DELETE ") {
                true => answer("409 Conflict", &[("X-Vwatch-Error", "lease-held")], "held by b\n"),
                false => granted(10_000),
            })
        });
        let lost = locked(&node, "jobs/n", "exit 0").await;
        assert!(matches!(&lost, Err(Failure::LeaseLost(line)) if line.ends_with("held by b")), "{lost:?}");
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_releases_the_lease() {
        let node = node(10_000, || None);
        let mut args = args("jobs/n", "");
        args.command = vec!["/nonexistent/command".into()];
        let failure = hold(&args, &client(&node), &mut Stop::default()).await.unwrap_err();
        assert!(matches!(failure, Failure::Command { code: 127, line: Some(_) }), "{failure:?}");
        assert_eq!(releases(&node), 1);
    }

    #[test]
    fn the_command_line_is_checked() {
        let matches = |line: &str| {
            Lock::augment_args(Command::new("lock"))
                .try_get_matches_from(std::iter::once("lock").chain(line.split_whitespace()))
        };
        for line in ["jobs/n", "jobs/n --", "--ttl 10ms a -- b", "--claim 2 a -- b", "--slots 0 a -- b"] {
            assert!(matches(line).is_err(), "{line}");
        }
        assert!(matches("a -- b -c --ttl").is_ok());
    }
}
