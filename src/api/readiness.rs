//! Whether the node accepts a request now, and the refusals if it does not.

use super::error::Refusal;
use super::state::Node;
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

/// Whether the node answers reads.
pub(crate) fn may_read(node: &Node) -> Result<(), Refusal> {
    goes_on(node)?;
    if node.has_joined() { Ok(()) } else { Err(joining()) }
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
