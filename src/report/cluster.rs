//! The view of the cluster, as `GET /v1/cluster` returns it.
//!
//! The view is copied under one lock at a time. No lock is held for longer than it takes to visit each peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Sources;
use super::history_limit::strictest;
use super::sources::hex;
use crate::cluster::consistency::{agreement, alone, apart, silent};
use crate::cluster::peer_health::Health;
use crate::core::checkpoint::checkpoint_of;
use crate::core::lease::message::VoteRefusal;
use crate::core::protocol::ProtocolRange;
use crate::core::{GenesisMark, Incarnation, NodeState, Summary};
use crate::fill::UpstreamHealth;
use crate::membership::discovery::{DiscoveryState, SeedResolution};
use crate::membership::{AddressState, Member as GossipMember, View};
use crate::metrics::Port;
use crate::node::checkpoints::micros;
use crate::node::replication::{ClusterCensus, PeerCensus};
use crate::wire::cluster::{
    Address, Cluster, Discovery, Feeds, Fill, Genesis, History, Holder, Leases, MOST, Member, Members,
    Mirror, Protocol, Seed, SetMark, ThisNode, Unreadable, Upstream,
};
use crate::wire::node_info::LeaseVoters;
use crate::wire::seed::Seed as ConfiguredSeed;

/// The view of the cluster of this node.
#[must_use]
pub fn cluster(sources: &Sources<'_>) -> Cluster {
    let census = sources.replicator.census();
    let node = itself(sources, &census);
    let Some(cluster) = sources.cluster else {
        let protocol = protocol(&census, true);
        return Cluster {
            node,
            protocol,
            agreement: alone(),
            history: history(sources),
            feeds: feeds(sources),
            leases: leases(sources),
            fill: filled(sources),
            ..Cluster::default()
        };
    };
    let observer = cluster.observer();
    let (view, found, health) = (observer.view(), observer.found(), observer.health());
    Cluster {
        node,
        members: members(
            &view,
            (observer.us().0.node, sources.config.lease.ids(&sources.config.node_id, false)),
            &census,
            &health,
        ),
        discovery: discovery(&view, &found, &silent(observer, &view)),
        agreement: agreement(observer),
        protocol: protocol(&census, view.unreadable.is_empty()),
        history: history(sources),
        feeds: feeds(sources),
        leases: leases(sources),
        fill: filled(sources),
    }
}

fn filled(sources: &Sources<'_>) -> Option<Fill> {
    let health = sources.fill?.health();
    let upstream =
        |of: &UpstreamHealth| Upstream { url: of.url.to_string(), up: of.is_up, age_ms: ms(of.age) };
    Some(Fill {
        tier: health.tier,
        names: health.names,
        max_names: health.max_names,
        cut_off_ms: health.unreachable_for.map(ms),
        mirror: health.mirror.map(|mirror| Mirror { age_ms: ms(mirror.age), behind: mirror.behind }),
        upstreams: health.upstreams.iter().map(upstream).collect(),
    })
}

fn history(sources: &Sources<'_>) -> History {
    let (config, all) = (sources.config, sources.store.census());
    let (depth, horizon) = (all.registers.depth, all.registers.compaction_horizon);
    let checkpoints = sources.replicator.checkpoints(config.checkpoint_expiry);
    let held_by = checkpoints.holder.as_ref().and_then(|holder| {
        let (namespace, id) = checkpoint_of(&holder.name)?;
        let written = holder.written.micros();
        Some(Holder {
            checkpoint: id.to_owned(),
            namespace: namespace.to_owned(),
            from: holder.from.micros(),
            written,
            expires: written.saturating_add(micros(config.checkpoint_expiry)),
        })
    });
    History {
        versions: depth.versions(),
        least: depth.least(),
        epoch: depth.epoch().micros(),
        compaction_horizon: horizon.micros(),
        held_by,
        bytes: all.older_bytes,
        max_bytes: config.max_history_bytes,
        strictest: strictest(sources),
        checkpoints: checkpoints.live,
        expired_checkpoints: checkpoints.expired,
    }
}

