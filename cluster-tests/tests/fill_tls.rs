//! Upstreams behind TLS: trusted by `--fill-ca` under the right name, and by nothing else.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use cluster_tests::node::Node;
use cluster_tests::text::assert_refusal;
use cluster_tests::wait::{LIMIT, wait_until};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server with a certificate for `name`. Returns its address, and the certificate as PEM.
fn serve(name: &str) -> (SocketAddr, String) {
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
                        assert!(
                            String::from_utf8_lossy(&request).to_lowercase().contains("host: localhost:")
                        );
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
fn who_is_named_is_trusted_and_nobody_else() {
    let file = std::env::temp_dir().join(format!("vwatch-ca-{}.pem", std::process::id()));
    let (address, pem) = serve("localhost");
    std::fs::write(&file, pem).unwrap();
    let trusting = node(address, &["--fill-ca", file.to_str().unwrap()]);
    assert_eq!(trusting.get("n").expect(200).version(), Some("sealed"));

    // the same certificate under another name
    let (address, pem) = serve("other.example");
    std::fs::write(&file, pem).unwrap();
    let misnamed = node(address, &["--fill-ca", file.to_str().unwrap()]);
    assert_refusal(&misnamed.get("n?timeout=1s"), 504);
    wait_until("the reason to be told", LIMIT, || misnamed.stderr().contains("certificate"));
    std::fs::remove_file(&file).unwrap();

    let (address, _) = serve("localhost");
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let strict = node(address, &[]);
        assert_refusal(&strict.get("n?timeout=1s"), 504);
        wait_until("the reason to be told", LIMIT, || strict.stderr().contains("certificate"));
    }
}
