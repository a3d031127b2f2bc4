//! Nodes in front of anything that sends entity tags: with polite and even requests, and careful trust.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

mod upstreams;

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, get, run_to_end};
use cluster_tests::text::{assert_refusal, http_date, now_us};
use cluster_tests::upstream::{Asked, Reply, Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};

/// Short enough for a test, and still an interval.
const EXPIRY: &str = "200ms";

fn cache(upstream: &Upstream, flags: &[&str]) -> Node {
    let url = upstream.url();
    let base = [
        "--fill-from",
        url.as_str(),
        "--fill-strategy",
        "FILL_CACHE",
        "--fill-expiry",
        EXPIRY,
        "--fill-path",
        "/{{.name}}",
    ];
    Node::with(&[&base, flags].concat())
}

/// What an upstream has, by path, as a test changes it.
#[derive(Clone, Default)]
struct Things(Arc<Mutex<HashMap<String, String>>>);

impl Things {
    fn set(&self, path: &str, tag: &str) {
        self.0.lock().unwrap().insert(path.to_owned(), tag.to_owned());
    }

    fn remove(&self, path: &str) {
        self.0.lock().unwrap().remove(path);
    }

    fn answer(&self, asked: &Asked) -> Reply {
        match self.0.lock().unwrap().get(asked.path()) {
            None => status(404),
            Some(tag) if asked.header("If-None-Match") == Some(tag) => status(304),
            Some(tag) => status(200).header("ETag", tag).body("data of another name"),
        }
    }
}

#[track_caller]
fn wait_version(node: &Node, name: &str, version: &str) {
    wait_until(&format!("{name} to be {version}"), LIMIT, || {
        let answer = node.get(name);
        answer.status == 200 && answer.version() == Some(version)
    });
}

#[track_caller]
fn wait_asked(upstream: &Upstream, times: usize) {
    let before = upstream.asked().len();
    wait_until("further requests to the upstream", LIMIT, || upstream.asked().len() >= before + times);
}

fn requests(node: &Node, upstream: &Upstream, outcome: &str) -> f64 {
    let url = upstream.url();
    node.metric(&format!("vwatch_fill_requests_total{{upstream=\"{url}\",outcome=\"{outcome}\"}}"))
}

#[test]
fn versions_come_by_conditional_requests_and_data_does_not() {
    let things = Things::default();
    things.set("/n", "\"v1\"");
    let upstream = Upstream::start({
        let things = things.clone();
        move |asked| things.answer(asked)
    });
    let node = cache(&upstream, &["--fill-headers", "X-Mine: yes"]);
    let mut watcher = node.watch(&get("n?version=v1&timeout=1m").header("X-Last-Sync", "5"));
    node.wait_parked(1);
    wait_asked(&upstream, 3);
    assert!(!watcher.has_news());
    things.set("/n", "W/\"v2\"");
    let woken = watcher.answer().expect(200);
    assert_eq!((woken.version(), woken.text()), (Some("v2"), ""));
    assert!(woken.header("Via").is_some_and(|via| via.starts_with("1.1 ")));
    wait_asked(&upstream, 3);

    let asked = upstream.asked();
    let tags: Vec<_> = asked.iter().map(|asked| asked.header("If-None-Match")).collect();
    assert_eq!(tags[..2], [None, Some("\"v1\"")]);
    assert_eq!(tags.last(), Some(&Some("W/\"v2\"")), "as it was sent");
    for asked in &asked {
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("HEAD", "/n"), "nothing of ours");
        assert_eq!(asked.header("X-Mine"), Some("yes"));
        assert_eq!(asked.header("X-Last-Sync"), None);
        assert_eq!(asked.header("Accept-Encoding"), Some("identity"));
    }
    assert_eq!(node.metric("vwatch_fill_tier"), 0.0);
}

#[test]
fn a_delete_counts_at_the_second_answer_and_a_value_at_once() {
    let things = Things::default();
    things.set("/n", "\"v1\"");
    let gone = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let (things, gone) = (things.clone(), Arc::clone(&gone));
        move |asked| {
            let reply = things.answer(asked);
            if matches!(reply, Reply::Answer { status: 404, .. }) {
                gone.fetch_add(1, Ordering::SeqCst);
            }
            reply
        }
    });
    let node = cache(&upstream, &[]);
    node.get("n").expect(200);
    let mut watcher = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(1);
    things.remove("/n");
    watcher.answer().expect(410);
    assert!(gone.load(Ordering::SeqCst) >= 2);
    let mut watcher = node.watch(&get("n?version=&timeout=1m"));
    node.wait_parked(1);
    things.set("/n", "\"v1\"");
    assert_eq!(watcher.answer().expect(200).version(), Some("v1"));
}

