//! Parses requests about leases.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;

use crate::api::error::Refusal;
use crate::api::lease_path::path_of;
use crate::api::params::{self, query, shown};
use crate::api::state::Node;
use crate::core::lease::message::LeaseAsk;
use crate::core::lease::slots::MAX_SLOTS;
use crate::core::lease::{Lease, LeaseId, LeasePath, MAX_LABEL_BYTES, MIN_TTL_US, Token, shared_label};
use crate::wire::duration::{self, GoDuration};
use crate::wire::error_code::ErrorCode;

/// The time to live of a lease whose request names none.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// The longest time that a request may wait.
const MOST_WAIT: Duration = Duration::from_secs(600);

/// A PUT.
pub(super) enum Put {
    /// Acquires a lease.
    Acquire(LeaseAsk),
    /// Renews one.
    Renew(Lease),
}

/// Parses a PUT.
pub(super) fn parse_put(node: &Node, uri: &Uri) -> Result<Put, Refusal> {
    let path = path_of(node, uri)?;
    let ttl_us = ttl_us(node, uri)?;
    let label = label(uri)?;
    let token = token_parameter(uri)?;
    let id = id_parameter(uri, "id")?;
    let of_acquisition = |key: &str| -> Result<(), Refusal> {
        match query(uri, key)? {
            Some(_) => Err(Refusal::bad_parameter(format_args!(
                "{key} with token: a renewal changes only the time to live: leave {key} out"
            ))),
            None => Ok(()),
        }
    };
    match (token, id) {
        (Some(token), Some(id)) => {
            ["wait", "request", "slots", "claim"].iter().try_for_each(|key| of_acquisition(key))?;
            Ok(Put::Renew(Lease { path, id, token, ttl_us, slots: None, label }))
        }
        (None, None) => {
            let slots = slots(uri, &path)?;
            let wait = wait(uri)?;
            let ticket = match id_parameter(uri, "request")? {
                Some(ticket) => ticket,
                None => random_id()?,
            };
            let wait_us = wait.as_micros() as u64;
            Ok(Put::Acquire(LeaseAsk { ticket, request: 0, path, slots, ttl_us, label, age_us: 0, wait_us }))
        }
        (Some(_), None) => Err(Refusal::bad_parameter(
            "token without id: a renewal names both: send id too, or leave token out to acquire a lease",
        )),
        (None, Some(_)) => Err(Refusal::bad_parameter(
            "id without token: a renewal names both: send token too, or leave id out to acquire a lease",
        )),
    }
}

fn ttl_us(node: &Node, uri: &Uri) -> Result<u64, Refusal> {
    let Some(text) = query(uri, "ttl")? else {
        return Ok(DEFAULT_TTL.min(node.config.lease.max_ttl).as_micros() as u64);
    };
    let most = node.config.lease.max_ttl;
    let bad = |why: &str| {
        let (got, most) = (shown(text.as_bytes()), GoDuration(most));
        Refusal::bad_parameter(format_args!("bad ttl: {got} {why}: send 1s to {most}"))
    };
    let ttl = duration::parse(&text).map_err(|_| bad("is no duration"))?;
    match ttl {
        ttl if ttl < Duration::from_micros(MIN_TTL_US) => Err(bad("is too short")),
        ttl if ttl > most => Err(bad("is too long")),
        ttl => Ok(ttl.as_micros() as u64),
    }
}

fn wait(uri: &Uri) -> Result<Duration, Refusal> {
    let Some(text) = query(uri, "wait")? else { return Ok(Duration::ZERO) };
    let bad = |why: &str| {
        let (got, most) = (shown(text.as_bytes()), GoDuration(MOST_WAIT));
        Refusal::bad_parameter(format_args!("bad wait: {got} {why}: send 0s to {most}"))
    };
    match duration::parse(&text).map_err(|_| bad("is no duration"))? {
        wait if wait > MOST_WAIT => Err(bad("is too long")),
        wait => Ok(wait),
    }
}

fn label(uri: &Uri) -> Result<Arc<str>, Refusal> {
    let text = query(uri, "holder")?.unwrap_or_default();
    if text.len() > MAX_LABEL_BYTES || text.chars().any(char::is_control) {
        let got = shown(text.as_bytes());
        return Err(Refusal::bad_parameter(format_args!(
            "bad holder: {got}: send at most {MAX_LABEL_BYTES} bytes without control characters"
        )));
    }
    Ok(shared_label(&text))
}

fn slots(uri: &Uri, path: &LeasePath) -> Result<Option<(u16, u16)>, Refusal> {
    let number = |key: &str, most: u16| -> Result<Option<u16>, Refusal> {
        let Some(text) = query(uri, key)? else { return Ok(None) };
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_plain && (1..=most).contains(number));
        number.map(Some).ok_or_else(|| {
            let got = shown(text.as_bytes());
            Refusal::bad_parameter(format_args!("bad {key}: {got}: send 1 to {most}"))
        })
    };
    match number("slots", MAX_SLOTS)? {
        Some(_) if path.is_prefix() => Err(Refusal::bad_parameter(
            "slots with prefix: a lease on all that is below a path has one holder: leave one of them out",
        )),
        Some(of) => Ok(Some((of, number("claim", of)?.unwrap_or(1)))),
        None if query(uri, "claim")?.is_some() => Err(Refusal::bad_parameter(
            "claim without slots: only a path with slots is shared: send slots too, or leave claim out",
        )),
        None => Ok(None),
    }
}

/// The token in a parameter.
pub(super) fn token_parameter(uri: &Uri) -> Result<Option<Token>, Refusal> {
    let text = query(uri, "token")?;
    text.map(|text| params::stamp_parameter("token", &text).map(Token)).transpose()
}

/// An id: 32 hexadecimal digits, perhaps with the dashes of a UUID.
fn id_parameter(uri: &Uri, key: &str) -> Result<Option<LeaseId>, Refusal> {
    let Some(text) = query(uri, key)? else { return Ok(None) };
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_uuid = text.len() == 32 || text.len() == 36;
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(&digits, 16).ok().filter(|id| is_uuid && is_hex && *id > 0);
    id.map(|id| Some(LeaseId(id))).ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!("bad {key}: {got}: send a UUID, or 32 hexadecimal digits"))
    })
}

fn random_id() -> Result<LeaseId, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::new(ErrorCode::Internal, error))?;
    Ok(LeaseId(u128::from_le_bytes(bytes)))
}
