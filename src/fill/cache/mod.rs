//! `FILL_CACHE`: one conditional request a name and interval, at an even rate.
//!
//! The node keeps versions only, no data. If several nodes of a cluster fill from the same upstream, one of them polls
//! a name: its owner. The others get the version by replication.
//!
//! | module | what it has |
//! |---|---|
//! | `poll_state` | the state of a name's polls |
//! | `poll_list` | the names that are to be polled at once, and the rate |
//! | `queue` | which name is next; pure |
//! | `schedule` | the loop |
//! | `ownership` | whether the owner of a name polls it; pure |
//! | `poll` | one poll of a name |
//! | `request` | its requests |
//! | `destination`, `redirect` | where a request goes, where a redirect leads; pure |
//! | `manifest` | manifests of a registry |
//! | `answer` | what an answer means |
//! | `apply` | what an answer changes here |
//! | `retry` | the pause after a failure; pure |

mod answer;
mod apply;
mod destination;
mod manifest;
mod ownership;
mod poll;
pub(super) mod poll_list;
pub(super) mod poll_state;
mod queue;
mod redirect;
mod request;
mod retry;
mod schedule;

use super::Shared;
use super::entries::Entry;

pub(super) use schedule::schedule;

/// Ends the wait of a name's readers if the node holds a record of it.
fn serve_record(shared: &Shared, entry: &Entry) {
    if shared.host.record(&entry.name).is_some() {
        shared.release_readers(entry);
    }
}
