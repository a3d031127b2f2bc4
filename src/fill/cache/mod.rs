//! `FILL_CACHE`: one conditional request a name and interval, within an even budget.
//!
//! Only versions are kept, never data. Several nodes that fill from the same upstream ask for a name once: the one that
//! owns it asks and writes, the others have it by replication.
//!
//! | module | what it has |
//! |---|---|
//! | `polled` | what is remembered of a name |
//! | `polls` | the way to the loop, and the budget |
//! | `queue` | which name is next; pure |
//! | `schedule` | the loop |
//! | `left` | whether a name is left to its owner; pure |
//! | `poll` | one name's turn |
//! | `ask` | its requests |
//! | `redirect` | where a redirect leads to; pure |
//! | `answer` | what an answer says |
//! | `take_in` | what that changes here |

mod answer;
mod ask;
mod left;
mod poll;
mod polled;
mod polls;
mod queue;
mod redirect;
mod schedule;
mod take_in;

use std::time::Duration;

use super::Shared;
use super::names::Entry;

pub(super) use polled::Polled;
pub(super) use polls::Polls;
pub(super) use schedule::schedule;

const PAUSE_BASE: Duration = Duration::from_millis(100);

fn serve_what_is_held(shared: &Shared, entry: &Entry) {
    if shared.keeper.held(&entry.name).is_some() {
        shared.told(entry);
    }
}
