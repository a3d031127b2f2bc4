//! A cluster of real processes on loopback addresses, each behind a proxy of its own, so that a fault is one line:
//!
//! ```no_run
//! use cluster_tests::cluster::Cluster;
//!
//! let mut cluster = Cluster::of(3).start();
//! cluster.ready();
//! cluster.put(0, "a", "1");
//! cluster.cut(0, 1);
//! cluster.heal();
//! cluster.all_agree();
//! ```
//!
//! Peers know a node by its proxy's address only, and a node sends from the address on which it listens: so nothing
//! goes round the proxies, and they distinguish the nodes. Tests themselves use the nodes directly.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::dns::{NameServer, Zone};
use crate::http::{Connection, Request, Response};
use crate::node::{Node, get, own_loopback};
use crate::proxy::{Counts, Faults, TcpProxy, UdpProxy};
use crate::wait::{LIMIT, wait_for_value, wait_until};

/// The secret of all nodes that are given no other one.
pub const SECRET: &str = "a secret of clusters in tests of 2026";

/// The name under which the nodes are found, if by name.
pub const NAME: &str = "nodes.test";

/// The variable with which a node's clock is off from its start.
pub const CLOCK: &str = "VWATCH_TEST_CLOCK_OFFSET";

/// The variable with which a node announces other versions of the peer protocol than it implements.
pub const PROTOCOL: &str = "VWATCH_TEST_PROTOCOL";

/// How nodes find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seeds {
    /// Each is given the addresses of all.
    Addresses,
    /// Each is given one name, which a name server knows.
    Name,
}

/// A cluster that is about to start.
#[derive(Clone, Debug)]
pub struct Plan {
    nodes: usize,
    seeds: Seeds,
    common: Vec<String>,
    env: Vec<Vec<(String, String)>>,
}

impl Plan {
    /// The nodes are given nothing but a name.
    #[must_use]
    pub fn by_name(self) -> Self {
        Self { seeds: Seeds::Name, ..self }
    }

    /// With a flag for all nodes.
    #[must_use]
    pub fn flag(mut self, name: &str, text: &str) -> Self {
        self.common.push(format!("{name}={text}"));
        self
    }

    /// With a variable for one node, instead of what it had.
    #[must_use]
    pub fn env(mut self, node: usize, name: &str, text: &str) -> Self {
        set(&mut self.env[node], name, text);
        self
    }

    /// Finds addresses and starts the proxies, but no node.
    ///
    /// # Panics
    /// If the system has no ports left, or there is no dnsmasq.
    #[must_use]
    #[track_caller]
    pub fn prepare(self) -> Cluster {
        let (port, proxies) = (0..100).find_map(|_| proxies_on_one_port(self.nodes)).expect("a port for all");
        let places: Vec<Place> =
            proxies.into_iter().zip(self.env).map(|(proxy, env)| Place { node: None, proxy, env }).collect();
        let mut cluster = Cluster {
            places,
            retired: Vec::new(),
            port,
            dns: None,
            seeds: String::new(),
            common: self.common,
            names: Mutex::default(),
        };
        match self.seeds {
            Seeds::Addresses => {
                let all: Vec<_> = cluster.places.iter().map(|place| place.proxy.at.to_string()).collect();
                cluster.seeds = all.join(",");
            }
            Seeds::Name => {
                cluster.dns = Some(NameServer::start(&cluster.zone()));
                cluster.seeds = format!("{NAME}:{port}");
            }
        }
        cluster
    }

    /// Starts all nodes, without waiting for them.
    ///
    /// # Panics
    /// As [`Plan::prepare`].
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        (0..cluster.len()).for_each(|i| cluster.restart(i));
        cluster
    }
}

/// See the module. Ends its processes when dropped.
#[derive(Debug)]
pub struct Cluster {
    places: Vec<Place>,
    /// Proxies of addresses that a node has left: no node answers there.
    retired: Vec<Proxy>,
    /// That of all proxies, so that one name can stand for all.
    port: u16,
    dns: Option<NameServer>,
    seeds: String,
    common: Vec<String>,
    /// All that were written through the cluster.
    names: Mutex<BTreeMap<String, Certainty>>,
}

