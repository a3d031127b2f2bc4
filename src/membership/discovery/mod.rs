//! Where other nodes may be: `--replicate-with`, resolved again and again.
//!
//! Names are resolved every `--replicate-resolve-interval` whatever the TTL says, by a resolver made anew from
//! `/etc/resolv.conf` each time: nothing that is kept anywhere can hide a change. What cannot be resolved keeps its last answer;
//! an answer that there is nobody is an answer.

mod resolve;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::target::{Target, is_of_a_node};
pub use resolve::Dns;
use resolve::Memory;

/// Most addresses that are taken: several times the largest group that is meant to work. What is beyond is counted and
/// left off.
pub const MAX_ADDRESSES: usize = 1024;

/// Until a target has answered once, it is asked this often: a node that starts together with its DNS should not wait long.
const FIRST_ANSWER_EVERY: Duration = Duration::from_secs(1);

/// For this long after its start a node asks as often while it is told of one address at most, which may be its own: it is
/// about to decide that nobody else is there, and one answer from before the others were known must not be enough for that.
const EAGER: Duration = Duration::from_secs(10);

/// What one target came to.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// Who was asked for.
    pub target: Target,
    /// Its addresses as of the last answer.
    pub addresses: Arc<[SocketAddr]>,
    /// When it was last answered, even if the answer was that there is nobody.
    pub last_ok: Option<Instant>,
    /// When it last failed, and why, if that was after the last answer.
    pub error: Option<(Instant, String)>,
}

/// What all of discovery came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All addresses, sorted, each once, [`MAX_ADDRESSES`] at most. Those of ourselves are among them.
    pub addresses: Arc<[SocketAddr]>,
    /// Each target.
    pub targets: Vec<TargetStatus>,
    /// Addresses beyond [`MAX_ADDRESSES`].
    pub left_off: usize,
}

impl Found {
    /// Targets that never answered: whoever they stand for is unknown, which is not the same as nobody.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.targets.iter().filter(|status| status.last_ok.is_none()).count()
    }

    /// Age of the oldest answer among those for names; nothing where there are none.
    #[must_use]
    pub fn age(&self) -> Duration {
        let names = self.targets.iter().filter(|status| !matches!(status.target, Target::Address(_)));
        names.filter_map(|status| status.last_ok).map(|at| at.elapsed()).max().unwrap_or_default()
    }

    fn sum_up(&mut self) {
        let all: BTreeSet<SocketAddr> =
            self.targets.iter().flat_map(|status| status.addresses.iter().copied()).collect();
        self.left_off = all.len().saturating_sub(MAX_ADDRESSES);
        self.addresses = all.into_iter().take(MAX_ADDRESSES).collect();
    }
}

/// Resolves until it is dropped, or what [`Discovery::asking`] gave.
#[derive(Debug)]
pub struct Discovery {
    found: watch::Receiver<Found>,
    tasks: JoinSet<()>,
}

impl Discovery {
    /// Starts a loop for each target that is a name. Needs a tokio runtime.
    #[must_use]
    pub fn start(targets: &[Target], every: Duration, dns: &Dns) -> Self {
        let now = Instant::now();
        let status = |target: &Target| TargetStatus {
            target: target.clone(),
            addresses: match target {
                Target::Address(address) => [*address].into(),
                _ => [].into(),
            },
            last_ok: matches!(target, Target::Address(_)).then_some(now),
            error: None,
        };
        let mut first = Found { targets: targets.iter().map(status).collect(), ..Found::default() };
        first.sum_up();
        let (sender, found) = watch::channel(first);
        let sender = Arc::new(sender);
        let names = targets.iter().enumerate().filter(|(_, target)| !matches!(target, Target::Address(_)));
        let tasks = names
            .map(|(at, target)| ask_for_ever(at, target.clone(), every, dns.clone(), Arc::clone(&sender)))
            .collect();
        Self { found, tasks }
    }

