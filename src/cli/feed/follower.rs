//! Follows a feed by streams: each goes on where the last one has ended, at the same node or at the next one.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::outage::Outage;
use super::super::stop::Stop;
use super::{Feed, Later, ReceivedBatch};
use crate::client::backoff::Backoff;
use crate::client::transport::{Next, Writes};
use crate::wire::watch::{DEFAULT_HEARTBEAT, MAX_BATCH_EVENTS};

/// How long a stream may be silent beyond two intervals of its signs of life.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes next of a feed.
pub(in crate::cli) enum Heard {
    /// A write.
    Write(ReceivedBatch),
    /// What happens to a lease, or is held.
    Lease(Map<String, Value>),
}

/// What was told of leases: each stream begins with what is held.
#[derive(Default)]
struct Leases {
    is_told: bool,
    /// What was told was told by an earlier stream.
    is_void: bool,
    /// What comes after the reset.
    next: Option<Map<String, Value>>,
}

impl Leases {
    /// A stream begins.
    fn begin(&mut self) {
        self.is_void = self.is_told;
        self.next = None;
    }

    /// What is told in the place of an event, which may come again.
    fn tell(&mut self, event: Map<String, Value>) -> Map<String, Value> {
        self.is_told = true;
        if !std::mem::take(&mut self.is_void) {
            return event;
        }
        self.next = Some(event);
        Map::from_iter([("type".to_owned(), "leases-reset".into())])
    }
}

/// Follows a feed.
pub(in crate::cli) struct Follower {
    /// The interval of signs of life, if it is not that of every node.
    heartbeat: Option<Duration>,
    stream: Option<Writes>,
    /// The limit of events of the present stream.
    limit: Option<u64>,
    leases: Leases,
    /// The next request is sent then.
    pause_until: Option<Instant>,
    backoff: Backoff,
    outage: Outage,
}

impl Follower {
    /// A follower that leaves a node which is silent for this time and some seconds more.
    pub(in crate::cli) fn new(silence: Duration) -> Self {
        let heartbeat = (silence / 2).clamp(Duration::from_secs(1), Duration::from_secs(60));
        let heartbeat = Some(heartbeat).filter(|heartbeat| *heartbeat != DEFAULT_HEARTBEAT);
        let (backoff, outage) = (Backoff::default(), Outage::default());
        let leases = Leases::default();
        Self { heartbeat, stream: None, limit: None, leases, pause_until: None, backoff, outage }
    }

    /// The next write after the cursor of the feed, perhaps with no events. The caller is to advance the feed once it
    /// has handled the write. Of a feed with a number of changes that are `left`, a write has not many more. A caller
    /// may drop the future: nothing is lost.
    ///
    /// # Errors
    /// A permanent error of the node, a cursor that cannot be kept, or what stops the command.
    pub(in crate::cli) async fn next(
        &mut self,
        feed: &mut Feed,
        client: &mut Client,
        stop: &mut Stop,
        left: Option<u64>,
    ) -> Result<ReceivedBatch, Failure> {
        loop {
            if let Heard::Write(batch) = self.hear(feed, client, stop, left).await? {
                return Ok(batch);
            }
        }
    }

    /// As [`next`](Self::next), of a feed with what happens to leases. That comes as the node tells it, and behind a
    /// `leases-reset` if another stream has told it before.
    ///
    /// # Errors
    /// As there.
    pub(in crate::cli) async fn hear(
        &mut self,
        feed: &mut Feed,
        client: &mut Client,
        stop: &mut Stop,
        left: Option<u64>,
    ) -> Result<Heard, Failure> {
        if let Some(event) = self.leases.next.take() {
            return Ok(Heard::Lease(event));
        }
        let patience = 2 * self.heartbeat.unwrap_or(DEFAULT_HEARTBEAT) + PATIENCE;
        loop {
            stop.unless(feed.kept.write_if_due()).await??;
            if let Some(until) = self.pause_until {
                stop.unless(sleep_until(until)).await?;
                self.pause_until = None;
            }
            let Some(stream) = &mut self.stream else {
                self.open(feed, client, stop, left).await?;
                continue;
            };
            let (is_first, is_whole) =
                (stream.writes == 0, self.limit.is_some_and(|limit| stream.told >= limit));
            let due = feed.kept.due();
            let keep = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let news = async {
                tokio::select! {
                    biased;
                    next = stream.next(patience) => Some(next),
                    () = keep => None,
                }
            };
            match stop.unless(client.beside(news)).await? {
                // the cursor is to be kept
                Some(None) => {}
                Some(Some(Next::Write(batch))) => {
                    self.outage.ends();
                    if !is_first || !batch.events.is_empty() {
                        self.backoff.reset();
                    }
                    return Ok(Heard::Write(batch));
                }
                Some(Some(Next::Lease(event))) => return Ok(Heard::Lease(self.leases.tell(event))),
                Some(Some(Next::End)) if is_whole => self.stream = None,
                Some(Some(Next::End)) => self.leave(None, client),
                Some(Some(Next::Refused { is_temporary: false, why, .. })) => {
                    return Err(Failure::Failed(why));
                }
                Some(Some(Next::Refused { why, .. } | Next::Garbled(why))) => {
                    self.leave(Some(why), client);
                }
                // the next node goes on: that is an outage only if none does
                Some(Some(Next::Lost(why))) => self.leave(is_first.then_some(why), client),
                None => self.leave(None, client),
            }
        }
    }

    /// Begins a stream, or a pause if no node gives one.
    async fn open(
        &mut self,
        feed: &mut Feed,
        client: &mut Client,
        stop: &mut Stop,
        left: Option<u64>,
    ) -> Result<(), Failure> {
        // a stream that ends in between would begin again with the leases that are held
        let left = left.filter(|_| !feed.with_leases);
        self.limit = left.map(|left| left.min(MAX_BATCH_EVENTS as u64));
        let opened = match stop.unless(client.send(&feed.stream_question(self.heartbeat, self.limit))).await?
        {
            Ok(answer) => feed.open(answer)?,
            Err(Failure::Failed(line)) => Err(Later::new(line)),
            Err(failure) => return Err(failure),
        };
        match opened {
            Ok(lines) => {
                self.stream = Some(Writes::new(lines));
                self.leases.begin();
            }
            Err(Later { why, retry_after }) => {
                self.outage.begins(&why);
                client.move_on();
                self.pause(retry_after);
            }
        }
        Ok(())
    }

    /// Leaves the present stream for the next node, after a pause.
    fn leave(&mut self, why: Option<String>, client: &mut Client) {
        self.stream = None;
        if let Some(why) = why {
            self.outage.begins(&why);
        }
        client.move_on();
        self.pause(None);
    }

    fn pause(&mut self, retry_after: Option<Duration>) {
        self.pause_until = Some(Instant::now() + self.backoff.next(retry_after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_stream_told_of_leases_is_void() {
        let event = |kind: &str| Map::from_iter([("type".to_owned(), kind.into())]);
        let mut leases = Leases::default();
        leases.begin();
        assert_eq!(leases.tell(event("held")), event("held"));
        assert_eq!(leases.tell(event("leases-synced")), event("leases-synced"));
        leases.begin();
        assert_eq!(leases.tell(event("held")), event("leases-reset"));
        assert_eq!(leases.next.take(), Some(event("held")));
        assert_eq!(leases.tell(event("released")), event("released"));
        // one that ends before that was told
        leases.begin();
        assert_eq!(leases.tell(event("held")), event("leases-reset"));
        leases.begin();
        assert_eq!(leases.next, None);
        assert_eq!(leases.tell(event("leases-synced")), event("leases-reset"));
    }
}