fn feeds(sources: &Sources<'_>) -> Feeds {
    let (all, counts) = (sources.store.census(), &sources.metrics.feeds);
    let named = |(name, count): (&str, u64)| (name.to_owned(), count);
    Feeds {
        parked: all.parked_feeds,
        ring_entries: all.ring_entries,
        ring_reach_ms: all.ring_reach_us / 1000,
        begun: counts.all_begun().map(named).collect(),
        interruptions: counts.all_interruptions().map(named).collect(),
    }
}

fn leases(sources: &Sources<'_>) -> Leases {
    let census = sources.leases.census();
    let refused = VoteRefusal::LABELS.into_iter().zip(census.refused).filter(|(_, count)| *count > 0);
    Leases {
        voters: census.voters,
        live_voters: census.live_voters,
        doubled_voters: census.doubled_voters,
        with_other_voters: census.with_other_voters,
        granted: census.granted,
        waiting: census.waiting,
        known: census.known,
        remembered: census.remembered,
        abstains_for_ms: ms(census.abstains_for),
        refused: refused.map(|(reason, count)| (reason.to_owned(), count)).collect(),
    }
}

fn itself(sources: &Sources<'_>, census: &ClusterCensus) -> ThisNode {
    let all = sources.store.census();
    let us = sources.cluster.map(|cluster| cluster.observer().us());
    ThisNode {
        node_id: sources.config.node_id.clone(),
        incarnation: hex(census.summary.incarnation),
        readiness: census.readiness.as_str().to_owned(),
        state: state(census.summary.state).to_owned(),
        region: sources.config.cluster.region.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: ends(census.summary.protocol),
        client: shown(sources.listens.client),
        client_tls: sources.tls.of(Port::Client).is_some(),
        server_tls: sources.tls.of(Port::Server).is_some(),
        server: us.as_ref().map_or_else(|| shown(sources.listens.server), |(us, _)| us.server.clone()),
        gossip: us.map(|(_, gossip)| gossip.to_string()),
        values: all.values,
        tombstones: all.tombstones,
        bytes: all.bytes,
        set: set_mark(&census.summary),
        seal_key: sources.seal_key().map(|key| key.to_string()),
    }
}

/// The address of a port; empty if there is none.
fn shown(port: Option<SocketAddr>) -> String {
    port.map_or_else(String::new, |address| address.to_string())
}

/// The versions that this node speaks, and the highest that all live members speak.
fn protocol(census: &ClusterCensus, all_are_readable: bool) -> Protocol {
    let common = census.common_version.filter(|_| all_are_readable);
    Protocol { own: ends(census.summary.protocol), common }
}

fn ends(range: ProtocolRange) -> (u8, u8) {
    (range.oldest(), range.newest())
}