/// Where a node is, or was.
#[derive(Debug)]
struct Place {
    node: Option<Node>,
    proxy: Proxy,
    env: Vec<(String, String)>,
}

#[derive(Debug)]
struct Proxy {
    /// Where peers reach the node.
    at: SocketAddr,
    client: SocketAddr,
    server: SocketAddr,
    udp: UdpProxy,
    tcp: TcpProxy,
}

/// What the proxies of all nodes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams and pieces of streams that passed.
    pub passed: u64,
    /// Those that a cut stopped.
    pub cut: u64,
    /// Datagrams that were lost, and connections that were reset.
    pub lost: u64,
    /// Datagrams that passed twice.
    pub duplicated: u64,
    /// What was late.
    pub delayed: u64,
}

/// Whether a name has a write that no fault can have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    IsThere,
    MayBeLost,
}

/// The head of a name as a node shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// 200, 404, 410, or what else there was.
    pub status: u16,
    /// Its version.
    pub version: Option<String>,
    /// Its stamp, µs.
    pub last_sync: Option<u64>,
}

impl From<&Response> for Seen {
    fn from(answer: &Response) -> Self {
        let version = answer.version().map(str::to_owned);
        Self { status: answer.status, version, last_sync: answer.last_sync() }
    }
}

impl Cluster {
    /// So many nodes, given each other's addresses, one secret, and turns short enough for tests.
    #[must_use]
    pub fn of(nodes: usize) -> Plan {
        let env = |i: usize| {
            vec![
                ("VWATCH_CLUSTER_SECRET".to_owned(), SECRET.to_owned()),
                ("VWATCH_NODE_ID".to_owned(), format!("node-{i}")),
            ]
        };
        let common = ["--replicate-resolve-interval=1s", "--jitter-per-watch=0s", "--block-for=60s"]
            .map(str::to_owned);
        Plan { nodes, seeds: Seeds::Addresses, common: common.into(), env: (0..nodes).map(env).collect() }
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A node that runs.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn node(&self, i: usize) -> &Node {
        self.places[i].node.as_ref().expect("a node that runs")
    }

    /// Whether a node was started and not ended by the test.
    #[must_use]
    pub fn is_running(&self, i: usize) -> bool {
        self.places[i].node.is_some()
    }

    /// Where a node's readers and writers connect, the test itself too.
    #[must_use]
    pub fn addresses(&self, i: usize) -> (SocketAddr, SocketAddr) {
        (self.places[i].proxy.client, self.places[i].proxy.server)
    }

    /// How a further node finds those of the cluster: the value of `--replicate-with`. They share [`SECRET`].
    #[must_use]
    pub fn seeds(&self) -> &str {
        &self.seeds
    }

    /// Waits until all that run are ready.
    ///
    /// # Panics
    /// If they are not within [`LIMIT`].
    #[track_caller]
    pub fn ready(&self) {
        for (i, place) in self.places.iter().enumerate() {
            if let Some(node) = &place.node {
                wait_until(&format!("node {i} to be ready"), LIMIT, || node.is_ready());
            }
        }
    }

    /// Drops older records from before a time by a node, once it knows the clocks of a majority. Returns its answer.
    ///
    /// # Panics
    /// If it refuses for another reason, or does not do it within [`LIMIT`].
    #[track_caller]
    pub fn compact(&self, i: usize, before: &str) -> Response {
        let request = Request::new("POST", &format!("/v1/compact?before={before}"));
        let mut answer = None;
        wait_until(&format!("node {i} to know the clocks of a majority"), LIMIT, || {
            let said = answer.insert(self.node(i).server().ask(&request));
            said.header("X-Vwatch-Error") != Some("clock-in-doubt")
        });
        answer.expect("an answer").expect(200)
    }

    /// Waits until each node that runs sees all others that run as ready, and no other one: then all know one
    /// coordinator of a lease.
    ///
    /// # Panics
    /// If that does not happen.
    #[track_caller]
    pub fn all_see_all(&self) {
        let running: Vec<usize> = (0..self.len()).filter(|i| self.is_running(*i)).collect();
        let seen = || {
            let of = |i: &usize| {
                self.node(*i).cluster()["members"]["live"].as_array().cloned().unwrap_or_default()
            };
            let states =
                |i: &usize| of(i).iter().map(|member| member["state"].to_string()).collect::<Vec<_>>();
            running.iter().map(states).collect::<Vec<_>>()
        };
        wait_for_value(LIMIT, seen, |all| {
            all.iter().all(|states| {
                states.len() + 1 == running.len() && states.iter().all(|state| state == "\"ready\"")
            })
        });
    }

    /// Reads at a node, without parking.
    #[track_caller]
    pub fn get(&self, i: usize, name: &str) -> Response {
        self.node(i).get(&format!("{name}?timeout=0s"))
    }

    /// Writes a version at a node, with the same as its data.
    #[track_caller]
    pub fn put(&self, i: usize, name: &str, version: &str) -> Response {
        self.note(name);
        self.node(i).put(&format!("{name}?version={version}"), version).expect(204)
    }

    /// The same with a stamp.
    #[track_caller]
    pub fn put_at(&self, i: usize, name: &str, version: &str, us: u64) -> Response {
        self.note(name);
        self.node(i).put(&format!("{name}?version={version}&modified={us}"), version).expect(204)
    }

    /// Deletes at a node.
    #[track_caller]
    pub fn delete(&self, i: usize, name: &str) -> Response {
        self.note(name);
        self.node(i).delete(name).expect(204)
    }

    /// Parks at a node until a name's version differs from the known one.
    #[must_use]
    #[track_caller]
    pub fn watch(&self, i: usize, name: &str, known: &str) -> Connection {
        self.node(i).watch(&get(&format!("{name}?version={known}")))
    }

    /// Adds to the names that [`Cluster::all_agree`] compares, and that all nodes must know.
    pub fn note(&self, name: &str) {
        self.names().insert(name.to_owned(), Certainty::IsThere);
    }

    /// Adds a name of which all writes may have been lost with their processes: then no node knows it.
    pub fn note_unsure(&self, name: &str) {
        self.names().entry(name.to_owned()).or_insert(Certainty::MayBeLost);
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Certainty>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until each name is the same at all nodes that run: version, stamp, deleted or not.
    ///
    /// # Panics
    /// If that is not so within [`LIMIT`].
    #[track_caller]
    pub fn all_agree(&self) {
        self.agree_within(LIMIT);
    }

    /// The same within a limit of one's own. Returns how long it took.
    ///
    /// # Panics
    /// If they do not agree; with the first difference.
    #[track_caller]
    pub fn agree_within(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        loop {
            let late = started.elapsed() > limit;
            match self.difference() {
                None => return started.elapsed(),
                Some(difference) => assert!(!late, "waited {limit:?} in vain for all to agree: {difference}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first name on which the nodes differ, in words.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let names = self.names().clone();
        let running: Vec<usize> = (0..self.len()).filter(|&i| self.is_running(i)).collect();
        let mut connections: Vec<_> = running.iter().map(|&i| Kept::to(self.addresses(i).0)).collect();
        for (name, certainty) in names {
            let request = get(&format!("{name}?timeout=0s"));
            let seen: Vec<_> =
                connections.iter_mut().map(|connection| Seen::from(&connection.ask(&request))).collect();
            let is_known = |seen: &Seen| match certainty {
                Certainty::IsThere => matches!(seen.status, 200 | 410),
                Certainty::MayBeLost => matches!(seen.status, 200 | 410 | 404),
            };
            let is_whole = seen.iter().all(is_known);
            if !is_whole || seen.iter().any(|other| *other != seen[0]) {
                return Some(format!("{name} is {seen:?} at {running:?}"));
            }
        }
        None
    }

    /// Waits until a node shows a name so.
    ///
    /// # Panics
    /// If it does not within [`LIMIT`].
    #[track_caller]
    pub fn shows(&self, i: usize, name: &str, version: &str) {
        wait_until(&format!("{name} to be {version} at node {i}"), LIMIT, || {
            self.get(i, name).version() == Some(version)
        });
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If the node does not run.
    #[track_caller]
    pub fn kill(&mut self, i: usize) {
        self.places[i].node.take().expect("a node that runs").kill();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// If the node does not run, or does not end.
    #[track_caller]
    pub fn stop(&mut self, i: usize) -> ExitStatus {
        self.node(i).terminate();
        self.wait_exit(i)
    }

    /// Waits for the end of a node that has got a signal to stop.
    ///
    /// # Panics
    /// If the node does not run, or does not end.
    #[track_caller]
    pub fn wait_exit(&mut self, i: usize) -> ExitStatus {
        self.places[i].node.take().expect("a node that runs").wait_exit(LIMIT)
    }

    /// SIGSTOP.
    ///
    /// # Panics
    /// If the node does not run.
    #[track_caller]
    pub fn pause(&self, i: usize) {
        self.node(i).pause();
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// If the node does not run.
    #[track_caller]
    pub fn resume(&self, i: usize) {
        self.node(i).resume();
    }

    /// Starts a node on its address: killed before, if it runs. Its memory is empty.
    ///
    /// # Panics
    /// If there is no process for it.
    #[track_caller]
    pub fn restart(&mut self, i: usize) {
        if self.is_running(i) {
            self.kill(i);
        }
        let mut flags = self.common.clone();
        flags.push(format!("--replicate-with={}", self.seeds));
        if let Some(dns) = &self.dns {
            flags.push(format!("--dns-server={}", dns.address()));
        }
        let place = &mut self.places[i];
        flags.push(format!("--advertise-server={}", place.proxy.at));
        place.node = Some(Node::launch(place.proxy.client, place.proxy.server, &flags, &place.env));
    }

    /// Starts a node on another address, as an orchestrator does; the name server, if there is one, knows at once. No
    /// node answers at the old address.
    ///
    /// # Panics
    /// If there is no process for it.
    #[track_caller]
    pub fn restart_elsewhere(&mut self, i: usize) {
        if self.is_running(i) {
            self.kill(i);
        }
        let proxy =
            (0..100).find_map(|_| Proxy::on(own_address(), self.port)).expect("the port on a new address");
        self.retired.push(std::mem::replace(&mut self.places[i].proxy, proxy));
        let zone = self.zone();
        if let Some(dns) = &mut self.dns {
            dns.serve(&zone);
        }
        self.restart(i);
    }

    /// Changes a variable of a node, from its next start on.
    pub fn set_env(&mut self, i: usize, name: &str, text: &str) {
        set(&mut self.places[i].env, name, text);
    }

    /// The name server.
    ///
    /// # Panics
    /// If the nodes were given addresses.
    #[track_caller]
    pub fn dns(&mut self) -> &mut NameServer {
        self.dns.as_mut().expect("nodes that were given a name")
    }

    /// What the name server answers while all is well.
    #[must_use]
    pub fn zone(&self) -> Zone {
        let addresses: Vec<_> = self.places.iter().map(|place| place.proxy.at.ip().to_string()).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        Zone::default().host(NAME, &addresses)
    }

    /// Nothing goes between two nodes, either way.
    pub fn cut(&self, i: usize, j: usize) {
        let cut = Faults { cut_in: true, cut_out: true, ..Faults::default() };
        self.set(i, j, &cut);
        self.set(j, i, &cut);
    }

    /// Nothing that `from` sends reaches `to`, neither requests nor answers. The other direction works.
    pub fn one_way(&self, from: usize, to: usize) {
        self.set(from, to, &Faults { cut_in: true, ..Faults::default() });
        self.set(to, from, &Faults { cut_out: true, ..Faults::default() });
    }

    /// A node is cut off from all others.
    pub fn isolate(&self, i: usize) {
        (0..self.len()).filter(|&j| j != i).for_each(|j| self.cut(i, j));
    }

    /// All that nodes send to this one is late by up to so much.
    pub fn slow(&self, i: usize, delay: Duration) {
        self.faults(i, &Faults { delay, ..Faults::default() });
    }

    /// The faults on the way to a node, for all senders.
    pub fn faults(&self, i: usize, faults: &Faults) {
        self.places[i].proxy.udp.set(faults.clone());
        self.places[i].proxy.tcp.set(faults.clone());
    }

    /// The faults of requests of `from` to `to`, and of their answers.
    fn set(&self, from: usize, to: usize, faults: &Faults) {
        let source = self.places[from].proxy.at.ip();
        self.places[to].proxy.udp.set_for(source, faults.clone());
        self.places[to].proxy.tcp.set_for(source, faults.clone());
    }

    /// Nothing goes wrong on the way any more.
    pub fn heal(&self) {
        (0..self.len()).for_each(|i| self.faults(i, &Faults::default()));
    }

    /// What the proxies did so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        let proxies = self.places.iter().map(|place| &place.proxy).chain(&self.retired);
        for counts in proxies.flat_map(|proxy| [proxy.udp.counts(), proxy.tcp.counts()]) {
            let Counts { passed, cut, lost, duplicated, delayed, .. } = counts;
            sum.passed += passed.load(Ordering::Relaxed);
            sum.cut += cut.load(Ordering::Relaxed);
            sum.lost += lost.load(Ordering::Relaxed);
            sum.duplicated += duplicated.load(Ordering::Relaxed);
            sum.delayed += delayed.load(Ordering::Relaxed);
        }
        sum
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // before the proxies, which wait for their connections to end
        for place in &mut self.places {
            place.node = None;
        }
    }
}

/// A connection that is opened again after an answer that ends it.
struct Kept {
    address: SocketAddr,
    open: Option<Connection>,
}

impl Kept {
    fn to(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    #[track_caller]
    fn ask(&mut self, request: &Request) -> Response {
        let mut connection = self.open.take().unwrap_or_else(|| Connection::open(self.address));
        let answer = connection.ask(request);
        self.open = (!answer.says_close()).then_some(connection);
        answer
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, text: &str) {
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), text.to_owned()));
}

/// A loopback address that no other node of this test, and hardly any other program of this machine, uses.
fn own_address() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    own_loopback(128, COUNT.fetch_add(1, Ordering::Relaxed)).into()
}

fn proxies_on_one_port(nodes: usize) -> Option<(u16, Vec<Proxy>)> {
    let first = Proxy::on(own_address(), 0)?;
    let port = first.at.port();
    let rest = (1..nodes).map(|_| Proxy::on(own_address(), port));
    let proxies = std::iter::once(Some(first)).chain(rest).collect::<Option<Vec<_>>>()?;
    Some((port, proxies))
}

impl Proxy {
    /// On a port of an address, for a node on other ports there; `None` if the port is taken.
    fn on(ip: IpAddr, port: u16) -> Option<Self> {
        let tcp = TcpListener::bind((ip, port)).ok()?;
        let at = tcp.local_addr().ok()?;
        let udp = UdpSocket::bind(at).ok()?;
        // held together until all are known, so that they differ
        let (client, server) = (TcpListener::bind((ip, 0)).ok()?, TcpListener::bind((ip, 0)).ok()?);
        let (client, server) = (client.local_addr().ok()?, server.local_addr().ok()?);
        UdpSocket::bind(server).ok()?;
        Some(Self { at, client, server, udp: UdpProxy::on(udp, server), tcp: TcpProxy::on(tcp, server) })
    }
}
