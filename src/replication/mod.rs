//! Replication between peers over HTTP: `POST /v1/versions` pushes, `POST /v1/sync` compares. Both carry
//! [`crate::wire::message`]s in sealed [`frames`].
//!
//! This is transport: `core::Replica` decides what to send to which peer, and handles the responses.

pub mod client;
mod connector;
pub mod frames;

use crate::core::message::Request;

/// The path for pushes.
pub const PUSH_PATH: &str = "/v1/versions";

/// The path for syncs.
pub const SYNC_PATH: &str = "/v1/sync";

/// The path for requests about leases.
pub const LEASE_PATH: &str = "/v1/lease-peers";

/// What the paths begin with at which a peer is told that a name is read at another node; the name follows.
pub const FILL_PATH: &str = "/v1/fill/";

/// The content type of bodies between peers.
pub const CONTENT_TYPE: &str = "application/x-bincode";

/// The path of a request.
#[must_use]
pub fn path_of(request: &Request) -> &'static str {
    match request {
        Request::Push(_) => PUSH_PATH,
        Request::Sync(_) => SYNC_PATH,
    }
}
