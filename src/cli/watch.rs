//! `vwatch watch NAME`: prints each change of a name, or of several names and prefixes, or runs a command for it.

mod many;
mod state;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::args;
use super::client::Client;
use super::failure::Failure;
use super::feed::checkpoint::KeptCheckpoint;
use super::feed::printer::FeedPrinter;
use super::feed::{Feed, FeedArgs};
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on, check_name};
use super::outage::Outage;
use super::output::{Data, Format, Output, Row, in_a_line};
use super::runner::Runner;
use super::stop::{Stop, as_any_process};
use crate::client::backoff::Backoff;
use crate::wire::duration;
use state::{Change, WatchState, WatchStep};

/// How long a request about a checkpoint may take.
const CHECKPOINT_TIME: Duration = Duration::from_secs(10);

/// Watch names: print what stands, and each change as it happens
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch watch repo/artifact:latest          VERSION, tab, data: a line a change
  vwatch watch -w json repo/artifact:latest  one JSON object a line
  vwatch watch --version V1 -n 1 NAME        wait for one change from V1 on
  vwatch watch NAME -- ./deploy.sh           run a command at each change
  vwatch watch --prefix repo/ --prefix etc/  all names under prefixes: NAME, tab, VERSION, tab, data
  vwatch watch -w json --since now A B       two names, from now on
  vwatch watch --cursor-file f --prefix ''   every name; the next run goes on where this one ended
  vwatch watch --checkpoint ID --prefix ''   the same, on any machine, and a compaction waits for it
  vwatch watch --prefix repo/ --batch -- ./load.py
                                             a command for each batch of events, as lines of JSON
  vwatch watch --leases --prefix jobs/       changes and leases: PATH, tab, (held), tab, TOKEN, tab, HOLDER

Data that is not one line of printable text is printed as base64: and its base64. A deleted name is the line \
(deleted), without a tab; in JSON it has \"deleted\":true.

A command gets the data on standard input, and VWATCH_NAME, VWATCH_NAMESPACE, VWATCH_VERSION and VWATCH_LAST_SYNC, \
and VWATCH_DELETED=1 for a deleted name. One command runs at a time. If the name changes meanwhile, the command runs again \
for the newest record; records in between are skipped. Each failure is reported. With -n, the exit code is that of \
the first run that failed (128 and the number of the signal that ended it); without -n, the watch continues. A command \
that cannot be started ends the watch, with exit code 126, or 127 if it does not exist.

The command has a process group of its own. SIGINT (Ctrl-C), SIGTERM and SIGHUP end all of the group, and then the \
watch: SIGTERM to the group, SIGKILL after 5s or at another signal. A command that reads from the terminal needs \
--foreground: it stays in the group of the watch, Ctrl-C and Ctrl-Z reach it like any program, and a signal to the \
watch reaches only the command itself. As PID 1 of a container, the watch reaps orphans.

The watch waits for a name that does not exist yet. It continues when nodes stop, restart or cannot be reached, and \
never goes back in time.

With several names, or one of the options of prefixes and cursors, it tells first what stands and then what changes, and \
goes on by a cursor that is good at every node. A change may be told twice after an outage, and none is left out \
silently: standard error says if all begins again, or if versions are missing in --mode all. In JSON these are events \
like changes, and the object of type progress has the cursor for --since. A command runs once for each change, in order.

With --leases it also tells which leases cover the names: first (held) for each, and then (acquired), (released) and \
(expired); a path with a slash at its end is a lease on all names below it. In JSON they are events with the fields of \
'vwatch lease ls'. They have no cursor: at the next node they begin again with what is held, behind an event \
leases-reset, or a line on standard error.

