//! Settings of leases.

use std::fmt;
use std::time::Duration;

use super::value::{self, Wrong, wrong};
use super::{ConfigError, Raw, at_least, read, read_open};
use crate::core::lease::{MIN_TTL_US, VoterSet, VoterSetError};
use crate::wire::duration::GoDuration;
use crate::wire::node_info::{LeaseVoters, hash};

/// Longest `--lease-max-ttl`: for as long as that a voter abstains after each start.
const MOST_TTL: Duration = Duration::from_secs(3600);

/// The settings of leases.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The node ids of the voters; empty if none are set.
    pub voters: Vec<String>,
    /// The node ids of the voters before a change of the set; empty if it does not change.
    pub before: Vec<String>,
    /// The longest time to live.
    pub max_ttl: Duration,
    /// Most leases that a node keeps as a coordinator, and as a voter.
    pub max_leases: usize,
    /// Whether no voter has ever voted in this cluster, which is new.
    pub is_first: bool,
}

impl LeaseConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        Ok(Self {
            voters: read_open(raw, "lease-voters", voters)?.unwrap_or_default(),
            before: read_open(raw, "lease-voters-before", voters)?.unwrap_or_default(),
            max_ttl: read(raw, "lease-max-ttl", max_ttl)?,
            max_leases: read(raw, "max-leases", value::count)?,
            is_first: raw
                .new_cluster
                .as_deref()
                .is_some_and(|new| raw.get("cluster-id").is_some_and(|(_, id)| id == new)),
        })
    }

    pub(super) fn check(&self, node_id: &str, is_alone: bool) -> Result<(), ConfigError> {
        if self.voters.is_empty() && !self.before.is_empty() {
            return Err(ConfigError::new(
                "--lease-voters-before without --lease-voters: got the old voters only: give the new ones too".to_owned(),
            ));
        }
        if is_alone && !self.voters.is_empty() && self.voters != [node_id] {
            return Err(ConfigError::new(format!(
                "--lease-voters without --replicate-with: got {:?}, and this node, {node_id:?}, is alone: name the other \
                 nodes with --replicate-with, or leave the voters out",
                self.voters.join(",")
            )));
        }
        Ok(())
    }

    /// The sets of voters of which a grant needs a majority each; empty if there are none. A node that is alone is its
    /// own voter.
    #[must_use]
    pub fn sets(&self, node_id: &str, is_alone: bool) -> Vec<VoterSet> {
        let own = [node_id.to_owned()];
        let voters = if self.voters.is_empty() && is_alone { &own[..] } else { &self.voters };
        let max_ttl_us = self.max_ttl_us();
        let set = |ids: &[String]| VoterSet::new(ids.iter().map(|id| hash(id)), max_ttl_us).ok();
        [voters, &self.before].into_iter().filter_map(set).collect()
    }

    /// The ids of the sets, 0 where there is none.
    #[must_use]
    pub fn ids(&self, node_id: &str, is_alone: bool) -> LeaseVoters {
        let sets = self.sets(node_id, is_alone);
        let id = |at: usize| sets.get(at).map_or(0, |set| set.id().0);
        [id(0), id(1)]
    }

    /// The longest time to live, µs.
    #[must_use]
    pub fn max_ttl_us(&self) -> u64 {
        u64::try_from(self.max_ttl.as_micros()).unwrap_or(u64::MAX)
    }

    /// The settings as rows of a name and a value.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        vec![
            ("LeaseVoters", quoted(&self.voters.join(","))),
            ("LeaseVotersBefore", quoted(&self.before.join(","))),
            ("LeaseMaxTtl", quoted(&GoDuration(self.max_ttl))),
            ("MaxLeases", self.max_leases.to_string()),
        ]
    }
}

fn voters(text: &str) -> Result<Vec<String>, Wrong> {
    const ADVICE: &str = "name 1, 3 or 5 nodes by their --node-id, with commas";
    let ids = text.split(',').map(str::trim).map(value::node_id).collect::<Result<Vec<_>, _>>();
    let Ok(ids) = ids else { return wrong("not a list of node ids", ADVICE) };
    match VoterSet::new(ids.iter().map(|id| hash(id)), 0) {
        Ok(_) => Ok(ids),
        Err(VoterSetError::Count(count)) => wrong(format!("{count} voters"), ADVICE),
        Err(VoterSetError::Twice) => wrong("a voter is named twice", ADVICE),
    }
}

fn max_ttl(text: &str) -> Result<Duration, Wrong> {
    const ADVICE: &str = "write 1s to 1h, such as 60s";
    match at_least(text, Duration::from_micros(MIN_TTL_US), ADVICE)? {
        ttl if ttl > MOST_TTL => wrong("longer than 1h", ADVICE),
        ttl => Ok(ttl),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn config(flags: &[(&'static str, &str)]) -> Result<Config, String> {
        let flags = flags.iter().map(|&(name, text)| (name.to_owned(), text.to_owned()));
        Raw::collect(flags, []).and_then(|raw| Config::from_raw(&raw)).map_err(|error| error.to_string())
    }

    #[test]
    fn voters_are_one_three_or_five_nodes() {
        for (text, why) in [
            ("", "not a list of node ids"),
            ("a,b", "2 voters"),
            ("a,b,a", "a voter is named twice"),
            ("a,,b", "not a list of node ids"),
        ] {
            let error = config(&[("lease-voters", text), ("replicate-with", "x:1")]).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "bad --lease-voters: {why}: got {text:?}: name 1, 3 or 5 nodes by their --node-id, with commas"
                )
            );
        }
        let leases = config(&[("lease-voters", "a, b,c"), ("replicate-with", "x:1")]).unwrap().lease;
        assert_eq!(leases.voters, ["a", "b", "c"]);
        assert_eq!(leases.sets("a", false).len(), 1);
        assert!(config(&[("lease-max-ttl", "999ms")]).unwrap_err().contains("shorter than 1s"));
        assert!(config(&[("lease-max-ttl", "61m")]).unwrap_err().contains("longer than 1h"));
    }

    #[test]
    fn a_node_that_is_alone_votes_itself_and_needs_no_flag() {
        let alone = config(&[("node-id", "a")]).unwrap();
        assert_eq!(alone.lease.sets("a", true)[0].nodes(), [hash("a")]);
        assert!(alone.lease.sets("a", false).is_empty());
        assert!(config(&[("node-id", "a"), ("lease-voters", "a")]).is_ok());
        assert!(config(&[("node-id", "a"), ("lease-voters", "b")]).unwrap_err().contains("is alone"));
        assert!(
            config(&[("lease-voters-before", "b")]).unwrap_err().starts_with("--lease-voters-before without")
        );
    }
}
