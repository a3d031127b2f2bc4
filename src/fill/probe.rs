//! Probes the addresses of an upstream vwatch: one probe an address, however many names wait there.
//!
//! The probe is `GET /readyz`. Any answer to it is a sign of life, except 502 and 504: a gateway sends these when the
//! upstream is away. An answer to a request for a name is a sign of life too. An address that answers names and never a
//! probe, as behind some gateways, is judged by its answers alone. The answer to a probe also has the genesis of the
//! set and its `Via`. So addresses without waiting requests are probed too, less often.

use std::sync::Arc;
use std::time::Instant;

use hyper::{Method, StatusCode};
use tokio::time::sleep_until;

use super::address::Address;
use super::connections::RequestPurpose;
use super::fill_error::FillError;
use super::gate::Blame;
use super::http::{self, OutgoingRequest, Recipient};
use super::liveness::{IDLE, Silence};
use super::source_headers::read_source_headers;
use super::upstream::ReachabilityChange;
use super::{Shared, limit};
use crate::core::liveness::{LivenessStep, PROBE_TIME};

/// The reason for an address that answers nothing.
const NO_PROBE_ANSWER: &str = "it answers nothing, not even a probe";

/// Gives each address of the upstream its prober, also addresses that are resolved later. Runs until the runtime ends.
pub(super) async fn probe_all(shared: Arc<Shared>) {
    loop {
        let changed = shared.upstream.changed();
        for address in shared.upstream.addresses().iter() {
            if address.liveness.take_prober() {
                shared.runtime.spawn(probe(Arc::clone(&shared), Arc::clone(address)));
            }
        }
        changed.await;
    }
}

/// Probes one address for as long as the upstream has it.
async fn probe(shared: Arc<Shared>, address: Arc<Address>) {
    while shared.upstream.has(&address) {
        match address.liveness.step(Instant::now()) {
            LivenessStep::Wait(until) => {
                tokio::select! {
                    () = sleep_until(until.into()) => {}
                    () = address.liveness.request_began() => {}
                }
            }
            LivenessStep::Probe => {
                shared.metrics.count_turn("fill-probe");
                if shared.upstream.is_paused(&address) {
                    // it has requested the pause
                    address.liveness.skip_probe();
                    continue;
                }
                match send(&shared, &address).await {
                    Ok(()) => {
                        address.liveness.record_probe_answer();
                        record_probe_answer(&shared, &address);
                    }
                    Err(why) => address.liveness.record_probe_failure(why),
                }
            }
            LivenessStep::Silent => end_silent_requests(&shared, &address),
        }
    }
}

/// Sends a probe.
///
/// # Errors
/// Why the result is no sign of life.
async fn send(shared: &Arc<Shared>, address: &Address) -> Result<(), String> {
    let origin = shared.upstream.origin(address);
    let outgoing = OutgoingRequest {
        to: Recipient::Origin(address.origin),
        purpose: RequestPurpose::Upstream,
        method: Method::GET,
        uri: &shared.upstream.uri(address, "/readyz"),
        host: Some(&origin.authority()),
        headers: &shared.headers(),
        body: None,
    };
    let deadline = tokio::time::Instant::now() + PROBE_TIME;
    let sent = shared.http.send(outgoing, deadline).await;
    let (parts, body) = sent.map_err(|failure| {
        tracing::debug!(address = %address.location, "no answer to a probe: {failure}");
        let is_late = tokio::time::Instant::now() >= deadline;
        if is_late { NO_PROBE_ANSWER.to_owned() } else { failure.to_string() }
    })?;
    // a 503 is about its readiness
    if parts.status == StatusCode::TOO_MANY_REQUESTS {
        let pause = limit(shared, parts.status, &parts.headers).flatten();
        shared.upstream.pause(address, pause.unwrap_or(IDLE));
    }
    if let Err(failure) = read_source_headers(shared, address, &parts.headers)
        && let Some(more) = shared.log_limiter.admit("way")
    {
        tracing::error!(upstream = %shared.label(address), more, "{failure}");
    }
    http::discard(body).await;
    match parts.status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Err(format!("a gateway answers {}", parts.status))
        }
        _ => Ok(()),
    }
}

/// Ends the requests that wait at an address which answered nothing for the time of a probe.
fn end_silent_requests(shared: &Shared, address: &Address) {
    let silence = address.liveness.record_silence();
    if silence == Silence::Meaningless {
        return;
    }
    record_silence(shared, address, silence == Silence::Sure);
    address.liveness.end_requests();
}

/// Records and logs that an address has answered a probe.
fn record_probe_answer(shared: &Shared, address: &Address) {
    match shared.upstream.record_probe_answer(address) {
        (ReachabilityChange::Restored(after), _) => shared.log_restored(address, after),
        (_, true) => tracing::info!(
            upstream = %shared.label(address),
            address = %address.location,
            "an address of the upstream answers again"
        ),
        _ => {}
    }
}

/// Records and logs that an address is silent. `is_sure`: it has answered probes before.
fn record_silence(shared: &Shared, address: &Address, is_sure: bool) {
    let why = address.liveness.why();
    let error = || FillError::Unavailable(format!("the upstream does not answer: {why}").into());
    let was_used = shared.upstream.is_used(address);
    if was_used {
        shared.metrics.count_silence(shared.label(address));
    }
    let change = if is_sure {
        shared.upstream.record_silence(address, error())
    } else {
        shared.upstream.record_failure(address, Blame::Address, Instant::now(), error)
    };
    match change {
        ReachabilityChange::Lost => shared.log_lost(address, &why),
        _ if was_used && shared.upstream.unreachable_for().is_none() => tracing::warn!(
            upstream = %shared.label(address),
            address = %address.location,
            "an address of the upstream does not answer: {why}: the node uses the others"
        ),
        _ => {}
    }
}