With --batch it runs once for all events that the node sent together, with these lines of JSON on standard input, and \
VWATCH_CURSOR is the cursor after them. The cursor of --cursor-file and --checkpoint is written after the command has \
succeeded for all events before it: after a failure it stays, the watch continues, and the next run tells the rest again.")]
pub(super) struct Watch {
    /// The name to watch, without any change, or several
    #[arg(required_unless_present = "prefix")]
    name: Vec<String>,
    /// Of one name: begin with the first change after this version, and not with the present record
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["prefix", "since", "mode", "types", "cursor_file", "checkpoint", "batch"])]
    version: Option<String>,
    /// End after this many changes
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = args::count)]
    count: Option<u64>,
    /// How long one request waits at the node before the next one; of many names, how long a node may be silent: it is
    /// left some seconds later
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = poll_timeout)]
    timeout: Duration,
    /// A command to run at each change, behind --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Keep the command in the foreground of the terminal, so that it can read from there; its own children are then
    /// not ended with it
    #[arg(long, requires = "command")]
    foreground: bool,
    /// Run the command once for all events of one write of the node, with them as lines of JSON on standard input
    #[arg(long, requires = "command")]
    batch: bool,
    #[command(flatten)]
    feed: FeedArgs,
    /// Print what happens to leases on the names, too: those that are held, and then each that is acquired, released or
    /// has expired
    #[arg(long, conflicts_with_all = ["command", "version"])]
    leases: bool,
    /// Keep the cursor in this checkpoint at the nodes: begin after it if it is there, and write it after what was
    /// told, every 10s at most, and at the end. A compaction waits for it
    #[arg(long, value_name = "ID", conflicts_with = "cursor_file")]
    checkpoint: Option<String>,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// Reads how long a node may hold a request, or be silent.
pub(super) fn poll_timeout(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(duration) if duration < Duration::from_secs(1) => Err("it is less than 1s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn run(args: &Watch) -> Result<(), Failure> {
    let [name] = &*args.name else { return run_many(args) };
    if args.feed.is_given() || args.checkpoint.is_some() || args.batch || args.leases {
        return run_many(args);
    }
    check_name(name)?;
    let mut client = args.nodes.readers(None)?;
    block_on(async {
        if args.command.is_empty() {
            as_any_process()?;
            let mut printer =
                Printer { format: args.output.format, out: std::io::stdout(), has_header: false };
            follow(name, args, &mut client, &mut Stop::with_the_reader(), &mut Teller::Print(&mut printer))
                .await
        } else {
            let mut runner = runner(args);
            follow(
                name,
                args,
                &mut client,
                &mut Stop::with_children()?,
                &mut Teller::<std::io::Stdout>::Run(&mut runner),
            )
            .await
        }
    })
}

fn runner(args: &Watch) -> Runner<'_> {
    Runner::new(&args.command, args.foreground, args.within.namespace.as_str(), "watching")
}

/// Watches by the cursor of a feed.
fn run_many(args: &Watch) -> Result<(), Failure> {
    if args.version.is_some() {
        return Err(Failure::Usage("--version: it is for one name: begin with --since instead".into()));
    }
    let mut feed = Feed::new(&args.name, &args.feed, &args.within)?.with_leases(args.leases);
    let mut client = args.nodes.readers(None)?;
    let checkpoint = match &args.checkpoint {
        Some(id) => {
            let writers = args.nodes.writers()?.within(CHECKPOINT_TIME);
            Some(KeptCheckpoint::new(writers, id, &args.within))
        }
        None => None,
    };
    block_on(async {
        if let Some(checkpoint) = checkpoint {
            feed.keep_in(checkpoint).await?;
        }
        if args.command.is_empty() {
            let mut stop = match feed.is_kept() {
                // a signal ends it after a last write of the cursor
                true => Stop::with_the_reader_and_signals()?,
                false => {
                    as_any_process()?;
                    Stop::with_the_reader()
                }
            };
            let out = BufWriter::new(std::io::stdout());
            let mut printer = FeedPrinter::new(args.output.format, out);
            let mut teller = many::Teller::Print(&mut printer);
            many::follow(args, &mut feed, &mut client, &mut stop, &mut teller).await
        } else {
            let mut runner = runner(args);
            let mut teller = match args.batch {
                true => many::Teller::<std::io::Stdout>::RunBatches(&mut runner),
                false => many::Teller::Run(&mut runner),
            };
            many::follow(args, &mut feed, &mut client, &mut Stop::with_children()?, &mut teller).await
        }
    })
}

