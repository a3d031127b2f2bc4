//! The thread that saves what the store notes, loads what an earlier process has saved, and sets it aside.
//!
//! It is the only one that uses the engine. What it is asked to do comes through a channel; what it saves it takes from
//! the store by itself, so that many changes of a name between two saves are one. If a save fails, the node goes on
//! from memory: the thread opens the disk again after a pause, and saves the whole set.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::engine::Engine;
use super::error::DiskError;
use super::folder::Folder;
use super::stats::DiskStats;
use crate::core::store::{Save, Unsaved};
use crate::core::{AsideCause, DiskTask, Name, Record, SavedSet, Stamp};
use crate::wire::saved::SavedHead;

/// Records that are loaded in one step of the store.
const LOAD_AT_ONCE: usize = 512;

/// Stretches of the set that are read in one step of the store while the whole set is saved.
const STRETCHES_AT_ONCE: usize = 32;

/// Names in a commit while the whole set is saved.
const SCAN_COMMIT: usize = 8192;

/// Complete saves that are tried before the next pause, while more changes than can be noted.
const SCANS_AT_ONCE: usize = 3;

/// Without any change the head is saved again after this time: what it reflects grows nevertheless.
const HEAD_EVERY: Duration = Duration::from_secs(10);

/// How long a write waits for its save.
const STANDS_STILL: Duration = Duration::from_secs(10);

/// Time between two saves where writes ask for theirs: what other nodes have written asks for none.
const UNASKED: Duration = Duration::from_millis(100);

/// Pauses after a save that failed.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// When what a client writes is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Behind the answer, once in this time.
    Every(Duration),
    /// Before the answer.
    Always,
}

/// What a save takes from the store at one moment.
#[derive(Debug)]
pub struct Capture {
    /// What has changed.
    pub save: Save,
    /// What the set claims.
    pub set: SavedSet,
}

/// The store, as the thread sees it. Each call is one short step.
pub trait Source: Send + Sync + 'static {
    /// What has changed since the last call, and what the set claims; `None` while the node has joined no set.
    fn capture(&self) -> Option<Capture>;

    /// The number of stretches for [`Source::stretch`].
    fn stretches(&self) -> usize;

    /// The names of a stretch of the set with their records.
    fn stretch(&self, index: usize) -> Vec<Unsaved>;

    /// Whether the set has records of a name.
    fn holds(&self, name: &Name) -> bool;

    /// Merges records that were saved; returns whether the node still wants the rest.
    fn load(&self, records: &[Record]) -> bool;

    /// All were merged.
    fn loaded(&self);

    /// They cannot be read.
    fn cannot_load(&self);

    /// The wall clock.
    fn now(&self) -> Stamp;
}

/// A task of the thread.
enum Order {
    Task(DiskTask),
    Save,
    /// The sender tells when it is done.
    Stop(SyncSender<()>),
}

/// The saves that were begun, and what became of them, by their numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    done: u64,
    failed: u64,
}

/// Asks the thread. Cheap to share.
#[derive(Debug)]
pub struct DiskWriter {
    orders: Sender<Order>,
    begun: Arc<AtomicU64>,
    is_wanted: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    stats: Arc<DiskStats>,
    durability: Durability,
}

