//! Upstreams behind TLS and proxies: trusted by `--fill-ca` under the right name and by nothing else, and reached as
//! the environment says.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use cluster_tests::node::Node;
use cluster_tests::text::{assert_refusal, now_us};
use cluster_tests::upstream::{Asked, Reply, Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server with a certificate for `name`, which requests name `host`. Returns its address, and the certificate as PEM.
fn serve(name: &str, host: &'static str) -> (SocketAddr, String) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while let Ok(got @ 1..) = stream.read(&mut piece) {
                    request.extend_from_slice(&piece[..got]);
                    if request.ends_with(b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&request).to_lowercase();
                        assert!(head.contains(&format!("host: {host}")), "{head}");
                        let answer = b"HTTP/1.1 200 OK\r\nETag: \"sealed\"\r\nContent-Length: 0\r\n\r\n";
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                        request.clear();
                    }
                }
            });
        }
    });
    (address, certified.cert.pem())
}

fn node(address: SocketAddr, flags: &[&str]) -> Node {
    let url = format!("https://localhost:{}", address.port());
    let base = ["--fill-from", &url, "--fill-strategy", "FILL_CACHE", "--fill-path", "/{{.name}}"];
    Node::with(&[&base, flags].concat())
}

#[test]
fn only_the_named_authority_is_trusted() {
    let file = std::env::temp_dir().join(format!("vwatch-ca-{}.pem", std::process::id()));
    let (address, pem) = serve("localhost", "localhost:");
    std::fs::write(&file, pem).unwrap();
    let trusting = node(address, &["--fill-ca", file.to_str().unwrap()]);
    assert_eq!(trusting.get("n").expect(200).version(), Some("sealed"));

    // the same certificate under another name
    let (address, pem) = serve("other.example", "localhost:");
    std::fs::write(&file, pem).unwrap();
    let misnamed = node(address, &["--fill-ca", file.to_str().unwrap()]);
    assert_refusal(&misnamed.get("n?timeout=1s"), 504);
    wait_until("the reason in the log", LIMIT, || misnamed.stderr().contains("certificate"));
    std::fs::remove_file(&file).unwrap();

    let (address, _) = serve("localhost", "localhost:");
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let strict = node(address, &[]);
        assert_refusal(&strict.get("n?timeout=1s"), 504);
        wait_until("the reason in the log", LIMIT, || strict.stderr().contains("certificate"));
    }
}

/// `me:s3cret`
const BASIC: &str = "Basic bWU6czNjcmV0";

/// A node that fills from `upstream`, with variables of the environment.
fn behind(upstream: &str, env: &[(&str, &str)], flags: &[&str]) -> Node {
    let base = ["--fill-from", upstream, "--fill-strategy", "FILL_CACHE", "--fill-path", "/{{.name}}"];
    let env: Vec<_> = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Node::with_env(&[&base, flags].concat(), &env)
}

/// Hands on what comes, both ways, until one of the two has enough.
fn splice(client: &TcpStream, server: &TcpStream) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut from_client, &mut to_server);
    let _ = to_server.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// The answer of a proxy to `CONNECT`: it opens a way to `server` for a request with the right credentials.
fn connect(asked: &Asked, expected: &str, server: SocketAddr) -> Reply {
    if asked.header("Proxy-Authorization") != Some(BASIC) {
        return status(407).header("Proxy-Authenticate", "Basic realm=\"proxy\"");
    }
    if (asked.method.as_str(), asked.target.as_str()) != ("CONNECT", expected) {
        return status(403);
    }
    Reply::Raw(Box::new(move |client| {
        let server = TcpStream::connect(server).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        splice(client, &server);
    }))
}