fn members(
    view: &View,
    (ours, ours_of_leases): (u64, LeaseVoters),
    census: &ClusterCensus,
    health: &BTreeMap<Incarnation, Health>,
) -> Members {
    let peers: BTreeMap<Incarnation, &PeerCensus> =
        census.peers.iter().map(|peer| (peer.summary.incarnation, peer)).collect();
    let show = |member: &GossipMember| {
        let id = member.incarnation();
        let (identity, summary) = (&member.info.identity, &member.info.summary);
        let peer = peers.get(&id);
        let health = health.get(&id);
        Member {
            node_id: identity.name.clone(),
            incarnation: hex(id),
            state: state(summary.state).to_owned(),
            region: identity.region.clone(),
            protocol: ends(summary.protocol),
            common_protocol: census.summary.protocol.highest_common(summary.protocol),
            server: identity.server.clone(),
            gossip: member.gossip.to_string(),
            set: set_mark(summary),
            same_set: summary.same_set(&census.summary),
            seal_key: member.info.seal_key.map(|key| key.to_string()),
            max_history_bytes: member.info.max_history_bytes,
            heartbeat_age_ms: ms(member.heartbeat.age()),
            lag: peer.map(|peer| peer.lag),
            dirty: peer.map(|peer| peer.needs_repair),
            clock_offset_us: peer.and_then(|peer| peer.offset_us),
            answered_ms_ago: health.and_then(|health| health.answered).map(ms),
            error: apart(census.summary.protocol, identity, summary)
                .or_else(|| health.and_then(|health| health.error.clone()))
                .or_else(|| other_voters(ours_of_leases, member.info.lease_voters)),
        }
    };
    let unreadable = |(gossip, error): &(SocketAddr, crate::wire::node_info::NodeInfoError)| Unreadable {
        gossip: gossip.to_string(),
        error: error.to_string(),
    };
    Members {
        live: view.live.iter().take(MOST).map(show).collect(),
        dead: view.missing(ours).take(MOST).map(show).collect(),
        unreadable: view.unreadable.iter().take(MOST).map(unreadable).collect(),
        away: census.away,
    }
}

/// What is wrong if a member has other voters on leases than this node.
fn other_voters(ours: LeaseVoters, theirs: Option<LeaseVoters>) -> Option<String> {
    let ids = |of: LeaseVoters| of.into_iter().filter(|id| *id != 0);
    let theirs = theirs?;
    let differ = ids(ours).next().is_some()
        && ids(theirs).next().is_some()
        && !ids(theirs).any(|id| ours.contains(&id));
    differ.then(|| {
        "it has other voters on leases: start all nodes with the same --lease-voters and --lease-max-ttl"
            .to_owned()
    })
}

fn discovery(view: &View, found: &DiscoveryState, silent: &BTreeMap<SocketAddr, String>) -> Discovery {
    let names: BTreeMap<Incarnation, &str> = view
        .dead
        .iter()
        .chain(&view.live)
        .map(|member| (member.incarnation(), member.info.identity.name.as_str()))
        .collect();
    let name = |id: &Incarnation| Some(names.get(id).map_or_else(|| hex(*id), |name| (*name).to_owned()));
    let address = |(address, state): (&SocketAddr, &AddressState)| {
        let (is, node) = match state {
            AddressState::Ourselves => ("this node", None),
            AddressState::Member(id) => ("member", name(id)),
            AddressState::Answers(id) => ("answers", name(id)),
            AddressState::Silent(_) => ("silent", None),
            AddressState::Unusable => ("unusable", None),
        };
        let why = silent.get(address).cloned();
        Address { address: address.to_string(), is: is.to_owned(), node, why }
    };
    let seed = |status: &SeedResolution| Seed {
        target: status.seed.to_string(),
        addresses: status.addresses.len(),
        answered_ms_ago: match status.seed {
            ConfiguredSeed::Address(_) => Some(0),
            _ => status.last_ok.map(|at| ms(at.elapsed())),
        },
        error: status.error.as_ref().map(|(_, why)| why.clone()),
    };
    Discovery {
        targets: found.seeds.iter().map(seed).collect(),
        addresses: view.addresses.states.iter().take(MOST).map(address).collect(),
        left_off: found.left_off,
    }
}

fn set_mark(summary: &Summary) -> SetMark {
    let genesis = |mark: GenesisMark| Genesis {
        started: mark.started.micros(),
        provisional: mark.provisional,
        key_id: format!("{:016x}", mark.key_id),
    };
    SetMark {
        records: summary.root.count,
        digest: format!("{:032x}", summary.root.sum),
        horizon: summary.registers.gc_horizon.micros(),
        compaction_horizon: summary.registers.compaction_horizon.micros(),
        history_versions: summary.registers.depth.versions(),
        genesis: summary.genesis.map(genesis),
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Ready => "ready",
        NodeState::Leaving => "leaving",
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
