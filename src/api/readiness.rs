//! Whether the node accepts a request now, and the refusals if it does not.

use axum::http::HeaderMap;

use super::error::Refusal;
use super::params::shown;
use super::state::Node;
use crate::core::Namespace;
use crate::node::pulse::STALLED;
use crate::node::store::Readiness;
use crate::wire::error_code::ErrorCode;

/// Whether all parts of the node go on.
pub(crate) fn goes_on(node: &Node) -> Result<(), Refusal> {
    if node.pulse.is_stalled() { Err(Refusal::new(ErrorCode::Stalled, STALLED.trim_end())) } else { Ok(()) }
}

/// The refusal of a node that is about to stop and would have to begin new work.
pub(crate) fn stopping() -> Refusal {
    Refusal::new(ErrorCode::Stopping, "stopping: this node is about to end: use another one")
}

/// The refusal of a node without a complete set.
pub(crate) fn joining() -> Refusal {
    Refusal::new(
        ErrorCode::Joining,
        "joining: this node takes over the set from others: use another one, or retry",
    )
}

/// The refusal of a write while the clock is in doubt.
pub(crate) fn clock_in_doubt() -> Refusal {
    Refusal::new(
        ErrorCode::ClockInDoubt,
        "clock in doubt: this node's clock is far from those of most others, or was set: \
         write to another node, and correct the clock of this one",
    )
}

/// The refusal of what needs the clocks of a majority of the cluster while too few of them are known: for some seconds
/// after a start, and after others have started.
pub(crate) fn clock_not_compared() -> Refusal {
    Refusal::new(
        ErrorCode::ClockInDoubt,
        "clock in doubt: this node does not know the clocks of a majority of the cluster yet: retry",
    )
}

/// Whether the node answers reads.
pub(crate) fn may_read(node: &Node) -> Result<(), Refusal> {
    goes_on(node)?;
    if node.has_joined() { Ok(()) } else { Err(joining()) }
}

/// Whether the node has a name, or all names under a prefix: 421 at a mirror that does not.
pub(crate) fn has_names(node: &Node, namespace: &Namespace, prefix: &[u8]) -> Result<(), Refusal> {
    let Some(filler) = node.fill.as_ref().filter(|filler| filler.is_mirror()) else { return Ok(()) };
    let is_within = |has: &String| prefix.starts_with(has.as_bytes());
    if *namespace == Namespace::PLAIN && filler.prefixes().iter().any(is_within) {
        return Ok(());
    }
    let from = filler.from();
    let whose = match namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in the namespace {}", shown(namespace.as_bytes())),
    };
    let got = shown(prefix);
    Err(Refusal::new(
        ErrorCode::NotMirrored,
        format_args!("not mirrored: {got}{whose}: this node has no such names: use its leader, {from}"),
    ))
}

/// Whether the node accepts writes.
pub(crate) fn may_write(node: &Node) -> Result<(), Refusal> {
    match node.store.readiness() {
        _ if !node.is_serving() => Err(stopping()),
        Readiness::Joining => Err(joining()),
        Readiness::ClockInDoubt => Err(clock_in_doubt()),
        Readiness::Ready => Ok(()),
    }
}

/// Waits until a write is saved, if the node answers writes only then. `headers` are those of the record that stands.
pub(crate) async fn saved(node: &Node, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(disk) = node.store.disk_of_answers() else { return Ok(()) };
    disk.saved().await.map_err(|why| {
        let text = format_args!(
            "not saved: the write is done, and this node cannot save it: {why}: other nodes have it, or will"
        );
        headers.iter().fold(Refusal::new(ErrorCode::NotSaved, text), |refusal, (name, value)| {
            refusal.with(name.clone(), value.clone())
        })
    })
}
