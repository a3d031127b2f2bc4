//! Followers: what a leader has travels down, in time and never back, whatever becomes of those above.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster_tests::cluster::CLOCK;
use cluster_tests::feed::{Batch, batch, watch};
use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, delete, free_addresses, get, head, own_address, put};
use cluster_tests::text::{assert_refusal, now_us};
use cluster_tests::upstream::{Reply, Upstream, status};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

fn follower(of: &Node, flags: &[&str]) -> Node {
    let url = format!("http://{}", of.client_addr());
    Node::with(&[&["--fill-from", &url], flags].concat())
}

fn value(version: &str, last_sync: u64) -> Reply {
    status(200).header("ETag", format!("\"{version}\"")).header("X-Last-Sync", last_sync)
}

/// Waits until a node answers a name with this version.
#[track_caller]
fn wait_version(node: &Node, name: &str, version: &str) -> Response {
    wait_for(&format!("{name} to be {version}"), LIMIT, || {
        let answer = node.get(&format!("{name}?timeout=1s"));
        (answer.status == 200 && answer.version() == Some(version)).then_some(answer)
    })
}

#[test]
fn a_watch_tells_what_the_follower_holds_and_asks_for_its_names() {
    let leader = Node::start();
    leader.put("n?version=v1", "one").expect(204);
    leader.put("other?version=v1", "").expect(204);
    let (one, two) = (follower(&leader, &[]), follower(&leader, &[]));
    let first = one.client().ask(&watch("name=n&prefix=o&timeout=0s"));
    assert_eq!(first.header("X-Vwatch-Partial"), Some("true"));
    let mut cursor = Batch::of(first).cursor().to_owned();
    wait_until("the name to be filled, and no other", LIMIT, || {
        let batch = batch(&one, &format!("name=n&prefix=o&since={cursor}&timeout=1s"));
        cursor = batch.cursor().to_owned();
        batch.told() == ["n=v1"]
    });
    leader.put("n?version=v2", "two").expect(204);
    wait_until("the change", LIMIT, || {
        batch(&one, &format!("name=n&prefix=o&since={cursor}&timeout=1s")).told() == ["n=v2"]
    });
    let elsewhere = batch(&two, &format!("name=n&prefix=o&since={cursor}&timeout=0s"));
    assert_eq!(elsewhere.told()[0], "reset:genesis", "a cursor of a follower is good there only");
    let plain = leader.client().ask(&watch("name=n&timeout=0s"));
    assert_eq!(plain.header("X-Vwatch-Partial"), None);
}

#[test]
fn writes_deletes_and_re_creations_travel_down_a_chain_with_their_stamps() {
    let leader = Node::start();
    let first = follower(&leader, &["--node-id", "first"]);
    let second = follower(&first, &["--node-id", "second"]);
    let third = follower(&second, &["--node-id", "third"]);
    let written = leader.put("n?version=v1", "one").expect(204);

    let read = third.get("n").expect(200);
    assert_eq!((read.version(), read.text(), read.last_sync()), (Some("v1"), "one", written.last_sync()));
    assert_eq!(read.header("Via"), Some("1.1 first, 1.1 second, 1.1 third"));
    assert_eq!((read.header("Age"), read.header("Warning")), (None, None));
    assert_eq!(third.metric("vwatch_fill_tier"), 3.0);

    let mut watcher = third.watch(&get("n?version=v1&timeout=1m"));
    third.wait_parked(1);
    let written = leader.put("n?version=v2", "two").expect(204);
    let woken = watcher.answer().expect(200);
    assert_eq!((woken.version(), woken.text(), woken.last_sync()), (Some("v2"), "two", written.last_sync()));

    let mut watcher = third.watch(&get("n?version=v2&timeout=1m"));
    third.wait_parked(1);
    let deleted = leader.delete("n").expect(204);
    assert_eq!(watcher.answer().expect(410).last_sync(), deleted.last_sync());

    let mut watcher = third.watch(&get("n?version=&timeout=1m"));
    third.wait_parked(1);
    leader.put("n?version=v1", "again").expect(204);
    assert_eq!(watcher.answer().expect(200).text(), "again");
    assert_eq!(third.client().ask(&head("n")).expect(200).version(), Some("v1"));
}

