//! Streams of the ordinary path with the same scope and form: a group. It has one feed, and its bytes are made once.
//!
//! A task makes the bytes and ends with the last reader. A reader is a mark in the chunks that are kept. One that is so
//! far behind that its chunks are dropped goes on by itself, until it has caught up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::chunks::{Chunk, Chunks, Mark};
use super::feeds::{NodeFeed, Woken};
use super::limits::{DRAIN_PER_WATCHER, MAX_GROUP_BYTES, STREAM_WRITE_BYTES};
use super::replication::Replicator;
use super::store::SharedStore;
use super::streams::Streams;
use crate::core::Name;
use crate::core::feed::{Feed, Subscription};
use crate::watch::pace::Pace;
use crate::watch::{Waiter, Wake};
use crate::wire::stream::Encoding;

/// A turn that is nearer is now: timers are no finer.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// What streams of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// What their feeds are about.
    pub subscription: Arc<Subscription>,
    /// The names that are watched by themselves, to be filled.
    pub names: Vec<Name>,
    /// Their form.
    pub encoding: Encoding,
    /// The interval of signs of life.
    pub heartbeat: Duration,
}

/// The groups of the ordinary path.
pub struct StreamGroups {
    by_key: Mutex<HashMap<Arc<GroupKey>, Weak<Group>>>,
    store: SharedStore,
    replicator: Replicator,
    streams: Arc<Streams>,
    /// In which time the readers are told that the node ends.
    ending_time: Duration,
}

/// A group.
pub struct Group {
    key: Arc<GroupKey>,
    groups: Arc<StreamGroups>,
    producer: Mutex<Producer>,
    told: Mutex<Told>,
    /// Wakes its readers.
    news: watch::Sender<()>,
    /// Dropped with the last reader: it ends the task.
    _task: oneshot::Sender<()>,
}

/// What makes the chunks of a group. Its lock is taken before that of the store, and before that of what was told.
pub struct Producer {
    /// The feed.
    pub feed: NodeFeed,
    /// How the store wakes the task of the group.
    pub waiter: Waiter,
}

/// What the task of a group needs.
pub struct Work {
    /// The group, as long as it has readers.
    pub group: Weak<Group>,
    /// Resolves when the last reader has left.
    pub ended: oneshot::Receiver<()>,
}

/// What a group has told.
struct Told {
    chunks: Chunks,
    /// For each chunk the number of readers that have not taken it, without those that are gone.
    waiting: VecDeque<usize>,
    /// The feed behind the chunks.
    last: Arc<Feed>,
    readers: usize,
    /// Readers whose next chunk was dropped.
    gone: usize,
    /// What of the cost all groups count.
    counted: usize,
    /// When the last chunk was made.
    at: Instant,
    /// The node is about to end.
    is_ending: bool,
}

/// A reader of a group. Dropping it leaves the group.
pub struct Member {
    group: Arc<Group>,
    mark: Mark,
    /// The feed with which it would go on by itself, and its position there if that is another one.
    feed: Arc<Feed>,
    position: Option<u64>,
    /// Its place in a walk over all readers.
    turn: usize,
    news: watch::Receiver<()>,
}

/// Where a reader is that wants to join.
pub enum Joining {
    /// In the group.
    Joined(Member),
    /// In a group that begins: its task has to be begun.
    Begun(Member, Work),
    /// Ahead of this group, which may have told less than there is.
    Ahead(Arc<Group>),
    /// Elsewhere: it goes on by itself.
    Apart,
}

/// What a group has for a reader.
pub enum Taken {
    /// Its next bytes.
    Bytes(Bytes),
    /// There is no news.
    Nothing,
    /// The node is about to end, and the reader was told all.
    Ending,
    /// The reader is too far behind.
    Gone,
}