#[test]
fn an_error_is_never_a_delete() {
    let mode = Arc::new(AtomicUsize::new(200));
    let upstream = Upstream::start({
        let mode = Arc::clone(&mode);
        move |_| match mode.load(Ordering::SeqCst) {
            200 => status(200).header("ETag", "\"v1\""),
            0 => Reply::HangUp,
            code => status(code as u16).body("no"),
        }
    });
    let node = cache(&upstream, &[]);
    node.get("n").expect(200);
    for (code, outcome) in
        [(500, "error"), (401, "denied"), (403, "denied"), (400, "bad"), (0, "unreachable"), (429, "limited")]
    {
        mode.store(code, Ordering::SeqCst);
        wait_until(outcome, LIMIT, || requests(&node, &upstream, outcome) > 0.0);
        let stale = node.get("n").expect(200);
        assert_eq!(stale.version(), Some("v1"));
        wait_until("it to be marked as stale", LIMIT, || {
            node.get("n").header("Warning") == Some("110 - \"Response is Stale\"")
        });
        mode.store(200, Ordering::SeqCst);
        wait_until(&format!("it to be fresh after {code}"), LIMIT, || {
            node.get("n").header("Warning").is_none()
        });
    }
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
}

/// Many readers want names that the upstream fails for. Names that it has are read as if there were none of these.
#[test]
fn names_that_fail_do_not_hold_up_those_that_do_not() {
    const BAD: usize = 20;
    const GOOD: usize = 32;
    let upstream = Upstream::start(|asked| match asked.path().starts_with("/bad") {
        true => status(503).body("no"),
        false => status(200).header("ETag", "\"v1\""),
    });
    let node = cache(&upstream, &[]);
    let mut bad: Vec<_> = (0..BAD).map(|i| node.watch(&get(&format!("bad{i}?timeout=12s")))).collect();
    let first = |i: &usize| upstream.times(&format!("/bad{i}")) >= 1;
    wait_until("each bad name to have failed", LIMIT, || (0..BAD).all(|i| first(&i)));
    let mut times = Vec::new();
    for i in 0..GOOD {
        let asked = Instant::now();
        node.get(&format!("good{i}?timeout=8s")).expect(200);
        times.push(asked.elapsed());
    }
    // a busy machine holds up some of them, and not half
    times.sort();
    assert!(times[GOOD / 2] < Duration::from_secs(2), "{times:?}");
    for reader in &mut bad {
        let answer = reader.answer();
        assert_refusal(&answer, 502);
        assert!(answer.text().contains("it answers 503 Service Unavailable"), "{}", answer.text());
        assert!(answer.header("Retry-After").is_some());
    }
}

/// Two names that fail, however often they are requested, do not make the upstream count as failing.
#[test]
fn a_name_that_fails_backs_off_alone() {
    let upstream = Upstream::start(|asked| match asked.path() {
        "/bad" => status(500),
        _ => status(200).header("ETag", "\"v1\""),
    });
    let node = cache(&upstream, &[]);
    node.get("good").expect(200);
    let mut bad = node.watch(&get("bad?timeout=12s"));
    wait_until("it to have failed often", LIMIT, || upstream.times("/bad") >= 6);
    assert_eq!(node.get("other?timeout=8s").expect(200).version(), Some("v1"));
    assert_refusal(&bad.answer(), 502);
    assert_eq!(node.metric(&format!("vwatch_fill_up{{upstream=\"{}\"}}", upstream.url())), 1.0);
    let stderr = node.stderr();
    assert!(!stderr.contains("cut off"), "{stderr}");
    assert!(stderr.contains("the upstream fails for a name: it answers 500"), "{stderr}");
}

