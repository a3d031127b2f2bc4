//! The assembly of a node, which a process of its own and a node inside a program have in common: it binds the ports,
//! puts the parts together, serves, and stops, each in a file of its own.
//!
//! Nothing here knows the process: signals, the environment, the log and the end of the process belong to the daemon.

mod assemble;
mod disk;
mod error;
pub mod fd_limit;
mod serve;
mod shutdown;
mod sockets;

pub(crate) use assemble::assemble;
pub use error::StartError;
pub(crate) use serve::{Failure, OnFailure, serve};
pub(crate) use shutdown::stop;
pub(crate) use sockets::{Ports, Sockets};
