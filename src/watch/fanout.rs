//! Tells those whom a change concerns: beside the writer and not inside its request, paced, and names in turn, so that
//! a name with 100,000 watchers does not keep one with a single watcher waiting.
//!
//! A change is one job, and each of the fast path's loops tells its own readers. The loop here rings the bells of those who
//! listen by themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::fair_queue::{FairQueue, Job, SLICE, Whom};
use super::pace::Pace;
use super::{Waiter, Wake};
use crate::core::Ticket;

/// Up to so many waiters, the event loops are chosen one by one; beyond, all of them look for their own.
const FEW: usize = 256;

/// Bells rung before others of the runtime have their turn.
const ROUND: u64 = 8 * SLICE as u64;

/// Hands changes to those who tell of them.
///
/// The queues have no bound of their own. Each waiter in them was a parked reader; one that gives up is replaced only by
/// a new request, and its place in the queue is gone after the longest time that the pace allows.
#[derive(Clone)]
pub struct Fanout {
    bells: UnboundedSender<FanoutMessage>,
    event_loops: Arc<OnceLock<Vec<Arc<dyn EventLoop>>>>,
    counters: Arc<Counters>,
}

enum FanoutMessage {
    Ring(Arc<Job>),
    /// From now on what is queued is rung at this pace, and what is queued later no slower.
    Hurry(Pace),
}

/// A loop of the fast path, which tells the readers that are seated in it.
pub trait EventLoop: Send + Sync {
    /// Takes a job on. Does not wait for anything.
    fn take_on(&self, job: Arc<Job>);

    /// From now on those who have yet to be told are told at this pace, and those of later jobs no slower.
    fn hurry(&self, pace: Pace);
}

/// What the fan-out has done and has yet to do.
#[derive(Debug, Default)]
pub struct Counters {
    /// Waiters whose change has come and who have yet to be told.
    pub pending: AtomicU64,
    /// Waiters told, whether they were still there or not.
    pub rung: AtomicU64,
}

impl Counters {
    /// Counts waiters who were told.
    pub fn told(&self, count: u64) {
        self.pending.fetch_sub(count, Ordering::Relaxed);
        self.rung.fetch_add(count, Ordering::Relaxed);
    }
}

impl Fanout {
    /// The fan-out and the loop that rings bells, which ends when the last `Fanout` is dropped.
    pub fn new() -> (Self, impl Future<Output = ()>) {
        let (bells, queue) = unbounded_channel();
        let counters = Arc::new(Counters::default());
        let fanout = Self { bells, event_loops: Arc::default(), counters: Arc::clone(&counters) };
        (fanout, run(queue, counters))
    }

    /// Makes the loops of the fast path known, once, before anybody is seated in them.
    pub fn open(&self, event_loops: Vec<Arc<dyn EventLoop>>) {
        // a second time would be a mistake of ours that changes nothing
        let _ = self.event_loops.set(event_loops);
    }

    /// What it has done and has yet to do.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Wakes all of `due`, at a pace from now on. Costs the caller nothing per waiter of the longest list.
    pub fn ring(&self, mut due: Vec<Vec<(Ticket, Waiter)>>, wake: Wake, pace: Pace) {
        // of equals the first, so that they keep their order
        let longest = (0..due.len()).rev().max_by_key(|&list| due[list].len()).unwrap_or(0);
        if due.is_empty() {
            return;
        }
        let mut waiters = due.remove(longest);
        for mut list in due {
            waiters.append(&mut list);
        }
        self.counters.pending.fetch_add(waiters.len() as u64, Ordering::Relaxed);
        let job = Arc::new(Job { waiters, wake, started: Instant::now(), pace });
        let few = job.waiters.len() <= FEW;
        let concerns = |whom: Whom| !few || job.waiters.iter().any(|(_, waiter)| whom.includes(waiter));
        for (event_loop, number) in self.event_loops().iter().zip(0..) {
            if concerns(Whom::EventLoop(number)) {
                event_loop.take_on(Arc::clone(&job));
            }
        }
        if concerns(Whom::Listening) {
            // without a loop the process is ending, and the readers end with it
            let _ = self.bells.send(FanoutMessage::Ring(job));
        }
    }

    /// Wakes those who are queued already at another pace from now on, and those who are queued later no slower.
    pub fn hurry(&self, pace: Pace) {
        self.event_loops().iter().for_each(|event_loop| event_loop.hurry(pace));
        let _ = self.bells.send(FanoutMessage::Hurry(pace));
    }

    fn event_loops(&self) -> &[Arc<dyn EventLoop>] {
        self.event_loops.get().map_or(&[], Vec::as_slice)
    }
}

