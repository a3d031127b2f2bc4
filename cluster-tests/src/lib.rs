//! vwatch as its users meet it: real processes, real sockets.
//!
//! The tests under `tests/` know the node only by its flags, its two ports and its exit code. What they share is here:
//!
//! | module | what it has |
//! |---|---|
//! | [`node`] | a node as a child process: started, waited for, signalled, ended |
//! | [`http`] | a small blocking HTTP/1.1 client that sends exactly what it is told |
//! | [`docker`] | nodes in containers, and the networks between them |
//! | [`dns`] | a name server whose answers a test changes |
//! | [`proxy`] | faults on the way to a node, counted |
//! | [`wait`] | waiting for a condition, never for a while |
//! | [`text`] | the notations of the protocol: dates, durations, metrics, refusals |
//!
//! Nothing here depends on the `vwatch` library: a mistake that node and tests share would go unseen.

pub mod dns;
pub mod docker;
pub mod http;
pub mod node;
pub mod proxy;
pub mod text;
pub mod wait;
