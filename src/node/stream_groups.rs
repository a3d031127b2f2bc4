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
use super::feeds::NodeFeed;
use super::limits::{DRAIN_PER_WATCHER, STREAM_WRITE_BYTES};
use super::replication::Replicator;
use super::store::SharedStore;
use super::streams::Streams;
use crate::core::Name;
use crate::core::feed::{Feed, Subscription};
use crate::watch::pace::Pace;
use crate::wire::stream::Encoding;

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
    told: Mutex<Told>,
    /// Wakes its readers.
    news: watch::Sender<()>,
    /// Dropped with the last reader: it ends the task.
    _task: oneshot::Sender<()>,
}

/// What the task of a group needs, that makes its chunks.
pub struct Work {
    /// The group, as long as it has readers.
    pub group: Weak<Group>,
    /// Its feed.
    pub feed: NodeFeed,
    /// Resolves when the last reader has left.
    pub ended: oneshot::Receiver<()>,
}

/// What a group has told.
struct Told {
    chunks: Chunks,
    /// For each chunk the number of readers that have not taken it.
    waiting: VecDeque<usize>,
    /// The feed behind the chunks.
    last: Feed,
    readers: usize,
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
    /// Where it goes on by itself.
    feed: Feed,
    /// Its place in a walk over all readers.
    turn: usize,
    news: watch::Receiver<()>,
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

    /// A reader that has caught up joins its group. If there is none, it begins one, whose work the caller has to do.
    /// `None` if the reader has to go on by itself: the group is not where the reader is.
    #[must_use]
    pub fn join(self: &Arc<Self>, key: &Arc<GroupKey>, feed: &NodeFeed) -> Option<(Member, Option<Work>)> {
        let position = feed.position()?;
        let mut groups = self.lock();
        if let Some(group) = groups.get(key).and_then(Weak::upgrade) {
            drop(groups);
            return group.join(position).map(|member| (member, None));
        }
        let (news, _) = watch::channel(());
        let (task, ended) = oneshot::channel();
        let told = Told {
            chunks: Chunks::default(),
            waiting: VecDeque::new(),
            last: feed.feed().clone(),
            readers: 0,
            counted: 0,
            at: Instant::now(),
            is_ending: false,
        };
        let group = Arc::new(Group {
            key: Arc::clone(key),
            groups: Arc::clone(self),
            told: Mutex::new(told),
            news,
            _task: task,
        });
        groups.insert(Arc::clone(key), Arc::downgrade(&group));
        drop(groups);
        let feed = NodeFeed::of(&self.replicator, feed.feed().clone());
        let work = Work { group: Arc::downgrade(&group), feed, ended };
        group.join(position).map(|member| (member, Some(work)))
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

    /// The number of its readers.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().readers
    }

    fn join(self: Arc<Self>, position: u64) -> Option<Member> {
        let mut told = self.lock();
        if told.is_ending {
            return None;
        }
        let end = told.last.position();
        let mark = told.chunks.find(position, end, end)?;
        let feed = told.chunks.cut(mark, &told.last).map_or_else(|| told.last.clone(), |cut| cut.feed);
        told.readers += 1;
        told.has_to_take(mark, |waiting| *waiting += 1);
        let turn = told.readers - 1;
        drop(told);
        let news = self.news.subscribe();
        Some(Member { group: self, mark, feed, turn, news })
    }

    /// Adds a chunk, and drops those that are too far behind it. `last` is the feed behind it.
    pub fn push(&self, chunk: Chunk, last: Feed) {
        let mut told = self.lock();
        let readers = told.readers;
        told.chunks.push(chunk);
        told.waiting.push_back(readers);
        (told.last, told.at) = (last, Instant::now());
        told.drop_taken();
        let most = self.groups.streams.most_to_keep(told.counted);
        while told.chunks.cost() > most {
            told.chunks.drop_first();
            told.waiting.pop_front();
        }
        self.count(&mut told);
        drop(told);
        self.news.send_replace(());
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
        self.feed = told.chunks.cut(mark, &told.last).map_or_else(|| told.last.clone(), |cut| cut.feed);
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
        let (at, readers, is_ending) = {
            let told = self.group.lock();
            (told.at, told.readers, told.is_ending)
        };
        let groups = &self.group.groups;
        let pace = match is_ending {
            true => Pace { per_watcher: DRAIN_PER_WATCHER, longest: groups.ending_time },
            false => groups.store.pace(),
        };
        let delay = pace.delay(self.turn % readers.max(1), readers);
        if delay >= Duration::from_millis(1) {
            sleep_until(at + delay).await;
        }
    }

    /// Leaves the group. The feed goes on where the reader is.
    #[must_use]
    pub fn leave(self) -> NodeFeed {
        NodeFeed::of(&self.group.groups.replicator, self.feed.clone())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut told = self.group.lock();
        told.readers -= 1;
        told.has_to_take(self.mark, |waiting| *waiting -= 1);
        told.drop_taken();
        self.group.count(&mut told);
    }
}
