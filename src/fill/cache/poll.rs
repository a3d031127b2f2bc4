//! One name's turn: it is asked for, and what is said is taken in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::answer::Answer;
use super::ask::ask;
use super::take_in::take_in;
use super::{PAUSE_BASE, serve_what_is_held};
use crate::fill::http::Failure;
use crate::fill::metrics::Outcome;
use crate::fill::names::{Entry, Trouble};
use crate::fill::pace::{backoff, random, spread};
use crate::fill::token::Obstacle;
use crate::fill::upstream::Address;
use crate::fill::{Failing, Shared, is_read};

/// A name that only fails is asked for at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Asks an address for a name once. Returns after how long to do so again; `None` if nobody has a use for it.
pub(super) async fn poll(shared: &Arc<Shared>, entry: &Arc<Entry>, address: &Address) -> Option<Duration> {
    let sent = Instant::now();
    let answer = ask(shared, entry, address).await;
    if let Err(Obstacle::Failed(Failure::Bad(_))) = &answer {
        shared.answered(address);
    }
    tracing::debug!(name = %entry.name, ?answer, "polled");
    let label = shared.label(address);
    let count = |outcome| shared.metrics.count(label, outcome);
    let expiry = shared.settings.expiry;
    match answer {
        Ok(Answer::Said(said, modified)) => {
            shared.good(address);
            entry.polled().failures = 0;
            take_in(shared, entry, address, &said, modified)
        }
        Ok(Answer::Limited(pause)) => {
            let pause = limited_for(pause, expiry, more_failures(entry), random());
            shared.upstream.pause(address, pause);
            limited(shared, entry, address, "the upstream", pause)
        }
        Err(Obstacle::Limited(pause)) => {
            let pause = limited_for(pause, expiry, more_failures(entry), random());
            // all addresses of an upstream name the same service
            shared.upstream.pause_all(address, pause);
            limited(shared, entry, address, "its token service", pause)
        }
        Ok(Answer::Refused(status, elsewhere)) => {
            let is_denied = matches!(status.as_u16(), 401 | 403);
            count(if is_denied { Outcome::Denied } else { Outcome::Bad });
            let why = match elsewhere {
                Some(there) => format!("it redirects to {there}, which answers {status}"),
                None if is_denied => {
                    format!("it answers {status}: look at --fill-auth-file and --fill-headers")
                }
                None if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    format!("it answers {status}: look at the user and password in HTTP_PROXY")
                }
                None => format!("it answers {status}"),
            };
            shared.useless(entry, address, &why);
            Some(pause_of(expiry, more_failures(entry)))
        }
        Err(Obstacle::Denied(why)) => {
            count(Outcome::Denied);
            shared.useless(entry, address, &why);
            Some(pause_of(expiry, more_failures(entry)))
        }
        Ok(Answer::Error(status)) => {
            count(Outcome::Error);
            failed(shared, entry, address, sent, &Failing::Answers(status))
        }
        Err(Obstacle::Failed(Failure::NoConnection(why))) => {
            count(Outcome::Unreachable);
            failed(shared, entry, address, sent, &Failing::NoConnection(&why))
        }
        Err(Obstacle::Failed(Failure::Unreachable(why))) => {
            count(Outcome::Unreachable);
            failed(shared, entry, address, sent, &Failing::NoAnswer(&why))
        }
        Err(Obstacle::Failed(Failure::Bad(why))) => {
            count(Outcome::Bad);
            shared.useless(entry, address, &why);
            Some(pause_of(expiry, more_failures(entry)))
        }
    }
}

/// The upstream, or what it depends on, is at a limit: it is left alone.
fn limited(
    shared: &Arc<Shared>,
    entry: &Entry,
    address: &Address,
    which: &str,
    pause: Duration,
) -> Option<Duration> {
    let label = shared.label(address);
    shared.metrics.count(label, Outcome::Limited);
    entry.set_trouble(Some(Trouble::CutOff(format!("{which} is at a limit").into())));
    serve_what_is_held(shared, entry);
    if let Some(more) = shared.may_complain("limited") {
        tracing::warn!(upstream = %label, more, "{which} is at a limit: the upstream is left alone for {pause:?}");
    }
    Some(PAUSE_BASE)
}

/// After failures that are of a name and not of the upstream.
pub(super) fn pause_of(expiry: Duration, failures: u32) -> Duration {
    spread(expiry, random()).max(backoff(expiry, LONGEST_PAUSE, failures, random()))
}

/// How long an upstream that is at a limit is left alone: as long as it says, and longer each time if it says nothing, or
/// names no time that is still to come.
fn limited_for(said: Option<Duration>, expiry: Duration, failures: u32, random: u64) -> Duration {
    backoff(expiry, LONGEST_PAUSE, failures, random).max(said.unwrap_or_default())
}

pub(super) fn more_failures(entry: &Entry) -> u32 {
    let mut polled = entry.polled();
    polled.failures = polled.failures.saturating_add(1);
    polled.turn = polled.turn.wrapping_add(1);
    polled.failures
}

fn failed(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    sent: Instant,
    failing: &Failing<'_>,
) -> Option<Duration> {
    shared.failed(entry, address, sent, failing);
    serve_what_is_held(shared, entry);
    let failures = more_failures(entry);
    let is_of_use = shared.keeper.held(&entry.name).is_some()
        || !shared.names.is_settled(entry)
        || is_read(shared, entry);
    if !is_of_use {
        shared.told(entry);
        if shared.names.let_go(entry, false, || is_read(shared, entry)) {
            return None;
        }
    }
    Some(backoff(PAUSE_BASE, shared.settings.expiry, failures, random()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_without_a_time_to_come_is_kept_longer_each_time() {
        let expiry = Duration::from_secs(1);
        for said in [None, Some(Duration::ZERO)] {
            let pauses =
                [1, 2, 3, 30].map(|failures| limited_for(said, expiry, failures, u64::MAX).as_secs());
            assert_eq!(pauses, [1, 2, 4, 300], "{said:?}");
        }
        assert_eq!(limited_for(Some(expiry * 9), expiry, 2, u64::MAX), expiry * 9);
    }
}