/// Requests the name again and again, and reports each change. Ends after the count, or at a permanent error.
async fn follow<W: Write>(
    name: &str,
    args: &Watch,
    client: &mut Client,
    stop: &mut Stop,
    teller: &mut Teller<'_, W>,
) -> Result<(), Failure> {
    let mut state =
        WatchState::new(&args.within.place().path_of(name), name, args.version.as_deref(), args.timeout);
    let mut backoff = Backoff::default();
    let mut outage = Outage::default();
    let mut left = args.count;
    loop {
        let asked_at = Instant::now();
        let step = match stop.unless(client.send(&state.question())).await? {
            Ok(answer) => state.absorb(&answer)?,
            Err(Failure::Failed(line)) => WatchStep::Later { why: line, retry_after: None },
            Err(failure) => return Err(failure),
        };
        match step {
            WatchStep::News(change) => {
                outage.ends();
                backoff.reset();
                left = left.map(|count| count - 1);
                let is_last = left == Some(0);
                teller.tell(&change, is_last, stop).await?;
                if is_last {
                    return teller.outcome();
                }
            }
            WatchStep::AskOtherwise => outage.ends(),
            WatchStep::Nothing => {
                outage.ends();
                // only a node that is stopping or cannot park answers in less than half of the time
                if asked_at.elapsed() < args.timeout / 2 {
                    client.move_on();
                    stop.unless(tokio::time::sleep(backoff.next(None))).await?;
                } else {
                    backoff.reset();
                }
            }
            WatchStep::Later { why, retry_after } => {
                outage.begins(&why);
                client.move_on();
                stop.unless(tokio::time::sleep(backoff.next(retry_after))).await?;
            }
        }
    }
}

/// The receiver of changes.
enum Teller<'a, W> {
    Print(&'a mut Printer<W>),
    Run(&'a mut Runner<'a>),
}

impl<W: Write> Teller<'_, W> {
    async fn tell(&mut self, change: &Change, is_last: bool, stop: &mut Stop) -> Result<(), Failure> {
        match self {
            Self::Print(printer) => printer.print(change),
            Self::Run(runner) => runner.run(&change.input(), is_last, stop).await.map(drop),
        }
    }

    /// The result after the last change.
    fn outcome(&self) -> Result<(), Failure> {
        match self {
            Self::Run(runner) => runner.outcome(),
            Self::Print(_) => Ok(()),
        }
    }
}

