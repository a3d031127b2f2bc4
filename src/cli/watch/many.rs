//! Watches several names and prefixes, by a stream.

use std::io::Write;

use super::super::client::Client;
use super::super::failure::{Failure, complain};
use super::super::feed::follower::{Follower, Heard};
use super::super::feed::printer::{FeedPrinter, NameChange, json_line, tell_aside};
use super::super::feed::{Feed, ReceivedBatch};
use super::super::runner::{RunInput, Runner};
use super::super::stop::Stop;
use super::Watch;
use super::state::Change;

/// The receiver of events.
pub(super) enum Teller<'a, W> {
    Print(&'a mut FeedPrinter<W>),
    /// A command runs for each change.
    Run(&'a mut Runner<'a>),
    /// A command runs for each write of the node.
    RunBatches(&'a mut Runner<'a>),
}

/// How a write was told.
struct Told {
    /// All of it was told, and not only its first changes.
    is_whole: bool,
    /// No command has failed.
    is_done: bool,
}

/// Follows the feed to its end, and then keeps the cursor.
pub(super) async fn follow<W: Write>(
    args: &Watch,
    feed: &mut Feed,
    client: &mut Client,
    stop: &mut Stop,
    teller: &mut Teller<'_, W>,
) -> Result<(), Failure> {
    let outcome = tell_all(args, feed, client, stop, teller).await;
    let kept = feed.keep().await;
    outcome.and(kept)
}

/// Tells each write. Ends after the count of changes, or at a permanent error.
async fn tell_all<W: Write>(
    args: &Watch,
    feed: &mut Feed,
    client: &mut Client,
    stop: &mut Stop,
    teller: &mut Teller<'_, W>,
) -> Result<(), Failure> {
    let mut follower = Follower::new(args.timeout);
    let mut left = args.count;
    let mut is_done = true;
    loop {
        let batch = match follower.hear(feed, client, stop, left).await? {
            Heard::Write(batch) => batch,
            Heard::Lease(event) => {
                if let Teller::Print(printer) = teller {
                    printer.lease(&event)?;
                }
                continue;
            }
        };
        let told = tell(&batch, &mut left, teller, stop).await?;
        if is_done && !told.is_done && feed.is_kept() {
            complain("the cursor stays before this change: the next run tells it again, and what follows");
        }
        is_done &= told.is_done;
        if told.is_whole {
            if let Teller::Print(printer) = teller
                && !batch.events.is_empty()
            {
                printer.end(&batch)?;
            }
            feed.advance(batch.cursor, is_done);
        }
        if left == Some(0) {
            return outcome(teller);
        }
    }
}

/// Tells the events of a write, until so many changes are told, and all events behind the last of them.
async fn tell<W: Write>(
    batch: &ReceivedBatch,
    left: &mut Option<u64>,
    teller: &mut Teller<'_, W>,
    stop: &mut Stop,
) -> Result<Told, Failure> {
    let mut is_done = true;
    if let Teller::RunBatches(runner) = teller {
        if !batch.events.is_empty() {
            let changes = batch.events.iter().filter(|event| NameChange::of(event).is_some()).count() as u64;
            *left = left.map(|left| left.saturating_sub(changes));
            is_done = runner.run(&lines_of(batch), *left == Some(0), stop).await?;
        }
        return Ok(Told { is_whole: true, is_done });
    }
    for event in &batch.events {
        let change = NameChange::of(event);
        if change.is_some() && *left == Some(0) {
            return Ok(Told { is_whole: false, is_done });
        }
        *left = left.map(|left| left - u64::from(change.is_some()));
        match (&mut *teller, change) {
            (Teller::Print(printer), _) => printer.print(event)?,
            (Teller::Run(runner), Some(change)) => {
                is_done &= runner.run(&of(change).input(), *left == Some(0), stop).await?;
            }
            (Teller::Run(_) | Teller::RunBatches(_), _) => tell_aside(event),
        }
    }
    Ok(Told { is_whole: true, is_done })
}

/// What a command gets of a whole write.
fn lines_of(batch: &ReceivedBatch) -> RunInput {
    let lines: String = batch.events.iter().map(|event| json_line(event) + "\n").collect();
    RunInput { variables: vec![("VWATCH_CURSOR", batch.cursor.clone())], data: lines.into() }
}

/// The result after the last change.
fn outcome<W: Write>(teller: &mut Teller<'_, W>) -> Result<(), Failure> {
    match teller {
        Teller::Print(printer) => printer.flush(),
        Teller::Run(runner) | Teller::RunBatches(runner) => runner.outcome(),
    }
}

fn of(change: NameChange) -> Change {
    let NameChange { name, version, data, revision } = change;
    Change { name, version, data: data.into(), last_sync: Some(revision) }
}
