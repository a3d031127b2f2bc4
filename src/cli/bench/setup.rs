//! What a run that waits for writes has before it begins.

use super::blocking::Blocking;
use super::names::Names;
use super::process_of;
use super::server::Process;
use super::target::{Target, make_room};
use crate::cli::failure::Failure;
use crate::cli::nodes::Nodes;
use crate::cli::stop::Interrupt;

/// The nodes of a run, and the names that it writes.
pub(super) struct Setup {
    pub(super) readers: Vec<Target>,
    pub(super) writer: Target,
    /// The process that is measured, if it is on this machine.
    pub(super) process: Option<Process>,
    /// A connection to the writer's node.
    pub(super) control: Blocking,
    pub(super) names: Names,
}

impl Setup {
    /// Finds the nodes, with room for so many connections, which are for `what`.
    pub(super) fn new(
        nodes: &Nodes,
        (connections, what): (usize, &str),
        pid: Option<u32>,
        names: u64,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let readers = Target::each(nodes.reader_urls()?, "client-url")?;
        let writer = Target::of(nodes.writer_urls(true)?, "server-url")?;
        make_room(connections, what)?;
        let process = process_of(&readers, pid)?;
        let control = Blocking::open(writer.clone(), interrupt)?;
        Ok(Self { readers, writer, process, control, names: Names::new(names)? })
    }

    /// Writes the names once, with data of this size, and waits until each node has them.
    pub(super) fn write_names(&mut self, size: usize, interrupt: &Interrupt) -> Result<(), Failure> {
        self.names.write(&mut self.control, 0, size)?;
        self.readers
            .iter()
            .try_for_each(|reader| self.names.wait_at(&mut Blocking::open(reader.clone(), interrupt)?))
    }
}
