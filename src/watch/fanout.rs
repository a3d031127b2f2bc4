//! The fan-out: wakes the waiters of a change. It runs beside the write and not inside its request, with a pace, and
//! gives names their turns, so that a name with 100,000 watchers does not delay a name with a single one.
//!
//! The waiters of one name that wait for the same are one job. Each event loop of the fast path wakes the readers on
//! its own connections. The loop here wakes the readers that are tasks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::fair_queue::{FAN_OUT_SLICE, FairQueue, Job, WaitersOf};
use super::pace::Pace;
use super::{Waiter, Wake};
use crate::core::Ticket;

/// Up to this many waiters of a job, only event loops with a waiter get the job, and bells are rung by the writer; a
/// larger job goes to all loops.
const FEW: usize = 256;

/// Tasks that are woken before other tasks of the runtime have their turn.
const ROUND: u64 = 8 * FAN_OUT_SLICE as u64;

/// Passes changes to the loops that wake the waiters.
///
/// The queues have no bound of their own. Each waiter in them was a parked reader. A reader that disconnects is
/// replaced only by a new request, and its entry leaves the queue within the longest time of the pace.
#[derive(Clone)]
pub struct Fanout {
    tasks: UnboundedSender<FanoutMessage>,
    event_loops: Arc<OnceLock<Vec<Arc<dyn EventLoop>>>>,
    counters: Arc<Counters>,
}

enum FanoutMessage {
    Wake(Arc<Job>),
    /// Queued waiters are woken at this pace from now on, and later ones not slower.
    Hurry(Pace),
}

/// An event loop of the fast path, which wakes the readers on its connections.
pub trait EventLoop: Send + Sync {
    /// Adds a job. Does not wait.
    fn add(&self, job: Arc<Job>);

    /// Wakes the remaining waiters at this pace from now on, and those of later jobs not slower.
    fn hurry(&self, pace: Pace);
}

/// The counters of the fan-out.
#[derive(Debug, Default)]
pub struct Counters {
    /// Waiters whose change has come and that are not woken yet.
    pub pending: AtomicU64,
    /// Waiters that were woken, whether they were still there or not.
    pub woken: AtomicU64,
}

impl Counters {
    /// Counts woken waiters.
    pub fn count_woken(&self, count: u64) {
        self.pending.fetch_sub(count, Ordering::Relaxed);
        self.woken.fetch_add(count, Ordering::Relaxed);
    }
}

impl Fanout {
    /// The fan-out, and the loop that wakes tasks; the loop ends when the last `Fanout` is dropped.
    pub fn new() -> (Self, impl Future<Output = ()>) {
        let (tasks, queue) = unbounded_channel();
        let counters = Arc::new(Counters::default());
        let fanout = Self { tasks, event_loops: Arc::default(), counters: Arc::clone(&counters) };
        (fanout, run(queue, counters))
    }