#[test]
fn what_the_upstream_has_just_told_is_not_called_stale() {
    const NAMES: usize = 40;
    const STALE: Option<&str> = Some("110 - \"Response is Stale\"");
    let answers = Arc::new(AtomicUsize::new(1));
    let upstream = Upstream::start({
        let answers = Arc::clone(&answers);
        move |asked| match answers.load(Ordering::Relaxed) {
            _ if asked.path() == "/readyz" => status(200),
            0 => status(500),
            version => value(&format!("v{version}"), u64::try_from(version).unwrap()),
        }
    });
    let follower = Node::with(&["--fill-from", &upstream.url(), "--fill-expiry", "1s"]);
    let name = |i: usize| format!("n{i}?version=v1&timeout=1m");
    for i in 0..NAMES {
        wait_version(&follower, &format!("n{i}"), "v1");
    }
    answers.store(0, Ordering::Relaxed);
    wait_until("all names to be stale", LIMIT, || {
        (0..NAMES).all(|i| follower.get(&format!("n{i}?timeout=0s")).header("Warning") == STALE)
    });
    let mut watchers: Vec<_> = (0..NAMES).map(|i| follower.watch(&get(&name(i)))).collect();
    follower.wait_parked(NAMES);
    answers.store(2, Ordering::Relaxed);
    for (i, watcher) in watchers.iter_mut().enumerate() {
        let woken = watcher.answer().expect(200);
        assert_eq!(
            (woken.version(), woken.header("Age"), woken.header("Warning")),
            (Some("v2"), None, None),
            "n{i}"
        );
    }
}

#[test]
fn a_follower_accepts_no_writes_and_names_the_leader() {
    let leader = Node::start();
    let follower = follower(&leader, &[]);
    for request in [put("n").body("x"), delete("n")] {
        let answer = follower.server().ask(&request);
        assert_refusal(&answer, 405);
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
        let whose = format!("of the node whose client port is http://{}", leader.client_addr());
        assert!(answer.text().contains(&whose), "{}", answer.text());
    }
    follower.get("n").expect(404);
}

#[test]
fn the_first_read_waits_for_the_upstream_for_as_long_as_it_likes() {
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let upstream = Upstream::start({
        let gate = Arc::clone(&gate);
        move |asked| {
            if asked.path() == "/readyz" {
                return status(200);
            }
            drop(gate.lock().unwrap());
            value("v1", 1_000).body("slow")
        }
    });
    let follower = Node::with(&["--fill-from", &upstream.url()]);
    let hurried = follower.get("n?timeout=100ms");
    assert_refusal(&hurried, 504);
    assert!(hurried.header("Retry-After").is_some());
    assert_refusal(&follower.get("n?timeout=0s"), 504);
    let mut patient = follower.watch(&get("n"));
    follower.wait_parked(1);
    drop(shut);
    assert_eq!(patient.answer().expect(200).text(), "slow");
}

#[test]
fn a_reader_that_knows_the_version_is_parked_after_the_upstream_has_confirmed_it() {
    let leader = Node::start();
    leader.put("n?version=v1", "").expect(204);
    let follower = follower(&leader, &[]);
    let mut knowing = follower.watch(&get("n?version=v1&timeout=1m"));
    let mut conditional = follower.watch(&get("n?timeout=1m").header("If-None-Match", "\"v1\""));
    follower.wait_parked(2);
    wait_until("the follower to know the name", LIMIT, || follower.get("n?timeout=0s").status == 200);
    assert!(!knowing.has_news() && !conditional.has_news());
    leader.put("n?version=v2", "").expect(204);
    assert_eq!(knowing.answer().expect(200).version(), Some("v2"));
    assert_eq!(conditional.answer().expect(200).version(), Some("v2"));
}

#[test]
fn an_unknown_name_is_polled_at_intervals() {
    let upstream = Upstream::start(|_| status(404));
    let follower = Node::with(&["--fill-from", &upstream.url()]);
    for _ in 0..50 {
        assert_refusal(&follower.get("n"), 404);
    }
    assert!(upstream.times("/v1/versions/n") <= 2, "{:?}", upstream.asked());
    assert_eq!(follower.metric("vwatch_fill_unknown_names"), 1.0);
    assert_eq!(follower.metric("vwatch_fill_names"), 0.0);
}

#[test]
fn a_reader_that_waits_for_a_name_is_woken_by_its_creation_through_all_tiers() {
    let leader = Node::start();
    let first = follower(&leader, &[]);
    let second = follower(&first, &[]);
    second.get("n").expect(404);
    let mut watcher = second.watch(&get("n?version=&timeout=1m"));
    leader.wait_parked(1);
    leader.put("n?version=v1", "new").expect(204);
    assert_eq!(watcher.answer().expect(200).text(), "new");
}