/// The upstream's name is known to the proxy alone.
#[test]
fn an_upstream_behind_tls_is_reached_through_a_tunnel() {
    let (server, pem) = serve("registry.test", "registry.test\r\n");
    let file = std::env::temp_dir().join(format!("vwatch-proxy-ca-{}.pem", std::process::id()));
    std::fs::write(&file, pem).unwrap();
    let proxy = Upstream::start(move |asked| connect(asked, "registry.test:443", server));
    let ca = ["--fill-ca", file.to_str().unwrap()];
    let url = format!("http://me:s3cret@{}", proxy.address());
    let node = behind("https://registry.test", &[("HTTPS_PROXY", &url)], &ca);
    assert_eq!(node.get("n").expect(200).version(), Some("sealed"));
    assert!(proxy.asked().iter().all(|asked| asked.method == "CONNECT"), "it sees no request");
    let said = node.stderr() + &node.stdout();
    assert!(said.contains("requests to the upstream use a proxy") && !said.contains("s3cret"), "{said}");

    let url = format!("http://me:wrong@{}", proxy.address());
    let stranger = behind("https://registry.test", &[("https_proxy", &url)], &ca);
    wait_until("the reason", LIMIT, || {
        let refused = stranger.get("n?timeout=1s");
        assert_refusal(&refused, 504);
        refused.text().contains("proxy authorization required")
    });
    std::fs::remove_file(&file).unwrap();
}

/// Without TLS a proxy is sent the whole URL; that holds for a leader as for a registry.
#[test]
fn a_request_to_an_upstream_without_tls_has_its_whole_url() {
    let stamp = now_us() - 1_000_000;
    let proxy = Upstream::start(move |asked| {
        assert_eq!(asked.header("Proxy-Authorization"), Some(BASIC));
        match asked.path() {
            "http://registry.test:5000/n" => status(200).header("ETag", "\"v1\""),
            "http://leader.test/v1/versions/n" => {
                status(200).header("ETag", "\"v2\"").header("X-Last-Sync", stamp).body("data")
            }
            _ => status(404),
        }
    });
    let url = format!("me:s3cret@{}", proxy.address());
    let node =
        behind("http://registry.test:5000", &[("http_proxy", &url), ("HTTP_PROXY", "http://x:1")], &[]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    assert_eq!(proxy.asked()[0].header("Host"), Some("registry.test:5000"));
    let env = [("ALL_PROXY".to_owned(), url)];
    let follower = Node::with_env(&["--fill-from", "http://leader.test"], &env);
    assert_eq!(follower.get("n").expect(200).text(), "data");
}

#[test]
fn names_in_no_proxy_and_this_machine_are_reached_without_a_proxy() {
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    // nothing listens there
    let dead = "http://127.0.0.1:1";
    let node = behind(&upstream.url(), &[("ALL_PROXY", dead)], &[]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    let away = behind("http://away.invalid", &[("ALL_PROXY", dead)], &[]);
    wait_until("the reason", LIMIT, || {
        away.get("n?timeout=500ms").text().contains("through the proxy http://127.0.0.1:1")
    });
    let direct = behind("http://away.invalid", &[("ALL_PROXY", dead), ("NO_PROXY", ".invalid")], &[]);
    wait_until("its name to be resolved", LIMIT, || {
        direct.get("n?timeout=100ms").text().contains("addresses are not known yet: away.invalid")
    });
}

/// A proxy with SOCKS 5, to a server that it alone knows by name.
#[test]
fn an_upstream_is_reached_through_socks() {
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").unwrap(), upstream.address());
    let url = format!("socks5h://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                let mut greeting = [0; 3];
                client.read_exact(&mut greeting).unwrap();
                assert_eq!(greeting, [5, 1, 0], "one way to log in: none");
                client.write_all(&[5, 0]).unwrap();
                let mut request = [0; 4 + 1 + 13 + 2];
                client.read_exact(&mut request).unwrap();
                assert_eq!(&request[..18], b"\x05\x01\x00\x03\x0dregistry.test");
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                splice(&client, &TcpStream::connect(server).unwrap());
            });
        }
    });
    let node = behind("http://registry.test", &[("ALL_PROXY", &url)], &[]);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    assert_eq!(upstream.asked()[0].target, "/n");
}
