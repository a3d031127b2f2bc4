//! What readers cost that wait over TLS: memory of each, and the time and processor time of waking all.
//!
//! `tls_readers ADDRESS SERVER CA PID[,PID…] [READERS [ROUNDS]]`: parks so many long polls of one name at a node's
//! client port, and wakes them by writes to its server port. SERVER is `-` where nothing is to be woken, with
//! `POST PATH BODY` behind the rest in place of the long poll: so other servers are measured.
//!
//! The certificate must be for `localhost`. The memory is that of the processes, without the kernel's part.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Time for a server to put in order what it holds, before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

struct Server {
    pids: Vec<u32>,
}

impl Server {
    fn resident_bytes(&self) -> u64 {
        let of = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
            let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line of its memory");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
        };
        self.pids.iter().map(of).sum()
    }

    fn processor_time(&self) -> Duration {
        let of = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
            let fields = stat.rsplit_once(") ").expect("its name").1.split(' ');
            fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum::<u64>() * 10
        };
        Duration::from_millis(self.pids.iter().map(of).sum())
    }
}

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Stream {
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.set_nodelay(true).expect("a socket");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).expect("TLS");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).expect("a handshake");
    }
    StreamOwned::new(tls, stream)
}

fn send(stream: &mut Stream, request: &str) {
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).expect("a connection");
}

/// Reads until there is something.
fn hear(stream: &mut Stream) -> String {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, server, ca, pids, rest @ ..] = &arguments[..] else {
        eprintln!("usage: tls_readers ADDRESS SERVER CA PID[,PID…] [READERS [ROUNDS [POST PATH BODY]]]");
        std::process::exit(2);
    };
    let number = |at: usize, or: usize| rest.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    let (readers, rounds) = (number(0, 10_000), number(1, 5));
    let address: SocketAddr = address.parse().expect("an address");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let measured = Server { pids: pids.split(',').map(|pid| pid.parse().expect("a process")).collect() };

    let writer = (server != "-").then(|| connect(&config, server.parse().expect("an address")));
    let write = |writer: &mut Stream, version: usize| {
        send(
            writer,
            &format!(
                "PUT /v1/versions/tls?version={version} HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n"
            ),
        );
        assert!(hear(writer).starts_with("HTTP/1.1 204"), "a write");
    };
    let long_poll = |version: usize| {
        format!("GET /v1/versions/tls?version={version}&timeout=1m HTTP/1.1\r\nHost: n\r\n\r\n")
    };
    let request = match rest {
        [_, _, post, path, body] if post == "POST" => format!(
            "POST {path} HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        _ => long_poll(0),
    };
    // what the first connections need, and do not give back, is not theirs
    let mut warm: Vec<_> = (0..200).map(|_| connect(&config, address)).collect();
    warm.iter_mut().for_each(|stream| send(stream, "GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n"));
    warm.iter_mut().for_each(|stream| drop(hear(stream)));
    drop(warm);
    let mut writer = writer;
    writer.iter_mut().for_each(|writer| write(writer, 0));
    thread::sleep(SETTLE);

    let empty = measured.resident_bytes();
    let (began, ran) = (Instant::now(), measured.processor_time());
    let mut streams: Vec<_> = (0..readers)
        .map(|_| {
            let mut stream = connect(&config, address);
            send(&mut stream, &request);
            stream
        })
        .collect();
    let took = began.elapsed();
    thread::sleep(SETTLE);
    let ran = measured.processor_time() - ran;
    println!(
        "{readers} readers: {} bytes each; connected in {:.1} s, {:.0} µs of the server's processors each",
        measured.resident_bytes().saturating_sub(empty) / readers as u64,
        took.as_secs_f64(),
        ran.as_secs_f64() * 1e6 / readers as f64
    );
    let Some(mut writer) = writer else { return };
    for version in 1..=rounds {
        let ran = measured.processor_time();
        let began = Instant::now();
        write(&mut writer, version);
        for stream in &mut streams {
            let answer = hear(stream);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let took = began.elapsed();
        println!(
            "last wake after {:.1} ms, {:.1} µs of the server's processors each",
            took.as_secs_f64() * 1e3,
            (measured.processor_time() - ran).as_secs_f64() * 1e6 / readers as f64
        );
        streams.iter_mut().for_each(|stream| send(stream, &long_poll(version)));
        thread::sleep(SETTLE);
    }
    println!("{} bytes each at the end", measured.resident_bytes().saturating_sub(empty) / readers as u64);
}
