//! Rings the bells of those whom a change concerns: beside the writer and not inside its request, paced, and names in
//! turn, so that a name with 100,000 watchers does not keep one with a single watcher waiting.

use std::collections::VecDeque;
use std::iter::Flatten;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::pace::Pace;
use super::{Bell, Wake};
use crate::core::Ticket;

/// Bells rung for one name before the next name has its turn: about 10 µs of work.
const SLICE: usize = 64;

/// Bells rung before others of the runtime have their turn.
const ROUND: u64 = 8 * SLICE as u64;

/// Those whom one change concerns, list behind list.
struct Job {
    bells: Flatten<std::vec::IntoIter<Vec<(Ticket, Bell)>>>,
    count: usize,
    rung: usize,
    started: Instant,
    wake: Wake,
    pace: Pace,
}

enum Message {
    Ring(Job),
    /// From now on what is queued is rung at this pace.
    Hurry(Pace),
}

/// Hands changes to the fan-out.
///
/// The queue has no bound of its own. Each bell in it was a parked reader; one that gives up is replaced only by a new
/// request, and its bell is gone after the longest time that the pace allows.
#[derive(Clone)]
pub struct Fanout {
    queue: UnboundedSender<Message>,
    counters: Arc<Counters>,
}

/// What the fan-out has done and has yet to do.
#[derive(Debug, Default)]
pub struct Counters {
    /// Waiters whose change has come and whose bell has yet to ring.
    pub pending: AtomicU64,
    /// Bells rung, heard or not.
    pub rung: AtomicU64,
}

impl Fanout {
    /// The fan-out and the loop that does its work, which ends when the last `Fanout` is dropped.
    pub fn new() -> (Self, impl Future<Output = ()>) {
        let (sender, queue) = unbounded_channel();
        let counters = Arc::new(Counters::default());
        (Self { queue: sender, counters: Arc::clone(&counters) }, run(queue, counters))
    }

    /// What it has done and has yet to do.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Wakes all of `due`, at a pace from now on. Costs the caller nothing per waiter.
    pub fn ring(&self, due: Vec<Vec<(Ticket, Bell)>>, wake: Wake, pace: Pace) {
        let count: usize = due.iter().map(Vec::len).sum();
        self.counters.pending.fetch_add(count as u64, Ordering::Relaxed);
        let bells = due.into_iter().flatten();
        let job = Job { bells, count, rung: 0, started: Instant::now(), wake, pace };
        // without a loop the process is ending, and the readers end with it
        let _ = self.queue.send(Message::Ring(job));
    }

    /// Wakes those who are queued already at another pace from now on.
    pub fn hurry(&self, pace: Pace) {
        let _ = self.queue.send(Message::Hurry(pace));
    }
}

async fn run(mut queue: UnboundedReceiver<Message>, counters: Arc<Counters>) {
    let mut jobs: VecDeque<Job> = VecDeque::new();
    loop {
        while let Ok(message) = queue.try_recv() {
            take_in(&mut jobs, message);
        }
        if jobs.is_empty() {
            match queue.recv().await {
                Some(message) => take_in(&mut jobs, message),
                None => return,
            }
        }
        let mut rung = 0;
        let now = Instant::now();
        for _ in 0..jobs.len() {
            let Some(mut job) = jobs.pop_front() else { break };
            rung += job.ring_what_is_due(now);
            if job.rung < job.count {
                jobs.push_back(job);
            }
            if rung >= ROUND {
                break;
            }
        }
        counters.pending.fetch_sub(rung, Ordering::Relaxed);
        counters.rung.fetch_add(rung, Ordering::Relaxed);
        if rung > 0 {
            // those who were woken get to run, and so do writers
            tokio::task::yield_now().await;
        } else if let Some(next) = jobs.iter().map(Job::next_due).min() {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                message = queue.recv() => match message {
                    Some(message) => take_in(&mut jobs, message),
                    // nobody adds to it any more; what is there is still rung in its time
                    None => tokio::time::sleep_until(next.into()).await,
                },
            }
        }
    }
}

fn take_in(jobs: &mut VecDeque<Job>, message: Message) {
    match message {
        Message::Ring(job) => jobs.push_back(job),
        Message::Hurry(pace) => {
            let now = Instant::now();
            for job in jobs {
                job.count -= job.rung;
                job.rung = 0;
                job.started = now;
                job.pace = pace;
            }
        }
    }
}

impl Job {
    fn next_due(&self) -> Instant {
        self.started + self.pace.delay(self.rung, self.count)
    }

    fn ring_what_is_due(&mut self, now: Instant) -> u64 {
        let mut rung = 0;
        while rung < SLICE as u64
            && self.next_due() <= now
            && let Some((_, bell)) = self.bells.next()
        {
            let _ = bell.send(self.wake);
            self.rung += 1;
            rung += 1;
        }
        rung
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slotmap::Key;
    use tokio::sync::oneshot;

    use super::*;

    fn bells(count: usize) -> (Vec<(Ticket, Bell)>, Vec<oneshot::Receiver<Wake>>) {
        (0..count)
            .map(|_| {
                let (bell, rung) = oneshot::channel();
                ((Ticket::null(), bell), rung)
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

    #[tokio::test(start_paused = true)]
    async fn what_is_queued_can_be_hurried() {
        let (fanout, run) = Fanout::new();
        let run = tokio::spawn(run);
        let hours = Pace { per_watcher: Duration::from_secs(3600), longest: Duration::MAX };
        let (due, receivers) = bells(100);
        fanout.ring(vec![due], WAKE, hours);
        tokio::task::yield_now().await;
        fanout.hurry(Pace::NONE);
        for receiver in receivers {
            receiver.await.expect("rung");
        }
        drop(fanout);
        run.await.expect("the loop ends with the last handle");
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
