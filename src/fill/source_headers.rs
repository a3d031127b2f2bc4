//! The headers by which a vwatch states the source of its set: `Via` and `X-Vwatch-Genesis`.

use hyper::header::{HeaderMap, HeaderName, VIA};

use super::Shared;
use super::address::Address;
use super::http::RequestError;
use super::loop_guard::{LoopError, Via};
use crate::core::Stamp;
use crate::wire::headers::X_VWATCH_GENESIS;

const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// Records the `Via` and the genesis of an answer.
///
/// # Errors
/// If the answer has passed this node, or too many nodes.
pub(super) fn read_source_headers(
    shared: &Shared,
    address: &Address,
    head: &HeaderMap,
) -> Result<(), RequestError> {
    let lines: Vec<_> = head.get_all(&VIA).iter().filter_map(|line| line.to_str().ok()).collect();
    let via = Via::parse(&lines.join(","), &shared.us).map_err(|error| {
        RequestError::Unusable(
            match error {
                LoopError::Loop => "the upstream fills from this node: --fill-from leads in a circle",
                LoopError::TooLong => "it came through too many nodes: --fill-from may lead in a circle",
            }
            .to_owned(),
        )
    })?;
    shared.upstream.record_via(address, via);
    if let Some(began) = head.get(&GENESIS).and_then(|value| Stamp::parse(value.as_bytes()).ok())
        && let Some(oldest) = shared.upstream.record_genesis(address, began)
    {
        shared.host.adopt_genesis(oldest);
    }
    Ok(())
}
