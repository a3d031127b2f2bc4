//! The process of a node: the only place that knows all parts, reads the environment, handles signals, owns the log,
//! and may end the process.
//!
//! [`run`] binds the ports, assembles the node, serves it, and stops it, each in a file of its own.

mod assemble;
mod error;
pub mod fd_limit;
mod logging;
mod run;
mod serve;
mod shutdown;
mod signals;
mod sockets;
mod test_variables;
mod watchdog;

pub use error::StartError;
pub use run::run;
