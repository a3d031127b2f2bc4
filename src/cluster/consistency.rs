//! Compares three counts that should agree: the nodes that discovery names, that gossip sees, and that requests reach.
//!
//! The check compares them node by node, not as numbers: a node too many does not make up for a missing one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::observer::Observer;
use super::peer_health::Health;
use crate::core::protocol::ProtocolRange;
use crate::core::{Incarnation, NodeState, Summary};
use crate::membership::discovery::DiscoveryState;
use crate::membership::{AddressState, Member, View};
use crate::replication::client::{CallError, Presence};
use crate::wire::cluster::Agreement;
use crate::wire::node_info::Identity;

/// Most sentences in an agreement. The rest is counted.
const MOST_SENTENCES: usize = 20;

/// The views that are compared.
struct Comparison<'a> {
    /// The versions of the peer protocol that this node speaks.
    protocol: ProtocolRange,
    /// Gossip.
    view: &'a View,
    /// Discovery.
    found: &'a DiscoveryState,
    /// The result of the last requests to members.
    health: &'a BTreeMap<Incarnation, Health>,
    /// The known reasons why addresses are silent.
    silent: &'a BTreeMap<SocketAddr, String>,
    /// The advice for silent addresses that reject this node.
    refusing: &'a BTreeMap<SocketAddr, &'static str>,
    /// This node can be reached from this machine only.
    on_loopback: bool,
}

/// Whether discovery, gossip and requests find the same nodes.
#[must_use]
pub fn agreement(observer: &Observer) -> Agreement {
    let (view, found, health) = (observer.view(), observer.found(), observer.health());
    let on_loopback = observer.us().1.ip().is_loopback();
    let (silent, refusing) = (silent(observer, &view), refusing(observer));
    Comparison {
        protocol: observer.protocol(),
        view: &view,
        found: &found,
        health: &health,
        silent: &silent,
        refusing: &refusing,
        on_loopback,
    }
    .compare()
}

/// Why addresses are silent: their answers to requests, or the reason why their datagrams were dropped.
pub fn silent(observer: &Observer, view: &View) -> BTreeMap<SocketAddr, String> {
    let probes = observer.probes();
    let why = |(address, state): (&SocketAddr, &AddressState)| {
        let AddressState::Silent(dropped) = state else { return None };
        let reason = match (probes.get(address), dropped) {
            (Some(Err(error)), None) => error.to_string(),
            (_, Some(dropped)) => {
                format!("its datagrams are dropped as {}: {}", dropped.as_str(), dropped.advice())
            }
            (Some(Ok(_)), None) => "it answers requests, but no UDP comes from there".to_owned(),
            (None, None) => "no node answers there".to_owned(),
        };
        Some((*address, reason))
    };
    view.addresses.states.iter().filter_map(why).collect()
}

/// The advice for addresses that reject this node.
fn refusing(observer: &Observer) -> BTreeMap<SocketAddr, &'static str> {
    let advice = |error: &CallError| match error {
        CallError::Stale(_) => "a node that joins waits for it: or take the address out",
        _ => {
            "a node that joins waits for it, 2 min at most: give both the same --cluster-id, secret and version, or take \
             the address out"
        }
    };
    let refused = |(address, outcome): (SocketAddr, Result<Presence, CallError>)| {
        let error = outcome.err().filter(CallError::is_refusal)?;
        Some((address, advice(&error)))
    };
    observer.probes().into_iter().filter_map(refused).collect()
}

/// The agreement of a node without others.
#[must_use]
pub fn alone() -> Agreement {
    Agreement { dns: 1, gossip: 1, data: 1, agree: true, sentences: Vec::new() }
}

/// The advice for a member that has no version of the peer protocol in common with this node, which speaks `own`;
/// `None` if they have one.
#[must_use]
pub fn apart(own: ProtocolRange, identity: &Identity, summary: &Summary) -> Option<String> {
    let theirs = summary.protocol;
    if own.highest_common(theirs).is_some() {
        return None;
    }
    let older = if theirs.newest() < own.oldest() { identity.name.as_str() } else { "this node" };
    Some(format!(
        "no common version of the peer protocol, so no records are exchanged: it speaks {theirs}, and this node {own}: \
         upgrade {older}"
    ))
}

