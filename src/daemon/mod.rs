//! The process of a node: the only place that reads the environment, handles signals, owns the log, and may end the
//! process.
//!
//! [`run`] has the node [assembled](crate::assembly), serves it, and stops it.

mod logging;
mod notify;
mod run;
mod signals;
mod test_variables;
mod watchdog;

pub use crate::assembly::StartError;
pub(crate) use notify::VARIABLE as NOTIFY_VARIABLE;
pub use run::run;
