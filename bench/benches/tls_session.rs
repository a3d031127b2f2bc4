//! What rustls keeps of a connection that waits, with its buffers and without: counted by the allocator.
//!
//! `cargo xtask bench tls_session`

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUEST: &[u8] = b"GET /v1/versions/n?version=v1 HTTP/1.1\r\nHost: n\r\n\r\n";

fn kept(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// A session behind its handshake and a request, with the buffers of rustls.
fn buffered(config: &Arc<ServerConfig>, mut client: ClientConnection) -> Box<ServerConnection> {
    let mut server = Box::new(ServerConnection::new(Arc::clone(config)).expect("TLS"));
    let mut asked = false;
    loop {
        if !client.is_handshaking() && !asked {
            client.writer().write_all(REQUEST).expect("room");
            asked = true;
        }
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).expect("memory");
            server.process_new_packets().expect("a handshake");
        }
        let mut read = [0; 1024];
        if matches!(server.reader().read(&mut read), Ok(1..)) {
            return server;
        }
        let mut told = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut told).expect("memory");
        }
        let mut told = &told[..];
        while !told.is_empty() {
            client.read_tls(&mut told).expect("memory");
            client.process_new_packets().expect("a handshake");
        }
    }
}

/// The same without them.
fn unbuffered(config: &Arc<ServerConfig>, mut client: ClientConnection) -> Box<UnbufferedServerConnection> {
    let mut server = Box::new(UnbufferedServerConnection::new(Arc::clone(config)).expect("TLS"));
    let mut asked = false;
    loop {
        if !client.is_handshaking() && !asked {
            client.writer().write_all(REQUEST).expect("room");
            asked = true;
        }
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        let (mut at, mut told, mut heard) = (0, Vec::new(), false);
        loop {
            let status = server.process_tls_records(&mut bytes[at..]);
            let more = match status.state.expect("a handshake") {
                ConnectionState::EncodeTlsData(mut data) => {
                    let before = told.len();
                    told.resize(before + 8_192, 0);
                    let written = data.encode(&mut told[before..]).expect("room");
                    told.truncate(before + written);
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    true
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while traffic.next_record().is_some() {
                        heard = true;
                    }
                    true
                }
                _ => false,
            };
            at += status.discard;
            if !more {
                break;
            }
        }
        if heard {
            return server;
        }
        let mut told = &told[..];
        while !told.is_empty() {
            client.read_tls(&mut told).expect("memory");
            client.process_new_packets().expect("a handshake");
        }
    }
}

fn main() {
    // run as a test, `cargo test --benches` only checks that it starts
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    for (text, versions) in [("1.2", &[&rustls::version::TLS12]), ("1.3", &[&rustls::version::TLS13])] {
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.clone_key())
            .expect("a pair");
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        let connect = || {
            let name = ServerName::try_from("localhost").expect("a name");
            ClientConnection::new(Arc::clone(&client), name).expect("TLS")
        };
        const COUNT: usize = 200;
        // what is made once, and for the client, is not of the server's connections
        drop((buffered(&server, connect()), unbuffered(&server, connect())));
        let with = {
            let region = Region::new(ALLOCATOR);
            let all: Vec<_> = (0..COUNT).map(|_| buffered(&server, connect())).collect();
            (kept(&region), all).0
        };
        let without = {
            let region = Region::new(ALLOCATOR);
            let all: Vec<_> = (0..COUNT).map(|_| unbuffered(&server, connect())).collect();
            (kept(&region), all).0
        };
        println!(
            "TLS {text}: {} bytes a session with the buffers of rustls, {} without",
            with / COUNT,
            without / COUNT
        );
    }
}
