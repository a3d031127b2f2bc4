//! The table of connections of one event loop. The place of a connection is a small number.

use mio::net::TcpStream;

use crate::core::Ticket;
use crate::http::connection_limit::Permit;
use crate::http::fast_path::parked::ParkedRead;
use crate::http::fast_path::streams::{Member, Single};
use crate::http::socket::Socket;
use crate::tls::Session;

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
    /// It has sent the beginning of a write behind others, and will send the rest.
    Partial(Box<[u8]>),
    /// It waits for an answer.
    Parked(ParkedRead, Ticket),
    /// It gets what its group gets.
    Stream(Member),
    /// It gets a stream of its own, until it has caught up with its group.
    Single(Box<Single>),
}

// What a parked reader costs here; the list of its name has 40 bytes for it, and the wheel 12.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection>>() <= 64);

/// Connections by place. A place is reused only after [`Table::tidy`], so that no event or message of an earlier
/// connection can be applied to a new one.
#[derive(Default)]
pub(super) struct Table {
    connections: Vec<Option<Connection>>,
    /// The sessions of those that speak TLS, at the same places: empty without TLS, so that it costs nothing there.
    sessions: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
    freed: Vec<u32>,
}

impl Table {
    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() + self.freed.len() == self.connections.len()
    }

    /// The number of places, used or not.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    /// The place that the next connection will have.
    pub(super) fn next_place(&self) -> u32 {
        let fresh = u32::try_from(self.connections.len())
            .expect("fewer connections than descriptors, which are 31 bits");
        self.free.last().copied().unwrap_or(fresh)
    }

    /// Adds a connection at its place.
    pub(super) fn insert(&mut self, connection: Connection, session: Option<Box<Session>>) -> u32 {
        let at = self.next_place();
        if session.is_some() {
            let places = self.sessions.len().max(at as usize + 1);
            self.sessions.resize_with(places, || None);
            self.sessions[at as usize] = session;
        }
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

    /// The socket and the state of a connection.
    pub(super) fn socket(&mut self, at: u32) -> Option<(Socket<'_>, &mut ConnectionState)> {
        let Connection { stream, state, .. } = self.connections.get_mut(at as usize)?.as_mut()?;
        let session = self.sessions.get_mut(at as usize).and_then(Option::as_deref_mut);
        Some((Socket { stream, session }, state))
    }

    /// Ends the session of a connection, which stays.
    pub(super) fn end_session(&mut self, at: u32) {
        if let Some(session) = self.sessions.get_mut(at as usize) {
            *session = None;
        }
    }

    /// Removes a connection, with its session.
    pub(super) fn remove(&mut self, at: u32) -> Option<(Connection, Option<Box<Session>>)> {
        let connection = self.connections.get_mut(at as usize)?.take()?;
        self.freed.push(at);
        Some((connection, self.sessions.get_mut(at as usize).and_then(Option::take)))
    }

    /// Makes freed places available again.
    pub(super) fn tidy(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Places of all connections that have sent the beginning of a write.
    pub(super) fn partial(&self) -> Vec<u32> {
        let is_it = |connection: &Option<Connection>| {
            connection.as_ref().is_some_and(|c| matches!(c.state, ConnectionState::Partial(_)))
        };
        (0..).zip(&self.connections).filter(|(_, connection)| is_it(connection)).map(|(at, _)| at).collect()
    }

    /// Places of all connections that wait for nothing, and of streams whose sockets take nothing more.
    pub(super) fn unused(&self) -> Vec<u32> {
        let is_it = |connection: &Option<Connection>| match connection.as_ref().map(|c| &c.state) {
            Some(ConnectionState::Idle) => true,
            Some(ConnectionState::Single(single)) => single.is_blocked(),
            _ => false,
        };
        (0..).zip(&self.connections).filter(|(_, connection)| is_it(connection)).map(|(at, _)| at).collect()
    }
}
