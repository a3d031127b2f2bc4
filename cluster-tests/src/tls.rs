//! Certificates as `vwatch tls init` makes them, nodes that have them, and a blocking client that speaks TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::Request;
use crate::node::{Node, free_addresses, run_to_end};
use crate::wait::{LIMIT, wait_until};

/// A directory with an authority and certificates, removed when dropped.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Those of a node at any loopback address that is reached as `localhost`, or by the names.
    ///
    /// # Panics
    /// If the command fails.
    #[must_use]
    #[track_caller]
    pub fn make(names: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("vwatch-tls-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let mut arguments = vec!["tls", "init", directory.to_str().expect("a path in UTF-8")];
        arguments.extend(names.iter().flat_map(|name| ["--name", name]));
        let made = run_to_end(&arguments);
        assert_eq!(made.code, Some(0), "{made:?}");
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of one of its files.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// The content of one of its files.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    #[track_caller]
    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The flags of a node that has the certificate on both ports.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let (certificate, key) = (self.path("server-cert.pem"), self.path("server-key.pem"));
        ["--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key].into()
    }

    /// A node with these flags in addition, ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn node(&self, flags: &[&str]) -> Node {
        let (client, server) = free_addresses();
        let flags: Vec<String> =
            self.flags().into_iter().chain(flags.iter().map(ToString::to_string)).collect();
        let node = Node::launch(client, server, &flags, &[]);
        let tls = TlsClient::trusting(&[self]);
        wait_until("a node with TLS to be ready", LIMIT, || {
            [client, server].iter().all(|port| {
                tls.ask(*port, &Request::new("GET", "/readyz")).is_ok_and(|answer| answer.status == 200)
            })
        });
        node
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A client that speaks TLS. It takes a node for `localhost`, whatever its address.
#[derive(Clone, Debug)]
pub struct TlsClient(Arc<ClientConfig>);

/// An answer.
#[derive(Clone, Debug)]
pub struct TlsAnswer {
    /// Its status.
    pub status: u16,
    /// The lines of its head.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// One connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl TlsClient {
    /// One that trusts these authorities, and shows no certificate.
    ///
    /// # Panics
    /// If a file is unusable.
    #[must_use]
    pub fn trusting(authorities: &[&Certificates]) -> Self {
        Self::with(authorities, None)
    }

    /// The same, which shows a client certificate of one of them.
    ///
    /// # Panics
    /// If a file is unusable.
    #[must_use]
    pub fn showing(authorities: &[&Certificates], shown: &Certificates) -> Self {
        Self::with(authorities, Some(shown))
    }

    fn with(authorities: &[&Certificates], shown: Option<&Certificates>) -> Self {
        let mut roots = RootCertStore::empty();
        for made in authorities {
            let pem = made.read("ca.pem");
            roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("an authority");
        }
        let builder = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("the defaults")
            .with_root_certificates(roots);
        let mut config = match shown {
            Some(made) => {
                let certificate =
                    CertificateDer::from_pem_slice(&made.read("client-cert.pem")).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(&made.read("client-key.pem")).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        // a session that is resumed has the certificate of the earlier one
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    /// Connects, and completes the handshake.
    ///
    /// # Errors
    /// Of the socket, or of TLS.
    pub fn open(&self, address: SocketAddr) -> io::Result<TlsStream> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// If there is no whole answer.
    pub fn ask(&self, address: SocketAddr, request: &Request) -> io::Result<TlsAnswer> {
        ask(&mut self.open(address)?, request)
    }

    /// The sum of the samples of a metric whose line begins so.
    ///
    /// # Panics
    /// If the node does not answer.
    #[track_caller]
    pub fn metric(&self, node: &Node, line: &str) -> f64 {
        let page = self.ask(node.server_addr(), &Request::new("GET", "/metrics")).expect("an answer");
        assert_eq!(page.status, 200, "{page:?}");
        page.body
            .lines()
            .filter(|l| l.starts_with(line))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}

/// Sends a request on a connection, which stays open.
///
/// # Errors
/// If there is no whole answer.
pub fn ask(stream: &mut TlsStream, request: &Request) -> io::Result<TlsAnswer> {
    stream.write_all(&request.bytes())?;
    stream.flush()?;
    answer(stream)
}

/// Reads an answer with a length.
///
/// # Errors
/// If there is no whole answer.
pub fn answer(stream: &mut TlsStream) -> io::Result<TlsAnswer> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(stream, &mut read)?;
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let bad = || io::Error::new(io::ErrorKind::InvalidData, head.clone());
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(Ok(0), |length| length.parse::<usize>().map_err(|_| bad()))?;
    while read.len() < end + 4 + length {
        more(stream, &mut read)?;
    }
    let body = String::from_utf8_lossy(&read[end + 4..]).into_owned();
    Ok(TlsAnswer { status, head, body })
}

fn more(stream: &mut TlsStream, read: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 4096];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        got => {
            read.extend_from_slice(&piece[..got]);
            Ok(())
        }
    }
}

/// How long a test waits for what has to come within ten seconds.
pub const POLLED: Duration = Duration::from_secs(40);
