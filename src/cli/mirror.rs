//! `vwatch mirror PREFIX DIR`: a file for each name, for programs that read files.

mod entry;
mod folder;
mod path;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::failure::{Failure, complain};
use super::feed::follower::Follower;
use super::feed::printer::NameChange;
use super::feed::{Feed, FeedArgs, ReceivedBatch};
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on};
use super::runner::{RunInput, Runner};
use super::stop::Stop;
use folder::Folder;

/// The file with the cursor after all that is on disk.
const CURSOR: &str = ".vwatch-cursor";

/// The file that says what the directory is a mirror of.
const SCOPE: &str = ".vwatch-mirror";

/// Most changes that are put in their places together, and those of one write of the node more.
const MAX_CHANGES: usize = 4096;

/// Most bytes of their data.
const MAX_CHANGE_BYTES: usize = 16 << 20;

/// Most names whose revisions are remembered. Beyond it, half of them with the oldest revisions are forgotten.
const MAX_REVISIONS: usize = 100_000;

/// Changes that come within this time of each other are one batch.
const GATHER: Duration = Duration::from_millis(5);

/// Longest time for which they are.
const GATHER_IN_ALL: Duration = Duration::from_millis(100);

/// The cursor is written at most this often.
const CURSOR_PAUSE: Duration = Duration::from_millis(100);

/// Keep a file for each name under a prefix, as the names change
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch mirror routes/ /var/lib/routes          a file for each name that begins with routes/
  vwatch mirror '' /var/lib/all                  every name
  vwatch mirror routes/ DIR --exec nginx -s reload
                                                 a command after each batch of changes

The part of PREFIX up to its last slash is left out: routes/a/b is the file a/b in DIR. A file has the data of its \
name. It is replaced in one step, so that its readers see the old data or the new data, and it is removed when the \
name is deleted. DIR has to be empty or missing at the first run, and belongs to the mirror from then on.

The next run goes on from what is there: DIR has the cursor, in .vwatch-cursor. While no node can be reached the \
files stay as they are. If a node cannot tell what was deleted since the cursor, all that stands is told again, and \
files of other names are removed once that is complete, and not before.

The command of --exec takes all arguments behind it. It gets a line for each change on standard input: put or delete, \
tab, and the path in DIR; and VWATCH_DIR and VWATCH_NAMESPACE. It runs when the files are in their places, and for \
the first time when all that stands is there. One command runs at a time. A failure is reported, and the mirror \
continues; if no later run succeeds, the next start of the mirror runs it again. Signals end the command and the \
mirror as 'vwatch watch --help' says.

A name that cannot be a path is encoded, and no path leads out of DIR: % and control characters are % and two hex \
digits; so is the first dot of '.', '..' and of what begins with .vwatch between two slashes; nothing between two \
slashes is %; over 240 bytes are directories that end with %+; and of the names a and a/b the second one is a%/b.")]
pub(super) struct Mirror {
    /// The names that begin with this; '' is every name
    prefix: String,
    /// The directory of the files
    dir: PathBuf,
    /// How long a node may be silent: it is left some seconds later
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::watch::poll_timeout)]
    timeout: Duration,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    nodes: Nodes,
    /// A command to run after each batch of changes, with its arguments: the last option
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,
}

pub(super) fn run(args: &Mirror) -> Result<(), Failure> {
    let mut folder = Folder::open(&args.dir)?;
    claim(args, &mut folder)?;
    // also removes what an earlier run has left
    let known = folder.names()?.len();
    let cursor = read_cursor(&folder, known)?;
    let arguments = FeedArgs { prefix: vec![args.prefix.clone()], since: cursor, ..FeedArgs::default() };
    let mut feed = Feed::new(&[], &arguments, &args.within)?.of_copy();
    let mut client = args.nodes.readers(None)?;
    let base = args.prefix.rfind('/').map_or("", |slash| &args.prefix[..=slash]);
    let runner = (!args.exec.is_empty())
        .then(|| Runner::new(&args.exec, false, args.within.namespace.as_str(), "the mirror"));
    let dir = args.dir.display().to_string();
    let mut mirror = MirrorState {
        folder,
        base,
        dir,
        runner,
        revisions: HashMap::new(),
        seen: None,
        is_done: true,
        pending: None,
        free_at: Instant::now(),
    };
    block_on(async {
        let mut stop = if mirror.runner.is_some() { Stop::with_children()? } else { Stop::by_signals()? };
        let outcome = mirror.follow(args.timeout, &mut feed, &mut client, &mut stop).await;
        match outcome {
            // what is on disk needs not be told again
            Err(Failure::Signal(_)) => mirror.keep_cursor().and(outcome),
            outcome => outcome,
        }
    })
}