#[test]
fn many_watchers_are_one_upstream() {
    const WATCHERS: usize = 1_500;
    let leader = Node::start();
    leader.put("n?version=v1", "").expect(204);
    let follower = follower(&leader, &[]);
    let mut watchers: Vec<_> =
        (0..WATCHERS).map(|_| follower.watch(&get("n?version=v1&timeout=1m"))).collect();
    follower.wait_parked(WATCHERS);
    leader.wait_parked(1);
    let requests = |outcome: &str| {
        let upstream = format!("http://{}", leader.client_addr());
        follower
            .metric(&format!("vwatch_fill_requests_total{{upstream=\"{upstream}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(requests("changed"), 1.0, "the first one");
    leader.put("n?version=v2", "").expect(204);
    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
    leader.wait_parked(1);
    assert_eq!(requests("changed"), 2.0);
}

/// A leader holds its set in memory: restarted, it knows nothing, and that must not delete anything.
#[test]
fn an_empty_restarted_leader_does_not_wipe_its_followers() {
    let leader = Node::start();
    leader.put("n?version=v1", "kept").expect(204);
    let follower = follower(&leader, &["--fill-expiry", "500ms"]);
    let seen = follower.get("n").expect(200).last_sync().unwrap();

    let leader = Node::at(leader.kill_for_its_ports(), &[]);
    // the follower has sent a request there, and the leader does not know the name
    leader.wait_parked(1);
    let kept = follower.get("n").expect(200);
    assert_eq!((kept.text(), kept.last_sync()), ("kept", Some(seen)));
    assert!(kept.header("Warning").is_some_and(|w| w.starts_with("110 ")), "{kept:?}");

    // a new set has begun: stamps of the old one do not count
    let genesis = wait_for("the follower to know of the new set", LIMIT, || {
        let stale = get("other?timeout=0s").header("X-Last-Sync", seen.to_string());
        let answer = follower.client().ask(&stale);
        (answer.status == 404).then(|| answer.header("X-Vwatch-Genesis").map(str::to_owned))
    });
    assert!(genesis.is_some());

    leader.put("n?version=v2", "new").expect(204);
    assert_eq!(wait_version(&follower, "n", "v2").text(), "new");
    wait_until("it to be fresh", LIMIT, || follower.get("n").expect(200).header("Warning").is_none());
}

/// Whichever address answers: what was shown once is never followed by something older.
#[test]
fn failover_never_goes_back_in_time() {
    let ahead = Node::start();
    let behind = Node::start();
    let old = now_us() - 60_000_000;
    behind.put(&format!("n?version=old&modified={old}"), "old").expect(204);
    let new = ahead.put("n?version=new", "new").expect(204).last_sync().unwrap();
    let from = format!("http://{},http://{}", ahead.client_addr(), behind.client_addr());
    // whichever leader gets the first request, readers with the newer stamp make the follower try the next one
    let follower = Node::with(&["--fill-from", &from, "--fill-expiry", "500ms"]);
    let newer = get("n?timeout=5s").header("X-Last-Sync", new.to_string());
    let got = wait_for("the newer of the two", LIMIT, || {
        let answer = follower.client().ask(&newer);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(got.version(), Some("new"));

    let ports = ahead.kill_for_its_ports();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(follower.get("n?timeout=0s").expect(200).version(), Some("new"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(follower.get("n?timeout=0s").header("Warning").is_some());

    behind.put("n?version=newest", "").expect(204);
    wait_version(&follower, "n", "newest");
    drop(Node::at(ports, &[]));
}

/// Names that the upstream fails for, and names that it has: the first do not hold up the others.
#[test]
fn names_that_fail_do_not_hold_up_those_that_do_not() {
    const BAD: usize = 20;
    const GOOD: usize = 32;
    let upstream = Upstream::start(|asked| match asked.path().contains("/bad") {
        true => status(500),
        false if asked.target.contains("&version=") => {
            std::thread::sleep(Duration::from_secs(1));
            status(304).header("X-Last-Sync", 1_000)
        }
        false => value("v1", 1_000),
    });
    let follower = Node::with(&["--fill-from", &upstream.url()]);
    let mut bad: Vec<_> = (0..BAD).map(|i| follower.watch(&get(&format!("bad{i}?timeout=12s")))).collect();
    wait_until("each bad name to have failed", LIMIT, || {
        (0..BAD).all(|i| upstream.times(&format!("/v1/versions/bad{i}")) >= 1)
    });
    let mut times = Vec::new();
    for i in 0..GOOD {
        let asked = Instant::now();
        follower.get(&format!("good{i}?timeout=8s")).expect(200);
        times.push(asked.elapsed());
    }
    // a busy machine holds up some of them, and not half
    times.sort();
    assert!(times[GOOD / 2] < Duration::from_secs(2), "{times:?}");
    for reader in &mut bad {
        let answer = reader.answer();
        assert_refusal(&answer, 502);
        assert!(answer.text().contains("it answers 500 Internal Server Error"), "{}", answer.text());
    }
}

/// A reader gets the reason why the upstream does not answer.
#[test]
fn a_reader_that_waits_for_an_absent_upstream_gets_the_reason() {
    let follower = Node::with(&["--fill-from", "http://127.0.0.1:1"]);
    for name in ["first", "second"] {
        let answer = follower.get(&format!("{name}?timeout=300ms"));
        assert_refusal(&answer, 504);
        assert!(answer.text().contains("Connection refused"), "{}", answer.text());
    }
    // the reason stays what it is once a probe has failed as well
    wait_until("a probe to have failed", LIMIT, || {
        follower.metric("vwatch_fill_loop_turns_total{loop=\"fill-probe\"}") >= 3.0
    });
    let answer = follower.get("third?timeout=300ms");
    assert!(answer.text().contains("Connection refused"), "{}", answer.text());
    let lost = Node::with(&["--fill-from", "http://no-such-host.invalid"]);
    wait_until("the reason to be known", LIMIT, || {
        lost.get("n?timeout=100ms").text().contains("addresses are not known yet: no-such-host.invalid: ")
    });
}

/// Well under what a long poll may take, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(12);

/// A leader that is frozen keeps its connections, and sends nothing on them: a probe detects that, and not the
/// end of a long poll. Writes at the other leader arrive, and new names are read from there.
#[test]
fn a_frozen_leader_holds_up_neither_watchers_nor_readers_of_new_names() {
    const NAMES: usize = 8;
    let leaders = Node::group(2, &[]);
    let from = format!("http://{},http://{}", leaders[0].client_addr(), leaders[1].client_addr());
    for i in 0..NAMES {
        leaders[0].put(&format!("n{i}?version=v1"), "").expect(204);
        leaders[0].put(&format!("new{i}?version=v1"), "").expect(204);
    }
    wait_until("both to have all names", LIMIT, || {
        (0..NAMES).all(|i| leaders[1].get(&format!("new{i}?timeout=0s")).status == 200)
    });
    let follower = Node::with(&["--fill-from", &from, "--fill-expiry", "1m"]);
    for i in 0..NAMES {
        wait_version(&follower, &format!("n{i}"), "v1");
    }
    let mut watchers: Vec<_> =
        (0..NAMES).map(|i| follower.watch(&get(&format!("n{i}?version=v1&timeout=1m")))).collect();
    wait_until("all names to wait at the leaders", LIMIT, || {
        leaders[0].parked() + leaders[1].parked() == NAMES
    });
    // names are spread by chance: once in a hundred runs all of them wait at one leader
    let [silent, other] = if leaders[0].parked() > 0 { [0, 1] } else { [1, 0] }.map(|i: usize| &leaders[i]);

    let frozen = Instant::now();
    silent.pause();
    for i in 0..NAMES {
        other.put(&format!("n{i}?version=v2"), "").expect(204);
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
    for i in 0..NAMES {
        assert_eq!(follower.get(&format!("new{i}?timeout=10s")).expect(200).version(), Some("v1"));
    }
    assert!(frozen.elapsed() < SOON, "{:?}", frozen.elapsed());
    let count = format!("vwatch_fill_silent_total{{upstream=\"http://{}\"}}", silent.client_addr());
    assert_eq!(follower.metric(&count), 1.0);
    let stderr = follower.stderr();
    assert_eq!(stderr.matches("an address of the upstream does not answer").count(), 1, "{stderr}");
    assert!(!stderr.contains("cut off from the upstream"), "{stderr}");

    silent.resume();
    wait_until("further requests to it", LIMIT, || {
        follower.stderr().contains("an address of the upstream answers again")
    });
}

/// With one leader there is no other address: what is held is served as stale soon, and all is well once it goes on.
#[test]
fn a_frozen_only_leader_is_noticed_soon_and_followed_again() {
    let leader = Node::start();
    leader.put("n?version=v1", "").expect(204);
    let follower = follower(&leader, &["--fill-expiry", "1m"]);
    wait_version(&follower, "n", "v1");
    let mut watcher = follower.watch(&get("n?version=v1&timeout=1m"));
    leader.wait_parked(1);
    let frozen = Instant::now();
    leader.pause();
    wait_until("it to be stale", LIMIT, || {
        follower.get("n?timeout=0s").expect(200).header("Warning").is_some()
    });
    assert!(frozen.elapsed() < SOON, "{:?}", frozen.elapsed());
    let new = follower.get("new?timeout=300ms");
    assert_refusal(&new, 504);
    assert!(new.text().contains("it answers nothing, not even a probe"), "{}", new.text());
    assert_eq!(follower.stderr().matches("cut off from the upstream").count(), 1);
    leader.resume();
    wait_until("it to be fresh", LIMIT, || {
        follower.get("n?timeout=0s").expect(200).header("Warning").is_none()
    });
    leader.put("n?version=v2", "").expect(204);
    assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
}

/// A gateway in front of a leader may pass requests for names only: then only their answers show its state.
#[test]
fn an_upstream_that_answers_names_and_no_probe_is_not_given_up() {
    let upstream = Upstream::start(|asked| match asked.path() {
        "/readyz" => Reply::Raw(Box::new(|_| std::thread::sleep(Duration::from_secs(60)))),
        _ if asked.target.contains("&version=") => {
            std::thread::sleep(Duration::from_secs(7));
            status(304).header("X-Last-Sync", 1_000)
        }
        _ => value("v1", 1_000),
    });
    let follower = Node::with(&["--fill-from", &upstream.url()]);
    follower.get("n").expect(200);
    let polls = || upstream.asked().iter().filter(|asked| asked.target.contains("&version=")).count();
    wait_until("the next long poll", LIMIT, || polls() >= 2);
    let asked = upstream.asked();
    let between = asked[asked.len() - 1].at - asked[asked.len() - 2].at;
    assert!(between > Duration::from_secs(6), "it was left to wait: {between:?}");
    assert_eq!(follower.get("n?timeout=0s").expect(200).header("Warning"), None);
    assert!(!follower.stderr().contains("cut off"), "{}", follower.stderr());
}

/// However many names wait at an address, it is probed once in a while.
#[test]
fn an_address_is_probed_once_and_not_for_each_name() {
    const NAMES: usize = 50;
    let probes = Arc::new(Mutex::new(Vec::new()));
    let upstream = Upstream::start({
        let probes = Arc::clone(&probes);
        move |asked| {
            if asked.path() == "/readyz" {
                probes.lock().unwrap().push(asked.at);
                return status(200);
            }
            if asked.target.contains("&version=") {
                std::thread::sleep(Duration::from_secs(30));
            }
            value("v1", 1_000)
        }
    });
    let follower = Node::with(&["--fill-from", &upstream.url(), "--fill-expiry", "1m"]);
    for i in 0..NAMES {
        follower.get(&format!("n{i}")).expect(200);
    }
    let before = probes.lock().unwrap().len();
    wait_until("some probes", LIMIT, || probes.lock().unwrap().len() >= before + 3);
    let probes = probes.lock().unwrap();
    assert!(probes[before + 2] - probes[before] > Duration::from_secs(3), "{probes:?}");
    assert_eq!(upstream.asked().len(), 2 * NAMES, "none was given up");
}

/// An hour ahead for a moment, then for so long that the leader believes it, and right again; at last the leader loses
/// its set. Only the name that was written in that hour is stamped so, and no reader of a follower waits for the hour
/// to pass.
#[test]
fn a_clock_that_was_wrong_holds_up_neither_writers_nor_followers() {
    let file = std::env::temp_dir().join(format!("vwatch-clock-{}", std::process::id()));
    let set = |offset: &str| std::fs::write(&file, offset).unwrap();
    set("+0s");
    let clock = |offset: String| [(CLOCK.to_owned(), offset)];
    let leader = Node::with_env(&[], &clock(format!("@{}", file.display())));
    let flags = ["--fill-from", &format!("http://{}", leader.client_addr()), "--fill-expiry", "1s"];
    let follower = Node::with_env(&flags, &clock("+0s".to_owned()));
    let late = Node::with_env(&flags, &clock("-1h".to_owned()));
    let put = |name: &str, version: &str| leader.put(&format!("{name}?version={version}"), version);
    let is_ahead = |answer: &Response| answer.last_sync().unwrap() > now_us() + 1_800_000_000;
    // the clock is set within some ms; what is written until then is stamped by the one before
    let refused = |was_ahead: bool| {
        wait_for("a write to be refused", LIMIT, || {
            let answer = put("until-then", "1");
            let is_stamped = answer.status == 204 && !was_ahead && is_ahead(&answer);
            assert!(!is_stamped, "a clock that was just set stamps nothing");
            (answer.status != 204).then_some(answer)
        })
    };
    let written = |name: &str, version: &str| {
        wait_for("a write to be taken", LIMIT, || {
            let answer = put(name, version);
            (answer.status == 204).then_some(answer)
        })
    };
    written("a", "1");
    // a follower that copies needs no clock of its own
    for follower in [&follower, &late] {
        wait_version(follower, "a", "1");
    }

    set("+1h");
    let answer = refused(false);
    assert_refusal(&answer, 503);
    assert!(answer.text().starts_with("clock in doubt: "), "{}", answer.text());
    assert_eq!(leader.metric("vwatch_standing{state=\"clock_in_doubt\"}"), 1.0);
    assert!(is_ahead(&written("b", "1")), "it has gone steadily");
    assert!(is_ahead(&wait_version(&follower, "b", "1")));
    assert!(follower.metric("vwatch_fill_stamps_ahead_total") > 0.0);

    set("+0s");
    refused(true);
    assert!(!is_ahead(&written("c", "1")), "another name");
    assert!(is_ahead(&written("b", "2")), "readers have seen its stamp");
    for (name, version) in [("b", "2"), ("c", "1")] {
        wait_version(&follower, name, version);
        wait_version(&late, name, version);
    }
    for direction in ["forward", "back"] {
        let steps = leader.metric(&format!("vwatch_clock_steps_total{{direction=\"{direction}\"}}"));
        assert_eq!(steps, 1.0, "{direction}");
    }
    wait_until("a line in the log", LIMIT, || {
        let log = leader.stderr();
        log.contains("was set forward by 3600.") || log.contains("was set forward by 3599.")
    });
    wait_until("a log line", LIMIT, || leader.stderr().contains("the node trusts its clock again"));

    let again = Node::at(leader.kill_for_its_ports(), &[]);
    again.put("b?version=3", "3").expect(204);
    wait_version(&follower, "b", "3");
    std::fs::remove_file(&file).unwrap();
}

/// 100 names: an outage is one line of the log and few connections, and all are there again soon after it.
#[test]
fn a_follower_that_is_cut_off_serves_logs_it_once_and_catches_up_without_a_storm() {
    const NAMES: usize = 40;
    let answer = |version: &'static str, stamp: u64| {
        move |asked: &cluster_tests::upstream::Asked| {
            if asked.target.contains(&format!("version={version}")) {
                std::thread::sleep(Duration::from_secs(2));
                return status(304).header("X-Last-Sync", stamp);
            }
            value(version, stamp)
        }
    };
    // where no connection of another test takes the port while nothing listens there
    let upstream = Upstream::at(own_address(), answer("v1", 1_000));
    let follower = Node::with(&["--fill-from", &upstream.url(), "--fill-expiry", "2s"]);
    for i in 0..NAMES {
        follower.get(&format!("n{i}")).expect(200);
    }
    let address = upstream.address();
    drop(upstream);

    wait_until("the follower to notice", LIMIT, || follower.stderr().contains("cut off from the upstream"));
    let ready = follower.client().ask(&cluster_tests::http::Request::new("GET", "/readyz")).expect(200);
    assert!(ready.text().starts_with("ready\nupstream: cut off for "), "{}", ready.text());
    let answer_of = |i: usize| follower.get(&format!("n{i}?timeout=0s")).expect(200);
    wait_until("all names to be marked as stale", LIMIT, || {
        (0..NAMES).all(|i| answer_of(i).header("Warning") == Some("110 - \"Response is Stale\""))
    });
    assert!(answer_of(0).header("Age").is_some_and(|age| age.parse::<u64>().is_ok()));
    let unreachable =
        format!("vwatch_fill_requests_total{{upstream=\"http://{address}\",outcome=\"unreachable\"}}");
    let before = follower.metric(&unreachable);
    std::thread::sleep(Duration::from_secs(2));
    let tried = follower.metric(&unreachable) - before;
    assert!(tried <= 40.0, "{tried} tries in two seconds, for {NAMES} names");
    assert_eq!(follower.stderr().matches("cut off from the upstream").count(), 1);
    assert_eq!(follower.metric(&format!("vwatch_fill_up{{upstream=\"http://{address}\"}}")), 0.0);

    let back = Upstream::at(address, answer("v2", 2_000));
    wait_until("all names to be there", LIMIT, || (0..NAMES).all(|i| answer_of(i).version() == Some("v2")));
    wait_until("a line in the log", LIMIT, || follower.stderr().contains("the upstream answers again"));
    assert_eq!(answer_of(0).header("Warning"), None);
    assert!(back.asked().len() < 3 * NAMES, "{} requests", back.asked().len());
}

#[test]
fn a_name_without_readers_is_dropped_and_requested_again() {
    let leader = Node::start();
    leader.put("n?version=v1", "").expect(204);
    let follower = follower(&leader, &["--fill-idle", "8s"]);
    follower.get("n").expect(200);
    leader.wait_parked(1);
    let seen = follower.server().ask(&Request::new("GET", "/v1/cluster")).expect(200).json();
    assert_eq!((&seen["fill"]["tier"], &seen["fill"]["names"]), (&1.into(), &1.into()), "{seen}");
    assert_eq!(seen["fill"]["upstreams"][0]["up"], true, "{seen}");
    // parked readers keep it
    let mut watcher = follower.watch(&get("n?version=v1&timeout=12s"));
    assert_eq!(watcher.answer().expect(200).version(), Some("v1"));
    wait_until("it to be let go", LIMIT, || follower.metric("vwatch_fill_names") == 0.0);
    leader.wait_parked(0);
    leader.put("n?version=v2", "").expect(204);
    assert_eq!(follower.get("n").expect(200).version(), Some("v2"), "not what it was when it was let go");
}

/// Readers move on from name to name: names without readers make room for the next ones.
#[test]
fn a_small_follower_outlives_more_names_than_it_can_hold() {
    const NAMES: usize = 40;
    let leader = Node::start();
    for i in 0..NAMES {
        leader.put(&format!("n{i}"), [b'x'; 4_000]).expect(204);
    }
    let follower = follower(&leader, &["--fill-idle", "250ms", "--max-set-bytes", "40000"]);
    for i in 0..NAMES {
        wait_until("a name to be filled", LIMIT, || follower.get(&format!("n{i}")).status == 200);
    }
    assert!(follower.metric("vwatch_set_bytes") <= 40_000.0);
}

#[test]
fn names_are_bounded() {
    let leader = Node::start();
    for i in 0..4 {
        leader.put(&format!("n{i}"), "x").expect(204);
    }
    let follower = follower(&leader, &["--fill-max-names", "3"]);
    for i in 0..3 {
        follower.get(&format!("n{i}")).expect(200);
    }
    assert_refusal(&follower.get("n3"), 503);
    assert_eq!(follower.metric("vwatch_fill_refused_total"), 1.0);
    follower.get("n0").expect(200);
}

/// A fresh stamp without a new version wakes no reader at the leader. But a reader with that stamp must not wait for
/// the next turn of the follower.
#[test]
fn readers_with_a_newer_stamp_make_the_follower_poll() {
    let leader = Node::start();
    leader.put("n?version=v1", "").expect(204);
    let follower = follower(&leader, &["--fill-expiry", "1m"]);
    follower.get("n").expect(200);
    leader.wait_parked(1);
    let refreshed = leader.put("n?version=v1", "").expect(204).last_sync().unwrap();
    let asked = Instant::now();
    let answer = follower.client().ask(&get("n?timeout=30s").header("X-Last-Sync", refreshed.to_string()));
    assert_eq!(answer.expect(200).last_sync(), Some(refreshed));
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[test]
fn a_loop_of_followers_is_detected_and_logged() {
    let (one, two) = (free_addresses(), free_addresses());
    let a = Node::at(one, &["--node-id", "a", "--fill-from", &format!("http://{}", two.0)]);
    let b = Node::at(two, &["--node-id", "b", "--fill-from", &format!("http://{}", one.0)]);
    wait_until("the loop in the log", LIMIT, || {
        (a.stderr() + &b.stderr()).contains("--fill-from leads in a circle")
    });
}

/// Each tier is killed and started again in turn, while a reader of the last one checks that time goes forward.
#[test]
fn tiers_are_restarted_in_turn_and_no_reader_goes_back_in_time() {
    let mut leaders = vec![Node::start()];
    let at = free_addresses();
    let (one, two) = (free_addresses(), at);
    let leader_url = format!("http://{}", leaders[0].client_addr());
    let one_url = format!("http://{}", one.0);
    let flags_one = ["--fill-from", leader_url.as_str(), "--fill-expiry", "500ms"];
    let flags_two = ["--fill-from", one_url.as_str(), "--fill-expiry", "500ms"];
    let mut first = Node::at(one, &flags_one);
    let mut second = Node::at(two, &flags_two);

    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (done, seen) = (Arc::clone(&done), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut newest = 0;
            while !done.load(Ordering::Relaxed) {
                let mut request = get("n?timeout=500ms");
                if newest > 0 {
                    request = request.header("X-Last-Sync", newest.to_string());
                }
                let answer = cluster_tests::http::Connection::try_open(two.0).and_then(|mut connection| {
                    connection.try_send_bytes(&request.bytes())?;
                    connection.try_answer(LIMIT)
                });
                let Ok(answer) = answer else { continue };
                if answer.status == 200 {
                    let stamp = answer.last_sync().expect("a stamp");
                    assert!(stamp >= newest, "back in time: {stamp} after {newest}");
                    newest = stamp;
                    seen.lock().unwrap().push(answer.version().unwrap().to_owned());
                }
            }
        })
    };
    let mut count = 0;
    let mut write = |leader: &Node| {
        count += 1;
        leader.put(&format!("n?version=v{count}"), "").expect(204);
        format!("v{count}")
    };
    for _ in 0..2 {
        let version = write(&leaders[0]);
        wait_version(&second, "n", &version);
        first = Node::at(first.kill_for_its_ports(), &flags_one);
        let version = write(&leaders[0]);
        wait_version(&second, "n", &version);
        second = Node::at(second.kill_for_its_ports(), &flags_two);
        let version = write(&leaders[0]);
        wait_version(&second, "n", &version);
        let ports = leaders.remove(0).kill_for_its_ports();
        leaders.push(Node::at(ports, &[]));
        let version = write(&leaders[0]);
        wait_version(&second, "n", &version);
    }
    done.store(true, Ordering::Relaxed);
    reader.join().expect("no reader went back in time");
    assert!(seen.lock().unwrap().len() > 8);
    drop(first);
}

/// A reader that waits for the creation of a name stays parked if a notification of a change was wrong.
#[test]
fn a_reader_that_waits_for_a_creation_outlives_polls_without_a_change() {
    let leader = Node::start();
    let follower = follower(&leader, &[]);
    let mut watcher = follower.watch(&get("n?version=&timeout=1m"));
    leader.wait_parked(1);
    let unknown = format!(
        "vwatch_fill_requests_total{{upstream=\"http://{}\",outcome=\"unknown\"}}",
        leader.client_addr()
    );
    for _ in 0..2 {
        let before = follower.metric(&unknown);
        follower.server().ask(&Request::new("POST", "/v1/fill/n").body("")).expect(202);
        wait_until("a poll without a change", LIMIT, || follower.metric(&unknown) > before);
        leader.wait_parked(1);
    }
    leader.put("n?version=v1", "new").expect(204);
    assert_eq!(watcher.answer().expect(200).text(), "new");
}

/// The request that tries an address for all is one that is answered at once.
#[test]
fn what_was_parked_when_the_upstream_failed_is_not_parked_at_the_next_try() {
    let failed = AtomicBool::new(false);
    let upstream = Upstream::start(move |asked| {
        let parks = asked.target.contains("&version=");
        if parks && !failed.swap(true, Ordering::SeqCst) { Reply::HangUp } else { status(404) }
    });
    let follower = Node::with(&["--fill-from", &upstream.url()]);
    let _watcher = follower.watch(&get("n?version=&timeout=1m"));
    wait_until("the next try", LIMIT, || upstream.asked().len() >= 3);
    let parks: Vec<bool> = upstream.asked().iter().map(|asked| asked.target.contains("&version=")).collect();
    assert_eq!(parks[..3], [false, true, false]);
}

/// A dropped name is still held; while the upstream gets no requests, its reader does not wait for it.
#[test]
fn what_is_held_is_served_at_once_while_the_upstream_is_left_alone() {
    let is_limited = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let is_limited = Arc::clone(&is_limited);
        move |asked| match asked.target.contains("&version=") {
            _ if is_limited.load(Ordering::SeqCst) => status(429).header("Retry-After", 3_600),
            true => {
                std::thread::sleep(Duration::from_millis(100));
                status(304).header("X-Last-Sync", 1_000)
            }
            false => value("v1", 1_000),
        }
    });
    let follower = Node::with(&["--fill-from", &upstream.url(), "--fill-idle", "250ms"]);
    follower.get("n").expect(200);
    wait_until("it to be let go", LIMIT, || follower.metric("vwatch_fill_names") == 0.0);
    is_limited.store(true, Ordering::SeqCst);
    assert_refusal(&follower.get("other?timeout=100ms"), 504);
    let limited =
        format!("vwatch_fill_requests_total{{upstream=\"{}\",outcome=\"limited\"}}", upstream.url());
    wait_until("the limit to be known", LIMIT, || follower.metric(&limited) >= 1.0);
    let asked = Instant::now();
    let served = follower.get("n?timeout=1m").expect(200);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(served.header("Warning").is_some_and(|w| w.starts_with("110 ")), "{served:?}");
}

/// Another server answers 200 with an ETag, or 404 with a page: neither is an answer of vwatch.
#[test]
fn an_upstream_that_is_no_vwatch_is_named_as_what_it_is() {
    for (code, said) in
        [(200, "it has no X-Last-Sync"), (410, "it has no X-Last-Sync"), (404, "it is not in plain text")]
    {
        let upstream = Upstream::start(move |_| {
            let page = status(code).header("ETag", "\"5f\"").header("Content-Type", "text/html");
            page.header("Server", "nginx").body("<html>")
        });
        let node = Node::with(&["--fill-from", &upstream.url()]);
        let answer = node.get("n?timeout=5s").expect(502);
        let shown = format!("it answers {code} ");
        assert!(
            answer.text().contains(&shown) && answer.text().contains("text/html from nginx"),
            "{answer:?}"
        );
        assert!(answer.text().contains(said) && answer.text().contains("so this is no vwatch"), "{answer:?}");
    }
}

/// A renewal of the same version answers no long poll of the follower.
#[test]
fn a_follower_ends_a_value_with_its_leader_and_without_it() {
    const LIFE_US: u64 = 4_000_000;
    let leader = Node::start();
    let node = follower(&leader, &[]);
    let put = || leader.put("n?version=v&expires=4s", "x").expect(204).last_sync().unwrap();
    let first = put();
    let copied = wait_version(&node, "n", "v");
    assert_eq!(copied.header("X-Vwatch-Expires"), Some(&*(first + LIFE_US).to_string()));
    let mut last = first;
    wait_until("the first end to pass", LIMIT, || {
        last = put();
        let answer = node.get("n?timeout=0s");
        assert_eq!(answer.status, 200, "renewed at {last}: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
        now_us() > first + LIFE_US + 2_000_000
    });
    let end = last + LIFE_US;
    wait_until("the last renewal", LIMIT, || node.get("n?timeout=0s").last_sync() == Some(last));
    // a reader that waits there is told of the end although the leader is gone
    let mut parked = node.watch(&get("n?version=v&timeout=30s"));
    leader.pause();
    let gone = parked.answer();
    assert!(gone.status == 410 && gone.last_sync() == Some(last) && now_us() >= end, "{gone:?}");
    leader.resume();
    put();
    wait_version(&node, "n", "v");
}