impl StreamGroups {
    /// No groups, of a node with this store. Half of its grace is spent to tell readers that it ends.
    #[must_use]
    pub fn new(
        store: SharedStore,
        replicator: Replicator,
        streams: Arc<Streams>,
        shutdown_grace: Duration,
    ) -> Arc<Self> {
        let by_key = Mutex::default();
        Arc::new(Self { by_key, store, replicator, streams, ending_time: shutdown_grace / 2 })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<GroupKey>, Weak<Group>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader that has caught up joins its group, or begins one.
    #[must_use]
    pub fn join(self: &Arc<Self>, key: &Arc<GroupKey>, feed: &NodeFeed) -> Joining {
        let Some(position) = feed.shared_position() else { return Joining::Apart };
        let mut groups = self.lock();
        if let Some(group) = groups.get(key).and_then(Weak::upgrade) {
            drop(groups);
            return group.join(position);
        }
        let (news, _) = watch::channel(());
        let (task, ended) = oneshot::channel();
        let (waiter, _) = Woken::new();
        let told = Told {
            chunks: Chunks::default(),
            waiting: VecDeque::new(),
            last: Arc::new(feed.feed().clone()),
            readers: 0,
            gone: 0,
            counted: 0,
            at: Instant::now(),
            is_ending: false,
        };
        let feed = NodeFeed::of(&self.replicator, feed.feed().clone());
        let group = Arc::new(Group {
            key: Arc::clone(key),
            groups: Arc::clone(self),
            producer: Mutex::new(Producer { feed, waiter }),
            told: Mutex::new(told),
            news,
            _task: task,
        });
        groups.insert(Arc::clone(key), Arc::downgrade(&group));
        drop(groups);
        let work = Work { group: Arc::downgrade(&group), ended };
        match group.join(position) {
            Joining::Joined(member) => Joining::Begun(member, work),
            // cannot be: the group begins where the reader is
            _ => Joining::Apart,
        }
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its streams have in common.
    #[must_use]
    pub fn key(&self) -> &GroupKey {
        &self.key
    }

    /// What makes its chunks.
    pub fn producer(&self) -> MutexGuard<'_, Producer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next wake of its task. The feed has to be parked again behind it.
    #[must_use]
    pub fn renew_waiter(&self) -> Woken {
        let (waiter, woken) = Woken::new();
        self.producer().waiter = waiter;
        woken
    }

    /// Wakes its task.
    pub fn wake_task(&self) {
        if let Waiter::Task(notifier) = &self.producer().waiter {
            notifier.notify(Wake::Changed { at: std::time::Instant::now() });
        }
    }

    /// The number of its readers.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().readers
    }

    /// A reader at this position joins.
    #[must_use]
    pub fn join(self: Arc<Self>, position: u64) -> Joining {
        let mut told = self.lock();
        let end = told.last.shared_position();
        if told.is_ending {
            return Joining::Apart;
        }
        if end.is_some_and(|end| end < position) {
            drop(told);
            return Joining::Ahead(self);
        }
        let found = told.chunks.find(position, end, end);
        let placed = found.and_then(|mark| Some((mark, told.chunks.feed_at(mark, &told.last)?)));
        let Some((mark, (feed, position))) = placed else { return Joining::Apart };
        told.readers += 1;
        told.has_to_take(mark, |waiting| *waiting += 1);
        let turn = told.readers - 1;
        drop(told);
        let news = self.news.subscribe();
        Joining::Joined(Member { group: self, mark, feed, position, turn, news })
    }

    /// Adds a chunk, and drops those that are too far behind it. Its feed is at `last` now. The caller has the lock of
    /// its producer.
    pub fn push(&self, chunk: Chunk, last: Feed) {
        let mut told = self.lock();
        let readers = told.readers - told.gone;
        told.chunks.push(chunk);
        told.waiting.push_back(readers);
        (told.last, told.at) = (Arc::new(last), Instant::now());
        told.drop_taken();
        let most = self.groups.streams.most_to_keep(told.counted);
        // where there is room, one chunk is shared however long it is
        while told.chunks.cost() > most && told.waiting.len() > usize::from(most > 0) {
            told.drop_first();
        }
        self.count(&mut told);
        drop(told);
        self.news.send_replace(());
    }

    /// Its feed is at `last` now, without a chunk. The caller has the lock of its producer.
    pub fn pass(&self, last: &Feed) {
        let mut told = self.lock();
        if told.last.position() != last.position() {
            told.last = Arc::new(last.clone());
        }
    }

    /// When the next chunk is made: once the last reader had its turn.
    #[must_use]
    pub fn round_ends(&self) -> Instant {
        let (at, readers) = {
            let told = self.lock();
            (told.at, told.readers)
        };
        at + self.groups.store.pace().delay(readers.saturating_sub(1), readers)
    }

    /// Whether readers have not taken half of what may be kept.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.lock().chunks.cost() > MAX_GROUP_BYTES / 2
    }