/// A redirect to an address where nothing listens is the trouble of one name.
#[test]
fn where_one_name_leads_to_is_not_charged_to_the_upstream() {
    let upstream = Upstream::start(|asked| match asked.path().starts_with("/away") {
        true => status(302).header("Location", "http://127.0.0.1:1/unused"),
        false => status(200).header("ETag", "\"v1\""),
    });
    let node = cache(&upstream, &[]);
    let mut away = node.watch(&get("away?timeout=12s"));
    wait_until("it to be sent on", LIMIT, || upstream.times("/away") >= 5);
    node.get("n?timeout=8s").expect(200);
    let answer = away.answer();
    assert_refusal(&answer, 504);
    assert!(answer.text().contains("Connection refused"), "{}", answer.text());
    assert_eq!(node.metric(&format!("vwatch_fill_up{{upstream=\"{}\"}}", upstream.url())), 1.0);
    assert!(!node.stderr().contains("cut off"), "{}", node.stderr());
}

/// An upstream that fails for all names is left alone: names do not take turns at it at their own pace.
#[test]
fn an_upstream_that_fails_for_all_names_is_left_alone() {
    const NAMES: usize = 40;
    let upstream = Upstream::start(|_| status(500));
    let node = cache(&upstream, &["--fill-rate", "1000"]);
    let mut readers: Vec<_> = (0..NAMES).map(|i| node.watch(&get(&format!("n{i}?timeout=4s")))).collect();
    wait_until("the cut in the log", LIMIT, || node.stderr().contains("cut off from the upstream"));
    for reader in &mut readers {
        let answer = reader.answer();
        assert!(answer.text().contains("500 Internal Server Error"), "{}", answer.text());
    }
    assert!(upstream.asked().len() < NAMES * 3, "{} requests", upstream.asked().len());
    // the loop of requests rests until the next name may try
    let turns = node.metric("vwatch_fill_loop_turns_total{loop=\"fill-schedule\"}");
    assert!(turns < 10.0 * NAMES as f64, "{turns} turns of the loop");
    assert_eq!(node.stderr().matches("cut off from the upstream").count(), 1);
    assert!(!node.stderr().contains("answers again"), "{}", node.stderr());
}

#[test]
fn retry_after_is_obeyed() {
    let upstream = Upstream::start({
        let count = AtomicUsize::new(0);
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            1 => status(429).header("Retry-After", 2),
            2 => status(503).header("Retry-After", http_date(now_us() + 3_000_000)),
            _ => status(200).header("ETag", "\"v1\""),
        }
    });
    let node = cache(&upstream, &[]);
    node.get("n").expect(200);
    wait_until("four requests", LIMIT, || upstream.asked().len() >= 4);
    let asked = upstream.asked();
    let pause = |i: usize| asked[i + 1].at - asked[i].at;
    assert!(pause(1) >= Duration::from_millis(1_990), "{:?}", pause(1));
    assert!(pause(2) >= Duration::from_millis(1_900), "{:?}", pause(2));
    assert!(node.stderr().contains("the upstream is at a limit"));
}

#[test]
fn an_upstream_that_rejects_head_gets_get_and_its_body_is_not_read_to_the_end() {
    let upstream = Upstream::start(|asked| match asked.method.as_str() {
        "HEAD" => status(405).header("Allow", "GET"),
        _ => Reply::Raw(Box::new(|stream| {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n",
            );
            // without an end
            while stream.write_all(&[&b"4000\r\n"[..], &[7; 0x4000], b"\r\n"].concat()).is_ok() {}
        })),
    });
    let node = cache(&upstream, &[]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    wait_asked(&upstream, 2);
    let methods: Vec<_> = upstream.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods[..3], ["HEAD", "GET", "GET"]);
}

/// Replicas of the upstream that disagree make one change each, and then a count.
#[test]
fn replicas_that_disagree_do_not_overwrite_each_other_in_turns() {
    let upstream = Upstream::start({
        let count = AtomicUsize::new(0);
        move |_| status(200).header("ETag", ["\"a\"", "\"b\""][count.fetch_add(1, Ordering::SeqCst) % 2])
    });
    let node = cache(&upstream, &[]);
    node.get("n").expect(200);
    wait_asked(&upstream, 12);
    wait_until("flaps to be counted", LIMIT, || node.metric("vwatch_fill_flaps_total") >= 3.0);
    assert!(requests(&node, &upstream, "changed") <= 2.0);
    assert!(node.stderr().contains("its replicas may disagree"));
}

