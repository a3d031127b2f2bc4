//! Discovery: the addresses of other nodes, by resolving the seeds of `--replicate-with` repeatedly.
//!
//! Names are resolved every `--replicate-resolve-interval`, whatever the TTL says. Each time a new resolver is made
//! from `/etc/resolv.conf`, so that no cache hides a change. If a name cannot be resolved, its last answer is kept; an
//! answer without addresses is an answer.

mod resolve;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::wire::seed::{Seed, is_of_a_node};
pub use resolve::Dns;
use resolve::LastAnswers;

/// Most addresses that are used: several times the largest cluster that is supported. Further addresses are counted and
/// left off.
pub const MAX_ADDRESSES: usize = 1024;

/// Until DNS has answered for a seed once, the seed is resolved this often, so that a node that starts together with
/// its DNS does not wait long.
const FIRST_ANSWER_EVERY: Duration = Duration::from_secs(1);

/// For this long after its start a node also resolves as often while a seed has one address at most, which may be its
/// own. The node is about to decide that there is no other node, and one early answer must not be enough for that.
const EAGER: Duration = Duration::from_secs(10);

/// A seed, and its addresses.
#[derive(Clone, Debug)]
pub struct SeedResolution {
    /// The seed.
    pub seed: Seed,
    /// The addresses of the last answer.
    pub addresses: Arc<[SocketAddr]>,
    /// When DNS last answered, even if the answer had no addresses.
    pub last_ok: Option<Instant>,
    /// When the last attempt failed, and why, if that was after the last answer.
    pub error: Option<(Instant, String)>,
}

/// All seeds, and all their addresses.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryState {
    /// All addresses, sorted, each once, [`MAX_ADDRESSES`] at most. This node's own addresses are among them.
    pub addresses: Arc<[SocketAddr]>,
    /// Each seed.
    pub seeds: Vec<SeedResolution>,
    /// The number of addresses beyond [`MAX_ADDRESSES`].
    pub left_off: usize,
}

impl DiscoveryState {
    /// The number of seeds that DNS has never answered for: their nodes are unknown, which differs from no nodes.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.seeds.iter().filter(|status| status.last_ok.is_none()).count()
    }

    /// The age of the oldest of the last answers for names; zero if there are none.
    #[must_use]
    pub fn age(&self) -> Duration {
        let names = self.seeds.iter().filter(|status| !matches!(status.seed, Seed::Address(_)));
        names.filter_map(|status| status.last_ok).map(|at| at.elapsed()).max().unwrap_or_default()
    }

    fn sum_up(&mut self) {
        let all: BTreeSet<SocketAddr> =
            self.seeds.iter().flat_map(|status| status.addresses.iter().copied()).collect();
        self.left_off = all.len().saturating_sub(MAX_ADDRESSES);
        self.addresses = all.into_iter().take(MAX_ADDRESSES).collect();
    }
}

/// Resolves seeds until it is dropped, or until the future of [`Discovery::supervise`] is dropped.
#[derive(Debug)]
pub struct Discovery {
    found: watch::Receiver<DiscoveryState>,
    tasks: JoinSet<()>,
}

impl Discovery {
    /// Starts a loop for each seed that is a name. Needs a tokio runtime.
    #[must_use]
    pub fn start(seeds: &[Seed], every: Duration, dns: &Dns) -> Self {
        let now = Instant::now();
        let status = |seed: &Seed| SeedResolution {
            seed: seed.clone(),
            addresses: match seed {
                Seed::Address(address) => [*address].into(),
                _ => [].into(),
            },
            last_ok: matches!(seed, Seed::Address(_)).then_some(now),
            error: None,
        };
        let mut first =
            DiscoveryState { seeds: seeds.iter().map(status).collect(), ..DiscoveryState::default() };
        first.sum_up();
        let (sender, found) = watch::channel(first);
        let sender = Arc::new(sender);
        let names = seeds.iter().enumerate().filter(|(_, seed)| !matches!(seed, Seed::Address(_)));
        let tasks = names
            .map(|(at, seed)| resolve_repeatedly(at, seed.clone(), every, dns.clone(), Arc::clone(&sender)))
            .collect();
        Self { found, tasks }
    }

    /// The state of discovery, now and after each round.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<DiscoveryState> {
        self.found.clone()
    }

    /// Runs as long as the loops that resolve names, and panics if one of them panics: otherwise the last answer would
    /// stay for ever without a sign of it. The loops run whether or not this future is polled.
    pub fn supervise(&mut self) -> impl Future<Output = ()> + Send + use<> {
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

async fn resolve_repeatedly(
    at: usize,
    seed: Seed,
    every: Duration,
    dns: Dns,
    found: Arc<watch::Sender<DiscoveryState>>,
) {
    let mut answers = LastAnswers::default();
    let started = Instant::now();
    let mut answered = false;
    // an interval of zero would be a storm
    let every = every.max(Duration::from_millis(10));
    let mut round = tokio::time::interval(every);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let lonely = answers.addresses().nth(1).is_none() && started.elapsed() < EAGER;
        if answered && !lonely {
            round.tick().await;
        } else if answers.rounds > 0 {
            tokio::time::sleep(FIRST_ANSWER_EVERY.min(every)).await;
        }
        let result = answers.update(&seed, &dns).await;
        if result.is_ok() && !answered {
            answered = true;
            round.reset();
        }
        found.send_modify(|found| apply(found, at, &answers, result));
    }
}

/// Applies the result of a round, and logs changes.
fn apply(found: &mut DiscoveryState, at: usize, answers: &LastAnswers, result: Result<(), String>) {
    let now = Instant::now();
    let before = Arc::clone(&found.addresses);
    let left_off = found.left_off;
    let status = &mut found.seeds[at];
    let seed = status.seed.to_string();
    let mut addresses: Vec<_> = answers.addresses().filter(|address| is_of_a_node(address.ip())).collect();
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
                tracing::info!("discovery: {seed} is answered: {} addresses", status.addresses.len());
            }
        }
        Err(error) => {
            if news {
                tracing::warn!(
                    "discovery: {seed} cannot be resolved: {error}: its last answer is kept ({} addresses)",
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

/// One line with the addresses that came and went; long lists are cut.
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
        let seeds = Seed::parse_list("10.0.0.2:8008,10.0.0.1:8008").unwrap();
        let discovery = Discovery::start(&seeds, Duration::from_secs(10), &Dns::System);
        let found = discovery.found().borrow().clone();
        let shown: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:8008", "10.0.0.2:8008"]);
        assert_eq!((found.unanswered(), discovery.tasks.len()), (0, 0));
    }

    #[tokio::test]
    async fn supervise_panics_if_a_loop_panics() {
        let (_, found) = watch::channel(DiscoveryState::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("on purpose") });
        let mut discovery = Discovery { found, tasks };
        assert!(tokio::spawn(discovery.supervise()).await.is_err_and(|error| error.is_panic()));
    }

    #[test]
    fn too_many_addresses_are_left_off_and_counted() {
        let status = |seed: &str, addresses| SeedResolution {
            seed: Seed::parse(seed).unwrap(),
            addresses,
            last_ok: None,
            error: None,
        };
        let seeds = vec![status("a", addresses(1..1000)), status("b", addresses(500..2001))];
        let mut found = DiscoveryState { seeds, ..DiscoveryState::default() };
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
