//! Upstreams as they are in the world: what registries, their token services and what stands before them answer, and
//! what none of them should.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_tests::http::Request;
use cluster_tests::node::{Node, get};
use cluster_tests::text::{assert_refusal, metric, now_us};
use cluster_tests::upstream::{Asked, Reply, Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};

use super::{Secret, Things, behind_token, cache, requests, wait_asked};

/// Answers with bytes that no request asked for, in each way in which a connection can be left unclean, and soon or
/// late. What is too much has the form of an answer, and names by its version the name that it is about.
fn unclean(asked: &Asked) -> Reply {
    let name = asked.path().trim_start_matches('/').to_owned();
    let number: usize = name.trim_start_matches('n').parse().unwrap();
    let surplus = format!("HTTP/1.1 200 OK\r\nETag: \"surplus-{name}\"\r\nContent-Length: 0\r\n\r\n");
    let tag = format!("ETag: \"v-{name}\"\r\n");
    let length = surplus.len();
    let is_get = asked.method == "GET";
    let head = match number % 5 {
        // the body of a HEAD
        0 => format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: {length}\r\n\r\n"),
        // a 304 with a body
        1 if asked.header("If-None-Match").is_some() => {
            format!("HTTP/1.1 304 Not Modified\r\n{tag}Content-Length: {length}\r\n\r\n")
        }
        // a body beyond its length, of a GET
        2 if is_get => format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: 2\r\n\r\nok"),
        2 => "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        // a chunk behind the last one
        3 if is_get => {
            format!("HTTP/1.1 200 OK\r\n{tag}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        }
        3 => "HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        // a second answer
        _ => format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: 0\r\n\r\n"),
    };
    let late = Duration::from_millis([0, 5, 60][number / 5 % 3]);
    if late.is_zero() {
        return Reply::Bytes(vec![(late, [head, surplus].concat().into_bytes())]);
    }
    Reply::Bytes(vec![(Duration::ZERO, head.into_bytes()), (late, surplus.into_bytes())])
}

/// Whatever an upstream sends too much of, no name ever gets bytes that were sent for another one.
#[test]
fn no_connection_carries_bytes_of_one_name_to_another() {
    const NAMES: usize = 45;
    let upstream = Upstream::start(unclean);
    let node = cache(&upstream, &["--fill-rate", "1000"]);
    let mut readers: Vec<_> = (0..NAMES).map(|i| node.watch(&get(&format!("n{i}?timeout=20s")))).collect();
    for reader in &mut readers {
        reader.answer();
    }
    wait_asked(&upstream, NAMES * 6);
    let mut wrong = Vec::new();
    for i in 0..NAMES {
        let answer = node.get(&format!("n{i}"));
        let version = answer.version().map(str::to_owned);
        if answer.status != 200 || !version.as_ref().is_some_and(|v| v.ends_with(&format!("-n{i}"))) {
            wrong.push((i, answer.status, version, answer.text().to_owned()));
        }
    }
    assert!(wrong.is_empty(), "{} of {NAMES}: {wrong:?}", wrong.len());
}

/// The same for a token service: a token has the requested scope.
#[test]
fn no_connection_carries_a_token_of_one_scope_to_another() {
    const NAMES: usize = 12;
    let answer = |scope: &str| {
        let body = format!(r#"{{"token":"for-{scope}"}}"#);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let tokens = Upstream::start(move |asked| {
        let scope = asked.target.rsplit("scope=").next().unwrap();
        Reply::Bytes(vec![(Duration::ZERO, answer(scope)), (Duration::from_millis(5), answer(scope))])
    });
    let realm = format!("{}/token", tokens.url());
    let upstream = Upstream::start({
        let realm = realm.clone();
        move |asked| {
            let name = asked.path().trim_start_matches('/');
            match asked.header("Authorization") {
                Some(token) if token == format!("Bearer for-{name}") => {
                    status(200).header("ETag", format!("\"{name}\""))
                }
                Some(_) => status(403),
                None => status(401)
                    .header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",scope=\"{name}\"")),
            }
        }
    });
    let node = cache(&upstream, &["--fill-auth-realm", &realm, "--fill-rate", "1000"]);
    let mut readers: Vec<_> = (0..NAMES).map(|i| node.watch(&get(&format!("n{i}?timeout=20s")))).collect();
    for (i, reader) in readers.iter_mut().enumerate() {
        let name = format!("n{i}");
        assert_eq!(reader.answer().expect(200).version(), Some(name.as_str()));
    }
}