impl DiskWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        folder: Folder,
        engine: Engine,
        source: Arc<dyn Source>,
        durability: Durability,
    ) -> std::io::Result<Arc<Self>> {
        let (orders, received) = channel();
        let (told, progress) = watch::channel(Progress::default());
        let stats = Arc::new(DiskStats::default());
        stats.bytes.store(engine.bytes(), Ordering::Relaxed);
        let (begun, is_wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let head = engine.head().ok().flatten();
        let complete_at = head.map_or(Stamp::ZERO, |head| head.set.committed);
        let mut thread = Thread {
            folder,
            engine: Some(engine),
            source,
            durability,
            received,
            begun: Arc::clone(&begun),
            is_wanted: Arc::clone(&is_wanted),
            told,
            stats: Arc::clone(&stats),
            is_incomplete: false,
            saved_at: Instant::now(),
            pause: PAUSES[0],
            opens_at: Instant::now(),
            last: None,
            complete_at,
        };
        let (fault, loading) = (Arc::clone(&stats), Arc::clone(&thread.source));
        std::thread::Builder::new().name("vwatch-disk".to_owned()).spawn(move || {
            // a fault of the engine ends this thread, and the node goes on from memory
            match std::panic::catch_unwind(AssertUnwindSafe(|| thread.run())) {
                Ok(stopped) => {
                    // the directory is free before the stop is over
                    drop(thread);
                    if let Some(done) = stopped {
                        let _ = done.send(());
                    }
                }
                Err(_) => {
                    fault.fail("the thread of the disk has ended");
                    // a node that waits for what was saved goes on without it
                    loading.cannot_load();
                    tracing::error!("nothing is saved any more: the thread of the disk has ended");
                }
            }
        })?;
        Ok(Arc::new(Self { orders, begun, is_wanted, progress, stats, durability }))
    }

    /// Does a task of the replica.
    pub fn order(&self, task: DiskTask) {
        // only the end of the node ends the thread
        let _ = self.orders.send(Order::Task(task));
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<DiskStats> {
        &self.stats
    }

    /// Whether a write is to be answered only after it was saved.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.durability == Durability::Always
    }

    /// Waits until what the store holds now is saved.
    ///
    /// # Errors
    /// Why it could not be saved.
    pub async fn saved(&self) -> Result<(), String> {
        // the save of that number may have taken its notes before the change
        let wanted = self.begun.load(Ordering::Acquire) + 1;
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            let _ = self.orders.send(Order::Save);
        }
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.done.max(progress.failed) >= wanted);
        match tokio::time::timeout(STANDS_STILL, ended).await.map(|ended| ended.map(|progress| *progress)) {
            Ok(Ok(progress)) if progress.done >= wanted => Ok(()),
            Err(_) => Err("the disk stands still".to_owned()),
            Ok(_) => Err(self.stats.failing().unwrap_or_else(|| "the node stops".to_owned())),
        }
    }

    /// Lets the thread save what is left and end, without a wait. Returns whether it still ran, and what tells its end.
    pub fn begin_stop(&self) -> (bool, Receiver<()>) {
        let (done, is_done) = sync_channel(1);
        (self.orders.send(Order::Stop(done)).is_ok(), is_done)
    }

    /// Saves what is left, and ends the thread. Waits for it, at most for this time: a disk may stand still. To be
    /// called from a thread that may wait.
    pub fn stop(&self, at_most: Duration) {
        let (is_sent, is_done) = self.begin_stop();
        if is_sent && is_done.recv_timeout(at_most) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the disk stands still: the last changes may not be saved");
        }
    }
}

struct Thread {
    folder: Folder,
    /// `None` after a failure, until it is opened again.
    engine: Option<Engine>,
    source: Arc<dyn Source>,
    durability: Durability,
    received: Receiver<Order>,
    begun: Arc<AtomicU64>,
    is_wanted: Arc<AtomicBool>,
    told: watch::Sender<Progress>,
    stats: Arc<DiskStats>,
    /// Changes were lost: the whole set has to be saved.
    is_incomplete: bool,
    saved_at: Instant,
    pause: Duration,
    /// When a disk that failed is opened again.
    opens_at: Instant,
    /// What the last head claimed, without its times.
    last: Option<SavedSet>,
    /// When the set on the disk was last complete.
    complete_at: Stamp,
}

impl Thread {
    /// Returns what is told the end, if the end was asked for.
    fn run(&mut self) -> Option<SyncSender<()>> {
        loop {
            let pause = match (&self.engine, self.durability) {
                (None, _) => self.pause,
                (Some(_), Durability::Every(interval)) => interval,
                (Some(_), Durability::Always) => UNASKED,
            };
            match self.received.recv_timeout(pause) {
                Ok(Order::Task(DiskTask::Load)) => self.load(),
                Ok(Order::Task(DiskTask::SetAside(cause))) => self.set_aside(cause),
                Ok(Order::Save) | Err(RecvTimeoutError::Timeout) => self.save(),
                Ok(Order::Stop(done)) => {
                    self.end();
                    return Some(done);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    return None;
                }
            }
        }
    }

    fn end(&mut self) {
        self.save();
        if let Some(Err(error)) = self.engine.take().map(|engine| engine.sync()) {
            tracing::error!("the last changes may not be on the disk: {error}");
        }
    }

