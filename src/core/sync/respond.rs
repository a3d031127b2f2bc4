//! The responder's side of a sync: without state, one step for each request.

use super::super::digest_trie::Prefix;
use super::super::limits::{HORIZON_SLICE, MAX_ANSWER_BYTES};
use super::super::message::{Compare, Found, Holding, Reply, Sums, SyncRequest, SyncResponse, SyncStep};
use super::super::mutants::Mutant;
use super::super::set::Cell;
use super::super::store::Store;
use super::{HOLDING_BYTES, ITEM_BYTES, LISTED_BYTES, Moment, PREFIX_BYTES, holding, listing, record_bytes};

/// Answers a request. `joined` is whether this node has joined a set; if not, it adopts the genesis of the initiator.
///
/// May adopt genesis and horizon of the initiator, and merges its records; keeps no state between two requests.
pub fn respond<T>(store: &mut Store<T>, joined: bool, at: Moment, ask: &SyncRequest) -> SyncResponse {
    let (reply, joined) = reply(store, joined, at, ask);
    SyncResponse {
        from: store.incarnation(),
        now: at.now,
        genesis: joined.then(|| store.genesis()),
        registers: store.registers(),
        unproven: store.unproven(),
        reply,
    }
}

fn reply<T>(store: &mut Store<T>, joined: bool, at: Moment, ask: &SyncRequest) -> (Reply, bool) {
    if ask.to != store.incarnation() && !store.mutants().has(Mutant::RestartUnnoticed) {
        return (Reply::NotMe, joined);
    }
    if at.refuses(&ask.registers, &store.registers()) {
        return (Reply::WrongHorizon, joined);
    }
    match ask.genesis {
        Some(theirs) if !joined || theirs < store.genesis() => store.adopt_of_peer(theirs, ask.unproven),
        Some(theirs) if theirs != store.genesis() => return (Reply::OtherGenesis, true),
        None if !joined => return (Reply::Joining, false),
        // a snapshot needs no common key
        None if !matches!(ask.step, SyncStep::Snapshot { .. }) => return (Reply::OtherGenesis, true),
        _ => {}
    }
    // rule 2: the larger registers first, on both sides
    if !store.mutants().has(Mutant::NoHorizonExchange) {
        // the rest of what they cut is dropped with the next request, so that no peer waits for a long one
        let is_settled = store.adopt_registers(ask.registers, HORIZON_SLICE);
        if store.registers() != ask.registers || !is_settled {
            return (Reply::RegistersFirst, joined);
        }
    }
    let budget = usize::try_from(ask.budget).unwrap_or(usize::MAX).min(MAX_ANSWER_BYTES);
    let reply = match &ask.step {
        SyncStep::Vectors { digest, vector } => {
            if store.set().root() == *digest {
                // rule 1: our set reflects the same writes as theirs, since both are equal
                store.join_vector(vector, at.now);
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
            store.replicate(at.now, records);
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

fn find<T>(store: &Store<T>, compare: &[Compare], wants: &[Holding], budget: usize) -> Found {
    let set = store.set();
    let mut found = Found { count: set.root().count, ..Found::default() };
    let mut room = Room::new(store, budget);
    for want in wants {
        // all records of a position that are held now, or none: those of a name belong together
        let ours = holding(set, want.position);
        let newest = set.cells(want.position, want.position).last().map(Cell::item);
        let lacked = |cell: &&Cell| {
            !want.items.contains(&(cell.item() as u64))
                && (!store.mutants().has(Mutant::OnlyTheNewest) || Some(cell.item()) == newest)
        };
        let lacks: Vec<u64> = want.items.iter().copied().filter(|item| !ours.items.contains(item)).collect();
        let cells = || set.cells(want.position, want.position).filter(lacked);
        let listed = if lacks.is_empty() { 0 } else { HOLDING_BYTES + lacks.len() * ITEM_BYTES };
        let bytes = listed + cells().map(|cell| record_bytes(cell.record())).sum::<usize>();
        if bytes > 0 && !room.take(bytes) {
            return found;
        }
        found.records.extend(cells().map(|cell| cell.record().clone()));
        if !lacks.is_empty() {
            found.lacks.push(Holding { position: want.position, items: lacks });
        }
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
