//! A group of real processes: write to any, read and park on any, whatever happens to some of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::cluster::{CLOCK, Cluster};
use cluster_tests::dns::Zone;
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{get, put};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};

/// Longer than a node searches others before it begins a set, and than it waits for its turn.
const LONG_LOOK: Duration = Duration::from_secs(11);

/// A stamp from before any set, for which the answer has the genesis.
const LONG_AGO: u64 = 1_000_000;

/// When the node's set began, if it is no provisional one.
fn genesis(cluster: &Cluster, i: usize, name: &str) -> Option<u64> {
    let request = get(&format!("{name}?timeout=0s")).header("X-Last-Sync", LONG_AGO.to_string());
    let answer = cluster.node(i).client().ask(&request);
    answer.header("X-Vwatch-Genesis").map(|text| text.parse().expect("a number"))
}

fn status_of_readyz(cluster: &Cluster, i: usize) -> u16 {
    cluster.node(i).client().ask(&Request::new("GET", "/readyz")).status
}

/// What is gossiped of a node is short and printable; what its operator calls it need not be.
#[test]
fn a_node_may_be_called_what_its_operator_likes() {
    let cluster = Cluster::of(3)
        .env(0, "VWATCH_NODE_ID", "ip-10-0-12-34.eu-central-1.compute.internal")
        .env(1, "VWATCH_NODE_ID", "b\u{fc}ro 1|2")
        .env(2, "VWATCH_NODE_ID", &"n".repeat(128))
        .start();
    cluster.ready();
    cluster.all_see_all();
    cluster.put(0, "name", "1");
    (0..3).for_each(|reader| cluster.shows(reader, "name", "1"));
    for i in 0..3 {
        let seen = cluster.node(i).cluster();
        assert_eq!(seen["node"]["standing"], "ready", "{seen}");
        let live = seen["members"]["live"].as_array().map_or(0, Vec::len);
        assert_eq!((live, seen["members"]["unreadable"].as_array().map_or(0, Vec::len)), (2, 0), "{seen}");
    }
}

#[test]
fn written_to_any_and_read_and_awaited_on_any() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    for writer in 0..3 {
        let name = format!("of-{writer}");
        cluster.put(writer, &name, "1");
        for reader in 0..3 {
            cluster.shows(reader, &name, "1");
        }
        let watchers: Vec<_> = (0..3).map(|reader| cluster.watch(reader, &name, "1")).collect();
        (0..3).for_each(|reader| cluster.node(reader).wait_parked(1));
        let last_sync = cluster.put((writer + 1) % 3, &name, "2").last_sync();
        for mut watcher in watchers {
            let answer = watcher.answer().expect(200);
            assert_eq!((answer.version(), answer.last_sync(), answer.text()), (Some("2"), last_sync, "2"));
        }
    }
    cluster.all_agree();

    // a delete wakes readers that are parked at other nodes, and is a delete everywhere
    let mut watcher = cluster.watch(1, "of-0", "2");
    cluster.node(1).wait_parked(1);
    let deleted = cluster.delete(2, "of-0").last_sync();
    assert_eq!(watcher.answer().expect(410).last_sync(), deleted);
    cluster.all_agree();
    for i in 0..3 {
        assert_eq!(cluster.get(i, "of-0").expect(410).last_sync(), deleted);
    }
}

#[test]
fn a_reader_that_roams_never_sees_an_older_state() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    cluster.put(0, "a", "0");
    cluster.all_agree();
    let newest = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=150 {
                cluster.put(round % 3, "a", &round.to_string());
                newest.store(round, Ordering::Release);
            }
        });
        let readers: Vec<_> = (0..4)
            .map(|start| {
                let cluster = &cluster;
                let newest = &newest;
                scope.spawn(move || {
                    let mut connections: Vec<_> = (0..3).map(|i| cluster.node(i).client()).collect();
                    let (mut shown, mut at) = (0, start);
                    let mut versions = 0;
                    while newest.load(Ordering::Acquire) < 150 {
                        at += 1;
                        let request = get("a?timeout=10s").header("X-Last-Sync", shown.to_string());
                        let answer = connections[at % 3].ask(&request).expect(200);
                        let last_sync = answer.last_sync().expect("a stamp");
                        assert!(last_sync >= shown, "back in time, behind {shown}: {answer:?}");
                        versions += usize::from(last_sync > shown);
                        shown = last_sync;
                    }
                    versions
                })
            })
            .collect();
        writer.join().expect("the writer");
        for reader in readers {
            assert!(reader.join().expect("a reader") > 10, "it saw the versions change");
        }
    });
    cluster.all_agree();
}

