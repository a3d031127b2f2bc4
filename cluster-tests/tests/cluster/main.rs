//! Several nodes: discovery, gossip, replication, faults between them, and attacks on them.

mod attacks;
mod browser;
mod checkpoints;
mod client;
mod discovery;
mod expires;
mod fanout;
mod feeds;
mod histories;
mod history;
mod insiders;
mod lease_events;
mod lease_voters;
mod leases;
mod members;
mod membership;
mod namespaces;
mod peer_http;
mod processes;
mod proxy;
mod routes;
mod streams;
mod upgrade;
mod view;
mod walk;
mod watchers;