/// A connection is used again for the name that it was made for: an upstream is not connected to for each request.
#[test]
fn a_name_keeps_its_connection() {
    let upstream = Upstream::start(|asked| status(200).header("ETag", format!("\"{}\"", asked.path())));
    let node = cache(&upstream, &[]);
    node.get("a").expect(200);
    node.get("b").expect(200);
    wait_asked(&upstream, 10);
    assert_eq!(upstream.connections(), 2);
}

/// `hello`
const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

const MANIFESTS: &str = "/v2/{{.repository}}/manifests/{{.tag}}";

/// The head of a manifest at a registry, with or without a digest.
#[test]
fn a_manifest_is_identified_by_its_digest_else_its_tag_else_its_content() {
    const DIGEST: &str = "Docker-Content-Digest";
    let body = Arc::new(Mutex::new("hello"));
    let other = format!("sha256:{}", "ab".repeat(32));
    let upstream = Upstream::start({
        let (body, other) = (Arc::clone(&body), other.clone());
        move |asked| {
            let text = *body.lock().unwrap();
            let whole = status(200).body(text);
            let reference = asked.path().rsplit('/').next().unwrap_or_default();
            match (reference, asked.method.as_str()) {
                ("digest", _) => whole.header(DIGEST, &other),
                ("both", _) => whole.header(DIGEST, &other).header("ETag", "\"tag\""),
                ("tag", _) => whole.header("ETag", "\"tag\""),
                ("broken", _) => whole.header(DIGEST, "sha256:abc").header("ETag", "\"\""),
                ("bare", _) => whole,
                ("endless", "GET") => Reply::Raw(Box::new(|stream| {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    while stream.write_all(&[&b"4000\r\n"[..], &[7; 0x4000], b"\r\n"].concat()).is_ok() {}
                })),
                ("endless", _) => status(200),
                // requested by another digest than it has
                _ => whole.header(DIGEST, HELLO),
            }
        }
    });
    let node = cache(&upstream, &["--fill-path", MANIFESTS]);
    for (name, version) in [
        ("x:digest", other.as_str()),
        ("x:both", &other),
        ("x:tag", "tag"),
        ("x:broken", HELLO),
        ("x:bare", HELLO),
        (&format!("x@{HELLO}"), HELLO),
    ] {
        assert_eq!(node.get(name).expect(200).version(), Some(version), "{name}");
    }
    for (name, why) in [("x:endless", "over 8388608 bytes"), (&format!("x@{other}"), "another digest")] {
        let refused = node.get(name);
        assert_refusal(&refused, 502);
        assert!(refused.text().contains(why), "{}", refused.text());
    }
    let mut watcher = node.watch(&get(&format!("x:bare?version={HELLO}&timeout=1m")));
    node.wait_parked(1);
    *body.lock().unwrap() = "world";
    let world = "sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7";
    assert_eq!(watcher.answer().expect(200).version(), Some(world));
    let asked = upstream.asked();
    let tags = |end: &str| {
        let of_it = asked.iter().filter(|asked| asked.path().ends_with(end));
        of_it.filter_map(|asked| asked.header("If-None-Match").map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    assert!(
        tags("/both").iter().eq(["\"tag\""]) && tags("/digest").is_empty(),
        "only what was sent as a tag"
    );
}

/// Challenges in one line, and fields beside the token that are of no use.
#[test]
fn challenges_and_token_answers_are_read_as_they_are_sent_by_others() {
    let tokens = Upstream::start(|asked| {
        let scope = asked.target.rsplit("scope=").next().unwrap();
        status(200).body(match scope {
            "text-life" => r#"{"token":"t0ken","expires_in":"300"}"#,
            "empty-token" => r#"{"token":"","access_token":"t0ken","expires_in":-1,"issued_at":7}"#,
            "page" => "<html>",
            "list" => "[]",
            _ => r#"{"token":""}"#,
        })
    });
    let realm = format!("{}/token", tokens.url());
    let upstream = behind_token({
        let realm = realm.clone();
        move |name| format!("Basic realm=\"a, b\", Bearer realm=\"{realm}\",scope=\"{name}\"")
    });
    let node = cache(&upstream, &["--fill-auth-realm", &realm]);
    for name in ["text-life", "empty-token"] {
        assert_eq!(node.get(name).expect(200).version(), Some("v1"), "{name}");
    }
    for (name, why) in
        [("page", "does not answer in JSON"), ("list", "JSON that is no object"), ("none", "gives no token")]
    {
        let refused = node.get(name);
        assert_refusal(&refused, 502);
        assert!(refused.text().contains(why), "{name}: {}", refused.text());
    }
}

/// Each server on the way to an answer that is at a limit, with any such status, gets no requests for a while.
#[test]
fn a_limit_is_obeyed_wherever_it_is_met() {
    for place in ["upstream 403", "upstream 413", "elsewhere 429", "token 429", "token 403", "token 503"] {
        let (at, code) = place.split_once(' ').unwrap();
        let limit = status(code.parse().unwrap()).header("Retry-After", 3_600);
        let far = Upstream::start({
            let limit = Mutex::new(Some(limit));
            move |_| limit.lock().unwrap().take().unwrap_or_else(|| status(200).header("ETag", "\"late\""))
        });
        let (url, code) = (far.url(), code.to_owned());
        let upstream = Upstream::start({
            let at = at.to_owned();
            move |_| match at.as_str() {
                "upstream" => status(code.parse().unwrap()).header("Retry-After", 3_600),
                "elsewhere" => status(307).header("Location", format!("{url}/x")),
                _ => status(401).header("WWW-Authenticate", format!("Bearer realm=\"{url}/token\"")),
            }
        });
        let realm = format!("{}/token", far.url());
        let node = cache(&upstream, &["--fill-auth-realm", &realm]);
        node.put("held?version=v1", "").expect(204);
        assert_refusal(&node.get("n?timeout=200ms"), 504);
        wait_until(place, LIMIT, || requests(&node, &upstream, "limited") == 1.0);
        for name in ["n", "m", "o"] {
            let refused = node.get(&format!("{name}?timeout=300ms"));
            assert_refusal(&refused, 504);
        }
        assert_eq!(node.get("held").expect(200).version(), Some("v1"));
        assert_eq!(
            upstream.asked().len() + far.asked().len(),
            if at == "upstream" { 1 } else { 2 },
            "{place}"
        );
    }
}

/// Where the upstream redirects to, a token is shown that was had without a password, and never another one.
#[test]
fn a_place_that_is_redirected_to_may_want_a_token_of_its_own() {
    let tokens = Upstream::start(|asked| {
        status(200).body(if asked.header("Authorization").is_some() {
            r#"{"token":"with-password"}"#
        } else {
            r#"{"token":"anonymous"}"#
        })
    });
    let realm = format!("{}/token", tokens.url());
    // both send the same requests
    let want = {
        let realm = realm.clone();
        move || status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",scope=\"x\""))
    };
    let elsewhere = Upstream::start({
        let want = want.clone();
        move |asked| match asked.header("Authorization") {
            Some("Bearer anonymous") => status(200).header("ETag", "\"far\""),
            _ => want(),
        }
    });
    let far = elsewhere.url();
    let upstream = Upstream::start(move |asked| match asked.header("Authorization") {
        Some("Bearer with-password") => status(302).header("Location", format!("{far}{}", asked.path())),
        _ => want(),
    });
    let secret = Secret::new("me:s3cret");
    let node = cache(&upstream, &["--fill-auth-file", secret.path(), "--fill-auth-realm", &realm]);
    assert_eq!(node.get("n").expect(200).version(), Some("far"));
    wait_asked(&elsewhere, 4);
    assert_eq!(tokens.asked().len(), 2, "each once");
    let shown: Vec<_> =
        elsewhere.asked().iter().map(|a| a.header("Authorization").map(str::to_owned)).collect();
    assert_eq!(shown[0], None);
    assert!(shown[1..].iter().all(|shown| shown.as_deref() == Some("Bearer anonymous")), "{shown:?}");
}