    /// Sets the event loops of the fast path, once, before they park any reader.
    pub fn open(&self, event_loops: Vec<Arc<dyn EventLoop>>) {
        // a second call would be a bug; it changes nothing
        let _ = self.event_loops.set(event_loops);
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Wakes the waiters of changes. Each list is a job of its own, at a pace of its own from now on: a step may change
    /// several names, as a batch of a peer does, and the watchers of one do not wait behind those of another. A single
    /// waiter has no pause, so lists of one share a job. Costs the caller nothing per waiter of the other lists.
    pub fn wake_each(&self, due: Vec<Vec<(Ticket, Waiter)>>, wake: Wake, pace: Pace) {
        let mut single = Vec::new();
        let mut long = Vec::new();
        for mut list in due {
            if list.len() == 1 {
                single.append(&mut list);
            } else {
                long.push(list);
            }
        }
        self.start(single, wake, Pace::NONE);
        for list in long {
            self.start(list, wake, pace);
        }
    }

    /// Wakes all waiters of `due` as one job, at one pace from now on. Costs the caller nothing per waiter of the
    /// longest list but its bells, which are rung at once.
    pub fn wake_all(&self, mut due: Vec<Vec<(Ticket, Waiter)>>, wake: Wake, pace: Pace) {
        // the first of the longest lists, so that equal lists keep their order
        let longest = (0..due.len()).rev().max_by_key(|&list| due[list].len()).unwrap_or(0);
        if due.is_empty() {
            return;
        }
        let mut waiters = due.remove(longest);
        for mut list in due {
            waiters.append(&mut list);
        }
        self.ring(&mut waiters);
        self.start(waiters, wake, pace);
    }

    fn start(&self, mut waiters: Vec<(Ticket, Waiter)>, wake: Wake, pace: Pace) {
        if waiters.len() <= FEW {
            self.ring(&mut waiters);
        }
        if waiters.is_empty() {
            return;
        }
        self.counters.pending.fetch_add(waiters.len() as u64, Ordering::Relaxed);
        let job = Arc::new(Job { waiters, wake, started: Instant::now(), pace });
        let few = job.waiters.len() <= FEW;
        let concerns = |whom: WaitersOf| !few || job.waiters.iter().any(|(_, waiter)| whom.includes(waiter));
        for (event_loop, number) in self.event_loops().iter().zip(0..) {
            if concerns(WaitersOf::EventLoop(number)) {
                event_loop.add(Arc::clone(&job));
            }
        }
        if concerns(WaitersOf::Tasks) {
            // an error means that the process is ending, and the readers with it
            let _ = self.tasks.send(FanoutMessage::Wake(job));
        }
    }

    /// Rings the bells of a short list at once, and takes them from it: these readers are in this process, and a pause
    /// or another task in between would be most of their wait.
    fn ring(&self, waiters: &mut Vec<(Ticket, Waiter)>) {
        let all = waiters.len();
        waiters.retain(|(_, waiter)| {
            if let Waiter::Bell(bell) = waiter {
                bell.ring();
            }
            !matches!(waiter, Waiter::Bell(_))
        });
        self.counters.woken.fetch_add((all - waiters.len()) as u64, Ordering::Relaxed);
    }

    /// Wakes queued waiters at another pace from now on, and later ones not slower.
    pub fn hurry(&self, pace: Pace) {
        self.event_loops().iter().for_each(|event_loop| event_loop.hurry(pace));
        let _ = self.tasks.send(FanoutMessage::Hurry(pace));
    }

    fn event_loops(&self) -> &[Arc<dyn EventLoop>] {
        self.event_loops.get().map_or(&[], Vec::as_slice)
    }
}

async fn run(mut queue: UnboundedReceiver<FanoutMessage>, counters: Arc<Counters>) {
    let mut jobs = FairQueue::new(WaitersOf::Tasks);
    loop {
        while let Ok(message) = queue.try_recv() {
            apply(&mut jobs, message);
        }
        if jobs.is_empty() {
            match queue.recv().await {
                Some(message) => apply(&mut jobs, message),
                None => return,
            }
        }
        let now = Instant::now();
        let mut woken = 0;
        for _ in 0..jobs.len() {
            let Some(slice) = jobs.turn(now) else { break };
            for (_, waiter) in slice.waiters() {
                match waiter {
                    Waiter::Task(notifier) => notifier.notify(slice.job.wake),
                    Waiter::Bell(bell) => bell.ring(),
                    Waiter::Connection(_) | Waiter::Streams(_) => continue,
                }
                woken += 1;
            }
            if woken >= ROUND {
                break;
            }
        }
        counters.count_woken(woken);
        if woken > 0 {
            // lets the woken tasks run, and writers
            tokio::task::yield_now().await;
        } else if let Some(next) = jobs.next_due() {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                message = queue.recv() => match message {
                    Some(message) => apply(&mut jobs, message),
                    // no further jobs come; queued waiters are still woken in their time
                    None => tokio::time::sleep_until(next.into()).await,
                },
            }
        }
    }
}

