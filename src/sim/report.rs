//! The report of a run.

use std::collections::BTreeMap;
use std::fmt;

use super::checks::Violation;
use super::network::MessageFaults;

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// The number of sent messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The number of faults of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The cluster was cut in two.
    pub partitions: u64,
    /// A node could send and not receive, or the other way round.
    pub one_way: u64,
    /// A process was killed; its successor began empty.
    pub restarts: u64,
    /// All processes at once.
    pub outages: u64,
    /// A clock was set.
    pub clock_steps: u64,
    /// A clock was set, up to an hour off.
    pub far_clocks: u64,
    /// A node was slow.
    pub slow: u64,
    /// A node had another secret for a while.
    pub refusals: u64,
    /// A node announced that it leaves, and ended.
    pub leaves: u64,
    /// Processes whose clock ran too fast or too slow.
    pub drifting: u64,
    /// Times that a process saved what it had.
    pub saves: u64,
    /// Processes that started with what was saved before.
    pub restored: u64,
    /// Of these, with a backup.
    pub backups: u64,
    /// Saved sets that were loaded.
    pub loaded: u64,
    /// Saved sets that were set aside.
    pub set_aside: u64,
}

impl Faults {
    fn add(&mut self, other: &Self) {
        self.partitions += other.partitions;
        self.one_way += other.one_way;
        self.restarts += other.restarts;
        self.outages += other.outages;
        self.clock_steps += other.clock_steps;
        self.far_clocks += other.far_clocks;
        self.slow += other.slow;
        self.refusals += other.refusals;
        self.leaves += other.leaves;
        self.drifting += other.drifting;
        self.saves += other.saves;
        self.restored += other.restored;
        self.backups += other.backups;
        self.loaded += other.loaded;
        self.set_aside += other.set_aside;
    }
}

/// The counters of the workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Writes that were accepted.
    pub writes: u64,
    /// Of these, deletes.
    pub deletes: u64,
    /// Of these, values with an end.
    pub ending: u64,
    /// Deletes that nodes wrote because a value had ended.
    pub expired: u64,
    /// Of these, values of a name that had been deleted.
    pub recreations: u64,
    /// Of these, with a client's stamp.
    pub stamped: u64,
    /// Of these, within a burst.
    pub burst: u64,
    /// Writes that lost against a newer record, or were rejected.
    pub refused: u64,
    /// Writes that a node rejected because it doubts its clock.
    pub doubted: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Reads that got no answer, because the answer would have gone back in time.
    pub held_back: u64,
    /// Tombstones that nodes forgot.
    pub forgotten: u64,
    /// Times that a node compacted.
    pub compactions: u64,
    /// Times that a node set how many records a name keeps.
    pub depths: u64,
    /// Times that a watcher connected.
    pub resumes: u64,
    /// Times that its view was reset.
    pub resets: u64,
    /// Times that it was told that records of some names, or some writes, are missing.
    pub gaps: u64,
    /// Times that it was told that records of any names are missing.
    pub gaps_of_all: u64,
    /// Events that it was told.
    pub told: u64,
    /// Of these, records that it had been told before, of readers of every record.
    pub told_twice: u64,
    /// Parts that mirrors applied, each with a claim.
    pub mirrored: u64,
    /// Times that a mirror took all names over again.
    pub begun_again: u64,
}

impl Work {
    fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.deletes += other.deletes;
        self.ending += other.ending;
        self.expired += other.expired;
        self.recreations += other.recreations;
        self.stamped += other.stamped;
        self.burst += other.burst;
        self.refused += other.refused;
        self.doubted += other.doubted;
        self.reads += other.reads;
        self.held_back += other.held_back;
        self.forgotten += other.forgotten;
        self.compactions += other.compactions;
        self.depths += other.depths;
        self.resumes += other.resumes;
        self.resets += other.resets;
        self.gaps += other.gaps;
        self.gaps_of_all += other.gaps_of_all;
        self.told += other.told;
        self.told_twice += other.told_twice;
        self.mirrored += other.mirrored;
        self.begun_again += other.begun_again;
    }
}

/// The report of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The number of nodes.
    pub nodes: usize,
    /// The promise that was broken, if any.
    pub violation: Option<Violation>,
    /// From the end of the faults until all agreed, µs.
    pub converged_us: Option<u64>,
    /// The bound of that time, µs.
    pub bound_us: u64,
    /// The messages by kind.
    pub traffic: BTreeMap<&'static str, Traffic>,
    /// The faults of messages.
    pub message_faults: MessageFaults,
    /// The faults of the world.
    pub faults: Faults,
    /// The workload.
    pub work: Work,
    /// Rounds of sync that were complete.
    pub rounds: u64,
    /// Snapshots that were complete.
    pub snapshots: u64,
    /// Rounds that turned into a snapshot.
    pub too_different: u64,
    /// Stretches that differed and were cut further.
    pub deeper: u64,
    /// Answers that did not cover the whole request.
    pub partial: u64,
    /// Exchanges of vectors.
    pub vectors: u64,
    /// Rounds and snapshots that stopped early.
    pub unfinished: u64,
    /// Differences that rounds found, and those of them that were old.
    pub differences: (u64, u64),
    /// Sets that were begun.
    pub geneses: usize,
    /// Records that all hold at the end.
    pub records: u64,
    /// Of all pairs (node, process that wrote), those where the vector claims all writes, at the end.
    pub vectors_complete: (u64, u64),
    /// Hash of the trace, and its lines.
    pub trace: (u64, u64),
}

