//! TLS for unit tests: a server, and a client in memory.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Identity, ServerTls, Session, provider};

/// The versions of TLS that a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V12,
    V13,
}

/// A port, and what its clients know.
pub(crate) struct Sides {
    server: ServerTls,
    clients: [Arc<ClientConfig>; 2],
}

impl Sides {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity::of_pem(certificate.as_bytes(), key.as_bytes()).expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = |versions| {
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .expect("known versions");
            Arc::new(config.with_root_certificates(roots.clone()).with_no_client_auth())
        };
        let server = ServerTls::new(&identity, None, false).expect("a port");
        Self { server, clients: [client(&[&TLS12]), client(&[&TLS13])] }
    }

    /// A client that has not sent anything yet, and the session of the server.
    pub(crate) fn pair(&self, version: Version) -> (Client, Box<Session>) {
        let config = Arc::clone(&self.clients[usize::from(version == Version::V13)]);
        let name = ServerName::try_from("localhost").expect("a name");
        let client = Client(ClientConnection::new(config, name).expect("a client"));
        (client, Box::new(self.server.session().expect("a session")))
    }

    /// Both behind their handshake.
    pub(crate) fn agreed(&self, version: Version) -> (Client, Box<Session>) {
        let (mut client, mut session) = self.pair(version);
        while client.0.is_handshaking() || session.is_handshaking() {
            session.receive(&mut client.sealed()).expect("a handshake");
            client.hear(&all_unsent(&mut session));
        }
        // tickets
        client.hear(&all_unsent(&mut session));
        (client, session)
    }
}

/// Takes what a session sends.
pub(crate) fn all_unsent(session: &mut Session) -> Vec<u8> {
    let unsent = session.unsent().to_vec();
    session.sent(unsent.len());
    unsent
}

/// A client in memory.
pub(crate) struct Client(pub(crate) ClientConnection);

impl Client {
    /// Encrypts bytes.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        // the library holds a bounded number of bytes
        for piece in bytes.chunks(16 * 1024) {
            self.0.writer().write_all(piece).expect("room");
            sealed.extend(self.sealed());
        }
        sealed
    }

    /// What it sends by itself.
    pub(crate) fn sealed(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut sealed).expect("memory");
        }
        sealed
    }

    /// Decrypts bytes.
    pub(crate) fn hear(&mut self, mut sealed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !sealed.is_empty() {
            self.0.read_tls(&mut sealed).expect("memory");
            let state = self.0.process_new_packets().expect("TLS of the server");
            let before = plain.len();
            plain.resize(before + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[before..]).expect("bytes that are there");
        }
        plain
    }
}