#[test]
fn nothing_but_a_name_is_needed() {
    let mut cluster = Cluster::of(3).by_name().start();
    cluster.ready();
    cluster.put(0, "a", "1");
    cluster.all_agree();
    // a node comes back under another address, which only the name server has
    cluster.restart_elsewhere(1);
    cluster.ready();
    assert_eq!(cluster.get(1, "a").expect(200).version(), Some("1"));
    cluster.put(1, "a", "2");
    cluster.all_agree();
}

#[test]
fn a_node_that_restarts_empty_takes_the_set_over_before_it_is_read() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    for i in 0..300 {
        cluster.put(i % 3, &format!("n{i}"), &i.to_string());
    }
    cluster.all_agree();
    // slow enough for the time between to be seen
    (0..3).for_each(|i| cluster.slow(i, Duration::from_millis(300)));
    cluster.restart(2);
    let mut joining = 0;
    wait_until("the set to be taken over", LIMIT, || {
        let Ok(mut connection) = Connection::try_open(cluster.addresses(2).0) else { return false };
        let Ok(()) = connection.try_send_bytes(&get("n17?timeout=0s").bytes()) else { return false };
        let Ok(answer) = connection.try_answer(LIMIT) else { return false };
        match answer.status {
            503 => {
                assert!(answer.text().starts_with("joining: "), "{answer:?}");
                joining += 1;
                false
            }
            200 => {
                assert_eq!(answer.version(), Some("17"));
                true
            }
            _ => panic!("neither all nor nothing: {answer:?}"),
        }
    });
    assert!(joining > 0, "that it was not ready was never seen");
    // all of it was there with the first of it
    for i in 0..300 {
        cluster.get(2, &format!("n{i}")).expect(200);
    }
    cluster.heal();
    cluster.all_agree();
}

#[test]
fn a_peer_that_hangs_does_not_keep_a_node_from_its_set() {
    let mut cluster = Cluster::of(4).start();
    cluster.ready();
    for i in 0..100 {
        cluster.put(i % 4, &format!("n{i}"), &i.to_string());
    }
    cluster.all_agree();
    // both still count as live while the fourth searches others
    cluster.pause(1);
    cluster.pause(2);
    cluster.restart(3);
    let started = Instant::now();
    wait_until("it to be ready", LIMIT, || cluster.node(3).is_ready());
    println!("ready beside two that hang after {:?}", started.elapsed());
    for i in 0..100 {
        cluster.get(3, &format!("n{i}")).expect(200);
    }
    cluster.resume(1);
    cluster.resume(2);
    cluster.all_agree();
}

#[test]
fn after_all_were_restarted_at_once_a_new_set_begins() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let before = cluster.put(0, "a", "1").last_sync().expect("a stamp");
    cluster.put(1, "b", "1");
    cluster.all_agree();
    (0..3).for_each(|i| cluster.kill(i));
    (0..3).for_each(|i| cluster.restart(i));
    cluster.ready();
    let genesis = |i: usize| -> u64 {
        let request = get("a?timeout=10s").header("X-Last-Sync", before.to_string());
        let answer = cluster.node(i).client().ask(&request).expect(404);
        let genesis = answer.header("X-Vwatch-Genesis").expect("the genesis").parse().expect("a number");
        assert!(genesis > before);
        genesis
    };
    // those that start seconds apart may begin two, of which the older one wins
    wait_until("one set, and not several beside each other", LIMIT, || {
        genesis(0) == genesis(1) && genesis(1) == genesis(2)
    });
    cluster.put(2, "a", "2");
    cluster.put(2, "b", "2");
    cluster.all_agree();
}

#[test]
fn a_name_that_is_known_late_heals_what_began_without_it() {
    let mut cluster = Cluster::of(3).by_name().prepare();
    cluster.dns().stop();
    (0..3).for_each(|i| cluster.restart(i));
    // there should be others and there are none: each serves alone for now
    cluster.ready();
    for i in 0..3 {
        assert!(cluster.node(i).stderr().contains("serving alone"));
        cluster.put(i, &format!("of-{i}"), "1");
        assert_eq!(genesis(&cluster, i, &format!("of-{i}")), None, "it may not be all there is");
    }
    let zone = cluster.zone();
    cluster.dns().serve(&zone);
    cluster.all_agree();
    wait_until("one set that is no provisional one", LIMIT, || {
        let geneses: Vec<_> = (0..3).map(|i| genesis(&cluster, i, "of-0")).collect();
        geneses[0].is_some() && geneses.iter().all(|genesis| *genesis == geneses[0])
    });
}

