//! Followers behind one leader: very many watchers of one name, parked at all of them, are woken by one PUT at the
//! leader.
//!
//! `followers [WATCHERS-EACH [FOLLOWERS [WRITES]]]`, 18000, 5 and 6 unless told; the first write is not counted. The
//! watchers of each follower are a process of their own, since one may have only so many files open. Exits with a panic
//! if one is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_tests::node::{Node, get, put};
use cluster_tests::wait::LIMIT;
use rustix::time::{ClockId, clock_gettime};

/// What the parent calls this program by when it is to be the watchers of a follower.
const CROWD: &str = "--crowd";

const FLAGS: [&str; 2] = ["--jitter-per-watch", "0s"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [crowd, follower, count, writes] = &arguments[..]
        && crowd == CROWD
    {
        let of = |text: &str| text.parse().expect("a count");
        return be_crowd(follower.parse().expect("an address"), of(count), of(writes));
    }
    let number = |at: usize, default: usize| {
        let text = arguments.get(at);
        text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("no number: {text}")))
    };
    lead(number(0, 18_000), number(1, 5), number(2, 6));
}

/// The clock that all processes of a machine share, and that is never set.
fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

fn lead(each: usize, followers: usize, writes: usize) {
    let leader = Node::with(&FLAGS);
    leader.put("fleet?version=0", "").expect(204);
    let from = format!("http://{}", leader.client_addr());
    // each name that may be filled keeps one of the files from readers
    let flags = [&FLAGS[..], &["--fill-from", &from, "--fill-max-names", "1"]].concat();
    let followers: Vec<Node> = (0..followers).map(|_| Node::with(&flags)).collect();
    let began = Instant::now();
    let mut crowds: Vec<Crowd> = followers.iter().map(|node| Crowd::start(node, each, writes)).collect();
    let mut writer = leader.server();
    let mut lasts = Vec::new();
    for write in 1..=writes {
        followers.iter().for_each(|node| node.wait_parked(each));
        if write == 1 {
            println!("{} watchers parked after {:.1?}", each * followers.len(), began.elapsed());
            println!("requests of all followers at the leader: {}", leader.parked());
        }
        let due = now_us();
        writer.ask(&put(&format!("fleet?version={write}")).body("")).expect(204);
        let told: Vec<f64> = crowds.iter_mut().map(|crowd| (crowd.woken() - due) as f64 / 1e3).collect();
        let last = told.iter().copied().fold(0.0, f64::max);
        println!(
            "write {write}: {} woken, the last of each follower's after {told:.0?} ms",
            each * followers.len()
        );
        if write > 1 {
            lasts.push(last);
        }
    }
    lasts.sort_by(f64::total_cmp);
    let median = lasts.get(lasts.len() / 2).copied().unwrap_or_default();
    println!("the last of all: median {median:.0} ms of {} writes: {lasts:.0?}", lasts.len());
}

/// The watchers of one follower, in a process of their own.
struct Crowd {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Crowd {
    fn start(follower: &Node, count: usize, writes: usize) -> Self {
        let arguments =
            [CROWD.to_owned(), follower.client_addr().to_string(), count.to_string(), writes.to_string()];
        let us = std::env::current_exe().expect("this program");
        let mut process = Command::new(us).args(arguments).stdout(Stdio::piped()).spawn().expect("a process");
        let says = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, says }
    }

    /// When the last of them knew of the next write, by the clock of all.
    fn woken(&mut self) -> i64 {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line.trim().parse().expect("a watcher was lost: the lines of its process have the reason")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Parks, waits until all are woken, and prints the time, for each write.
fn be_crowd(follower: SocketAddr, count: usize, writes: usize) {
    let open = |_| {
        let stream = TcpStream::connect(follower).expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        stream.set_read_timeout(Some(LIMIT * 2)).expect("an open connection");
        stream
    };
    let mut watchers: Vec<TcpStream> = (0..count).map(open).collect();
    for write in 1..=writes {
        let request = get(&format!("fleet?version={}&timeout=1m", write - 1)).bytes();
        for watcher in &mut watchers {
            watcher.write_all(&request).expect("a request that is taken");
        }
        // in turn, which takes no longer than the last of them does: what came meanwhile is there at once
        let expected = format!("\r\netag: \"{write}\"\r\n");
        for watcher in &mut watchers {
            let head = read_head(watcher);
            assert!(head.starts_with("http/1.1 200 ") && head.contains(&expected), "no wake: {head}");
        }
        println!("{}", now_us());
    }
    // the parent ends this process
    std::thread::sleep(Duration::from_secs(60));
}

/// An answer without a body, in small letters.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = [0; 2048];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut head[length..]).expect("an answer in time") {
            0 => panic!("hung up after {length} bytes"),
            read => length += read,
        }
    }
    String::from_utf8_lossy(&head[..length]).to_ascii_lowercase()
}