/// Makes sure that the directory is a mirror of these names, so that no other files are taken for names.
fn claim(args: &Mirror, folder: &mut Folder) -> Result<(), Failure> {
    let scope = json!({"namespace": args.within.namespace.as_str(), "prefix": args.prefix}).to_string();
    let shown = args.dir.display();
    match folder.read_own(SCOPE)? {
        Some(held) if held.trim() == scope => Ok(()),
        Some(held) => Err(Failure::Usage(format!(
            "{shown} is a mirror of other names: {}: got {scope}: name another directory",
            held.trim()
        ))),
        None if folder.is_unused()? => {
            // a first run may have been killed before it could say so
            folder.names()?;
            folder.write_own(SCOPE, &format!("{scope}\n"))
        }
        None => Err(Failure::Usage(format!(
            "{shown} is not empty and no mirror, and a mirror removes files: name another directory"
        ))),
    }
}

/// The cursor after what is on disk; `None` to begin again.
fn read_cursor(folder: &Folder, known: usize) -> Result<Option<String>, Failure> {
    let cursor = folder.read_own(CURSOR)?.map(|text| text.trim().to_owned());
    let is_usable = cursor.as_ref().is_some_and(|cursor| cursor.starts_with("c1."));
    if !is_usable && known > 0 {
        complain("the mirror has files and no cursor: beginning again with all that stands");
    }
    Ok(cursor.filter(|_| is_usable))
}

/// A mirror at work.
struct MirrorState<'a> {
    folder: Folder,
    /// The part of all names that the paths leave out.
    base: &'a str,
    dir: String,
    runner: Option<Runner<'a>>,
    /// The revisions of names that were told in this run: a node may tell an older state before it has the newer one.
    revisions: HashMap<String, u64>,
    /// The names of a snapshot that is not complete. No cursor is kept meanwhile: only this process knows them.
    seen: Option<HashSet<String>>,
    /// The last run of the command has succeeded.
    is_done: bool,
    /// The cursor that is to be written.
    pending: Option<String>,
    /// When it may be.
    free_at: Instant,
}

/// Changes that are put in their places together: the data of each name, `None` for a delete.
#[derive(Default)]
struct Changes {
    of: BTreeMap<String, Option<Vec<u8>>>,
    bytes: usize,
    /// The snapshot is complete: files of other names than these are to be removed.
    complete: Option<HashSet<String>>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.of.is_empty() && self.complete.is_none()
    }

    fn is_full(&self) -> bool {
        self.of.len() >= MAX_CHANGES || self.bytes >= MAX_CHANGE_BYTES || self.complete.is_some()
    }
}