    /// The node is about to end, and the readers were told all.
    pub fn end(&self) {
        let mut told = self.lock();
        (told.is_ending, told.at) = (true, Instant::now());
        drop(told);
        self.news.send_replace(());
    }

    fn count(&self, told: &mut Told) {
        let cost = told.chunks.cost();
        self.groups.streams.keep_instead(std::mem::replace(&mut told.counted, cost), cost);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.streams.keep_instead(self.lock().counted, 0);
        let mut groups = self.groups.lock();
        // another one may have begun under this key
        if groups.get(&self.key).is_some_and(|group| group.strong_count() == 0) {
            groups.remove(&self.key);
        }
    }
}

impl Told {
    /// Does something to the counts of the chunks from a mark on.
    fn has_to_take(&mut self, mark: Mark, change: impl FnMut(&mut usize)) {
        let skip = usize::try_from(mark.chunk.saturating_sub(self.chunks.first())).unwrap_or(usize::MAX);
        self.waiting.iter_mut().skip(skip).for_each(change);
    }

    /// How many readers have not taken the chunk at a mark.
    fn at_mark(&mut self, mark: Mark) -> Option<&mut usize> {
        let index = mark.chunk.checked_sub(self.chunks.first())?;
        self.waiting.get_mut(usize::try_from(index).ok()?)
    }

    /// Drops the first chunk. Those that have not taken it are gone.
    fn drop_first(&mut self) {
        self.chunks.drop_first();
        let lost = self.waiting.pop_front().unwrap_or(0);
        self.gone += lost;
        self.waiting.iter_mut().for_each(|waiting| *waiting -= lost);
    }

    /// Drops the chunks that all readers have taken.
    fn drop_taken(&mut self) {
        while self.waiting.front() == Some(&0) {
            self.waiting.pop_front();
            self.chunks.drop_first();
        }
    }
}

impl Member {
    /// The next bytes of the group for this reader.
    #[must_use]
    pub fn take(&mut self) -> Taken {
        let mut told = self.group.lock();
        if !told.chunks.has(self.mark) {
            return Taken::Gone;
        }
        let Some((bytes, mark)) = told.chunks.next(self.mark, STREAM_WRITE_BYTES) else {
            return if told.is_ending { Taken::Ending } else { Taken::Nothing };
        };
        // cannot fail: the bytes end behind an event
        let Some(feed) = told.chunks.feed_at(mark, &told.last) else { return Taken::Gone };
        (self.feed, self.position) = feed;
        if mark.chunk > self.mark.chunk
            && let Some(first) = told.at_mark(self.mark)
        {
            *first -= 1;
            told.drop_taken();
            self.group.count(&mut told);
        }
        self.mark = mark;
        Taken::Bytes(bytes)
    }

    /// Waits for news, and for the turn of this reader. May be dropped at any time.
    pub async fn wait(&mut self) {
        // the group, and with it the sender, lives as long as its readers
        let _ = self.news.changed().await;
        let (turn, is_ending) = self.next_turn();
        if is_ending {
            return sleep_until(turn).await;
        }
        while turn.saturating_duration_since(Instant::now()) >= LEAST_PAUSE {
            tokio::select! {
                () = sleep_until(turn) => return,
                _ = self.news.changed() => {
                    // the end of the node does not wait for this pace
                    if let (turn, true) = self.next_turn() {
                        return sleep_until(turn).await;
                    }
                }
            }
        }
    }

    /// When this reader has its turn, and whether that is the last one.
    fn next_turn(&self) -> (Instant, bool) {
        let told = self.group.lock();
        let groups = &self.group.groups;
        let pace = match told.is_ending {
            true => Pace { per_watcher: DRAIN_PER_WATCHER, longest: groups.ending_time },
            false => groups.store.pace(),
        };
        (told.at + pace.delay(self.turn % told.readers.max(1), told.readers), told.is_ending)
    }

    /// Leaves the group. The feed goes on where the reader is.
    #[must_use]
    pub fn leave(self) -> NodeFeed {
        let feed = match self.position {
            Some(position) => self.feed.at(position),
            None => Feed::clone(&self.feed),
        };
        NodeFeed::of(&self.group.groups.replicator, feed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut told = self.group.lock();
        told.readers -= 1;
        match told.chunks.has(self.mark) {
            true => told.has_to_take(self.mark, |waiting| *waiting -= 1),
            false => told.gone -= 1,
        }
        told.drop_taken();
        self.group.count(&mut told);
    }
}
