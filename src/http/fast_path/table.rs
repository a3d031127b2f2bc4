//! The connections of one event loop, each at a place that is a small number.

use mio::net::TcpStream;

use crate::core::Ticket;
use crate::http::connection_limit::Permit;
use crate::http::fast_path::parked::ParkedRead;

/// A connection.
pub(super) struct Connection {
    /// Its socket.
    pub(super) stream: TcpStream,
    /// What it is at.
    pub(super) state: State,
    /// Something came while it was parked: to be looked at once it is answered.
    pub(super) more: bool,
    /// The other side has gone, or will send no more.
    pub(super) ended: bool,
    /// Its place among all of the port.
    pub(super) permit: Permit,
}

/// What a connection is at.
pub(super) enum State {
    /// It may send a request.
    Idle,
    /// It waits for an answer.
    Parked(ParkedRead, Ticket),
}

// What a parked reader costs here; the list of its name has 40 bytes for it, and the wheel 12.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection>>() <= 64);

/// Connections by place. A place is reused, but not before [`Table::tidy`], so that no event or message that is being
/// looked at can be of a connection before.
#[derive(Default)]
pub(super) struct Table {
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    freed: Vec<u32>,
}

impl Table {
    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() + self.freed.len() == self.connections.len()
    }

    /// The place that the next connection will have.
    pub(super) fn next_place(&self) -> u32 {
        let fresh = u32::try_from(self.connections.len())
            .expect("fewer connections than descriptors, which are 31 bits");
        self.free.last().copied().unwrap_or(fresh)
    }

    /// Gives a connection its place.
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        let at = self.next_place();
        match self.free.pop() {
            Some(_) => self.connections[at as usize] = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        at
    }

    /// The connection at a place.
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Connection> {
        self.connections.get_mut(at as usize)?.as_mut()
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, at: u32) -> Option<Connection> {
        let connection = self.connections.get_mut(at as usize)?.take()?;
        self.freed.push(at);
        Some(connection)
    }

    /// Lets places that were freed be given again.
    pub(super) fn tidy(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Places of all connections that are not parked.
    pub(super) fn idle(&self) -> Vec<u32> {
        let idle =
            |connection: &Option<Connection>| matches!(connection, Some(c) if matches!(c.state, State::Idle));
        (0..).zip(&self.connections).filter(|(_, connection)| idle(connection)).map(|(at, _)| at).collect()
    }
}