#[test]
fn a_name_that_has_no_addresses_at_first_heals_too() {
    let mut cluster = Cluster::of(2).by_name().prepare();
    cluster.dns().serve(&Zone::default());
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    (0..2).for_each(|i| drop(cluster.put(i, &format!("of-{i}"), "1")));
    let zone = cluster.zone();
    cluster.dns().serve(&zone);
    cluster.all_agree();
}

#[test]
fn a_split_at_the_start_heals_into_the_older_set() {
    let mut cluster = Cluster::of(4).prepare();
    for (i, j) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        cluster.cut(i, j);
    }
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    let between = now_us();
    (2..4).for_each(|i| cluster.restart(i));
    cluster.ready();
    for i in 0..4 {
        cluster.put(i, &format!("of-{i}"), "1");
    }
    let stamp = cluster.put(3, "both", "late").last_sync().expect("a stamp");
    cluster.put_at(0, "both", "early", stamp - 1);
    assert!(cluster.difference().is_some() && cluster.traffic().cut > 0, "it is split");
    cluster.heal();
    cluster.all_agree();
    (0..4).for_each(|i| cluster.shows(i, "both", "late"));
    wait_until("the older set to be the set", LIMIT, || {
        (0..4).all(|i| genesis(&cluster, i, "both").is_some_and(|genesis| genesis < between))
    });
}

#[test]
fn of_two_versions_with_one_stamp_all_keep_the_same() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    // beside each other, in both orders
    let names: Vec<String> = (0..20).map(|i| format!("tie-{i}")).collect();
    let versions = |i: usize| if i.is_multiple_of(2) { ["greater", "less"] } else { ["a", "b"] };
    std::thread::scope(|scope| {
        let (cluster, names) = (&cluster, &names);
        let stamp = now_us();
        for writer in 0..2 {
            scope.spawn(move || {
                for (i, name) in names.iter().enumerate() {
                    cluster.note(name);
                    let target = format!("{name}?version={}&modified={stamp}", versions(i)[writer]);
                    let answer = cluster.node(writer).put(&target, "");
                    assert!(matches!(answer.status, 204 | 409), "{answer:?}");
                }
            });
        }
    });
    // and where each node is sure to have taken its own
    cluster.cut(0, 1);
    let stamp = now_us();
    cluster.put_at(0, "apart", "greatest", stamp);
    cluster.put_at(1, "apart", "zzz", stamp);
    cluster.heal();
    cluster.all_agree();
    (0..3).for_each(|i| cluster.shows(i, "apart", "zzz"));
    for (i, name) in names.iter().enumerate() {
        cluster.shows(2, name, versions(i).into_iter().max().expect("two"));
    }
}

#[test]
fn a_delete_stays_also_where_it_was_missed() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    for i in 0..20 {
        cluster.put(i % 3, &format!("n{i}"), "1");
    }
    cluster.all_agree();
    cluster.isolate(2);
    for i in 0..10 {
        cluster.delete(0, &format!("n{i}"));
    }
    cluster.get(2, "n0").expect(200);
    cluster.heal();
    cluster.all_agree();
    // the node that held the values longest gets the requests of one that holds nothing
    cluster.restart(0);
    cluster.ready();
    cluster.all_agree();
    for i in 0..20 {
        let expected = if i < 10 { 410 } else { 200 };
        (0..3).for_each(|node| drop(cluster.get(node, &format!("n{i}")).expect(expected)));
    }
}

#[test]
fn a_node_with_another_secret_stays_out_and_logs_the_reason() {
    let mut cluster =
        Cluster::of(3).env(2, "VWATCH_CLUSTER_SECRET", "a secret of no other node here").prepare();
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    cluster.put(0, "a", "1");
    cluster.restart(2);
    wait_until("the reason in its log", LIMIT, || {
        cluster
            .node(2)
            .stderr()
            .contains("this address answers, and rejects this node or is no peer: refused with 401")
    });
    stays_out(&cluster, 2);
    cluster.put(1, "a", "2");
    cluster.shows(0, "a", "2");
}