impl Comparison<'_> {
    /// Compares.
    fn compare(&self) -> Agreement {
        let staying: Vec<&Member> =
            self.view.live.iter().filter(|member| member.info.summary.state != NodeState::Leaving).collect();
        let leaving: BTreeSet<Incarnation> = self
            .view
            .live
            .iter()
            .filter(|member| member.info.summary.state == NodeState::Leaving)
            .map(Member::incarnation)
            .collect();
        let mut sentences: Vec<String> = self.view.conflicts.iter().map(ToString::to_string).collect();
        let dns = self.discovery(&leaving, &mut sentences);
        self.members(&staying, &mut sentences);
        let data = staying
            .iter()
            .filter(|member| self.health.get(&member.incarnation()).is_some_and(Health::answers))
            .count();
        let agree = sentences.is_empty();
        let more = sentences.len().saturating_sub(MOST_SENTENCES);
        sentences.truncate(MOST_SENTENCES);
        if more > 0 {
            sentences.push(format!("and {more} more of this kind"));
        }
        Agreement { dns: 1 + dns, gossip: 1 + staying.len(), data: 1 + data, agree, sentences }
    }

    /// The number of others that discovery names: each node that answers counts once, and each silent address once.
    fn discovery(&self, leaving: &BTreeSet<Incarnation>, sentences: &mut Vec<String>) -> usize {
        for status in &*self.found.seeds {
            let what = match (status.last_ok, &status.error) {
                (None, Some((_, why))) => format!("was never resolved: {why}"),
                (None, None) => "was never resolved: no answer yet".to_owned(),
                (Some(_), _) if status.addresses.is_empty() => {
                    "has no address, not even that of this node".to_owned()
                }
                _ => continue,
            };
            sentences.push(format!("{} {what}: compare --replicate-with with what DNS has", status.seed));
        }
        if self.view.addresses.is_out_of_reach() {
            let address =
                self.view.addresses.states.iter().find(|(_, state)| **state == AddressState::Unusable);
            sentences.push(format!(
                "discovery names {}, and this node cannot send there: --listen-server is of the other kind: listen \
                 on [::], or name addresses of the kind that it listens on",
                address.map_or_else(String::new, |(address, _)| address.to_string())
            ));
        }
        let mut named = BTreeSet::new();
        let mut silent = 0;
        for (address, state) in &self.view.addresses.states {
            match state {
                AddressState::Ourselves | AddressState::Unusable => {}
                AddressState::Member(node) | AddressState::Answers(node) if leaving.contains(node) => {}
                AddressState::Member(node) => drop(named.insert(*node)),
                AddressState::Answers(node) => {
                    named.insert(*node);
                    sentences.push(format!(
                        "{address} answers and is no live member: if this lasts for more than some seconds, its log \
                         has the reason"
                    ));
                }
                AddressState::Silent(_) => {
                    silent += 1;
                    let why = self.silent.get(address).map_or("no node answers there", String::as_str);
                    let advice = match self.refusing.get(address) {
                        Some(advice) => advice,
                        None if self.on_loopback && !address.ip().is_loopback() => {
                            "this node listens on loopback: give --listen-server an address that others reach"
                        }
                        None => "start a node there, let UDP and TCP pass, or take the address out",
                    };
                    sentences.push(format!(
                        "discovery names {address}, and gossip does not see it: {why}: {advice}"
                    ));
                }
            }
        }
        named.len() + silent
    }

    /// The address from which a member gossips, if it differs from the one that the member advertises.
    fn gossips_from(&self, member: &Member) -> Option<SocketAddr> {
        let states = self.view.addresses.states.iter();
        let mut from = states
            .filter(|(_, state)| **state == AddressState::Member(member.incarnation()))
            .map(|(from, _)| *from);
        let first = from.next()?;
        (first.ip() != member.gossip.ip() && from.all(|other| other.ip() != member.gossip.ip()))
            .then_some(first)
    }

    fn members(&self, staying: &[&Member], sentences: &mut Vec<String>) {
        let named: BTreeSet<Incarnation> = self
            .view
            .addresses
            .states
            .values()
            .filter_map(|state| match state {
                AddressState::Member(node) | AddressState::Answers(node) => Some(*node),
                _ => None,
            })
            .collect();
        for member in staying {
            let identity = &member.info.identity;
            let node = format!("{} at {}", identity.name, identity.server);
            if !named.contains(&identity.incarnation) {
                sentences.push(format!(
                    "gossip sees {node}, and discovery does not name it: a split from it would not heal by \
                     itself: add it to --replicate-with, or name all nodes by one DNS name"
                ));
            }
            if let Some(why) = apart(self.protocol, identity, &member.info.summary) {
                sentences.push(format!("{node}: {why}"));
                continue;
            }
            match self.health.get(&identity.incarnation) {
                Some(health) if health.answers() => {}
                Some(Health { error: Some(error), .. }) => {
                    let advice = match self.gossips_from(member) {
                        Some(from) => format!("it gossips from {from}: see its --advertise-server"),
                        None => "let TCP pass on its server port, or see its log".to_owned(),
                    };
                    sentences.push(format!("gossip sees {node}, and requests fail: {error}: {advice}"));
                }
                _ => sentences.push(format!("no request has gone to {node} so far: check again in a moment")),
            }
        }
        for (address, error) in &self.view.unreadable {
            sentences.push(format!("a node at {address} sends gossip that this node cannot read: {error}"));
        }
    }
}
