//! The addresses of the nodes of a local cluster, and the secret that they share.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::client::url::Url;

/// Ports that are tried for TCP and UDP together if the system chooses.
const PORTS_TRIED: usize = 50;

/// The addresses of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodePorts {
    pub(crate) name: String,
    pub(crate) client: SocketAddrV4,
    pub(crate) server: SocketAddrV4,
}

impl NodePorts {
    pub(crate) fn client_url(&self) -> Url {
        url(self.client)
    }

    pub(crate) fn server_url(&self) -> Url {
        url(self.server)
    }
}

fn url(address: SocketAddrV4) -> Url {
    let (host, port) = (address.ip().to_string(), address.port());
    Url {
        is_https: false,
        tls: None,
        token: None,
        authority: address.to_string(),
        host,
        port,
        base: String::new(),
    }
}

/// Checks that all ports are free, before any node starts.
pub(crate) fn find(nodes: u8, client_port: u16, server_port: u16) -> Result<Vec<NodePorts>, Failure> {
    if client_port == server_port && client_port != 0 {
        return Err(Failure::Usage(format!(
            "--client-port and --server-port are the same: got {client_port} twice: give each its own"
        )));
    }
    // all are held, so that the system does not choose one twice
    let mut held = Vec::new();
    let mut places = Vec::new();
    for number in 1..=nodes {
        let ip = Ipv4Addr::new(127, 0, 0, number);
        let in_use = |error: &io::Error, port: u16, flag: &str| unusable(error, ip, port, flag);
        let client =
            TcpListener::bind((ip, client_port)).map_err(|e| in_use(&e, client_port, "--client-port"))?;
        let (server, gossip) = both(ip, server_port).map_err(|e| in_use(&e, server_port, "--server-port"))?;
        let at = |port| SocketAddrV4::new(ip, port);
        let failed = |error: io::Error| Failure::Failed(format!("cannot see an address of ours: {error}"));
        places.push(NodePorts {
            name: format!("node-{number}"),
            client: at(client.local_addr().map_err(failed)?.port()),
            server: at(server.local_addr().map_err(failed)?.port()),
        });
        held.push((client, server, gossip));
    }
    Ok(places)
}

/// A port for TCP and UDP.
fn both(ip: Ipv4Addr, port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tried = 0;
    loop {
        let server = TcpListener::bind((ip, port))?;
        match UdpSocket::bind(server.local_addr()?) {
            Ok(gossip) => return Ok((server, gossip)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && port == 0 && tried < PORTS_TRIED => {
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn unusable(error: &io::Error, ip: Ipv4Addr, port: u16, flag: &str) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            format!("end what uses it, or choose another {flag}; 0 lets the system choose")
        }
        ErrorKind::AddrNotAvailable => {
            format!("give it to the loopback interface, as in: ifconfig lo0 alias {ip}")
        }
        ErrorKind::PermissionDenied => format!("choose a {flag} above 1023"),
        _ => format!("choose another {flag}"),
    };
    Failure::Usage(format!("cannot listen on {ip}:{port}: {error}: {advice}"))
}

/// A secret in a folder that only this user can enter. A drop removes it.
#[derive(Debug)]
pub(crate) struct Secret {
    folder: PathBuf,
    file: PathBuf,
    /// Tells one cluster of this user from the next.
    mark: String,
}

impl Secret {
    /// The id of the cluster that has this secret: another one at each start.
    pub(crate) fn cluster_id(&self) -> String {
        format!("dev-{}", self.mark)
    }

    pub(crate) fn create() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("vwatch-dev-{}", std::process::id()));
        let failed = |error: io::Error| {
            Failure::Failed(format!("cannot write a secret to {}: {error}: set TMPDIR", folder.display()))
        };
        let mut bytes = [0_u8; 36];
        getrandom::fill(&mut bytes)
            .map_err(|error| Failure::Failed(format!("the system gives no random numbers: {error}")))?;
        let text: String = bytes[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        // from here on the folder is removed in any case
        let mark = bytes.iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        let secret = Self { file: folder.join("secret"), folder: folder.clone(), mark };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret.file).map_err(failed)?;
        writeln!(file, "{text}").map_err(failed)?;
        Ok(secret)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // a remaining folder does no harm
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_system_chooses_ports_and_a_taken_one_is_reported() {
        let places = find(3, 0, 0).unwrap();
        let hosts: Vec<_> = places.iter().map(|place| place.server.ip().to_string()).collect();
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        let taken = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let Err(Failure::Usage(line)) = find(2, port, 0) else { panic!("it is taken") };
        assert!(line.starts_with(&format!("cannot listen on 127.0.0.2:{port}: ")), "{line}");
        assert!(line.contains("choose another --client-port"), "{line}");
        assert!(matches!(find(1, 7, 7), Err(Failure::Usage(_))));
    }

    #[test]
    fn the_secret_is_ours_alone_and_goes() {
        let secret = Secret::create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&secret.folder), mode(secret.file())), (0o700, 0o600));
        assert!(crate::seal::Secrets::read_file(secret.file()).is_ok());
        let folder = secret.folder.clone();
        drop(secret);
        assert!(!folder.exists());
    }
}
