//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn number(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX / 2, |n| usize::try_from(n).unwrap_or(usize::MAX / 2)).min(1 << 24)
}

/// The soft limit of open files.
#[must_use]
pub fn limit() -> usize {
    number(getrlimit(Resource::Nofile).current)
}

/// Raises the soft limit of open files to the hard one, as Go does, and returns the new limit.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    number(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_at_least_what_it_was() {
        let before = limit();
        assert!(raise_limit() >= before);
    }
}
