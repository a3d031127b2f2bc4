//! The proxies cause the configured faults, and count them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cluster_tests::proxy::{Faults, TcpProxy, UdpProxy};
use cluster_tests::wait::{LIMIT, wait_until};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn udp(ip: [u8; 4]) -> UdpSocket {
    UdpSocket::bind(SocketAddr::from((ip, 0))).expect("a port")
}

/// A node that answers with what it is sent.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind((HERE, 0)).expect("a port");
    let address = socket.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..bytes], from);
        }
    });
    address
}

/// How many answers come to so many questions, until there are as many as expected and no more come.
fn answers(socket: &UdpSocket, proxy: &UdpProxy, questions: u32, expected: u32) -> u32 {
    let mut buffer = [0; 1500];
    for i in 0..questions {
        socket.send_to(&i.to_be_bytes(), proxy.address()).expect("loopback takes it");
    }
    let mut count = 0;
    loop {
        let patience = if count < expected { LIMIT } else { Duration::from_millis(100) };
        socket.set_read_timeout(Some(patience)).expect("above zero");
        let Ok((_, from)) = socket.recv_from(&mut buffer) else { return count };
        assert_eq!(from, proxy.address());
        count += 1;
    }
}

#[test]
fn datagrams_pass_both_ways_and_faults_are_counted() {
    let proxy = UdpProxy::start(HERE, echo());
    let (one, other) = (udp([127, 0, 0, 1]), udp([127, 0, 0, 2]));
    assert_eq!((answers(&one, &proxy, 20, 20), answers(&other, &proxy, 20, 20)), (20, 20));
    assert_eq!(proxy.counts().of(|c| &c.passed), 80);

    proxy.set_for([127, 0, 0, 1].into(), Faults { cut_in: true, ..Faults::default() });
    assert_eq!((answers(&one, &proxy, 20, 0), answers(&other, &proxy, 20, 20)), (0, 20));
    assert_eq!(proxy.counts().of(|c| &c.cut), 20);
    proxy.set_for([127, 0, 0, 1].into(), Faults { cut_out: true, ..Faults::default() });
    assert_eq!(answers(&one, &proxy, 20, 0), 0);
    assert_eq!(proxy.counts().of(|c| &c.cut), 40);

    proxy.set(Faults { duplicate: 1.0, ..Faults::default() });
    assert_eq!(answers(&one, &proxy, 20, 80), 80);
    assert_eq!(proxy.counts().of(|c| &c.duplicated), 20 + 40);
    proxy.set(Faults { loss: 0.5, delay: Duration::from_millis(20), ..Faults::default() });
    let some = answers(&one, &proxy, 200, 1);
    assert!((1..199).contains(&some), "{some}");
    assert!(proxy.counts().of(|c| &c.lost) > 0 && proxy.counts().of(|c| &c.delayed) > 0);
}

#[test]
fn connections_pass_stand_still_and_go_on() {
    let listener = TcpListener::bind((HERE, 0)).expect("a port");
    let proxy = TcpProxy::start(HERE, listener.local_addr().expect("it is bound"));
    let mut client = TcpStream::connect(proxy.address()).expect("the proxy is there");
    let (mut server, _) = listener.accept().expect("it was connected");
    client.set_read_timeout(Some(LIMIT)).expect("above zero");
    server.set_read_timeout(Some(LIMIT)).expect("above zero");
    let mut buffer = [0; 4];
    client.write_all(b"ping").expect("it is open");
    server.read_exact(&mut buffer).expect("it passes");
    server.write_all(b"pong").expect("it is open");
    client.read_exact(&mut buffer).expect("it passes");
    assert_eq!(&buffer, b"pong");

    proxy.set(Faults { cut_in: true, ..Faults::default() });
    client.write_all(b"late").expect("it is open");
    wait_until("the cut to stop something", LIMIT, || proxy.counts().of(|c| &c.cut) == 1);
    server.set_read_timeout(Some(Duration::from_millis(200))).expect("above zero");
    assert!(server.read_exact(&mut buffer).is_err(), "it hangs");
    server.write_all(b"back").expect("it is open");
    client.read_exact(&mut buffer).expect("the other way is open");
    proxy.set(Faults::default());
    server.set_read_timeout(Some(LIMIT)).expect("above zero");
    server.read_exact(&mut buffer).expect("it goes on");
    assert_eq!(&buffer, b"late");

    drop(client);
    assert_eq!(server.read(&mut buffer).expect("an end"), 0);
    proxy.set(Faults { loss: 1.0, ..Faults::default() });
    let mut refused = TcpStream::connect(proxy.address()).expect("the proxy is there");
    refused.set_read_timeout(Some(LIMIT)).expect("above zero");
    assert!(matches!(refused.read(&mut buffer), Ok(0) | Err(_)));
    wait_until("the loss to be counted", LIMIT, || proxy.counts().of(|c| &c.lost) == 1);
}