struct Printer<W> {
    format: Format,
    out: W,
    has_header: bool,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, change: &Change) -> Result<(), Failure> {
        let row = Row {
            name: change.name.clone(),
            version: change.version.clone().unwrap_or_default(),
            data: if change.version.is_some() { Data::Bytes(change.data.to_vec()) } else { Data::None },
            last_sync: change.last_sync,
            expires: None,
            deleted: change.version.is_none(),
        };
        match self.format {
            Format::Json => writeln!(self.out, "{}", row.json())?,
            Format::Simple if row.deleted => writeln!(self.out, "(deleted)")?,
            Format::Simple => writeln!(self.out, "{}\t{}", row.shown_version(), in_a_line(row.data.bytes()))?,
            Format::Table => {
                // wide enough for a hash: a later row cannot widen printed columns
                if !self.has_header {
                    writeln!(self.out, "{:37}  {:27}  DATA", "VERSION", "LAST-SYNC")?;
                    self.has_header = true;
                }
                let (version, last_sync) = (row.shown_version(), row.shown_last_sync());
                let line = format!("{version:37}  {last_sync:27}  {}", in_a_line(row.data.bytes()));
                writeln!(self.out, "{}", line.trim_end())?;
            }
        }
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::testing::{Fake, answer};
    use super::*;

    fn args(line: &str) -> Watch {
        let typed = std::iter::once("watch").chain(line.split_whitespace());
        Watch::from_arg_matches(&Watch::augment_args(Command::new("watch")).get_matches_from(typed)).unwrap()
    }

    fn value(version: &str, last_sync: &str, data: &str) -> String {
        let tag = format!("\"{version}\"");
        answer("200 OK", &[("ETag", &tag), ("X-Last-Sync", last_sync)], data)
    }

    async fn watched(fake: &Fake, line: &str) -> Result<String, Failure> {
        let args = args(line);
        let mut printer = Printer { format: args.output.format, out: Vec::new(), has_header: false };
        let done =
            follow("n", &args, &mut fake.client(), &mut Stop::default(), &mut Teller::Print(&mut printer))
                .await;
        done.map(|()| String::from_utf8(printer.out).unwrap())
    }

    fn first_lines(fake: &Fake) -> Vec<String> {
        let line = |request: &String| request.lines().next().unwrap().replace(" HTTP/1.1", "");
        fake.seen().iter().map(line).collect()
    }

    #[tokio::test]
    async fn each_change_is_one_line() {
        let fake = Fake::start(vec![value("a", "1", "x"), value("b", "2", "y\nz"), value("c", "3", "")]);
        assert_eq!(watched(&fake, "-n 3 n").await.unwrap(), "a\tx\nb\tbase64:eQp6\nc\t\n");
        assert_eq!(
            first_lines(&fake),
            [
                "GET /v1/versions/n",
                "GET /v1/versions/n?version=a&timeout=30s",
                "GET /v1/versions/n?version=b&timeout=30s"
            ]
        );
        assert!(fake.seen()[2].contains("\r\nx-last-sync: 2\r\n"));
    }

    #[tokio::test]
    async fn outages_and_answers_without_news_are_no_changes() {
        let fake = Fake::start(vec![
            value("a", "1", "x"),
            answer("503 Service Unavailable", &[("Retry-After", "0")], "stopping\n"),
            String::new(),
            value("a", "1", "x"),
            answer("409 Conflict", &[("X-Last-Sync", "0")], "behind\n"),
            answer("410 Gone", &[("X-Last-Sync", "2")], "deleted\n"),
            answer("410 Gone", &[("X-Last-Sync", "2")], "deleted\n"),
            value("a", "3", "x"),
        ]);
        assert_eq!(watched(&fake, "-n 3 n").await.unwrap(), "a\tx\n(deleted)\na\tx\n");
    }

    #[tokio::test]
    async fn a_page_is_no_change() {
        let page = |status| answer(status, &[("ETag", "\"p\""), ("Content-Type", "text/html")], "<html>");
        let fake = Fake::start(vec![page("200 OK"), page("404 Not Found"), value("a", "1", "x")]);
        assert_eq!(watched(&fake, "-n 1 n").await.unwrap(), "a\tx\n");
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_waited_for() {
        let fake = Fake::start(vec![answer("404 Not Found", &[], "no such name\n"), value("a", "1", "x")]);
        let json = watched(&fake, "-w json -n 1 n").await.unwrap();
        assert_eq!(
            json,
            "{\"name\":\"n\",\"version\":\"a\",\"data\":\"eA==\",\"last_sync\":\"1970-01-01T00:00:00.000001Z\",\
             \"last-sync\":\"1970-01-01T00:00:00.000001Z\"}\n"
        );
        assert_eq!(first_lines(&fake)[1], "GET /v1/versions/n?version=&timeout=30s");
    }

    #[tokio::test]
    async fn a_given_version_is_not_reported() {
        let fake = Fake::start(vec![value("a", "1", "x"), value("b", "2", "y")]);
        assert_eq!(watched(&fake, "--version a -n 1 n").await.unwrap(), "b\ty\n");
        assert_eq!(first_lines(&fake)[0], "GET /v1/versions/n?version=a&timeout=30s");
    }

    #[tokio::test]
    async fn a_refusal_that_will_not_go_away_ends_it() {
        let fake = Fake::start(vec![answer("400 Bad Request", &[], "bad name: it is odd\n")]);
        assert_eq!(watched(&fake, "n").await, Err(Failure::Failed("bad name: it is odd".to_owned())));
    }
}