/// What `HEAD` is answered counts only if it is a version, or about the upstream itself.
#[test]
fn an_upstream_that_answers_head_differently_gets_get() {
    let is_gone = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let is_gone = Arc::clone(&is_gone);
        move |asked| match asked.method.as_str() {
            "HEAD" => status(asked.path()[1..].parse().unwrap()),
            _ if is_gone.load(Ordering::SeqCst) > 0 => status(404),
            _ => status(200).header("ETag", "\"v1\"").body("data"),
        }
    });
    let node = cache(&upstream, &[]);
    let codes = [200, 204, 304, 400, 403, 404, 405, 406, 410, 415, 500, 501];
    for code in codes {
        assert_eq!(node.get(&code.to_string()).expect(200).version(), Some("v1"), "{code}");
    }
    wait_asked(&upstream, codes.len() * 4);
    for code in codes {
        assert_eq!(node.get(&code.to_string()).expect(200).version(), Some("v1"), "{code}");
        let asked = upstream.asked();
        let of_it = asked.iter().filter(|asked| asked.path() == format!("/{code}"));
        let heads = of_it.filter(|asked| asked.method == "HEAD").count();
        assert_eq!(heads, 1, "{code}: it is remembered that GET is what answers");
    }
    let mut watcher = node.watch(&get("404?version=v1&timeout=1m"));
    node.wait_parked(1);
    is_gone.store(1, Ordering::SeqCst);
    watcher.answer().expect(410);
}