#[test]
fn a_put_ahead_of_the_poll_is_not_rolled_back() {
    let things = Things::default();
    things.set("/n", "\"v1\"");
    let upstream = Upstream::start({
        let things = things.clone();
        move |asked| things.answer(asked)
    });
    let node = cache(&upstream, &[]);
    node.get("n").expect(200);
    node.put("n?version=v2", "written by the one that pushed it").expect(204);
    wait_asked(&upstream, 4);
    assert_eq!(node.get("n").expect(200).text(), "written by the one that pushed it");
    things.set("/n", "\"v2\"");
    wait_asked(&upstream, 4);
    assert_eq!(node.get("n").expect(200).text(), "written by the one that pushed it");
    things.set("/n", "\"v3\"");
    wait_version(&node, "n", "v3");
}

#[test]
fn stamps_are_the_upstreams_unless_its_clock_is_ahead() {
    let modified = now_us() / 1_000_000 * 1_000_000 - 3_600_000_000;
    let upstream = Upstream::start(move |asked| {
        let date = if asked.path() == "/future" { modified + 365 * 86_400_000_000 } else { modified };
        status(200).header("ETag", "\"v1\"").header("Last-Modified", http_date(date))
    });
    let node = cache(&upstream, &[]);
    assert_eq!(node.get("past").expect(200).last_sync(), Some(modified));
    let stamp = node.get("future").expect(200).last_sync().unwrap();
    assert!(stamp <= now_us() && stamp > now_us() - 60_000_000, "{stamp}");
}

#[test]
fn ten_thousand_names_are_polled_evenly_and_within_the_budget() {
    const NAMES: usize = 10_000;
    const RATE: usize = 400;
    let _heavy = heavy();
    // the requests in each quarter of a second, from the first one on
    let measure = || {
        let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
        let node = cache(&upstream, &["--fill-rate", &RATE.to_string(), "--fill-expiry", "10s"]);
        // all of them at once, by readers that do not wait
        let mut connections: Vec<Connection> = (0..8).map(|_| node.client()).collect();
        let began = Instant::now();
        for i in 0..NAMES {
            connections[i % 8].ask(&get(&format!("n{i}?timeout=0s")));
        }
        assert_eq!(node.metric("vwatch_fill_names"), NAMES as f64);
        wait_until("some seconds of requests", LIMIT, || upstream.asked().len() >= RATE * 6);
        let asked = upstream.asked();
        let start = asked[0].at;
        let mut windows = HashMap::<u128, usize>::new();
        for asked in &asked {
            *windows.entry((asked.at - start).as_millis() / 250).or_default() += 1;
        }
        // the first request may be noted late
        let took = asked[asked.len() - 1].at - began;
        let rate = asked.len() as f64 / took.as_secs_f64();
        assert!(rate <= RATE as f64 * 1.02, "{rate} requests a second");
        assert!(node.metric("vwatch_fill_budget_left") < RATE as f64);
        windows
    };
    // no window has more than its share and what is in flight; what comes while this process stands still is
    // noted late, but a node that sends bursts does so in each run
    let mut runs = Vec::new();
    let is_even = (0..5).any(|_| {
        let windows = measure();
        let most = windows.values().max().copied().unwrap_or(0);
        runs.push(windows);
        most <= RATE / 4 + RATE / 10
    });
    assert!(is_even, "{runs:?}");
}

#[test]
fn redirects_are_followed_without_secrets_and_not_for_ever() {
    let elsewhere = Upstream::start(|asked| match asked.path() {
        "/blob" => status(200).header("ETag", "\"far\""),
        _ => status(404),
    });
    let far = elsewhere.url();
    let upstream = Upstream::start(move |asked| match asked.path() {
        "/away" => status(307).header("Location", format!("{far}/blob?signature=x")),
        "/near" => status(302).header("Location", "there?x=y"),
        "/there" => status(200).header("ETag", "\"near\""),
        "/loop" => status(302).header("Location", "/loop"),
        "/file" => status(302).header("Location", "file:///etc/passwd"),
        _ => status(404),
    });
    let node = cache(&upstream, &["--fill-headers", "X-Secret: s3cret", "--fill-headers", "Accept: a/b"]);
    assert_eq!(node.get("away").expect(200).version(), Some("far"));
    assert_eq!(node.get("near").expect(200).version(), Some("near"));
    let away = &elsewhere.asked()[0];
    assert_eq!((away.target.as_str(), away.header("X-Secret")), ("/blob?signature=x", None));
    assert_eq!(away.header("Accept"), Some("a/b"));
    assert!(upstream.asked().iter().all(|asked| asked.header("X-Secret") == Some("s3cret")));
    for (name, why) in [("loop", "redirects more than 5 times"), ("file", "its redirect")] {
        let refused = node.get(name);
        assert_refusal(&refused, 502);
        assert!(refused.text().contains(why), "{}", refused.text());
    }
    assert!(!node.stderr().contains("s3cret") && !node.stdout().contains("s3cret"));
}

