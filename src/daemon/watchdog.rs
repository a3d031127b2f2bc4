//! A thread of its own that checks whether the others go on, answers in their place while they stand still, and ends a
//! process that cannot stop by itself.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::daemon::logging;
use crate::daemon::signals::Ending;
use crate::http::accept_errors::ACCEPT_PAUSE;
use crate::http::closing::end;
use crate::http::responder::LAST_WORDS_TIME;
use crate::http::unavailable::unavailable;
use crate::node::lifecycle::{Lifecycle, Phase};
use crate::node::pulse::{BEAT_EVERY, News, Pulse, STALLED, WORKERS};
use crate::node::store::SharedStore;
use crate::wire::error_code::ErrorCode;

/// A stop may take this much longer than its grace.
const BEYOND_GRACE: Duration = Duration::from_secs(2);

/// The second signal ends the process after this long, if it does not end by itself.
const SECOND_SIGNAL: Duration = Duration::from_secs(1);

/// Most connections that get an answer at the same time while the node stands still. Further ones are closed without
/// one.
const MAX_REFUSED_AT_ONCE: usize = 64;

/// Ends the process of a node that cannot stop in order.
pub(super) fn end_as_it_is() -> ! {
    tracing::error!("the node does not stop in time: ending the process as it is");
    logging::exit();
}

/// The watchdog before its start.
pub(crate) struct Watchdog {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) shutdown_grace: Duration,
    /// Ports that need the workers of the runtime. The watchdog answers there while the workers stand still.
    pub(crate) ports: Vec<StdTcpListener>,
}

impl Watchdog {
    /// Starts the thread, which lives as long as the process. It checks the workers of the runtime of the caller, which
    /// also have to get the lock of the store.
    ///
    /// # Errors
    /// If the system has no thread, poll or signal handler for it.
    pub(crate) fn start(self, store: SharedStore) -> io::Result<()> {
        let workers = Handle::current();
        self.pulse.add(WORKERS, move |beat| {
            let store = store.clone();
            drop(workers.spawn(async move {
                // under the lock
                store.with(|_| ());
                beat.answer();
            }));
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let ending = {
            let _guard = runtime.enter();
            Ending::new()?
        };
        thread::Builder::new().name("watchdog".into()).spawn(move || runtime.block_on(self.run(ending)))?;
        Ok(())
    }

    async fn run(self, mut ending: Ending) {
        let mut every = tokio::time::interval(BEAT_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end_at: Option<Instant> = None;
        let mut in_place = None;
        loop {
            tokio::select! {
                _ = every.tick() => {
                    // a node that is closing ends its parts one by one
                    if self.lifecycle.phase() < Phase::Closing {
                        self.pulse.check().into_iter().for_each(log);
                    }
                    // while another part stands still the workers go on answering, and writes and peers need them
                    match (self.pulse.stands_still(WORKERS), &in_place) {
                        (true, None) => in_place = Some(self.answer_in_place()),
                        (false, Some(_)) => in_place = None,
                        _ => {}
                    }
                }
                _ = ending.next() => {
                    let now = Instant::now();
                    end_at = Some(match end_at {
                        None => now + self.shutdown_grace + BEYOND_GRACE,
                        Some(at) => at.min(now + SECOND_SIGNAL),
                    });
                }
                () = until(end_at) => {
                    end_as_it_is();
                }
            }
        }
    }

    /// Answers new connections that the node stands still, until the returned tasks are dropped.
    fn answer_in_place(&self) -> tokio::task::JoinSet<()> {
        let mut tasks = tokio::task::JoinSet::new();
        // registered only now: otherwise each connection would wake this thread
        for listener in self.ports.iter().filter_map(|port| port.try_clone().ok()) {
            if let Ok(listener) = TcpListener::from_std(listener) {
                tasks.spawn(refuse_all(listener));
            }
        }
        tasks
    }
}

async fn refuse_all(listener: TcpListener) {
    let at_once = Arc::new(Semaphore::new(MAX_REFUSED_AT_ONCE));
    loop {
        match (listener.accept().await, Arc::clone(&at_once).try_acquire_owned()) {
            (Ok((stream, _)), Ok(permit)) => drop(tokio::spawn(refuse(stream, permit))),
            (Ok(_), Err(_)) => {}
            (Err(_), _) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers with 503, and reads what comes until the other side closes, for a short time.
async fn refuse(mut stream: TcpStream, permit: OwnedSemaphorePermit) {
    let answer = async {
        stream.write_all(unavailable(ErrorCode::Stalled, STALLED).as_bytes()).await?;
        end(&mut stream).await
    };
    let _ = timeout(LAST_WORDS_TIME, answer).await;
    drop(permit);
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn log(news: News) {
    match news {
        News::Stalled(part) => tracing::error!(
            part,
            "this part of the node stands still: the node answers reads and health checks with 503 until it goes on"
        ),
        News::GoesOn(part) => tracing::warn!(part, "this part of the node goes on again"),
    }
}
