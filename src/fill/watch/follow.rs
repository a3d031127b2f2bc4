//! The loop that follows one name at a leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::LeaderAnswer;
use super::behind::BehindAddresses;
use super::copy::{CopyError, copy, is_far_ahead};
use super::request::{WaitFor, park_time, park_time_of, request};
use crate::core::store::Change;
use crate::core::{Record, Stamp, Version};
use crate::fill::Shared;
use crate::fill::address::Address;
use crate::fill::backoff::{backoff, random, spread};
use crate::fill::entries::Entry;
use crate::fill::fill_error::FillError;
use crate::fill::host::ACCEPTS_NO_WRITES;
use crate::fill::http::RequestError;
use crate::fill::metrics::RequestOutcome;
use crate::fill::transient_failure::TransientFailure;
use crate::fill::upstream::AddressChoice;

/// Addresses that the node tries before a name counts as unknown.
const ASK_AROUND: usize = 3;

/// When readers know a newer record than the node holds, it checks the leader at most this often.
const CHECK_EVERY: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The state of following one name.
struct FollowState {
    wait_for: WaitFor,
    /// How many addresses to skip.
    turn: usize,
    /// Requests in a row without a useful answer.
    fruitless: u32,
    /// The leader is cut off from its own upstream.
    is_stale: bool,
    behind: BehindAddresses,
    /// The next answer replaces the record, whatever its stamp.
    gives_up_copy: bool,
    /// How long the request may be parked.
    parks_for: Duration,
}

/// What to do after an answer.
enum NextStep {
    /// Send the next request, after this time.
    Request(Duration),
    /// End: the entry is removed.
    End,
}

