//! Members find each other, detect members that die or leave, and trust no other sender: real sockets on 127.0.0.x.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster_tests::dns::{NameServer, Zone};
use cluster_tests::proxy::{Faults, UdpProxy};
use vwatch::core::digest_trie::Digest;
use vwatch::core::genesis::GenesisMark;
use vwatch::core::peers::NodeState;
use vwatch::core::stamp::Stamp;
use vwatch::membership::discovery::{Discovery, Dns};
use vwatch::membership::stats::Dropped;
use vwatch::membership::{AddressState, Home, bind};
use vwatch::seal::{Keyring, Secrets};
use vwatch::wire::node_info::hash;
use vwatch::wire::seed::Seed;

use crate::members::{
    HISTORY_LIMIT, Member, OTHER, SECRET, Start, all_see_all, group, keyring, local, pause,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_find_each_other_receive_what_is_published_and_see_one_die() {
    let mut members = group([Start::at(1), Start::at(2), Start::at(3)]).await;
    all_see_all(&mut members).await;
    let view = members[0].wait("all places", |view| view.addresses.silent().next().is_none()).await;
    assert_eq!(view.addresses.others(), 2);
    let ours = members[0].membership.address();
    assert_eq!(view.addresses.states[&ours], AddressState::Ourselves, "recognised by what came back");
    assert!(view.conflicts.is_empty() && view.unreadable.is_empty());

    let genesis =
        GenesisMark { provisional: true, started: Stamp::from_micros(7).expect("small"), key_id: 9 };
    members[0].publish(|summary| {
        summary.state = NodeState::Ready;
        summary.genesis = Some(genesis);
        summary.root = Digest { sum: 1 << 100, count: 5 };
    });
    let said = members[0].summary;
    let view = members[2].wait("a new state", |view| view.live.iter().any(|m| m.info.summary == said)).await;
    let first = view.live.iter().find(|m| m.info.summary == said).expect("it was there");
    assert_eq!(first.info.seal_key, Some(members[0].keyring.sealing_key()));
    assert_eq!(first.info.max_history_bytes, Some(HISTORY_LIMIT));
    assert_eq!((first.info.identity.name.as_str(), first.gossip), ("node-1", ours));

    let gone = members.remove(1).incarnation();
    let others: Vec<_> = members.iter().map(Member::incarnation).collect();
    for (at, member) in members.iter_mut().enumerate() {
        let view = member.sees(&[others[1 - at]]).await;
        assert_eq!(view.dead.iter().map(vwatch::membership::Member::incarnation).collect::<Vec<_>>(), [gone]);
        assert!(view.dead[0].heartbeat.age() > Duration::from_secs(1));
        assert!(view.live[0].heartbeat.age() < Duration::from_secs(3));
        let view = member.wait("its silence", |view| view.addresses.silent().count() == 1).await;
        assert_eq!(view.addresses.others(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_enough_and_a_restarted_node_with_a_new_address_is_found() {
    let port = {
        let socket = bind((local(11), 0).into()).expect("a port");
        socket.local_addr().expect("it is bound").port()
    };
    let starts = [11, 12, 13].map(|i| Start {
        socket: bind((local(i), port).into()).expect("the port is free there too"),
        ..Start::at(i)
    });
    let zone = |ips: &[&str]| Zone::default().host("nodes.test", ips);
    let mut server = NameServer::start(&zone(&["127.0.0.11", "127.0.0.12", "127.0.0.13"]));
    let seeds = [Seed::Host { name: "nodes.test".into(), port }];
    let discovery = Discovery::start(&seeds, Duration::from_millis(100), &Dns::Server(server.address()));
    let mut members = Vec::new();
    for start in starts {
        let member = start.run(&[]).await;
        let (mut found, to) = (discovery.found(), member.found.clone());
        tokio::spawn(async move {
            loop {
                to.send_replace(found.borrow_and_update().clone());
                if found.changed().await.is_err() {
                    return;
                }
            }
        });
        members.push(member);
    }
    all_see_all(&mut members).await;
    let old = members.remove(2);
    let name = "node-13".to_owned();
    drop(old);
    let again = Start { name: name.clone(), ..Start::at(14) };
    let again = Start { socket: bind((local(14), port).into()).expect("the port is free"), ..again };
    server.serve(&zone(&["127.0.0.11", "127.0.0.12", "127.0.0.14"]));
    let again = again.run(&[]).await;
    again.found.send_replace(discovery.found().borrow().clone());
    members.push(again);
    all_see_all(&mut members).await;
    let view = members[0].view.borrow().clone();
    assert!(view.conflicts.is_empty(), "{:?}", view.conflicts);
    let newest = members[2].incarnation();
    assert!(view.live.iter().any(|m| m.incarnation() == newest && m.info.identity.name == name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_is_seen_to_leave_at_once() {
    let mut members = group([Start::at(21), Start::at(22), Start::at(23)]).await;
    all_see_all(&mut members).await;
    let leaver = members.remove(0);
    let who = leaver.incarnation();
    let stopped = leaver.membership.stopped();
    let left = tokio::spawn(async move {
        leaver.membership.leave().await;
        leaver
    });
    for member in &mut members {
        member
            .wait("the word that it leaves", |view| {
                view.live.iter().any(|m| m.incarnation() == who && m.info.summary.state == NodeState::Leaving)
            })
            .await;
    }
    let _gone = left.await.expect("it leaves");
    let told = tokio::time::timeout(Duration::from_millis(100), stopped).await;
    assert!(told.is_err(), "nothing unexpected happened: {told:?}");
    for member in &mut members {
        let view = member.wait("its end", |view| view.dead.len() == 1).await;
        assert_eq!(view.dead[0].info.summary.state, NodeState::Leaving);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_or_cluster_sees_and_sends_nothing() {
    let mut members = group([
        Start::at(31),
        Start::at(32),
        Start::at(33).keys(keyring("c", OTHER)),
        Start::at(34).keys(keyring("d", SECRET)),
        Start::at(35).keys(Arc::new(Keyring::open_to_all("c"))),
    ])
    .await;
    let all: Vec<_> = members.iter().map(Member::incarnation).collect();
    members[0].sees(&all[1..2]).await;
    members[1].sees(&all[0..1]).await;
    let places = [2, 3, 4].map(|at| members[at].membership.address());
    let view = members[0]
        .wait("why the others are silent", |view| {
            places
                .iter()
                .all(|address| matches!(view.addresses.states[address], AddressState::Silent(Some(_))))
        })
        .await;
    assert_eq!(view.addresses.states[&places[0]], AddressState::Silent(Some(Dropped::UnknownKey)));
    assert_eq!(view.addresses.states[&places[1]], AddressState::Silent(Some(Dropped::UnknownKey)));
    assert_eq!(view.addresses.states[&places[2]], AddressState::Silent(Some(Dropped::OtherMode)));
    assert_eq!(view.addresses.others(), 4);
    assert!(members[0].dropped(Dropped::UnknownKey) > 1 && members[0].dropped(Dropped::OtherMode) > 0);
    for stranger in &members[2..] {
        let view = stranger.view.borrow().clone();
        assert!(view.live.is_empty() && view.dead.is_empty() && view.unreadable.is_empty());
        assert!(stranger.membership.stats().all_dropped() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_change_while_nodes_run() {
    let mut members = group([Start::at(41), Start::at(42)]).await;
    // each node has keys of its own, as each process has
    all_see_all(&mut members).await;
    let all: Vec<_> = members.iter().map(Member::incarnation).collect();
    let secrets = |text: String| Secrets::parse(&text).expect("good secrets");
    for stage in [format!("{SECRET}\n{OTHER}"), format!("{OTHER}\n{SECRET}"), OTHER.to_owned()] {
        for at in [0, 1] {
            let key = members[at].keyring.replace(&secrets(stage.clone()));
            // between the two nodes the stages differ, and no member is lost
            members[1 - at]
                .wait("the new key", |view| {
                    view.live.iter().any(|m| m.incarnation() == all[at] && m.info.seal_key == Some(key))
                })
                .await;
        }
    }
    for member in &members {
        assert!(member.view.borrow().dead.is_empty());
        assert_eq!(member.membership.stats().all_dropped(), 0);
    }
    members[0].keyring.replace(&secrets(SECRET.to_owned()));
    members[1].wait("its silence", |view| view.live.is_empty()).await;
    assert!(members[1].dropped(Dropped::UnknownKey) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_heals_after_it_was_seen() {
    // each is reached through a proxy only, which is what discovery names
    let mut starts: Vec<_> = [51, 52, 53, 54].map(Start::at).into_iter().collect();
    let proxies: Vec<_> =
        starts.iter().map(|start| UdpProxy::start(start.address().ip(), start.address())).collect();
    for (start, proxy) in starts.iter_mut().zip(&proxies) {
        start.advertise = Some(proxy.address());
    }
    let mut members = group(<[Start; 4]>::try_from(starts).ok().expect("four")).await;
    all_see_all(&mut members).await;
    let view = members[0].wait("itself", |view| view.addresses.silent().next().is_none()).await;
    assert_eq!(view.addresses.states[&proxies[0].address()], AddressState::Ourselves, "through a proxy too");
    assert_eq!(view.addresses.others(), 3);

    let cut = Faults { cut_in: true, cut_out: true, ..Faults::default() };
    for (at, proxy) in proxies.iter().enumerate() {
        for other in (0..4).filter(|other| other % 2 != at % 2) {
            proxy.set_for(members[other].membership.address().ip(), cut.clone());
        }
    }
    let all: Vec<_> = members.iter().map(Member::incarnation).collect();
    for at in 0..4 {
        members[at].sees(&[all[(at + 2) % 4]]).await;
    }
    assert!(proxies.iter().all(|proxy| proxy.counts().of(|c| &c.cut) > 0));
    proxies.iter().for_each(|proxy| proxy.set(Faults::default()));
    all_see_all(&mut members).await;
    let view = members[0].wait("no silent address", |view| view.addresses.silent().next().is_none()).await;
    assert_eq!(view.addresses.others(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_doubling_and_disorder_kill_no_member() {
    let mut starts: Vec<_> = [56, 57, 58].map(Start::at).into_iter().collect();
    let proxies: Vec<_> =
        starts.iter().map(|start| UdpProxy::start(start.address().ip(), start.address())).collect();
    for (start, proxy) in starts.iter_mut().zip(&proxies) {
        start.advertise = Some(proxy.address());
        let delay = Duration::from_millis(100);
        proxy.set(Faults { loss: 0.2, duplicate: 0.2, delay, ..Faults::default() });
    }
    let mut members = group(<[Start; 3]>::try_from(starts).ok().expect("three")).await;
    all_see_all(&mut members).await;
    let doubled = || proxies.iter().map(|proxy| proxy.counts().of(|c| &c.duplicated)).sum::<u64>();
    let before = doubled();
    while doubled() < before + 20 {
        for member in &members {
            assert_eq!(member.view.borrow().live.len(), 2);
        }
        pause(Duration::from_millis(20)).await;
    }
    assert!(proxies.iter().all(|proxy| proxy.counts().of(|c| &c.lost) > 0));
    assert!(members.iter().any(|member| member.dropped(Dropped::Replayed) > 0), "doubles are taken once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_id_twice_keeps_both_and_is_reported() {
    let twice = || Start { name: "twice".into(), ..Start::at(61) };
    let mut members = group([twice(), twice(), Start::at(63)]).await;
    all_see_all(&mut members).await;
    assert!(members[2].view.borrow().conflicts.is_empty(), "not at once: one may just have been restarted");
    let view = members[2].wait("the conflict", |view| !view.conflicts.is_empty()).await;
    assert_eq!(view.live.len(), 2);
    assert!(
        view.conflicts[0].to_string().contains("two live nodes are called twice"),
        "{:?}",
        view.conflicts
    );
    let view = members[0].wait("the conflict", |view| !view.conflicts.is_empty()).await;
    assert!(view.conflicts[0].to_string().contains("like this one"), "{:?}", view.conflicts);
    drop(members.remove(0));
    members[1].wait("peace", |view| view.conflicts.is_empty()).await;
}

/// Two that go by the address that one of them had before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moves_differs_from_the_one_at_its_old_address() {
    let there = || Start { name: "there".into(), ..Start::at(67) };
    let mut members = group([there(), there(), Start::at(68)]).await;
    all_see_all(&mut members).await;
    for member in &mut members {
        member.wait("the conflict", |view| !view.conflicts.is_empty()).await;
    }
    let home = Home { server: "127.0.0.67:1".to_owned(), node: hash("127.0.0.67:1") };
    members[0].membership.move_to(home.clone());
    for member in &mut members {
        member.wait("peace", |view| view.conflicts.is_empty()).await;
    }
    let (moved, view) = (members[0].incarnation(), members[2].view.borrow().clone());
    let moved = view.live.iter().find(|member| member.incarnation() == moved).expect("it stays");
    assert_eq!(moved.info.identity.server, home.server);
    assert_eq!((moved.info.identity.node, moved.info.summary.node), (home.node, home.node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_by_minutes_is_refused_and_counted() {
    let mut members = group([Start::at(65), Start::at(66)]).await;
    all_see_all(&mut members).await;
    members[1].clock_off_us.store(90_000_000, Ordering::Relaxed);
    let address = members[1].membership.address();
    let view = members[0].wait("it to be refused", |view| view.live.is_empty()).await;
    assert_eq!(view.dead.len(), 1);
    members[0]
        .wait("the reason", |view| {
            view.addresses.states[&address] == AddressState::Silent(Some(Dropped::Stale))
        })
        .await;
    members[1].clock_off_us.store(5_000_000, Ordering::Relaxed);
    all_see_all(&mut members).await;
}
