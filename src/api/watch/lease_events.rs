//! Lease events of a watch.

use crate::access::Caller;
use crate::api::error::Refusal;
use crate::api::guard::may_see;
use crate::api::leases::{no_voters, slots_of};
use crate::api::state::Node;
use crate::core::lease::Lease;
use crate::node::leases::LeaseNews;
use crate::wire::leases::{LeaseEventJson, ToldLease};

/// Whether this node knows of leases. A follower is told none.
pub(super) fn may_tell_leases(node: &Node) -> Result<(), Refusal> {
    if let Some(filler) = node.fill.as_ref().filter(|filler| filler.is_follower()) {
        return Err(Refusal::bad_parameter(format_args!(
            "leases=true at a follower: it is told of no leases: watch at the node whose client port is {}",
            filler.from()
        )));
    }
    match node.leases.settings().sets.is_empty() {
        false => Ok(()),
        true => Err(no_voters()),
    }
}

/// An event as a reader gets it at `now_us`. `None` if it is about a lease, above what the reader watches, of which its
/// token may not be told.
pub(super) fn lease_event(
    node: &Node,
    caller: Caller,
    news: &LeaseNews,
    now_us: u64,
) -> Option<LeaseEventJson> {
    match news {
        LeaseNews::Reset | LeaseNews::Synced => {}
        LeaseNews::Held(lease, _)
        | LeaseNews::Acquired(lease, _)
        | LeaseNews::Released(lease)
        | LeaseNews::Expired(lease) => may_see(node, caller, &lease.path).then_some(())?,
    }
    let held = |lease: &Lease, expires_us: u64| {
        let expires_in_ms = Some(expires_us.saturating_sub(now_us) / 1000);
        ToldLease { expires_in_ms, ..told(lease) }
    };
    Some(match news {
        LeaseNews::Reset => LeaseEventJson::LeasesReset,
        LeaseNews::Synced => LeaseEventJson::LeasesSynced,
        LeaseNews::Held(lease, expires_us) => LeaseEventJson::Held(held(lease, *expires_us)),
        LeaseNews::Acquired(lease, expires_us) => LeaseEventJson::Acquired(held(lease, *expires_us)),
        LeaseNews::Released(lease) => LeaseEventJson::Released(told(lease)),
        LeaseNews::Expired(lease) => LeaseEventJson::Expired(told(lease)),
    })
}

fn told(lease: &Lease) -> ToldLease {
    let (slots, claim) = slots_of(lease);
    ToldLease {
        path: lease.path.as_str().to_owned(),
        prefix: lease.path.is_prefix(),
        holder: lease.label.to_string(),
        token: lease.token.micros(),
        expires_in_ms: None,
        slots,
        claim,
    }
}
