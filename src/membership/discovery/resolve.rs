//! One round of DNS requests for one seed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::wire::seed::Seed;

/// How long a name server may take to answer; a request is sent twice at most.
const ASK: Duration = Duration::from_secs(2);

/// How long the system's own resolver may take.
const FALLBACK: Duration = Duration::from_secs(5);

/// Most records of a service that are used.
const MAX_SERVICE_RECORDS: usize = 512;

/// Hosts of a service that are looked up at once.
const MAX_AT_ONCE: usize = 16;

/// The resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// `/etc/resolv.conf` and `/etc/hosts`; if they give no address, the system's `getaddrinfo`, which may know names
    /// from other sources.
    System,
    /// This name server only.
    Server(SocketAddr),
}

impl Dns {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self {
            Self::System => TokioResolver::builder_tokio()?,
            Self::Server(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
                let config = ResolverConfig::from_parts(None, vec![], vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = ASK;
        options.attempts = 2;
        options.cache_size = 0;
        builder.build()
    }
}

/// The answer to a lookup.
#[derive(Debug)]
enum DnsAnswer<T> {
    /// The records; empty, if the name does not exist or has no such records.
    Found(Vec<T>),
    /// No name server answered, or the answer was an error.
    Failed(String),
}

fn dns_answer<T>(looked_up: Result<Vec<T>, NetError>) -> DnsAnswer<T> {
    match looked_up {
        Ok(list) => DnsAnswer::Found(list),
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            DnsAnswer::Found(Vec::new())
        }
        Err(error) => DnsAnswer::Failed(one_line(&error.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// The last good answers for one seed.
#[derive(Debug, Default)]
pub(super) struct LastAnswers {
    /// The number of rounds.
    pub(super) rounds: u64,
    endpoints: Vec<(String, u16)>,
    hosts: BTreeMap<String, Host>,
}

/// The last addresses of a host, by kind.
#[derive(Clone, Debug, Default)]
struct Host {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl LastAnswers {
    /// All addresses of the last good answers.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.iter().flat_map(|(name, port)| {
            let ips = self.hosts.get(name).into_iter().flat_map(|host| host.v4.iter().chain(&host.v6));
            ips.map(|ip| SocketAddr::new(ip.to_canonical(), *port))
        })
    }

    /// Resolves the seed once.
    ///
    /// # Errors
    /// If a lookup fails; its last good answer stays.
    pub(super) async fn update(&mut self, seed: &Seed, dns: &Dns) -> Result<(), String> {
        self.rounds += 1;
        let resolver = {
            let dns = dns.clone();
            // reads files of the system
            let made = timeout(FALLBACK, spawn_blocking(move || dns.resolver())).await;
            match made {
                Ok(Ok(made)) => made.map_err(|error| one_line(&error.to_string())),
                Ok(Err(error)) => Err(one_line(&error.to_string())),
                Err(_) => Err("the system's files about name servers cannot be read in time".to_owned()),
            }
        };
        let mut failed = None;
        match seed {
            Seed::Address(_) => return Ok(()),
            Seed::Host { name, port } => self.endpoints = vec![(name.clone(), *port)],
            Seed::Service { name } => match look_up_services(&resolver, name).await {
                DnsAnswer::Found(endpoints) => self.endpoints = endpoints,
                DnsAnswer::Failed(error) => failed = Some(error),
            },
        }
        let mut names: Vec<String> = self.endpoints.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        self.hosts.retain(|name, _| names.contains(name));
        let mut lookups = JoinSet::new();
        let mut rest = names.into_iter();
        loop {
            while lookups.len() < MAX_AT_ONCE
                && let Some(name) = rest.next()
            {
                let known = self.hosts.get(&name).cloned().unwrap_or_default();
                lookups.spawn(look_up_host(name, known, resolver.clone(), dns.clone()));
            }
            match lookups.join_next().await {
                None => break,
                Some(Ok((name, known, result))) => {
                    self.hosts.insert(name, known);
                    failed = failed.or(result.err());
                }
                Some(Err(error)) => failed = Some(error.to_string()),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

type Resolver = Result<TokioResolver, String>;

async fn look_up_services(resolver: &Resolver, name: &str) -> DnsAnswer<(String, u16)> {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(error) => return DnsAnswer::Failed(error.clone()),
    };
    let endpoints = |data: &RData| match data {
        // a service with the root as its host does not exist (RFC 2782)
        RData::SRV(srv) if !srv.target.is_root() && srv.port > 0 => {
            Some((srv.target.to_ascii().to_ascii_lowercase(), srv.port))
        }
        _ => None,
    };
    let looked_up = resolver.srv_lookup(name).await;
    dns_answer(looked_up.map(|found| {
        found
            .answers()
            .iter()
            .filter_map(|record| endpoints(&record.data))
            .take(MAX_SERVICE_RECORDS)
            .collect()
    }))
}

/// Looks up both kinds of addresses of a host at once; each kind keeps its own last answer.
async fn look_up_host(
    name: String,
    mut known: Host,
    resolver: Resolver,
    dns: Dns,
) -> (String, Host, Result<(), String>) {
    let (v4, v6) = match &resolver {
        Ok(resolver) => tokio::join!(
            async {
                let looked_up = resolver.ipv4_lookup(name.as_str()).await;
                dns_answer(looked_up.map(|found| ips(found.answers().iter().map(|record| &record.data))))
            },
            async {
                let looked_up = resolver.ipv6_lookup(name.as_str()).await;
                dns_answer(looked_up.map(|found| ips(found.answers().iter().map(|record| &record.data))))
            }
        ),
        Err(error) => (DnsAnswer::Failed(error.clone()), DnsAnswer::Failed(error.clone())),
    };
    let nothing = |answer: &DnsAnswer<IpAddr>| !matches!(answer, DnsAnswer::Found(ips) if !ips.is_empty());
    if nothing(&v4)
        && nothing(&v6)
        && dns == Dns::System
        && let Some(found) = by_the_system(&name).await
    {
        return (name, found, Ok(()));
    }
    let mut errors = Vec::new();
    let mut some = false;
    for (answer, known) in [(v4, &mut known.v4), (v6, &mut known.v6)] {
        match answer {
            DnsAnswer::Found(ips) => {
                some |= !ips.is_empty();
                *known = ips;
            }
            DnsAnswer::Failed(error) => errors.push(error),
        }
    }
    // some name servers never answer for one kind: that is no failure if the other kind has addresses
    let result = match errors.pop() {
        Some(error) if !some => Err(format!("{name}: {error}")),
        _ => Ok(()),
    };
    (name, known, result)
}

/// The addresses by `getaddrinfo`; `None` if there are none.
async fn by_the_system(name: &str) -> Option<Host> {
    let found = timeout(FALLBACK, tokio::net::lookup_host((name, 0))).await.ok()?.ok()?;
    let (v4, v6): (Vec<_>, Vec<_>) = found.map(|address| address.ip()).partition(IpAddr::is_ipv4);
    (!v4.is_empty() || !v6.is_empty()).then_some(Host { v4, v6 })
}

fn ips<'a>(records: impl Iterator<Item = &'a RData>) -> Vec<IpAddr> {
    records
        .filter_map(|data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .collect()
}
