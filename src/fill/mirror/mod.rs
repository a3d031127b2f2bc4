//! `FILL_MIRROR`: one stream of all changes of a leader, which another leader of its group goes on with.

mod parts;
mod request;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::time::timeout;

use super::Shared;
use super::address::Address;
use super::backoff::{backoff, random};
use super::fill_error::FillError;
use super::gate::Blame;
use super::http::{self, Body, RequestError};
use super::metrics::RequestOutcome;
use super::upstream::{AddressChoice, ReachabilityChange};
use crate::core::Name;
use crate::core::limits::MAX_NAME_BYTES;
use crate::core::mirroring::{Mirroring, Step};
use parts::{Part, Parts};
pub(super) use status::MirrorStatus;

/// The interval at which the leader shows life.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A leader that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest pause after the first and after any failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a stream ended.
#[derive(Debug)]
enum End {
    /// The leader ended it in order.
    InOrder,
    /// The leader says that it cannot go on for now, or asks for a pause.
    Later(Option<Duration>, String),
    /// The view has to begin again.
    BeginAgain(String),
    /// The leader does not answer, or broke off.
    Failed(RequestError),
}

/// Mirrors the leader, until the runtime ends.
pub(super) async fn mirror(shared: Arc<Shared>) {
    // mirrors with different names begin at different leaders
    let Ok(us) = Name::new(shared.us.as_bytes(), MAX_NAME_BYTES) else { return };
    let mut mirroring = shared.host.begin_mirror();
    let mut cursor: Option<String> = None;
    let (mut turn, mut failures) = (0_usize, 0_u32);
    loop {
        shared.metrics.count_turn("fill-mirror");
        let choice = AddressChoice { name: &us, turn, is_awaited: false, has_failed: failures > 0 };
        let address = shared.upstream.wait(choice, 1).await;
        let sent = Instant::now();
        let was_told = shared.mirror.parts();
        let end = follow(&shared, &address, &mut mirroring, &mut cursor).await;
        shared.mirror.ended();
        let is_served = shared.mirror.parts() > was_told && !matches!(end, End::BeginAgain(_));
        failures = if is_served { 0 } else { failures.saturating_add(1) };
        turn = turn.wrapping_add(1);
        log(&shared, &address, &end);
        let label = shared.label(&address);
        let mut pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, failures.max(1), random());
        match end {
            End::InOrder => {}
            End::Later(asked, _) => {
                shared.metrics.count_request(label, RequestOutcome::Limited);
                if let Some(asked) = asked {
                    shared.upstream.pause(&address, asked);
                }
            }
            End::BeginAgain(_) => {
                mirroring = shared.host.begin_mirror();
                cursor = None;
            }
            End::Failed(error) => {
                shared.metrics.count_request(label, outcome(&error));
                let why = || FillError::Unavailable(error.to_string().into());
                match shared.upstream.record_failure(&address, Blame::Address, sent, why) {
                    ReachabilityChange::Lost => shared.log_lost(&address, &error),
                    // the gate of the address is closed, and another one may be tried at once
                    _ if shared.upstream.unreachable_for().is_none() => pause = Duration::ZERO,
                    _ => {}
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn outcome(error: &RequestError) -> RequestOutcome {
    match error {
        RequestError::NoConnection(_) | RequestError::NoAnswer(_) => RequestOutcome::Unreachable,
        RequestError::Unusable(_) => RequestOutcome::Bad,
    }
}

fn log(shared: &Shared, address: &Address, end: &End) {
    let Some(more) = shared.log_limiter.admit("mirror") else { return };
    let upstream = shared.label(address);
    let address = &address.location;
    match end {
        End::InOrder => {
            tracing::info!(%upstream, %address, more, "the leader ended the stream: the mirror goes on at the next one");
        }
        End::BeginAgain(why) => {
            tracing::warn!(%upstream, %address, more, "the mirror takes all names over again: {why}");
        }
        End::Later(_, why) => {
            tracing::info!(%upstream, %address, more, "the leader does not serve the mirror for now: {why}");
        }
        End::Failed(why) => {
            tracing::warn!(%upstream, %address, more, "the stream of the leader broke off: {why}: the mirror goes on");
        }
    }
}

/// Opens a stream and applies what it tells, until it ends.
async fn follow(
    shared: &Arc<Shared>,
    address: &Address,
    mirroring: &mut Mirroring,
    cursor: &mut Option<String>,
) -> End {
    let Body { mut incoming, connection: _connection } =
        match request::open(shared, address, cursor.as_deref()).await {
            Ok(body) => body,
            Err(end) => return end,
        };
    let mut parts = Parts::default();
    loop {
        let frame = match timeout(SILENCE, incoming.frame()).await {
            Err(_) => return failed(format!("nothing came for {SILENCE:?}")),
            Ok(None) => return End::InOrder,
            Ok(Some(Err(error))) => return failed(http::shorten(&error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(bytes) = frame.data_ref() else { continue };
        if let Err(why) = parts.add(bytes) {
            // an empty view is told in parts of any size
            return if cursor.is_some() {
                End::BeginAgain(why)
            } else {
                End::Failed(RequestError::Unusable(why))
            };
        }
        while let Some(part) = parts.next() {
            let part = match part {
                Ok(part) => part,
                Err(why) => return End::Failed(RequestError::Unusable(why)),
            };
            if let Some(end) = apply(shared, address, mirroring, cursor, part).await {
                return end;
            }
        }
    }
}

fn failed(why: String) -> End {
    End::Failed(RequestError::NoAnswer(why))
}

/// Applies a part. Returns why the stream ends, if it does.
async fn apply(
    shared: &Arc<Shared>,
    address: &Address,
    mirroring: &mut Mirroring,
    cursor: &mut Option<String>,
    part: Part,
) -> Option<End> {
    let Part { mut told, tail, cursor: reached, behind, cut_off, is_provisional, error } = part;
    if let Some(error) = error {
        return Some(End::Later(None, error));
    }
    if is_provisional && shared.host.mirrors_another_set(tail.set) {
        let why = "its set was begun while other nodes were silent, and the mirror has another one";
        return Some(End::Later(None, why.to_owned()));
    }
    let has_news = !told.is_empty();
    loop {
        match shared.host.apply_mirrored(mirroring, &mut told, &tail) {
            Step::Done => break,
            Step::More => tokio::task::yield_now().await,
            Step::BeginAgain => {
                return Some(End::BeginAgain(
                    "the leader cannot say which changes the mirror lacks".to_owned(),
                ));
            }
        }
    }
    *cursor = Some(reached);
    address.liveness.record_answer();
    shared.record_answer(address);
    shared.record_success(address);
    let outcome = if has_news { RequestOutcome::Changed } else { RequestOutcome::Unchanged };
    shared.metrics.count_request(shared.label(address), outcome);
    shared.mirror.applied(mirroring.is_complete(), behind, cut_off);
    None
}
