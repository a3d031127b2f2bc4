//! The responder's side of a sync: without state, one step for each request.

use super::super::digest_trie::Prefix;
use super::super::limits::{HORIZON_SLICE, MAX_ANSWER_BYTES};
use super::super::message::{
    Compare, Found, Listed, Listing, Reply, Sums, SyncRequest, SyncResponse, SyncStep,
};
use super::super::mutants::Mutant;
use super::super::set::Set;
use super::super::store::Store;
use super::{LISTED_BYTES, Moment, PREFIX_BYTES, record_bytes};

/// Answers a request. `joined` is whether this node has joined a set; if not, it adopts the genesis of the initiator.
///
/// May adopt genesis and horizon of the initiator, and merges its records; keeps no state between two requests.
pub fn respond<T>(store: &mut Store<T>, joined: bool, at: Moment, ask: &SyncRequest) -> SyncResponse {
    let (reply, joined) = reply(store, joined, at, ask);
    SyncResponse {
        from: store.incarnation(),
        now: at.now,
        genesis: joined.then(|| store.genesis()),
        horizon: store.set().horizon(),
        reply,
    }
}

fn reply<T>(store: &mut Store<T>, joined: bool, at: Moment, ask: &SyncRequest) -> (Reply, bool) {
    if ask.to != store.incarnation() && !store.mutants().has(Mutant::RestartUnnoticed) {
        return (Reply::NotMe, joined);
    }
    if at.refuses(ask.horizon, store.set().horizon()) {
        return (Reply::WrongHorizon, joined);
    }
    match ask.genesis {
        Some(theirs) if !joined || theirs < store.genesis() => store.adopt(theirs),
        Some(theirs) if theirs != store.genesis() => return (Reply::OtherGenesis, true),
        None if !joined => return (Reply::Joining, false),
        // a snapshot needs no common key
        None if !matches!(ask.step, SyncStep::Snapshot { .. }) => return (Reply::OtherGenesis, true),
        _ => {}
    }
    // rule 2: both nodes first adopt the larger horizon
    if !store.mutants().has(Mutant::NoHorizonExchange) {
        let horizon = ask.horizon.max(store.set().horizon());
        // a long list of tombstones is dropped over several requests, so that no request takes long
        let settled = store.raise_horizon(horizon, HORIZON_SLICE) < HORIZON_SLICE;
        if horizon > ask.horizon || !settled {
            return (Reply::HorizonFirst, joined);
        }
    }
    let budget = usize::try_from(ask.budget).unwrap_or(usize::MAX).min(MAX_ANSWER_BYTES);
    let reply = match &ask.step {
        SyncStep::Vectors { digest, vector } => {
            if store.set().root() == *digest {
                // rule 1: our set reflects the same writes as theirs, since both are equal
                store.join_vector(vector);
                Reply::Equal(store.vector().clone())
            } else {
                Reply::Found(Found { count: store.set().root().count, ..Found::default() })
            }
        }
        SyncStep::Open(compare) => {
            let vector = Some(store.vector().clone());
            Reply::Found(Found { vector, ..find(store, compare, &[], budget) })
        }
        SyncStep::Go { compare, wants, records } => {
            for record in records {
                store.replicate(at.now, record);
            }
            let late = store.mutants().has(Mutant::VectorAtEnd);
            let vector = late.then(|| store.vector().clone());
            Reply::Found(Found { vector, ..find(store, compare, wants, budget) })
        }
        SyncStep::Snapshot { after, first } => snapshot(store, *after, *first, budget),
    };
    (reply, joined)
}

/// The bytes that are left of an answer's budget.
struct Room {
    left: usize,
    /// Whether the answer has an item. The first item is added whatever its size (rule 3).
    has_item: bool,
}

impl Room {
    fn new<T>(store: &Store<T>, budget: usize) -> Self {
        Self { left: budget, has_item: store.mutants().has(Mutant::NoMinimumProgress) }
    }

    fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || !self.has_item;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.has_item = true;
        }
        fits
    }
}

fn find<T>(store: &Store<T>, compare: &[Compare], wants: &[u64], budget: usize) -> Found {
    let set = store.set();
    let mut found = Found { count: set.root().count, ..Found::default() };
    let mut room = Room::new(store, budget);
    for position in wants {
        // all records of a position or none: two names may have the same position
        let cells = || set.cells(*position, *position);
        let bytes = cells().map(|cell| record_bytes(cell.record())).sum();
        if bytes > 0 && !room.take(bytes) {
            return found;
        }
        found.records.extend(cells().map(|cell| cell.record().clone()));
        found.given += 1;
    }
    for (prefix, sum) in compare.iter().flat_map(stretches) {
        let ours = set.digest(prefix);
        if ours.sum != sum {
            let listable = ours.count <= store.list_at_most() || prefix.child(0).is_none();
            let items = if listable { usize::try_from(ours.count).unwrap_or(usize::MAX) } else { 0 };
            if !room.take(PREFIX_BYTES + items.saturating_mul(LISTED_BYTES)) {
                return found;
            }
            if listable {
                found.listed.push(listing(set, prefix));
            } else {
                found.differ.push(prefix);
            }
        }
        found.covered += 1;
    }
    found
}

/// The stretches of a comparison with the initiator's sums, in the order in which they are covered.
fn stretches(compare: &Compare) -> impl Iterator<Item = (Prefix, u128)> + '_ {
    let (first, sums) = match &compare.sums {
        Sums::Whole(sum) => (None, std::slice::from_ref(sum)),
        Sums::Children { first, sums } => (Some(*first), &sums[..]),
    };
    sums.iter().zip(0u8..=255).filter_map(move |(sum, i)| {
        let prefix = match first {
            None => Some(compare.prefix),
            Some(first) => compare.prefix.child(first.wrapping_add(i)),
        };
        Some((prefix?, *sum))
    })
}

fn listing(set: &Set, prefix: Prefix) -> Listing {
    let items = set.cells(prefix.first(), prefix.last()).map(|cell| Listed {
        position: cell.position(),
        last_sync: cell.record().last_sync(),
        item: cell.item() as u64,
    });
    Listing { prefix, items: items.collect() }
}

fn snapshot<T>(store: &Store<T>, after: Option<u64>, first: bool, budget: usize) -> Reply {
    // rule 7: captured before the first record is read
    let vector = first.then(|| store.vector().clone());
    let mut room = Room::new(store, budget);
    let mut records = Vec::new();
    let mut upto = after;
    let start = match after {
        None => Some(0),
        Some(after) => after.checked_add(1),
    };
    let mut cells = start.into_iter().flat_map(|start| store.set().cells(start, u64::MAX)).peekable();
    while let Some(cell) = cells.peek() {
        let position = cell.position();
        let here = store.set().cells(position, position);
        if !room.take(here.map(|cell| record_bytes(cell.record())).sum()) {
            return Reply::Snapshot { vector, records, upto: upto.unwrap_or(0) };
        }
        while let Some(cell) = cells.next_if(|cell| cell.position() == position) {
            records.push(cell.record().clone());
        }
        upto = Some(position);
    }
    Reply::Snapshot { vector, records, upto: u64::MAX }
}