fn apply(jobs: &mut FairQueue, message: FanoutMessage) {
    match message {
        FanoutMessage::Wake(job) => jobs.add(job),
        FanoutMessage::Hurry(pace) => jobs.hurry(Instant::now(), pace),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slotmap::Key;
    use tokio::sync::oneshot;

    use super::*;
    use crate::watch::Notifier;

    fn tasks(count: usize) -> (Vec<(Ticket, Waiter)>, Vec<oneshot::Receiver<Wake>>) {
        (0..count)
            .map(|_| {
                let (notifier, receiver) = Notifier::new();
                ((Ticket::null(), Waiter::Task(notifier)), receiver)
            })
            .unzip()
    }

    fn woken(receivers: &mut [oneshot::Receiver<Wake>]) -> usize {
        receivers.iter_mut().map(oneshot::Receiver::try_recv).filter(Result::is_ok).count()
    }

    const WAKE: Wake = Wake::Drain;

    #[tokio::test(start_paused = true)]
    async fn a_name_with_many_watchers_does_not_delay_a_name_with_one() {
        let (fanout, run) = Fanout::new();
        let (many, mut many_receivers) = tasks(100_000);
        let (single, mut single_receivers) = tasks(1);
        fanout.wake_each(vec![many], WAKE, Pace::NONE);
        fanout.wake_each(vec![single], WAKE, Pace::NONE);
        let run = tokio::spawn(run);
        while woken(&mut single_receivers) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(woken(&mut many_receivers) <= 2 * FAN_OUT_SLICE, "the single one was second in turn");
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    /// A push, or an answer of a sync, changes several names in one step.
    #[tokio::test(start_paused = true)]
    async fn names_of_one_step_do_not_delay_each_other() {
        let (fanout, run) = Fanout::new();
        let (many, mut many_receivers) = tasks(100_000);
        let (few, mut few_receivers) = tasks(10);
        let (mut due, mut single_receivers): (Vec<_>, Vec<_>) = (0..FAN_OUT_SLICE).map(|_| tasks(1)).unzip();
        due.splice(0..0, [many, few]);
        fanout.wake_each(due, WAKE, Pace::NONE);
        let run = tokio::spawn(run);
        let mut woken_others = 0;
        while woken_others < 10 + FAN_OUT_SLICE {
            tokio::task::yield_now().await;
            woken_others += woken(&mut few_receivers);
            woken_others += single_receivers.iter_mut().map(|one| woken(one)).sum::<usize>();
        }
        assert!(
            woken(&mut many_receivers) <= 2 * FAN_OUT_SLICE,
            "the others have their turns between slices"
        );
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    #[tokio::test]
    async fn a_single_watcher_has_no_pause_and_each_list_has_a_pace_of_its_own() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let pace = Pace { per_watcher: Duration::from_secs(3600), longest: Duration::MAX };
        let (due, receivers): (Vec<_>, Vec<_>) = (0..20).map(|list| tasks(1 + list % 2)).unzip();
        fanout.wake_each(due, WAKE, pace);
        for receiver in receivers.into_iter().filter_map(|of_list| of_list.into_iter().next()) {
            receiver.await.expect("the first of each list is woken at once");
        }
        assert_eq!(fanout.counters().pending.load(Ordering::Relaxed), 10, "the second of each pair");
        fanout.hurry(Pace::NONE);
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    #[tokio::test]
    async fn paced_wakes_are_spread_over_the_time_and_none_is_forgotten() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let pace = Pace { per_watcher: Duration::from_millis(1), longest: Duration::from_secs(9) };
        let (due, receivers) = tasks(50);
        let started = Instant::now();
        fanout.wake_each(vec![due], WAKE, pace);
        for (index, receiver) in receivers.into_iter().enumerate() {
            receiver.await.expect("woken");
            assert!(started.elapsed() >= pace.delay(index, 50), "not before its time");
        }
        assert_eq!(fanout.counters().woken.load(Ordering::Relaxed), 50);
        assert_eq!(fanout.counters().pending.load(Ordering::Relaxed), 0);
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    /// Checks that `wake` wakes all 100 waiters of `due` at once, though their pace is of hours.
    async fn hurries(wake: impl AsyncFnOnce(&Fanout, Vec<(Ticket, Waiter)>, Pace)) {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let (due, receivers) = tasks(100);
        wake(&fanout, due, Pace { per_watcher: Duration::from_secs(3600), longest: Duration::MAX }).await;
        for receiver in receivers {
            receiver.await.expect("woken");
        }
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    #[tokio::test(start_paused = true)]
    async fn queued_waiters_can_be_hurried() {
        hurries(async |fanout, due, hours| {
            fanout.wake_each(vec![due], WAKE, hours);
            tokio::task::yield_now().await;
            fanout.hurry(Pace::NONE);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_that_are_queued_after_the_hurry_are_hurried_too() {
        hurries(async |fanout, due, hours| {
            fanout.hurry(Pace::NONE);
            fanout.wake_each(vec![due], WAKE, hours);
        })
        .await;
    }

    #[tokio::test]
    async fn lists_that_are_woken_as_one_job_share_its_pace() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let pace = Pace { per_watcher: Duration::from_millis(5), longest: Duration::from_secs(9) };
        let (due, mut receivers): (Vec<_>, Vec<_>) = (0..10).map(|_| tasks(1)).unzip();
        let started = Instant::now();
        fanout.wake_all(due, WAKE, pace);
        let last = receivers.pop().and_then(|mut one| one.pop()).expect("ten lists of one");
        last.await.expect("woken");
        assert!(started.elapsed() >= pace.delay(9, 10), "{:?}", started.elapsed());
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }
}