/// What an upstream redirects to may be signed for the method of the request.
#[test]
fn a_redirect_for_one_method_is_requested_again_by_the_other() {
    let elsewhere = Upstream::start(|asked| match (asked.method.as_str(), asked.target.as_str()) {
        ("GET", "/x?for=GET") => status(200).header("ETag", "\"signed\""),
        _ => status(403),
    });
    let far = elsewhere.url();
    let upstream = Upstream::start(move |asked| {
        status(307).header(
            "Location",
            format!("{far}/x?for={}", if asked.method == "GET" { "GET" } else { "other" }),
        )
    });
    let node = cache(&upstream, &[]);
    assert_eq!(node.get("n").expect(200).version(), Some("signed"));
}

/// `HEAD` and `GET` agree as a rule: then a name that does not exist costs one request an interval, and one that is
/// back gets `HEAD` again.
#[test]
fn a_name_that_does_not_exist_yet_is_polled_by_get_alone() {
    let things = Things::default();
    let upstream = Upstream::start({
        let things = things.clone();
        move |asked| things.answer(asked)
    });
    let node = cache(&upstream, &[]);
    let mut watcher = node.watch(&get("n?version=&timeout=1m"));
    wait_asked(&upstream, 5);
    let methods = |from: usize| -> Vec<String> {
        upstream.asked()[from..].iter().map(|asked| asked.method.clone()).collect()
    };
    assert_eq!(methods(0)[..4], ["HEAD", "GET", "GET", "GET"]);
    things.set("/n", "\"v1\"");
    watcher.answer().expect(200);
    let before = upstream.asked().len();
    wait_asked(&upstream, 3);
    assert!(methods(before + 1).iter().all(|method| method == "HEAD"), "{:?}", methods(0));
}