impl MirrorState<'_> {
    async fn follow(
        &mut self,
        silence: Duration,
        feed: &mut Feed,
        client: &mut Client,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let mut follower = Follower::new(silence);
        loop {
            let next = follower.next(feed, client, stop, None);
            let first = match self.pending {
                Some(_) => timeout_at(self.free_at, next).await,
                None => Ok(next.await),
            };
            let Ok(first) = first else {
                self.keep_cursor()?;
                continue;
            };
            let mut changes = Changes::default();
            self.take(first?, feed, &mut changes);
            let until = Instant::now() + GATHER_IN_ALL;
            while !changes.is_empty() && !changes.is_full() {
                let until = until.min(Instant::now() + GATHER);
                match timeout_at(until, follower.next(feed, client, stop, None)).await {
                    Ok(batch) => self.take(batch?, feed, &mut changes),
                    Err(_) => break,
                }
            }
            self.apply(changes, stop).await?;
            if self.seen.is_none() && self.is_done {
                self.pending = feed.since().map(str::to_owned);
            }
            if self.free_at <= Instant::now() {
                self.keep_cursor()?;
            }
        }
    }

    /// Takes the events of a write.
    fn take(&mut self, batch: ReceivedBatch, feed: &mut Feed, changes: &mut Changes) {
        if !feed.has_since() {
            self.begin();
        }
        for event in &batch.events {
            let kind = event.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
            match (NameChange::of(event), kind) {
                (Some(change), _) => self.take_change(change, changes),
                (None, "reset") => {
                    complain("beginning again with all that stands: files of other names are removed then");
                    self.begin();
                }
                (None, "synced") => changes.complete = self.seen.take(),
                (None, _) => {}
            }
        }
        feed.advance(batch.cursor, true);
    }

    /// A snapshot begins.
    fn begin(&mut self) {
        self.seen = Some(HashSet::new());
        self.revisions.clear();
    }

    fn take_change(&mut self, change: NameChange, changes: &mut Changes) {
        let NameChange { name, version, data, revision } = change;
        // a node tells no other names
        let Some(name) = name.strip_prefix(self.base).map(str::to_owned) else { return };
        let held = self.revisions.entry(name.clone()).or_default();
        if revision < *held {
            return;
        }
        *held = revision;
        if self.revisions.len() > MAX_REVISIONS {
            self.forget_old_revisions();
        }
        changes.bytes += data.len();
        if let Some(seen) = &mut self.seen {
            match version.is_some() {
                true => seen.insert(name.clone()),
                false => seen.remove(&name),
            };
        }
        // what is told behind a snapshot in the same write belongs to the view too
        if let Some(complete) = &mut changes.complete
            && version.is_some()
        {
            complete.insert(name.clone());
        }
        changes.of.insert(name, version.map(|_| data));
    }

    fn forget_old_revisions(&mut self) {
        let mut all: Vec<u64> = self.revisions.values().copied().collect();
        let middle = all.len() / 2;
        let (_, median, _) = all.select_nth_unstable(middle);
        let median = *median;
        self.revisions.retain(|_, revision| *revision > median);
    }

    /// Puts changes in their places, and runs the command.
    async fn apply(&mut self, changes: Changes, stop: &mut Stop) -> Result<(), Failure> {
        let mut lines = String::new();
        let mut told = |what: &str, name: &str| {
            lines.push_str(&format!("{what}\t{}\n", path::path_of(name).join("/")));
        };
        for (name, data) in changes.of.iter().filter_map(|(name, data)| Some((name, data.as_ref()?))) {
            self.folder.stage(name, data)?;
            told("put", name);
        }
        self.folder.commit()?;
        for (name, _) in changes.of.iter().filter(|(_, data)| data.is_none()) {
            self.folder.remove(name)?;
            told("delete", name);
        }
        if let Some(complete) = &changes.complete {
            for name in self.folder.names()?.iter().filter(|name| !complete.contains(*name)) {
                self.folder.remove(name)?;
                told("delete", name);
            }
        }
        let is_complete = self.seen.is_none();
        match &mut self.runner {
            Some(runner) if is_complete && (!lines.is_empty() || changes.complete.is_some()) => {
                let variables = vec![("VWATCH_DIR", self.dir.clone())];
                self.is_done = runner.run(&RunInput { variables, data: lines.into() }, false, stop).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the cursor, if it is to be written.
    fn keep_cursor(&mut self) -> Result<(), Failure> {
        if let Some(cursor) = self.pending.take() {
            self.folder.settle()?;
            self.folder.write_own(CURSOR, &format!("{cursor}\n"))?;
            self.free_at = Instant::now() + CURSOR_PAUSE;
        }
        Ok(())
    }
}