async fn run(mut queue: UnboundedReceiver<FanoutMessage>, counters: Arc<Counters>) {
    let mut rounds = FairQueue::new(Whom::Listening);
    loop {
        while let Ok(message) = queue.try_recv() {
            take_in(&mut rounds, message);
        }
        if rounds.is_empty() {
            match queue.recv().await {
                Some(message) => take_in(&mut rounds, message),
                None => return,
            }
        }
        let now = Instant::now();
        let mut rung = 0;
        for _ in 0..rounds.len() {
            let Some(slice) = rounds.turn(now) else { break };
            for (_, waiter) in slice.waiters() {
                if let Waiter::Listening(bell) = waiter {
                    bell.ring(slice.job.wake);
                    rung += 1;
                }
            }
            if rung >= ROUND {
                break;
            }
        }
        counters.told(rung);
        if rung > 0 {
            // those who were woken get to run, and so do writers
            tokio::task::yield_now().await;
        } else if let Some(next) = rounds.next_due() {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                message = queue.recv() => match message {
                    Some(message) => take_in(&mut rounds, message),
                    // nobody adds to it any more; what is there is still rung in its time
                    None => tokio::time::sleep_until(next.into()).await,
                },
            }
        }
    }
}

fn take_in(rounds: &mut FairQueue, message: FanoutMessage) {
    match message {
        FanoutMessage::Ring(job) => rounds.add(job),
        FanoutMessage::Hurry(pace) => rounds.hurry(Instant::now(), pace),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slotmap::Key;
    use tokio::sync::oneshot;

    use super::*;
    use crate::watch::Notifier;

    fn bells(count: usize) -> (Vec<(Ticket, Waiter)>, Vec<oneshot::Receiver<Wake>>) {
        (0..count)
            .map(|_| {
                let (bell, rung) = Notifier::new();
                ((Ticket::null(), Waiter::Listening(bell)), rung)
            })
            .unzip()
    }

    fn heard(receivers: &mut [oneshot::Receiver<Wake>]) -> usize {
        receivers.iter_mut().map(oneshot::Receiver::try_recv).filter(Result::is_ok).count()
    }

    const WAKE: Wake = Wake::Drain;

    #[tokio::test(start_paused = true)]
    async fn a_name_with_many_watchers_does_not_delay_one_with_a_single() {
        let (fanout, run) = Fanout::new();
        let (many, mut many_heard) = bells(100_000);
        let (single, mut single_heard) = bells(1);
        fanout.ring(vec![many], WAKE, Pace::NONE);
        fanout.ring(vec![single], WAKE, Pace::NONE);
        let run = tokio::spawn(run);
        while heard(&mut single_heard) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(heard(&mut many_heard) <= 2 * SLICE, "the single one was second in turn");
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    #[tokio::test]
    async fn paced_bells_ring_over_the_span_and_none_is_forgotten() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let pace = Pace { per_watcher: Duration::from_millis(1), longest: Duration::from_secs(9) };
        let (due, receivers) = bells(50);
        let started = Instant::now();
        fanout.ring(vec![due], WAKE, pace);
        for (index, receiver) in receivers.into_iter().enumerate() {
            receiver.await.expect("rung");
            assert!(started.elapsed() >= pace.delay(index, 50), "not before its time");
        }
        assert_eq!(fanout.counters().rung.load(Ordering::Relaxed), 50);
        assert_eq!(fanout.counters().pending.load(Ordering::Relaxed), 0);
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    /// Does to a fan-out what should wake all 100 of `due` at once, though their pace is of hours.
    async fn hurries(wake: impl AsyncFnOnce(&Fanout, Vec<(Ticket, Waiter)>, Pace)) {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let (due, receivers) = bells(100);
        wake(&fanout, due, Pace { per_watcher: Duration::from_secs(3600), longest: Duration::MAX }).await;
        for receiver in receivers {
            receiver.await.expect("rung");
        }
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_queued_can_be_hurried() {
        hurries(async |fanout, due, hours| {
            fanout.ring(vec![due], WAKE, hours);
            tokio::task::yield_now().await;
            fanout.hurry(Pace::NONE);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_queued_behind_the_hurry_is_hurried_too() {
        hurries(async |fanout, due, hours| {
            fanout.hurry(Pace::NONE);
            fanout.ring(vec![due], WAKE, hours);
        })
        .await;
    }

    #[tokio::test]
    async fn lists_of_one_change_share_its_pace() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let pace = Pace { per_watcher: Duration::from_millis(5), longest: Duration::from_secs(9) };
        let (due, mut receivers): (Vec<_>, Vec<_>) = (0..10).map(|_| bells(1)).unzip();
        let started = Instant::now();
        fanout.ring(due, WAKE, pace);
        let last = receivers.pop().and_then(|mut one| one.pop()).expect("ten lists of one");
        last.await.expect("rung");
        assert!(started.elapsed() >= pace.delay(9, 10), "{:?}", started.elapsed());
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
    }
}
