//! The table of connections of one event loop. The place of a connection is a small number.

use mio::net::TcpStream;

use crate::core::Ticket;
use crate::http::connection_limit::Permit;
use crate::http::fast_path::parked::ParkedRead;

/// A connection.
pub(super) struct Connection {
    /// Its socket.
    pub(super) stream: TcpStream,
    /// Its state.
    pub(super) state: ConnectionState,
    /// Bytes arrived while it was parked: they are read after the answer.
    pub(super) more: bool,
    /// The other side is gone, or will send no more.
    pub(super) ended: bool,
    /// Its permit of the port.
    pub(super) permit: Permit,
}

/// The state of a connection.
pub(super) enum ConnectionState {
    /// It may send a request.
    Idle,
    /// It waits for an answer.
    Parked(ParkedRead, Ticket),
}

// What a parked reader costs here; the list of its name has 40 bytes for it, and the wheel 12.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection>>() <= 64);

/// Connections by place. A place is reused only after [`Table::tidy`], so that no event or message of an earlier
/// connection can be applied to a new one.
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

    /// Adds a connection at its place.
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

    /// Removes a connection.
    pub(super) fn remove(&mut self, at: u32) -> Option<Connection> {
        let connection = self.connections.get_mut(at as usize)?.take()?;
        self.freed.push(at);
        Some(connection)
    }

    /// Makes freed places available again.
    pub(super) fn tidy(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Places of all connections that are not parked.
    pub(super) fn idle(&self) -> Vec<u32> {
        let idle = |connection: &Option<Connection>| matches!(connection, Some(c) if matches!(c.state, ConnectionState::Idle));
        (0..).zip(&self.connections).filter(|(_, connection)| idle(connection)).map(|(at, _)| at).collect()
    }
}