impl Report {
    /// What has to happen in many worlds: if one of these did not, the absence of damage by it proves nothing.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let (b, x, w) = (&self.message_faults, &self.faults, &self.work);
        vec![
            ("lost messages", b.lost),
            ("doubled messages", b.doubled),
            ("messages overtaken", b.overtook),
            ("messages cut off", b.cut),
            ("messages cut off one way", b.cut_one_way),
            ("messages slowed", b.slowed),
            ("restarts", x.restarts),
            ("outages", x.outages),
            ("clock steps", x.clock_steps),
            ("clocks far off", x.far_clocks),
            ("clocks that drift", x.drifting),
            ("nodes with another secret", x.refusals),
            ("nodes that left", x.leaves),
            ("writes refused by a doubted clock", w.doubted),
            ("values with an end", w.ending),
            ("deletes of what had ended", w.expired),
            ("re-creations", w.recreations),
            ("clients' stamps", w.stamped),
            ("writes in bursts", w.burst),
            ("readers held back", w.held_back),
            ("tombstones forgotten", w.forgotten),
            ("rounds", self.rounds),
            ("snapshots", self.snapshots),
            ("snapshots instead of rounds", self.too_different),
            ("stretches cut further", self.deeper),
            ("partial answers", self.partial),
            ("exchanges of vectors", self.vectors),
            ("old differences", self.differences.1),
        ]
    }

    /// Adds the report of another run.
    pub fn add(&mut self, other: &Self) {
        for (kind, traffic) in &other.traffic {
            let all = self.traffic.entry(kind).or_default();
            all.messages += traffic.messages;
            all.bytes += traffic.bytes;
        }
        self.message_faults.add(&other.message_faults);
        self.faults.add(&other.faults);
        self.work.add(&other.work);
        self.rounds += other.rounds;
        self.snapshots += other.snapshots;
        self.too_different += other.too_different;
        self.deeper += other.deeper;
        self.partial += other.partial;
        self.vectors += other.vectors;
        self.unfinished += other.unfinished;
        self.differences.0 += other.differences.0;
        self.differences.1 += other.differences.1;
        self.geneses += other.geneses;
        self.records += other.records;
        self.vectors_complete.0 += other.vectors_complete.0;
        self.vectors_complete.1 += other.vectors_complete.1;
    }

    /// Whether all promises were kept.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violation.is_none() && self.converged_us.is_some()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (b, x, w) = (&self.message_faults, &self.faults, &self.work);
        writeln!(f, "seed {}, {} nodes", self.seed, self.nodes)?;
        writeln!(
            f,
            "messages: {} sent, {} lost, {} doubled, {} late, {} overtook, {} cut, {} cut one way, {} slowed",
            b.sent, b.lost, b.doubled, b.late, b.overtook, b.cut, b.cut_one_way, b.slowed
        )?;
        writeln!(
            f,
            "faults: {} partitions, {} one-way, {} restarts, {} outages, {} clock steps ({} far), {} slow, {} refused, {} left, {} drifting",
            x.partitions,
            x.one_way,
            x.restarts,
            x.outages,
            x.clock_steps,
            x.far_clocks,
            x.slow,
            x.refusals,
            x.leaves,
            x.drifting
        )?;
        writeln!(
            f,
            "work: {} writes ({} deletes, {} with an end of which {} were deleted, {} re-creations, {} with a client's stamp, {} in bursts), {} refused, \
             {} for doubt, {} reads, {} held back, {} tombstones forgotten, {} compactions, {} depths, {} feeds resumed, {} resets, {} gaps, {} gaps of all names, {} events, {} of them twice, {} parts mirrored, {} mirrors begun again",
            w.writes,
            w.deletes,
            w.ending,
            w.expired,
            w.recreations,
            w.stamped,
            w.burst,
            w.refused,
            w.doubted,
            w.reads,
            w.held_back,
            w.forgotten,
            w.compactions,
            w.depths,
            w.resumes,
            w.resets,
            w.gaps,
            w.gaps_of_all,
            w.told,
            w.told_twice,
            w.mirrored,
            w.begun_again
        )?;
        for (kind, traffic) in &self.traffic {
            writeln!(f, "{kind}: {} messages, {} bytes", traffic.messages, traffic.bytes)?;
        }
        writeln!(
            f,
            "sync: {} rounds ({} stretches cut further, {} partial answers), {} snapshots ({} instead of a round), \
             {} exchanges of vectors, {} unfinished; {} differences, {} of them old",
            self.rounds,
            self.deeper,
            self.partial,
            self.snapshots,
            self.too_different,
            self.vectors,
            self.unfinished,
            self.differences.0,
            self.differences.1
        )?;
        writeln!(
            f,
            "end: {} sets begun, {} records, {} of {} vector components complete, trace {:016x} of {} lines",
            self.geneses,
            self.records,
            self.vectors_complete.0,
            self.vectors_complete.1,
            self.trace.0,
            self.trace.1
        )?;
        let bound = self.bound_us as f64 / 1e6;
        match (&self.violation, self.converged_us) {
            (Some(violation), _) => write!(f, "BROKEN: {violation}"),
            (None, Some(us)) => {
                write!(f, "converged in {:.1} s, within the bound of {bound} s", us as f64 / 1e6)
            }
            (None, None) => write!(f, "NOT CONVERGED within the bound of {bound} s"),
        }
    }
}