/// It answers 401 with the code of a node, for ever. It is one of four addresses, and the other three are healthy.
#[test]
fn an_address_that_another_cluster_has_taken_delays_no_start_for_ever() {
    let mut cluster =
        Cluster::of(4).env(3, "VWATCH_CLUSTER_SECRET", "a secret of another cluster 5521").prepare();
    (0..4).for_each(|i| cluster.restart(i));
    for i in 0..3 {
        wait_until(&format!("node {i} to be ready"), LIMIT, || cluster.node(i).is_ready());
    }
    cluster.put(0, "a", "1");
    (1..3).for_each(|i| cluster.shows(i, "a", "1"));
    let logged = |i: usize| cluster.node(i).stderr().contains("serving alone: other nodes are silent");
    assert!((0..3).any(logged), "the set is provisional, and the log has that");
    for i in 0..3 {
        wait_until("the reason in the members", LIMIT, || {
            let agreement = cluster.node(i).cluster()["agreement"].to_string();
            agreement.contains("refused with 401: not from a peer of this cluster")
                && agreement.contains("a node that joins waits for it, 2 min at most: give both the same")
        });
    }
    assert_eq!(status_of_readyz(&cluster, 3), 503, "it may be the one that is wrong");
}

#[test]
fn a_node_whose_clock_is_an_hour_off_stays_out_and_logs_the_reason() {
    let mut cluster = Cluster::of(3).env(2, CLOCK, "+1h").prepare();
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    cluster.put(0, "a", "1");
    cluster.restart(2);
    wait_until("the reason in its log", LIMIT, || {
        let log = cluster.node(2).stderr();
        log.contains("this address answers, and rejects this node or is no peer: its clock is too far")
            && log.contains(CLOCK)
    });
    stays_out(&cluster, 2);
    cluster.put(1, "a", "2");
    cluster.shows(0, "a", "2");
}

