//! One round of questions about one target.

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

use crate::membership::target::Target;

/// How long a name server may take to answer; it is asked twice.
const ASK: Duration = Duration::from_secs(2);

/// How long the system's own resolver may take.
const FALLBACK: Duration = Duration::from_secs(5);

/// Most records of a service that are taken.
const MAX_SERVICE_RECORDS: usize = 512;

/// Hosts of a service that are asked for at once.
const MAX_AT_ONCE: usize = 16;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// What `/etc/resolv.conf` and `/etc/hosts` say, and where that gives nothing, the system's `getaddrinfo`, which
    /// may know names from elsewhere.
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

/// An answer, or that there was none.
#[derive(Debug)]
enum Answer<T> {
    /// What there is; nothing, if the name does not exist or has no such records.
    Is(Vec<T>),
    /// Nobody could say.
    Failed(String),
}

fn answer<T>(looked_up: Result<Vec<T>, NetError>) -> Answer<T> {
    match looked_up {
        Ok(list) => Answer::Is(list),
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Answer::Is(Vec::new())
        }
        Err(error) => Answer::Failed(one_line(&error.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// The last good answers about one target.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// How often it was asked for.
    pub(super) rounds: u64,
    places: Vec<(String, u16)>,
    hosts: BTreeMap<String, Host>,
}

/// What was last said about a host, of each kind of address.
#[derive(Clone, Debug, Default)]
struct Host {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Memory {
    /// All addresses that were last said to be there.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.iter().flat_map(|(name, port)| {
            let ips = self.hosts.get(name).into_iter().flat_map(|host| host.v4.iter().chain(&host.v6));
            ips.map(|ip| SocketAddr::new(ip.to_canonical(), *port))
        })
    }

    /// Asks once for everything about a target.
    ///
    /// # Errors
    /// What failed; what was known of that stays.
    pub(super) async fn ask(&mut self, target: &Target, dns: &Dns) -> Result<(), String> {
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
        match target {
            Target::Address(_) => return Ok(()),
            Target::Host { name, port } => self.places = vec![(name.clone(), *port)],
            Target::Service { name } => match services(&resolver, name).await {
                Answer::Is(places) => self.places = places,
                Answer::Failed(error) => failed = Some(error),
            },
        }
        let mut names: Vec<String> = self.places.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        self.hosts.retain(|name, _| names.contains(name));
        let mut asking = JoinSet::new();
        let mut rest = names.into_iter();
        loop {
            while asking.len() < MAX_AT_ONCE
                && let Some(name) = rest.next()
            {
                let known = self.hosts.get(&name).cloned().unwrap_or_default();
                asking.spawn(host(name, known, resolver.clone(), dns.clone()));
            }
            match asking.join_next().await {
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

async fn services(resolver: &Resolver, name: &str) -> Answer<(String, u16)> {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(error) => return Answer::Failed(error.clone()),
    };
    let places = |data: &RData| match data {
        // a service whose host is the root is said not to be there (RFC 2782)
        RData::SRV(srv) if !srv.target.is_root() && srv.port > 0 => {
            Some((srv.target.to_ascii().to_ascii_lowercase(), srv.port))
        }
        _ => None,
    };
    let looked_up = resolver.srv_lookup(name).await;
    answer(looked_up.map(|found| {
        found.answers().iter().filter_map(|record| places(&record.data)).take(MAX_SERVICE_RECORDS).collect()
    }))
}

/// Asks for both kinds of addresses of a host at once; each keeps its last answer for itself.
async fn host(
    name: String,
    mut known: Host,
    resolver: Resolver,
    dns: Dns,
) -> (String, Host, Result<(), String>) {
    let (v4, v6) = match &resolver {
        Ok(resolver) => tokio::join!(
            async {
                let looked_up = resolver.ipv4_lookup(name.as_str()).await;
                answer(looked_up.map(|found| ips(found.answers().iter().map(|record| &record.data))))
            },
            async {
                let looked_up = resolver.ipv6_lookup(name.as_str()).await;
                answer(looked_up.map(|found| ips(found.answers().iter().map(|record| &record.data))))
            }
        ),
        Err(error) => (Answer::Failed(error.clone()), Answer::Failed(error.clone())),
    };
    let nothing = |answer: &Answer<IpAddr>| !matches!(answer, Answer::Is(ips) if !ips.is_empty());
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
            Answer::Is(ips) => {
                some |= !ips.is_empty();
                *known = ips;
            }
            Answer::Failed(error) => errors.push(error),
        }
    }
    // some name servers never answer for one of the kinds: that is no failure as long as the other one is there
    let result = match errors.pop() {
        Some(error) if !some => Err(format!("{name}: {error}")),
        _ => Ok(()),
    };
    (name, known, result)
}

/// What `getaddrinfo` says, if it says anything.
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