    /// What was found, now and after each round.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<Found> {
        self.found.clone()
    }

    /// Goes on while names are asked for, and panics if that breaks down: else the last answer would stand for ever, and
    /// nobody would know. To be run by whoever looks after such loops; names are asked for either way.
    pub fn asking(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let mut tasks = std::mem::take(&mut self.tasks);
        async move {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

async fn ask_for_ever(
    at: usize,
    target: Target,
    every: Duration,
    dns: Dns,
    found: Arc<watch::Sender<Found>>,
) {
    let mut memory = Memory::default();
    let started = Instant::now();
    let mut answered = false;
    // an interval of zero would be a storm
    let every = every.max(Duration::from_millis(10));
    let mut round = tokio::time::interval(every);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let lonely = memory.addresses().nth(1).is_none() && started.elapsed() < EAGER;
        if answered && !lonely {
            round.tick().await;
        } else if memory.rounds > 0 {
            tokio::time::sleep(FIRST_ANSWER_EVERY.min(every)).await;
        }
        let result = memory.ask(&target, &dns).await;
        if result.is_ok() && !answered {
            answered = true;
            round.reset();
        }
        found.send_modify(|found| take(found, at, &memory, result));
    }
}

/// Takes the outcome of a round, and says in one line if anything is different.
fn take(found: &mut Found, at: usize, memory: &Memory, result: Result<(), String>) {
    let now = Instant::now();
    let before = Arc::clone(&found.addresses);
    let left_off = found.left_off;
    let status = &mut found.targets[at];
    let target = status.target.to_string();
    let mut addresses: Vec<_> = memory.addresses().filter(|address| is_of_a_node(address.ip())).collect();
    addresses.sort_unstable();
    addresses.dedup();
    status.addresses = addresses.into();
    let news = match &result {
        Ok(()) => status.last_ok.is_none() || status.error.is_some(),
        Err(_) => status.error.is_none(),
    };
    match result {
        Ok(()) => {
            status.last_ok = Some(now);
            status.error = None;
            if news {
                tracing::info!("discovery: {target} is answered: {} addresses", status.addresses.len());
            }
        }
        Err(error) => {
            if news {
                tracing::warn!(
                    "discovery: {target} cannot be resolved: {error}: its last answer is kept ({} addresses)",
                    status.addresses.len()
                );
            }
            status.error = Some((now, error));
        }
    }
    found.sum_up();
    if found.addresses != before {
        tracing::info!("{}", change(&before, &found.addresses));
    }
    if found.left_off > 0 && found.left_off != left_off {
        tracing::warn!(
            "discovery: {} addresses are more than {MAX_ADDRESSES} and are left off: name fewer with --replicate-with",
            found.left_off
        );
    }
}

/// One line on what came and went; long lists are cut.
fn change(before: &[SocketAddr], after: &[SocketAddr]) -> String {
    let list = |of: &[SocketAddr], without: &[SocketAddr]| {
        let some: Vec<_> = of.iter().filter(|address| !without.contains(address)).collect();
        let shown: Vec<_> = some.iter().take(10).map(ToString::to_string).collect();
        let more = if some.len() > shown.len() { ", …" } else { "" };
        match some.len() {
            0 => "none".to_owned(),
            count => format!("{count} ({}{more})", shown.join(", ")),
        }
    };
    format!(
        "discovery: {} addresses now; new: {}; gone: {}",
        after.len(),
        list(after, before),
        list(before, after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(range: std::ops::Range<u32>) -> Arc<[SocketAddr]> {
        range.map(|i| SocketAddr::from((i.to_be_bytes(), 8008))).collect()
    }

    #[tokio::test]
    async fn addresses_need_no_dns() {
        let targets = Target::parse_list("10.0.0.2:8008,10.0.0.1:8008").unwrap();
        let discovery = Discovery::start(&targets, Duration::from_secs(10), &Dns::System);
        let found = discovery.found().borrow().clone();
        let shown: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:8008", "10.0.0.2:8008"]);
        assert_eq!((found.unanswered(), discovery.tasks.len()), (0, 0));
    }

    #[tokio::test]
    async fn who_looks_after_it_notices_that_it_broke_down() {
        let (_, found) = watch::channel(Found::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("on purpose") });
        let mut discovery = Discovery { found, tasks };
        assert!(tokio::spawn(discovery.asking()).await.is_err_and(|error| error.is_panic()));
    }

    #[test]
    fn too_many_are_left_off_and_counted() {
        let status = |target: &str, addresses| TargetStatus {
            target: Target::parse(target).unwrap(),
            addresses,
            last_ok: None,
            error: None,
        };
        let targets = vec![status("a", addresses(1..1000)), status("b", addresses(500..2001))];
        let mut found = Found { targets, ..Found::default() };
        found.sum_up();
        assert_eq!((found.addresses.len(), found.left_off), (MAX_ADDRESSES, 2000 - MAX_ADDRESSES));
        assert!(found.addresses.is_sorted());
        assert_eq!(found.unanswered(), 2);
    }

    #[test]
    fn a_change_is_one_line_of_bounded_length() {
        assert_eq!(
            change(&addresses(1..3), &addresses(2..4)),
            "discovery: 2 addresses now; new: 1 (0.0.0.3:8008); gone: 1 (0.0.0.1:8008)"
        );
        let line = change(&[], &addresses(1..1000));
        assert!(line.len() < 400 && line.contains("…") && line.ends_with("gone: none"), "{line}");
    }
}
