//! The HTTP transport: listens, accepts, limits connections, and hands each request to [`crate::api`].

pub mod acceptor;
pub mod connection;
pub mod connection_limit;
pub mod error_body;
pub mod fast_path;
pub mod http2;
pub mod listener;
pub mod turn_away;
pub mod write_timeout;
