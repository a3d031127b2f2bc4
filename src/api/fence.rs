//! Holds writes to leases, and what a request about leases is told that they stand in the way of.

use std::time::Duration;

use crate::access::Caller;
use crate::api::error::Refusal;
use crate::api::guard::may_see;
use crate::api::lease_path::named;
use crate::api::params::shown;
use crate::api::state::Node;
use crate::core::Name;
use crate::core::lease::message::{Blocker, Ending, Unanswered, VoteRefusal};
use crate::core::lease::{LeasePath, Token};
use crate::node::leases::Cover;
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;

/// A lease that stands in the way, as users read it. A caller that may not read all that it covers is told neither its
/// path nor its holder.
pub(super) fn blocking(node: &Node, caller: Caller, blocker: &Blocker) -> String {
    let left = GoDuration(Duration::from_millis(blocker.left_us / 1000));
    if !may_see(node, caller, &blocker.path) {
        return format!("what is asked for is leased for {left} unless that is renewed");
    }
    let what = named(&blocker.path);
    let by = match &*blocker.label {
        "" => String::new(),
        label => format!(" by {}", shown(label.as_bytes())),
    };
    format!("{what} is leased{by} for {left} unless that is renewed")
}

/// 503: too few of the voters have answered.
pub(super) fn no_majority(node: &Node, unanswered: &Unanswered) -> Refusal {
    let Unanswered { voters, answered, abstains_for_us, reason } = unanswered;
    let census = node.leases.census();
    if census.with_other_voters > 0 {
        return Refusal::new(
            ErrorCode::NoMajority,
            format_args!(
                "no majority: {} live nodes have other voters than this one: start all nodes with the same \
                 --lease-voters and --lease-max-ttl; see vwatch members",
                census.with_other_voters
            ),
        );
    }
    let voters = if *voters == 0 { census.voters } else { usize::from(*voters) };
    let why = match reason.and_then(|reason| VoteRefusal::LABELS.get(usize::from(reason))) {
        Some(_) if *abstains_for_us > 0 => {
            let left = GoDuration(Duration::from_millis(abstains_for_us / 1000 + 1));
            format!(", and one that started abstains for {left} more")
        }
        Some(reason) => format!(", and one refuses: {reason}"),
        None => String::new(),
    };
    Refusal::new(
        ErrorCode::NoMajority,
        format_args!(
            "no majority: {answered} of {voters} voters on leases answered{why}: retry, or see vwatch members"
        ),
    )
}

/// What a write to a name has to do with leases: the token of the lease that covers it, if the writer shows one.
pub(super) async fn guard(
    node: &Node,
    caller: Caller,
    name: &Name,
    shown_token: Option<Token>,
    is_strict: bool,
) -> Result<Option<Token>, Refusal> {
    let Some(token) = shown_token else {
        return match node.leases.cover(name, None) {
            Cover::Other(blocker) => Err(locked(node, caller, &blocker)),
            Cover::None | Cover::Own => Ok(None),
        };
    };
    if !is_strict && matches!(node.leases.cover(name, Some(token)), Cover::Own) {
        return Ok(Some(token));
    }
    // the view may not have it yet
    let path = LeasePath::of_name(name);
    let not_held = || {
        Refusal::new(
            ErrorCode::LeaseNotHeld,
            format_args!(
                "lease not held: no live lease with the token {} covers {}: acquire it again",
                token.micros(),
                shown(name.bare())
            ),
        )
    };
    if node.leases.settings().sets.is_empty() {
        return Err(not_held());
    }
    // a name that cannot be the path of a lease can lie below one
    match node.leases.check(&path, token).await {
        Ending::Live => Ok(Some(token)),
        Ending::NoMajority(unanswered) => Err(no_majority(node, &unanswered)),
        _ => Err(not_held()),
    }
}

/// 423: a lease covers the name.
fn locked(node: &Node, caller: Caller, blocker: &Blocker) -> Refusal {
    Refusal::new(
        ErrorCode::Locked,
        format_args!(
            "locked: {}: write with its token in X-Vwatch-Lease, or wait",
            blocking(node, caller, blocker)
        ),
    )
}
