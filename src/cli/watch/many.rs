//! Watches several names and prefixes, by batches of events.

use std::io::Write;
use std::time::Instant;

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::feed::printer::{FeedPrinter, NameChange, tell_aside};
use super::super::feed::{Feed, FeedStep, ReceivedBatch};
use super::super::stop::Stop;
use super::backoff::Backoff;
use super::command::Runner;
use super::state::Change;
use super::{Outage, Watch};

/// The receiver of events.
pub(super) enum Teller<'a, W> {
    Print(&'a mut FeedPrinter<W>),
    Run(&'a mut Runner<'a>),
}

/// Follows the feed to its end, and then writes its checkpoint if it has one.
pub(super) async fn follow<W: Write>(
    args: &Watch,
    feed: &mut Feed,
    client: &mut Client,
    stop: &mut Stop,
    teller: &mut Teller<'_, W>,
) -> Result<(), Failure> {
    let outcome = tell_all(args, feed, client, stop, teller).await;
    if let Some(checkpoint) = &mut feed.checkpoint {
        checkpoint.write().await;
    }
    outcome
}

/// Asks for events again and again, and tells each. Ends after the count of changes, or at a permanent error.
async fn tell_all<W: Write>(
    args: &Watch,
    feed: &mut Feed,
    client: &mut Client,
    stop: &mut Stop,
    teller: &mut Teller<'_, W>,
) -> Result<(), Failure> {
    let mut backoff = Backoff::default();
    let mut outage = Outage::default();
    let mut left = args.count;
    loop {
        let asked_at = Instant::now();
        // most of the limit that a node takes
        let limit = left.map(|left| left.min(10_000));
        let step = match stop.unless(client.send(&feed.question(args.timeout, limit))).await? {
            Ok(answer) => feed.absorb(&answer)?,
            Err(Failure::Failed(line)) => FeedStep::Later { why: line, retry_after: None },
            Err(failure) => return Err(failure),
        };
        let batch = match step {
            FeedStep::Batch(batch) => batch,
            FeedStep::Later { why, retry_after } => {
                outage.begins(&why);
                client.move_on();
                stop.unless(tokio::time::sleep(backoff.next(retry_after))).await?;
                continue;
            }
        };
        outage.ends();
        let told = tell(&batch, &mut left, teller, stop).await?;
        let is_last = left == Some(0);
        if told == batch.events.len() {
            if let Teller::Print(printer) = teller
                && told > 0
            {
                printer.end(&batch)?;
            }
            feed.advance(batch.cursor)?;
            if let Some(checkpoint) = feed.checkpoint.as_mut().filter(|_| !is_last) {
                stop.unless(checkpoint.write_if_due()).await?;
            }
        }
        if is_last {
            return outcome(teller);
        }
        let is_idle = told == 0 && !batch.more;
        // only a node that is stopping answers without events in less than half of the time
        if is_idle && asked_at.elapsed() < args.timeout / 2 {
            client.move_on();
            stop.unless(tokio::time::sleep(backoff.next(None))).await?;
        } else {
            backoff.reset();
        }
    }
}

/// Tells events, until so many changes are told. Returns how many events were told: of those after the last change all.
async fn tell<W: Write>(
    batch: &ReceivedBatch,
    left: &mut Option<u64>,
    teller: &mut Teller<'_, W>,
    stop: &mut Stop,
) -> Result<usize, Failure> {
    for (at, event) in batch.events.iter().enumerate() {
        let change = NameChange::of(event);
        if change.is_some() && *left == Some(0) {
            return Ok(at);
        }
        *left = left.map(|left| left - u64::from(change.is_some()));
        match (&mut *teller, change) {
            (Teller::Print(printer), _) => printer.print(event)?,
            (Teller::Run(runner), Some(change)) => runner.run(&of(change), *left == Some(0), stop).await?,
            (Teller::Run(_), None) => tell_aside(event),
        }
    }
    Ok(batch.events.len())
}

/// The result after the last change.
fn outcome<W: Write>(teller: &mut Teller<'_, W>) -> Result<(), Failure> {
    match teller {
        Teller::Print(printer) => printer.flush(),
        Teller::Run(runner) => match runner.failed() {
            Some(code) => Err(Failure::Command { code, line: None }),
            None => Ok(()),
        },
    }
}

fn of(change: NameChange) -> Change {
    let NameChange { name, version, data, revision } = change;
    Change { name, version, data: data.into(), last_sync: Some(revision) }
}