    /// Saves what has changed.
    fn save(&mut self) {
        self.is_wanted.store(false, Ordering::Release);
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        if self.engine.is_none() && Instant::now() < self.opens_at {
            return self.told.send_modify(|progress| progress.failed = number);
        }
        match self.open().and_then(|()| self.save_changes()) {
            Ok(true) => {
                self.pause = PAUSES[0];
                if self.stats.recover() {
                    tracing::info!("the disk is used again");
                }
                self.told.send_modify(|progress| progress.done = number);
            }
            // the next one may get further
            Ok(false) => {}
            Err(error) => {
                self.failed(&error);
                self.told.send_modify(|progress| progress.failed = number);
            }
        }
    }

    /// Opens the disk again after a failure.
    fn open(&mut self) -> Result<(), DiskError> {
        if self.engine.is_none() {
            self.engine = Some(Engine::open(&self.folder.make_set()?)?);
            self.is_incomplete = true;
        }
        Ok(())
    }

    fn failed(&mut self, error: &DiskError) {
        if self.stats.failing().is_none() {
            tracing::error!("nothing is saved, and the node goes on from memory: {error}");
        }
        self.stats.fail(&error.to_string());
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        (self.engine, self.is_incomplete) = (None, true);
        self.opens_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES[1]);
        // what is there is damaged, and what the node holds is not
        if !error.is_of_system()
            && let Err(error) = self.rename()
        {
            tracing::error!("{error}");
        }
    }

    /// Saves what has changed; returns whether all is saved that the set held when this began.
    fn save_changes(&mut self) -> Result<bool, DiskError> {
        for _ in 0..SCANS_AT_ONCE {
            let Some(capture) = self.source.capture() else { return Ok(false) };
            if !capture.save.lost && !self.is_incomplete {
                self.commit_changes(capture)?;
                return Ok(true);
            }
            self.is_incomplete = true;
            self.save_all()?;
            if !self.is_incomplete {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn commit_changes(&mut self, capture: Capture) -> Result<(), DiskError> {
        let Capture { save, set } = capture;
        let claims = SavedSet { committed: Stamp::ZERO, reflected: Stamp::ZERO, ..set.clone() };
        let is_same = save.names.is_empty() && self.last.as_ref() == Some(&claims);
        if is_same && self.saved_at.elapsed() < HEAD_EVERY {
            return Ok(());
        }
        let head = SavedHead { set, digest: save.digest, complete: true };
        self.commit(&save.names, &head, true)?;
        self.last = Some(claims);
        Ok(())
    }

    /// Commits names, each as it was noted last.
    fn commit(&mut self, names: &[Unsaved], head: &SavedHead, synced: bool) -> Result<(), DiskError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let latest: HashMap<&Name, &[Record]> =
            names.iter().map(|(name, records)| (name, &**records)).collect();
        let (count, began) = (latest.len() as u64, Instant::now());
        engine.commit(latest, head, synced)?;
        self.saved_at = Instant::now();
        self.complete_at = head.set.committed;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.commit_us.store(took, Ordering::Relaxed);
        self.stats.last_commit_us.store(self.source.now().micros(), Ordering::Relaxed);
        self.stats.names.fetch_add(count, Ordering::Relaxed);
        let commits = self.stats.commits.fetch_add(1, Ordering::Relaxed);
        // to ask for it walks the files
        if commits.is_multiple_of(64) {
            self.stats.bytes.store(engine.bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Commits a part of the whole set, with a head that claims nothing.
    fn commit_part(&mut self, names: &[Unsaved], set: SavedSet) -> Result<(), DiskError> {
        let set = SavedSet { committed: self.complete_at, ..set };
        self.commit(names, &SavedHead { set, digest: None, complete: false }, false)
    }

    /// Saves the whole set, in parts. Until the last one, which is of one moment with all changes since the first, what
    /// is there claims nothing.
    fn save_all(&mut self) -> Result<(), DiskError> {
        self.stats.scans.fetch_add(1, Ordering::Relaxed);
        let stretches = self.source.stretches();
        let (mut names, mut next): (Vec<Unsaved>, usize) = (Vec::new(), 0);
        while next < stretches {
            let end = (next + STRETCHES_AT_ONCE).min(stretches);
            names.extend((next..end).flat_map(|index| self.source.stretch(index)));
            next = end;
            if names.len() >= SCAN_COMMIT || next == stretches {
                let Some(Capture { save, set }) = self.source.capture() else { return Ok(()) };
                if save.lost {
                    return Ok(());
                }
                names.extend(save.names);
                self.commit_part(&names, set)?;
                names.clear();
            }
        }
        if !self.remove_what_is_gone()? {
            return Ok(());
        }
        match self.source.capture() {
            Some(Capture { save, set }) if !save.lost => {
                self.commit(&save.names, &SavedHead { set, digest: save.digest, complete: true }, true)?;
                self.is_incomplete = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes names that the set does not hold any more; returns whether no change was lost meanwhile.
    fn remove_what_is_gone(&mut self) -> Result<bool, DiskError> {
        let Some(engine) = &self.engine else { return Ok(false) };
        let mut gone: Vec<Unsaved> = Vec::new();
        for read in engine.names() {
            let (name, _) = read?;
            if !self.source.holds(&name) {
                gone.push((name, Box::default()));
            }
        }
        // a capture takes the changes: what it takes is written
        if gone.is_empty() {
            return Ok(true);
        }
        match self.source.capture() {
            Some(Capture { save, set }) if !save.lost => {
                gone.extend(save.names);
                self.commit_part(&gone, set)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Hands the node what an earlier process has saved.
    fn load(&mut self) {
        let began = Instant::now();
        match self.load_all() {
            Ok(Some(names)) => {
                self.source.loaded();
                tracing::info!(names, "loaded what was saved, in {:.1?}", began.elapsed());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!("what was saved cannot be loaded: {error}");
                self.source.cannot_load();
            }
        }
    }

    /// Loads all names, and returns their number; `None` if the node wants no more.
    fn load_all(&mut self) -> Result<Option<u64>, DiskError> {
        self.open()?;
        let Some(engine) = &self.engine else { return Ok(None) };
        let mut records: Vec<Record> = Vec::new();
        let found = engine.read(|of_name| {
            self.stats.loaded.fetch_add(1, Ordering::Relaxed);
            records.extend_from_slice(of_name);
            if records.len() < LOAD_AT_ONCE {
                return true;
            }
            let is_wanted = self.source.load(&records);
            records.clear();
            is_wanted
        })?;
        Ok(found.filter(|_| self.source.load(&records)))
    }

    fn set_aside(&mut self, cause: AsideCause) {
        let why = match cause {
            AsideCause::Outdated => "the cluster may have forgotten deletes that it lacks",
            AsideCause::OtherSet => "the cluster serves another set",
            AsideCause::Future => "it is of a time that has not come yet: check the clocks",
            AsideCause::Unreadable => "it cannot be read",
        };
        tracing::warn!("what was saved is set aside, because {why}");
        self.stats.set_asides.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.rename().and_then(|()| self.open()) {
            self.failed(&error);
        }
    }

    /// Sets what is saved aside: nothing is saved from then on.
    fn rename(&mut self) -> Result<(), DiskError> {
        // it may not be open while it is renamed
        self.engine = None;
        (self.last, self.complete_at) = (None, Stamp::ZERO);
        // what was saved meanwhile went away with it
        self.is_incomplete = true;
        if let Some(aside) = self.folder.set_aside(self.source.now())? {
            tracing::warn!("what was saved is in {} from now on", aside.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::core::record::Incarnation;
    use crate::core::store::{Change, Store};
    use crate::core::testing::{at, name, version};
    use crate::core::{Genesis, Registers};

    const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [7; 16], versions: 8 };

    /// A store that takes a write whenever the thread looks at it.
    struct Busy {
        store: Mutex<Store<()>>,
        written: AtomicU64,
        /// How many writes it takes.
        most: u64,
        clock_us: u64,
        /// How often it is in a set when it is looked at.
        looks: AtomicU64,
    }

    impl Busy {
        fn new(names: u64, most: u64) -> Arc<Self> {
            let store = Store::new(GENESIS, Incarnation(1), usize::MAX);
            let (written, looks) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
            let busy = Self { store: Mutex::new(store), written, most: names, clock_us: 9, looks };
            (0..names).for_each(|_| busy.write());
            busy.store.lock().unwrap().note_changes();
            Arc::new(Self { most: names + most, ..busy })
        }

        fn write(&self) {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            if number < self.most {
                let change = Change::Put { version: &version("v"), data: b"data" };
                let at = at(1_000_000 + number);
                self.store.lock().unwrap().write(at, &name(&format!("n{number}")), &change, None);
            }
        }
    }

    impl Source for Busy {
        fn capture(&self) -> Option<Capture> {
            self.looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
            self.write();
            let mut store = self.store.lock().unwrap();
            let set = SavedSet {
                genesis: GENESIS,
                vector: store.vector().clone(),
                registers: Registers::NONE,
                reflected: Stamp::ZERO,
                committed: self.now(),
                names: store.set().root().count,
            };
            Some(Capture { save: store.take_unsaved(), set })
        }

        fn stretches(&self) -> usize {
            self.store.lock().unwrap().set().stretches()
        }

        fn stretch(&self, index: usize) -> Vec<Unsaved> {
            let stretch = self.store.lock().unwrap().unsaved_stretch(index);
            if !stretch.is_empty() {
                self.write();
            }
            stretch
        }

        fn holds(&self, name: &Name) -> bool {
            self.write();
            !self.store.lock().unwrap().set().history(name).is_empty()
        }

        fn load(&self, _: &[Record]) -> bool {
            true
        }

        fn loaded(&self) {}

        fn cannot_load(&self) {}

        fn now(&self) -> Stamp {
            at(self.clock_us)
        }
    }

    /// A directory that is removed in the end.
    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(of: &str) -> Self {
            Self(std::env::temp_dir().join(format!("vwatch-disk-{of}-{}", std::process::id())))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn saved(writer: &DiskWriter) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(writer.saved())
    }

    #[test]
    fn what_changes_while_all_is_saved_is_saved_with_it() {
        let directory = Directory::new("busy");
        let busy = Busy::new(300, 500);
        let folder = Folder::open(&directory.0).unwrap();
        let engine = Engine::open(&folder.make_set().unwrap()).unwrap();
        let writer = DiskWriter::start(folder, engine, busy.clone(), Durability::Always).unwrap();
        saved(&writer).unwrap();
        assert!(writer.stats().scans.load(Ordering::Relaxed) >= 1);
        writer.stop(Duration::from_secs(60));
        let engine = Engine::open(&directory.0.join("set")).unwrap();
        let head = engine.head().unwrap().unwrap();
        let store = busy.store.lock().unwrap();
        assert!(head.complete && head.digest == Some(store.set().root()), "{head:?}");
        assert_eq!(engine.read(|_| true).unwrap(), Some(store.set().root().count), "by count and digest");
        assert_eq!(head.set.vector, *store.vector());
    }

    /// What a part of a complete save may lack was written after the last complete one.
    #[test]
    fn a_save_that_ends_half_way_is_as_old_as_the_last_complete_one() {
        let directory = Directory::new("half");
        let head_after = |clock_us: u64, looks: u64| {
            let busy = Arc::into_inner(Busy::new(2 * SCAN_COMMIT as u64 + 100, 0)).unwrap();
            let busy = Arc::new(Busy { clock_us, looks: AtomicU64::new(looks), ..busy });
            let folder = Folder::open(&directory.0).unwrap();
            let engine = Engine::open(&folder.make_set().unwrap()).unwrap();
            // the last save is before its end
            let writer = DiskWriter::start(folder, engine, busy, Durability::Every(Duration::from_secs(60)));
            writer.unwrap().stop(Duration::from_secs(60));
            let head = Engine::open(&directory.0.join("set")).unwrap().head().unwrap().unwrap();
            (head.complete, head.set.committed)
        };
        assert_eq!(head_after(9, u64::MAX), (true, at(9)));
        // it looks at what there is to save, and then at each part
        assert_eq!(head_after(50, 2), (false, at(9)));
        assert_eq!(head_after(60, 3), (false, at(9)), "also if the one before ended half way");
        assert_eq!(head_after(70, u64::MAX), (true, at(70)));
    }

    #[test]
    fn other_users_may_not_look_into_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = Directory::new("rights");
        // also one that was made for the node, and is open to all
        std::fs::create_dir(&directory.0).unwrap();
        let folder = Folder::open(&directory.0).unwrap();
        let set = folder.make_set().unwrap();
        assert_eq!(std::fs::metadata(set).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        let made = Directory::new("made");
        let _folder = Folder::open(&made.0).unwrap();
        assert_eq!(std::fs::metadata(&made.0).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
