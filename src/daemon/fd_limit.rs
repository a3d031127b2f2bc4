//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn number(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX / 2, |n| usize::try_from(n).unwrap_or(usize::MAX / 2)).min(1 << 24)
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
        let before = getrlimit(Resource::Nofile).current.unwrap_or(0);
        assert!(raise_limit() as u64 >= before.min(1 << 24));
    }
}