struct Secret(std::path::PathBuf);

impl Secret {
    fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vwatch-auth-{}-{count}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An upstream that has everything for a request with `t0ken`, and names the token service for each name.
fn behind_token(challenge: impl Fn(&str) -> String + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |asked| match asked.header("Authorization") {
        Some("Bearer t0ken") => status(200).header("ETag", "\"v1\""),
        _ => status(401).header("WWW-Authenticate", challenge(&asked.path()[1..])),
    })
}

/// `me:s3cret`
const BASIC: &str = "Basic bWU6czNjcmV0";

#[test]
fn a_registrys_token_flow_is_followed_and_tokens_are_kept() {
    let tokens = Upstream::start(|asked| {
        assert!(asked.target.contains("service=reg") && asked.target.contains("scope=repository:x:pull"));
        match asked.header("Authorization") {
            Some(BASIC) => status(200).body(r#"{"token":"t0ken","expires_in":300}"#),
            _ => status(403),
        }
    });
    let realm = format!("{}/token", tokens.url());
    let upstream = behind_token({
        let realm = realm.clone();
        move |_| format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:x:pull\"")
    });
    let secret = Secret::new("me:s3cret\n");
    let node = cache(&upstream, &["--fill-auth-file", secret.path(), "--fill-auth-realm", &realm]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    wait_asked(&upstream, 4);
    assert_eq!(tokens.asked().len(), 1, "the token is good for a while");
    let sent: Vec<_> =
        upstream.asked().iter().map(|asked| asked.header("Authorization").map(str::to_owned)).collect();
    assert!(sent.iter().flatten().all(|sent| sent == "Bearer t0ken"), "never the password: {sent:?}");

    // without being named, a realm elsewhere and without TLS gets no request
    let before = tokens.asked().len();
    let node = cache(&upstream, &["--fill-auth-file", secret.path()]);
    let refused = node.get("n");
    assert_refusal(&refused, 502);
    assert!(refused.text().contains("--fill-auth-realm"), "{}", refused.text());
    assert_eq!(tokens.asked().len(), before);
}

#[test]
fn a_password_goes_to_the_origin_and_not_along_a_redirect() {
    let elsewhere = Upstream::start(|asked| match asked.header("Authorization") {
        None => status(401).header("WWW-Authenticate", "Basic realm=\"give\""),
        Some(_) => status(200).header("ETag", "\"stolen\""),
    });
    let far = elsewhere.url();
    let upstream = Upstream::start(move |asked| match (asked.path(), asked.header("Authorization")) {
        ("/n", Some(BASIC)) => status(200).header("ETag", "\"v1\""),
        ("/away", Some(BASIC)) => status(302).header("Location", format!("{far}/x")),
        _ => status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let secret = Secret::new("me:s3cret");
    let node = cache(&upstream, &["--fill-auth-file", secret.path()]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    assert_refusal(&node.get("away"), 502);
    assert!(!elsewhere.asked().is_empty());
    assert!(elsewhere.asked().iter().all(|asked| asked.header("Authorization").is_none()));
}

#[test]
fn mistakes_at_start_are_one_line() {
    let bad = Secret::new("no colon");
    for (flags, part) in [
        (["--fill-path", "/{{.repostory}}"], "unknown field {{.repostory}}"),
        (["--fill-auth-file", "/nowhere/at/all"], "cannot use --fill-auth-file"),
        (["--fill-auth-file", bad.path()], "not one line user:password"),
        (["--fill-ca", bad.path()], "cannot use --fill-ca"),
    ] {
        let from =
            ["--listen-client", "127.0.0.1:0", "--listen-server", "127.0.0.1:0", "--fill-from", "http://x"];
        let ended = run_to_end(&[&from, &flags[..]].concat());
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let line = ended.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("vwatch: ") && line.contains(part), "{}", ended.stderr);
        assert!(!ended.stderr.contains("no colon"), "what is in the file stays there");
    }
}

#[test]
fn names_that_have_no_path_are_refused() {
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    let node = cache(&upstream, &[]);
    assert_refusal(&node.get("a/../b"), 400);
    assert_refusal(&node.get("a/%2E%2E"), 400);
    assert!(upstream.asked().is_empty());
    node.get("a%20b%2F%2525").expect(200);
    assert_eq!(upstream.asked()[0].target, "/a%20b/%2525");
}

/// What an upstream can do wrong, by name: each has its line, none of them changes what was held, and other names go
/// on.
#[test]
fn a_hostile_upstream_is_logged_and_changes_nothing() {
    let evil = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let evil = Arc::clone(&evil);
        move |asked| {
            if evil.load(Ordering::SeqCst) == 0 || asked.path() == "/good" {
                return status(200).header("ETag", "\"v1\"");
            }
            match asked.path() {
                "/no-etag" => status(200).body("<html>log in here</html>"),
                "/empty-etag" => status(200).header("ETag", "\"\""),
                "/long-etag" => status(200).header("ETag", format!("\"{}\"", "x".repeat(300))),
                "/spaced-etag" => status(200).header("ETag", "\"a b\""),
                "/huge-etag" => status(200).header("ETag", format!("\"{}\"", "x".repeat(1 << 20))),
                "/loop" => status(302).header("Location", "/loop"),
                "/no-http" => {
                    Reply::Raw(Box::new(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n"))))
                }
                "/unasked-304" => status(304),
                "/future" => status(200)
                    .header("ETag", "\"v1\"")
                    .header("Last-Modified", http_date(now_us() + 86_400_000_000)),
                _ => Reply::Raw(Box::new(|stream| {
                    // a head that never ends
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                    for i in 0.. {
                        std::thread::sleep(Duration::from_millis(50));
                        if stream.write_all(format!("X-{i}: y\r\n").as_bytes()).is_err() {
                            return;
                        }
                    }
                })),
            }
        }
    });
    let node = cache(&upstream, &[]);
    let names = [
        "no-etag",
        "empty-etag",
        "long-etag",
        "spaced-etag",
        "huge-etag",
        "loop",
        "no-http",
        "future",
        "trickle",
    ];
    for name in names {
        node.get(name).expect(200);
    }
    node.get("good").expect(200);
    let memory = resident_kb(&node);
    evil.store(1, Ordering::SeqCst);
    for name in names.iter().filter(|name| **name != "future") {
        wait_until(&format!("{name} in the log"), LIMIT, || {
            let answer = node.get(name).expect(200);
            answer.version() == Some("v1") && answer.header("Warning").is_some()
        });
    }
    wait_until("the good one to go on", LIMIT, || node.get("good").header("Warning").is_none());
    assert!(node.stderr().contains("an answer of the upstream is unusable"));
    assert_eq!(node.get("future").expect(200).version(), Some("v1"));
    let grown = resident_kb(&node).saturating_sub(memory);
    assert!(grown < 32 * 1024, "{grown} KB more");
}

fn resident_kb(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// The same for followers: what is copied has more to it.
#[test]
fn a_hostile_leader_is_logged_and_changes_nothing() {
    let evil = Arc::new(AtomicUsize::new(0));
    let stamp = now_us() - 1_000_000;
    let upstream = Upstream::start({
        let evil = Arc::clone(&evil);
        move |asked| {
            let good = || status(200).header("ETag", "\"v1\"").header("X-Last-Sync", stamp).body("good");
            let name = asked.path().rsplit('/').next().unwrap_or_default().to_owned();
            if evil.load(Ordering::SeqCst) == 0 {
                if asked.target.contains("version=") {
                    std::thread::sleep(Duration::from_millis(300));
                }
                return good();
            }
            let newer = || status(200).header("ETag", "\"evil\"");
            let later = stamp + 500_000;
            match name.as_str() {
                "no-stamp" => newer(),
                "no-etag" => status(200).header("X-Last-Sync", later),
                "never" => newer().header("X-Last-Sync", "99999999999999999999"),
                "other" => newer().header("X-Last-Sync", later).header("Content-Location", "/v1/versions/x"),
                "gzip" => newer().header("X-Last-Sync", later).header("Content-Encoding", "gzip"),
                "gone" => status(410),
                "older" => newer().header("X-Last-Sync", stamp - 1),
                "moved" => status(301).header("Location", "/v1/versions/x"),
                _ => Reply::Raw(Box::new(move |stream| {
                    let head = format!("HTTP/1.1 200 OK\r\nETag: \"evil\"\r\nX-Last-Sync: {later}\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes());
                    while stream.write_all(&[7; 0x4000]).is_ok() {}
                })),
            }
        }
    });
    let node = Node::with(&["--fill-from", &upstream.url(), "--fill-expiry", "500ms"]);
    let names = ["no-stamp", "no-etag", "never", "other", "gzip", "moved", "endless", "gone", "older"];
    for name in names {
        assert_eq!(node.get(name).expect(200).text(), "good");
    }
    evil.store(1, Ordering::SeqCst);
    for name in &names[..7] {
        wait_until(&format!("{name} in the log"), LIMIT, || {
            let answer = node.get(name).expect(200);
            assert_eq!(answer.text(), "good", "{name}");
            answer.header("Warning").is_some()
        });
    }
    for name in &names[7..] {
        assert_eq!(node.get(name).expect(200).text(), "good", "{name}");
    }
    assert!(node.stderr().contains("an answer of the upstream is unusable"));
}

/// After a first failure there is nothing to serve. The answer has that reason, and not that the name does not exist.
#[test]
fn a_reader_gets_the_reason_of_a_first_answer_that_cannot_be_used() {
    let upstream = Upstream::start(|_| status(403));
    let node = cache(&upstream, &[]);
    let asked = Instant::now();
    let answer = node.get("n");
    assert_refusal(&answer, 502);
    assert!(answer.text().contains("--fill-auth-file") && asked.elapsed() < Duration::from_secs(5));
    let unknown = Node::with(&[
        "--fill-from",
        "http://127.0.0.1:1",
        "--fill-strategy",
        "FILL_CACHE",
        "--fill-path",
        "/{{.name}}",
    ]);
    assert_refusal(&unknown.get("n?timeout=300ms"), 504);
    wait_until("it to be given up", LIMIT, || unknown.metric("vwatch_fill_names") == 0.0);
}

#[test]
fn a_notification_makes_the_node_poll_at_once() {
    let things = Things::default();
    things.set("/repo:a", "\"v1\"");
    things.set("/repo:b", "\"v1\"");
    let upstream = Upstream::start({
        let things = things.clone();
        move |asked| things.answer(asked)
    });
    let node = cache(&upstream, &["--fill-expiry", "10m"]);
    let watch = |name: &str, version: &str| {
        wait_version(&node, name, version);
        node.watch(&get(&format!("{name}?version={version}&timeout=1m")))
    };
    let post = |target: &str, body: &str| {
        node.server().ask(&Request::new("POST", &format!("/v1/fill/{target}")).body(body))
    };
    let (mut a, mut b) = (watch("repo:a", "v1"), watch("repo:b", "v1"));
    things.set("/repo:a", "\"v2\"");
    post("repo:a", "").expect(202);
    assert_eq!(a.answer().expect(200).version(), Some("v2"));
    assert!(!b.has_news());

    let mut a = watch("repo:a", "v2");
    things.set("/repo:a", "\"v3\"");
    things.set("/repo:b", "\"v3\"");
    let event = |action: &str, tag: &str| {
        format!(r#"{{"events":[{{"id":"x","action":"{action}","target":{{"repository":"repo"{tag}}}}}]}}"#)
    };
    assert_eq!(
        post("registry-events", &event("pull", r#","tag":"a""#)).expect(200).text(),
        "checking 0 names\n"
    );
    post("registry-events", &event("push", r#","tag":"b""#)).expect(202);
    assert_eq!(b.answer().expect(200).version(), Some("v3"));
    assert!(!a.has_news());
    assert_eq!(post("registry-events", &event("delete", "")).expect(202).text(), "checking 2 names\n");
    assert_eq!(a.answer().expect(200).version(), Some("v3"));

    // a notification that comes before the change shows is not lost; a busy machine may be through with its checks
    // before this test makes the change
    let is_seen = (4..9).any(|round| {
        let (old, new) = (format!("v{}", round - 1), format!("v{round}"));
        let mut a = watch("repo:a", &old);
        let before = upstream.times("/repo:a");
        post("repo:a", "").expect(202);
        wait_until("a poll without a change", LIMIT, || upstream.times("/repo:a") > before);
        things.set("/repo:a", &format!("\"{new}\""));
        let answer = a.try_answer(Duration::from_secs(5)).map(|answer| answer.expect(200));
        if answer.is_err() {
            post("repo:a", "").expect(202);
        }
        answer.is_ok_and(|answer| answer.version() == Some(&*new))
    });
    assert!(is_seen, "no change that came after its notification was seen");

    assert_eq!(post("without-readers", "").expect(200).text(), "checking 0 names\n");
    assert_refusal(&post("registry-events", "no json"), 400);
    let events = |count: usize| {
        let targets: Vec<String> =
            (0..count).map(|i| format!(r#"{{"action":"push","target":{{"repository":"r{i}"}}}}"#)).collect();
        format!(r#"{{"events":[{}]}}"#, targets.join(","))
    };
    post("registry-events", &events(256)).expect(200);
    let refused = post("registry-events", &events(257));
    assert_refusal(&refused, 413);
    assert!(refused.text().starts_with("too many targets: 257, at most 256"), "{}", refused.text());
    assert_refusal(&post("registry-events", &"x".repeat(2 << 20)), 413);
    let without = Node::start();
    assert_refusal(&without.server().ask(&Request::new("POST", "/v1/fill/n").body("")), 404);
}

/// As many names at once as may be requested, and some more, none of which the upstream knows. No reader is left
/// waiting when all requested names are dropped.
#[test]
fn names_behind_a_whole_batch_of_unknown_ones_are_requested() {
    const AT_ONCE: usize = 256;
    const MORE: usize = 30;
    let open = Arc::new((Mutex::new(false), Condvar::new()));
    let upstream = Upstream::start({
        let open = Arc::clone(&open);
        move |_| {
            let (is_open, changed) = &*open;
            drop(changed.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            status(404)
        }
    });
    let node = cache(&upstream, &["--fill-rate", "100000"]);
    let mut readers: Vec<_> =
        (0..AT_ONCE + MORE).map(|i| node.watch(&get(&format!("n{i}?timeout=1m")))).collect();
    wait_until("all to be waited for", LIMIT, || {
        node.metric("vwatch_fill_expected_names") == (AT_ONCE + MORE) as f64
    });
    wait_until("the most requests at once", LIMIT, || upstream.asked().len() == AT_ONCE);
    *open.0.lock().unwrap() = true;
    open.1.notify_all();
    for reader in &mut readers {
        assert_refusal(&reader.answer(), 404);
    }
}

/// An answer that the set had no room for is written once there is room, although the upstream has no newer one.
#[test]
fn what_there_was_no_room_for_is_written_once_there_is() {
    let tag = format!("\"{}\"", "v".repeat(200));
    let upstream = Upstream::start({
        let tag = tag.clone();
        move |asked| {
            let known = asked.header("If-None-Match") == Some(tag.as_str());
            status(if known { 304 } else { 200 }).header("ETag", &tag)
        }
    });
    let node = cache(&upstream, &["--max-set-bytes", "4400"]);
    // data of one that is there already leaves room for its tombstone, and for nothing else
    node.put("big?version=1", [b'x'; 4_096]).expect(204);
    assert_refusal(&node.get("n"), 502);
    node.delete("big").expect(204);
    wait_version(&node, "n", tag.trim_matches('"'));
}

/// While the upstream is left alone, what the node holds is served, and not only after the reader's whole time.
#[test]
fn what_is_held_is_served_at_once_while_the_upstream_is_at_a_limit() {
    let upstream = Upstream::start(|_| status(429).header("Retry-After", 3_600));
    let node = cache(&upstream, &[]);
    node.put("held?version=v1", "").expect(204);
    assert_refusal(&node.get("other?timeout=100ms"), 504);
    wait_until("the limit to be known", LIMIT, || requests(&node, &upstream, "limited") == 1.0);
    let asked = Instant::now();
    let served = node.get("held?timeout=1m").expect(200);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(served.version(), Some("v1"));
    assert!(served.header("Warning").is_some_and(|w| w.starts_with("110 ")), "{served:?}");
    assert_eq!(upstream.asked().len(), 1);
}