#[test]
fn references_and_characters_that_servers_read_differently() {
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    let node = cache(&upstream, &["--fill-path", MANIFESTS]);
    for (name, target) in [
        (format!("team/app@{HELLO}"), format!("/v2/team/app/manifests/{HELLO}")),
        (format!("host:5000/app:tag@{HELLO}"), format!("/v2/host:5000/app/manifests/{HELLO}")),
        ("app:1.0%2Bbuild;x".to_owned(), "/v2/app/manifests/1.0%2Bbuild%3Bx".to_owned()),
        ("app%5Cx:t".to_owned(), "/v2/app%5Cx/manifests/t".to_owned()),
    ] {
        node.get(&name).expect(200);
        assert_eq!(upstream.times(&target), 1, "{name}: {:?}", upstream.asked());
    }
    let before = upstream.asked().len();
    for (name, why) in [
        ("app@sha256:abc", "is no digest"),
        ("a/..;/b:t", "some servers"),
        ("a%5C..%5Cb:t", "some servers"),
        ("%252e%252e/b:t", "some servers"),
        ("app:..;x", "some servers"),
    ] {
        let refused = node.get(name);
        assert_refusal(&refused, 400);
        assert!(refused.text().contains(why), "{name}: {}", refused.text());
    }
    let other = upstream.asked().into_iter().skip(before).find(|asked| asked.path().contains(".."));
    assert!(other.is_none(), "{other:?}");
}

/// Fields that are lists stand in one line or in several.
#[test]
fn lists_of_a_leader_are_read_to_their_end() {
    let stamp = now_us() - 1_000_000;
    let upstream = Upstream::start(move |asked| {
        let answer = status(200).header("ETag", "\"v1\"").header("X-Last-Sync", stamp).body("data");
        let name = asked.path().rsplit('/').next().unwrap_or_default();
        match name {
            "stale" => answer.header("Warning", "199 - \"a, b\", 110 - \"Response is Stale\""),
            "circle" => answer.header("Via", "1.1 other").header("Via", "1.1 me"),
            _ => status(404),
        }
    });
    let node = Node::with(&["--fill-from", &upstream.url(), "--fill-expiry", "500ms", "--node-id", "me"]);
    assert!(
        node.get("stale").expect(200).header("Warning").is_some_and(|warning| warning.starts_with("110 "))
    );
    let refused = node.get("circle");
    assert_refusal(&refused, 502);
    assert!(refused.text().contains("leads in a circle"), "{}", refused.text());
}

/// One invalid event does not hide the events beside it.
#[test]
fn odd_fields_of_a_notification_fail_nothing() {
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    let node = cache(&upstream, &["--fill-expiry", "10m"]);
    node.get("repo:a").expect(200);
    let events = r#"{"events":[{"action":7},{"action":"push","target":{"repository":"x","tag":5}},
        {"action":"push","target":{"repository":"repo","tag":"a"}}]}"#;
    let told = node.server().ask(&Request::new("POST", "/v1/fill/registry-events").body(events));
    assert_eq!(told.expect(202).text(), "checking 1 names\n");
}

/// A leader at a limit gets no probes either.
#[test]
fn a_limit_of_a_leader_is_obeyed_by_all_requests_to_it() {
    let upstream = Upstream::start(|asked| match asked.path() {
        "/readyz" => status(200),
        _ => status(429).header("Retry-After", 3_600),
    });
    let node = Node::with(&["--fill-from", &upstream.url(), "--fill-idle", "12s"]);
    wait_until("the first probe", LIMIT, || upstream.asked_if_ready() > 0);
    assert_refusal(&node.get("n?timeout=100ms"), 504);
    wait_until("the limit to be known", LIMIT, || requests(&node, &upstream, "limited") == 1.0);
    // a clock of the node's own: a turn every 3 s, and a probe every 5 s where none is held back
    let turns = || {
        let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
        metric(metrics.text(), "vwatch_fill_loop_turns_total{loop=\"fill-sweep\"}").unwrap_or(0.0)
    };
    let (before, asked) = (turns(), upstream.asked_if_ready());
    wait_until("longer than from probe to probe", LIMIT, || turns() >= before + 3.0);
    assert_eq!(upstream.asked_if_ready(), asked);
}