/// A node takes nothing and gives nothing, for longer than it would search others.
#[track_caller]
fn stays_out(cluster: &Cluster, i: usize) {
    let started = Instant::now();
    while started.elapsed() < LONG_LOOK {
        assert_eq!(status_of_readyz(cluster, i), 503, "it is no member");
        let refusal = cluster.node(i).put("a?version=9", "").expect(503);
        assert!(refusal.text().starts_with("joining: "), "{refusal:?}");
        cluster.get(i, "a").expect(503);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_node_whose_clock_is_seconds_off_is_read_and_not_written() {
    let cluster = Cluster::of(3).env(2, CLOCK, "-10s").start();
    cluster.ready();
    cluster.put(0, "a", "1");
    cluster.shows(2, "a", "1");
    wait_until("it to doubt its clock", LIMIT, || {
        let answer = cluster.node(2).put("b?version=1", "");
        answer.status == 503 && answer.text().starts_with("clock in doubt: ")
    });
    cluster.put(1, "a", "2");
    cluster.shows(2, "a", "2");
    // the two that agree are not led astray by the third
    (0..2).for_each(|i| drop(cluster.put(i, "a", &format!("3-{i}"))));
    cluster.note("b");
    cluster.put(0, "b", "2");
    cluster.all_agree();
}

#[test]
fn a_node_that_stops_announces_it() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    cluster.put(2, "a", "1");
    let mut parked = cluster.watch(2, "a", "1");
    cluster.node(2).wait_parked(1);
    // the last word before the end reaches the others
    cluster.put(2, "last", "1");
    assert_eq!(cluster.stop(2).code(), Some(0));
    parked.answer().expect(200);
    for i in 0..2 {
        assert_eq!(cluster.get(i, "last").version(), Some("1"));
        let said = |how: &str| {
            let log = cluster.node(i).stderr();
            log.lines().any(|line| line.contains("gossip: node-2 at ") && line.contains(how))
        };
        wait_until("the others to log that it leaves", LIMIT, || said(" is leaving"));
        // it is its own word, and not its silence
        assert!(!said(" left (") && !said(" is dead ("));
    }
    cluster.all_agree();
}

/// The only peer is not dead, and does not answer for a moment: what was acknowledged just before the end waits for it.
#[test]
fn a_node_that_stops_hands_over_writes_that_no_other_node_has() {
    for run in 1.. {
        let mut cluster = Cluster::of(2).start();
        cluster.ready();
        cluster.pause(1);
        cluster.put(0, "last", "1");
        cluster.node(0).terminate();
        // longer than all peers are waited for
        std::thread::sleep(Duration::from_millis(1500));
        cluster.resume(1);
        // no second signal, which would end it at once
        assert_eq!(cluster.wait_exit(0).code(), Some(0));
        if cluster.get(1, "last").version() == Some("1") {
            return;
        }
        // on a machine that stood still it may have counted as dead
        let log = cluster.node(0).stderr();
        assert!(run < 3 && log.contains(" is dead ("), "{log}");
    }
}

#[test]
fn all_nodes_are_restarted_in_turn_and_no_read_fails() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    for i in 0..20 {
        cluster.put(0, &format!("n{i}"), "0");
    }
    cluster.all_agree();
    let addresses: Vec<_> = (0..3).map(|i| cluster.addresses(i)).collect();
    let over = AtomicBool::new(false);
    let (reads, moved, writes) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (addresses, over, reads, moved) = (&addresses, &over, &reads, &moved);
            scope.spawn(move || {
                let mut at = reader;
                let mut shown = [0; 20];
                let mut round = 0;
                while !over.load(Ordering::Acquire) {
                    round += 1;
                    let name = round % 20;
                    let request =
                        get(&format!("n{name}?timeout=5s")).header("X-Last-Sync", shown[name].to_string());
                    let tried = (0..3).find_map(|_| {
                        let answer = ask_once(addresses[at % 3].0, &request);
                        if answer.is_none() {
                            at += 1;
                            moved.fetch_add(1, Ordering::Relaxed);
                        }
                        answer
                    });
                    let answer = tried.expect("one of three nodes to answer").expect(200);
                    let last_sync = answer.last_sync().expect("a stamp");
                    assert!(last_sync >= shown[name], "back in time, behind {}: {answer:?}", shown[name]);
                    shown[name] = last_sync;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (addresses, over, writes) = (&addresses, &over, &writes);
        scope.spawn(move || {
            let mut round = 0;
            while !over.load(Ordering::Acquire) {
                round += 1;
                let request = put(&format!("n{}?version={round}", round % 20)).body("");
                let tried = (0..3).find_map(|next| ask_once(addresses[(round + next) % 3].1, &request));
                tried.expect("one of three nodes to take it").expect(204);
                writes.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _over = Over(over);
        for i in 0..3 {
            assert_eq!(cluster.stop(i).code(), Some(0));
            cluster.restart(i);
            cluster.ready();
        }
    });
    println!("{reads:?} reads, {moved:?} requests to another node, {writes:?} writes");
    assert!(moved.into_inner() > 0, "no request reached a node that stops");
    cluster.all_agree();
}

/// An answer, unless the node is gone, or answers that the client should use another one.
fn ask_once(address: std::net::SocketAddr, request: &Request) -> Option<Response> {
    let mut connection = Connection::try_open(address).ok()?;
    connection.try_send_bytes(&request.bytes()).ok()?;
    connection.try_answer(LIMIT).ok().filter(|answer| answer.status != 503)
}

#[test]
fn a_dead_a_slow_and_a_hanging_peer_delay_no_other() {
    let mut cluster = Cluster::of(5).start();
    cluster.ready();
    cluster.put(0, "a", "0");
    cluster.all_agree();
    let alone = latencies(&cluster, "before");
    cluster.kill(2);
    cluster.slow(3, Duration::from_secs(3));
    cluster.pause(4);
    // wide: a write that waits for one of the three waits for seconds, whichever time it is tried
    let is_delayed = |beside: &(Duration, Duration)| beside.0.max(beside.1) >= Duration::from_secs(1);
    let tries = (0..5).map(|number| latencies(&cluster, &format!("beside-{number}")));
    let mut beside = Vec::new();
    for found in tries {
        beside.push(found);
        if !is_delayed(&found) {
            break;
        }
    }
    println!("write, and wake at another node: {alone:?}; beside the three: {beside:?}");
    assert!(!beside.iter().all(is_delayed), "{beside:?}");
    cluster.resume(4);
    cluster.heal();
    cluster.restart(2);
    cluster.ready();
    cluster.all_agree();
}

/// How long a write at node 0 takes, and then until a watcher at node 1 knows: the longest but one of 100.
fn latencies(cluster: &Cluster, run: &str) -> (Duration, Duration) {
    let (mut written, mut woken) = (Vec::new(), Vec::new());
    let mut known = cluster.get(1, "a").expect(200).version().expect("a version").to_owned();
    let mut writer = cluster.node(0).server();
    for round in 0..100 {
        let mut watcher = cluster.watch(1, "a", &known);
        cluster.node(1).wait_parked(1);
        known = format!("{run}-{round}");
        let started = Instant::now();
        writer.ask(&put(&format!("a?version={known}")).body("")).expect(204);
        written.push(started.elapsed());
        let answer = watcher.answer().expect(200);
        woken.push(started.elapsed());
        assert_eq!(answer.version(), Some(known.as_str()));
    }
    written.sort_unstable();
    woken.sort_unstable();
    (written[98], woken[98])
}
