//! vwatch as its users meet it: real processes, real sockets.
//!
//! The tests under `tests/` know the node only by its flags, its two ports and its exit code. What they share is here:
//!
//! | module | what it has |
//! |---|---|
//! | [`browser`] | a real Chromium, driven by WebDriver |
//! | [`node`] | a node as a child process: started, waited for, signalled, ended |
//! | [`nginx`] | a real nginx before some nodes |
//! | [`parts`] | programs of others that tests run, if they are there |
//! | [`cluster`] | several nodes, each behind a proxy of its own, and what goes wrong between them |
//! | [`faults`] | random faults on a cluster, and a history that is judged |
//! | [`promises`] | readers that roam by cursors while there are faults, and what they must be told |
//! | [`clients`] | programs with the client library while there are faults, and what they must have at the end |
//! | [`heavy`] | the place of a test that loads the machine |
//! | [`http`] | a small blocking HTTP/1.1 client that sends exactly the given bytes |
//! | [`long_runs`] | the options and the lines of programs that run many seeds |
//! | [`docker`] | nodes in containers, and the networks between them |
//! | [`dns`] | a name server whose answers a test changes |
//! | [`proxy`] | faults on the way to a node, counted |
//! | [`floods`] | clients that send what costs a server most, beside an ordinary reader and writer |
//! | [`storm`] | clients that behave badly, and what must not come of it |
//! | [`wait`] | waiting for a condition, never for a while |
//! | [`source`] | a reader of server-sent events that comes back as a browser does |
//! | [`stream`] | a reader of a watch that goes on |
//! | [`upstream`] | an HTTP server with the answers of a test |
//! | [`tls`] | certificates, and a blocking client that speaks TLS |
//! | [`text`] | the notations of the protocol: dates, durations, metrics, refusals |
//!
//! Nothing here but [`clients`], which tries the client library, depends on the `vwatch` library: a mistake that node
//! and tests share would go unseen.

pub mod browser;
pub mod clients;
pub mod cluster;
pub mod dev;
pub mod dns;
pub mod docker;
pub mod faults;
pub mod feed;
pub mod floods;
pub mod folder;
pub mod heavy;
pub mod http;
pub mod long_runs;
pub mod nginx;
pub mod node;
pub mod parts;
pub mod promises;
pub mod proxy;
pub mod source;
pub mod storm;
pub mod stream;
pub mod text;
pub mod tls;
pub mod tokens;
pub mod upstream;
pub mod wait;