/// Follows one name until the task is aborted, or the entry is of no use.
pub(in crate::fill) async fn follow(shared: Arc<Shared>, entry: Arc<Entry>) {
    let mut state = FollowState {
        wait_for: WaitFor::Nothing,
        turn: 0,
        fruitless: 0,
        is_stale: false,
        behind: BehindAddresses::default(),
        gives_up_copy: false,
        parks_for: park_time(&shared),
    };
    let (mut is_poked, mut checked, mut checks) = (false, Instant::now(), 0_usize);
    loop {
        if state.fruitless > 0 && release_if_useless(&shared, &entry) {
            return;
        }
        let choice = AddressChoice {
            name: &entry.name,
            turn: state.turn,
            is_awaited: entry.is_expected(),
            has_failed: state.fruitless > 0,
        };
        let address = match shared.upstream.choose(choice) {
            Ok(address) => address,
            Err(_) => {
                shared.serve_while_closed(&entry);
                shared.upstream.wait(choice, shared.entries.count().0).await
            }
        };
        let held = shared.host.record(&entry.name);
        let sent = Instant::now();
        let is_parked = state.wait_for != WaitFor::Nothing;
        if !is_parked {
            (is_poked, checked) = (false, sent);
        }
        let shown = held.as_ref().filter(|_| !state.gives_up_copy);
        state.parks_for = park_time_of(&shared, shown);
        let (wait_for, time) = (state.wait_for, state.parks_for);
        let mut exchange = std::pin::pin!(request(&shared, &entry, &address, shown, wait_for, time));
        let answer = loop {
            tokio::select! {
                answer = &mut exchange => break Some(answer),
                () = entry.poke.notified(), if is_parked && !is_poked => is_poked = true,
                () = tokio::time::sleep_until((checked + CHECK_EVERY).into()), if is_parked && is_poked => break None,
            }
        };
        let Some(answer) = answer else {
            // A reader knows a newer record: the node gives up the parked request, and requests the present record, at
            // one address after the other, because this one may be behind.
            state.wait_for = WaitFor::Nothing;
            checks = checks.wrapping_add(1);
            state.turn = checks;
            continue;
        };
        let pause = match answer {
            Ok((answer, is_stale)) => {
                if !matches!(answer, LeaderAnswer::ServerError(_)) {
                    shared.record_answer(&address);
                }
                state.is_stale = is_stale;
                match state.apply(&shared, &entry, &address, held.as_ref(), sent, answer) {
                    NextStep::Request(pause) => pause,
                    NextStep::End => return,
                }
            }
            Err(failure) => {
                if matches!(failure, RequestError::Unusable(_)) {
                    shared.record_answer(&address);
                }
                state.apply_failure(&shared, &entry, &address, sent, &failure)
            }
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

impl FollowState {
    /// Applies an answer.
    fn apply(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        held: Option<&Record>,
        sent: Instant,
        answer: LeaderAnswer,
    ) -> NextStep {
        let label = shared.label(address);
        let count = |outcome| shared.metrics.count_request(label, outcome);
        let was_immediate = self.wait_for == WaitFor::Nothing;
        match answer {
            LeaderAnswer::Value { version, stamp, data, end } => {
                let held = self.record_to_compare(shared, entry, held, Some(stamp));
                let change = Change::Put { version: &version, data: &data };
                self.note_confirmation(shared, entry);
                let is_new = match copy(shared, entry, held, &change, stamp, end) {
                    Ok(is_new) => is_new,
                    Err(why) => {
                        return NextStep::Request(self.copy_failed(shared, entry, address, held, &why));
                    }
                };
                count(if is_new { RequestOutcome::Changed } else { RequestOutcome::Unchanged });
                self.succeed(shared, entry, address, WaitFor::Change);
                // a leader that returns a known record too early would get requests without a pause
                self.after_success(shared, sent, is_new || was_immediate)
            }
            LeaderAnswer::Unchanged(stamp, end) => {
                if let (Some(stamp), Some(held)) = (stamp, held)
                    && let Ok(version) = Version::new(held.version_bytes())
                {
                    let change = Change::Put { version: &version, data: held.data() };
                    self.note_confirmation(shared, entry);
                    // a stamp that cannot be copied changes nothing here
                    let _ = copy(shared, entry, Some(held), &change, stamp, end);
                }
                count(RequestOutcome::Unchanged);
                self.succeed(shared, entry, address, WaitFor::Change);
                self.after_success(shared, sent, false)
            }
            LeaderAnswer::Deleted(stamp, end) => {
                let held = self.record_to_compare(shared, entry, held, stamp);
                self.note_confirmation(shared, entry);
                // without a stamp the delete may be older than the record
                let copied =
                    stamp.map_or(Ok(false), |stamp| copy(shared, entry, held, &Change::Delete, stamp, end));
                let is_new = match copied {
                    Ok(is_new) => is_new,
                    Err(why) => {
                        return NextStep::Request(self.copy_failed(shared, entry, address, held, &why));
                    }
                };
                count(if is_new { RequestOutcome::Changed } else { RequestOutcome::Unchanged });
                self.succeed(shared, entry, address, WaitFor::Creation);
                self.after_success(shared, sent, is_new || was_immediate)
            }
            LeaderAnswer::Unknown => {
                count(RequestOutcome::Unknown);
                self.apply_unknown(shared, entry, held, sent)
            }
            LeaderAnswer::Behind => {
                count(RequestOutcome::Behind);
                entry.set_error(Some(FillError::Unavailable("the upstream is behind".into())));
                self.check_copy(shared, entry, address, held);
                NextStep::Request(self.next_address(shared, entry, held.is_some()))
            }
            LeaderAnswer::Limited(pause) => {
                count(RequestOutcome::Limited);
                let pause =
                    pause.unwrap_or_else(|| backoff(FIRST_PAUSE, shared.settings.expiry, 4, random()));
                shared.upstream.pause(address, pause);
                entry.set_error(Some(FillError::Unavailable("the upstream is at a limit".into())));
                NextStep::Request(self.next_address(shared, entry, held.is_some()))
            }
            LeaderAnswer::Rejected(status) => {
                let is_denied = matches!(status.as_u16(), 401 | 403);
                count(if is_denied { RequestOutcome::Denied } else { RequestOutcome::Bad });
                let why = format!("it answers {status}");
                NextStep::Request(self.apply_unusable_uncounted(shared, entry, address, &why))
            }
            LeaderAnswer::ServerError(status) => {
                count(RequestOutcome::Error);
                let failure = TransientFailure::ServerError(status);
                NextStep::Request(self.apply_transient(shared, entry, address, sent, &failure))
            }
        }
    }

    /// The record that an answer with a stamp is compared with: `None` if the node gives up its copy now. It also does
    /// if the copy is of a write that the upstream has lost: the upstream has an older record now.
    fn record_to_compare<'a>(
        &mut self,
        shared: &Shared,
        entry: &Entry,
        held: Option<&'a Record>,
        stamp: Option<Stamp>,
    ) -> Option<&'a Record> {
        let is_lost = held.zip(stamp).is_some_and(|(held, stamp)| {
            stamp < held.last_sync() && entry.lost().until() == held.last_sync().next()
        });
        if std::mem::take(&mut self.gives_up_copy) || is_lost {
            shared.host.forget_copy(&entry.name);
            return None;
        }
        held
    }

    /// Decides to give up the copy, if its stamp is far ahead of the node's clock and no address has it: the set that
    /// it came from is gone, and no other stamp would be newer for a long time.
    fn check_copy(&mut self, shared: &Shared, entry: &Entry, address: &Address, held: Option<&Record>) {
        let all_are_behind = self.behind.record(address, &shared.upstream.addresses());
        let Some(held) = held.filter(|held| is_far_ahead(shared, held.last_sync())) else { return };
        if !all_are_behind || self.gives_up_copy {
            return;
        }
        (self.gives_up_copy, self.wait_for) = (true, WaitFor::Nothing);
        if let Some(more) = shared.log_limiter.admit("given up") {
            tracing::warn!(
                name = %entry.name,
                more,
                "no address of the upstream has this node's record, which is stamped {} µs, far ahead of this node's \
                 clock: the node gives it up for the record that the upstream has now",
                held.last_sync()
            );
        }
    }

    /// Handles an answer that could not be copied. Returns the pause.
    fn copy_failed(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        held: Option<&Record>,
        why: &CopyError,
    ) -> Duration {
        match why {
            CopyError::Unusable(why) => self.apply_unusable(shared, entry, address, why),
            CopyError::NotNow => {
                entry.set_error(Some(FillError::Unavailable(ACCEPTS_NO_WRITES.into())));
                self.wait_for = WaitFor::Nothing;
                self.next_address(shared, entry, held.is_some())
            }
        }
    }

    /// Records what the upstream confirms with a usable answer. Before the record is copied: that wakes readers, which
    /// are told whether their record may be old.
    fn note_confirmation(&self, shared: &Shared, entry: &Entry) {
        if self.is_stale {
            let why = "the upstream is cut off from its own upstream";
            entry.set_error(Some(FillError::Unavailable(why.into())));
        } else {
            shared.entries.confirm(entry);
        }
    }

    /// Records a usable answer; the next request waits for `next`.
    fn succeed(&mut self, shared: &Shared, entry: &Entry, address: &Address, next: WaitFor) {
        self.note_confirmation(shared, entry);
        shared.record_success(address);
        shared.release_readers(entry);
        self.wait_for = next;
        self.turn = 0;
        self.behind = BehindAddresses::default();
    }

    /// The next request after a usable answer: at once after a change or a long wait, else with a pause.
    fn after_success(&mut self, shared: &Shared, sent: Instant, is_change: bool) -> NextStep {
        let waited = sent.elapsed();
        if is_change || waited * 2 >= self.parks_for {
            self.fruitless = 0;
            return NextStep::Request(Duration::ZERO);
        }
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless == 1 {
            // a node that is about to stop answers its parked readers early
            return NextStep::Request(Duration::ZERO);
        }
        NextStep::Request(backoff(FIRST_PAUSE, park_time(shared), self.fruitless, random()))
    }

    /// Applies that the leader does not know the name. This deletes nothing: an empty node that has just started
    /// answers so too.
    fn apply_unknown(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        held: Option<&Record>,
        sent: Instant,
    ) -> NextStep {
        let around = shared.upstream.addresses().len().min(ASK_AROUND);
        if entry.is_expected() && self.turn + 1 < around {
            self.turn += 1;
            return NextStep::Request(Duration::ZERO);
        }
        let waited = sent.elapsed();
        let was_parked = self.wait_for == WaitFor::Creation;
        if held.is_some() {
            entry.set_error(Some(FillError::Unavailable("the upstream does not know it".into())));
        } else {
            shared.entries.confirm(entry);
        }
        let is_awaited = shared.is_awaited(entry);
        shared.release_readers(entry);
        if held.is_none() && !is_awaited && shared.entries.release(entry, true, || shared.is_read(entry)) {
            return NextStep::End;
        }
        // a reader waits for the name: the node waits for it at the leader
        let parked = was_parked && waited * 2 >= park_time(shared);
        let first = !was_parked;
        self.wait_for = WaitFor::Creation;
        self.turn = self.turn.wrapping_add(1);
        NextStep::Request(if parked || first { Duration::ZERO } else { spread(park_time(shared), random()) })
    }

    /// Moves on to the next address. Returns the pause, which grows each time that all addresses were tried.
    fn next_address(&mut self, shared: &Shared, entry: &Entry, is_held: bool) -> Duration {
        if is_held {
            shared.release_readers(entry);
        }
        self.turn = self.turn.wrapping_add(1);
        self.fruitless = self.fruitless.saturating_add(1);
        let all = u32::try_from(shared.upstream.addresses().len()).unwrap_or(u32::MAX).max(1);
        backoff(FIRST_PAUSE, shared.settings.expiry, self.fruitless / all, random())
    }

    /// Applies a request without a usable answer. Returns the pause.
    fn apply_failure(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        sent: Instant,
        failure: &RequestError,
    ) -> Duration {
        let count = || shared.metrics.count_request(shared.label(address), RequestOutcome::Unreachable);
        match failure {
            RequestError::NoConnection(why) => {
                count();
                self.apply_transient(shared, entry, address, sent, &TransientFailure::NoConnection(why))
            }
            RequestError::NoAnswer(why) => {
                count();
                self.apply_transient(shared, entry, address, sent, &TransientFailure::NoAnswer(why))
            }
            RequestError::Unusable(why) => self.apply_unusable(shared, entry, address, why),
        }
    }

    fn apply_transient(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        sent: Instant,
        failure: &TransientFailure<'_>,
    ) -> Duration {
        shared.record_failure(entry, address, sent, failure);
        // the next request may be the trial of an address for all names: it must not be parked there
        self.wait_for = WaitFor::Nothing;
        let is_held = shared.host.record(&entry.name).is_some();
        match failure {
            TransientFailure::NoAnswer(_) | TransientFailure::ServerError(_) => {
                self.next_address(shared, entry, is_held)
            }
            // the gate of the address is closed; another address may be tried at once
            TransientFailure::NoConnection(_) => {
                if is_held {
                    shared.release_readers(entry);
                }
                self.fruitless = self.fruitless.saturating_add(1);
                Duration::ZERO
            }
        }
    }

    fn apply_unusable(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        why: &str,
    ) -> Duration {
        shared.metrics.count_request(shared.label(address), RequestOutcome::Bad);
        self.apply_unusable_uncounted(shared, entry, address, why)
    }

    fn apply_unusable_uncounted(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        why: &str,
    ) -> Duration {
        shared.record_unusable(entry, address, why);
        self.wait_for = WaitFor::Nothing;
        self.next_address(shared, entry, true)
    }
}

/// Removes an entry that has no record to serve and no readers. The next reader adds it again. Returns whether it was
/// removed.
fn release_if_useless(shared: &Arc<Shared>, entry: &Arc<Entry>) -> bool {
    if shared.host.record(&entry.name).is_some() || !shared.entries.is_older_than_1s(entry) {
        return false;
    }
    if shared.is_read(entry) {
        return false;
    }
    shared.release_readers(entry);
    shared.entries.release(entry, false, || shared.is_read(entry))
}
