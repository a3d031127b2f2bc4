//! The option `--lease`: a write under a lease.

use clap::Args;

use super::client::Request;
use super::environment::variable;
use super::failure::Failure;
use super::namespace::InNamespace;
use crate::wire::headers::X_VWATCH_LEASE;

/// The variables that `vwatch lock` sets for its command.
pub(super) const TOKEN: &str = "VWATCH_LEASE_TOKEN";
pub(super) const ID: &str = "VWATCH_LEASE_ID";
pub(super) const PATH: &str = "VWATCH_LEASE_PATH";
pub(super) const PREFIX: &str = "VWATCH_LEASE_PREFIX";
pub(super) const NAMESPACE: &str = "VWATCH_LEASE_NAMESPACE";

/// The lease of a write.
#[derive(Debug, Args)]
pub(super) struct UnderLease {
    /// Token of the lease that the write is under: without a live lease that has it and covers the name, nothing is
    /// written [env: VWATCH_LEASE_TOKEN, for the names below VWATCH_LEASE_PATH]
    #[arg(long, value_name = "TOKEN")]
    lease: Option<u64>,
}

/// The lease in the environment.
#[derive(Debug, PartialEq, Eq)]
struct Inherited {
    token: u64,
    /// What it is on; `None` if only the token is known.
    on: Option<Place>,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    path: String,
    is_prefix: bool,
}

impl UnderLease {
    /// The write of a name with the token, if there is one.
    ///
    /// # Errors
    /// If the token in the environment is none.
    pub(super) fn of(&self, request: Request, name: &str, within: &InNamespace) -> Result<Request, Failure> {
        let token = match self.lease {
            Some(token) => Some(token),
            None => inherited(variable)?
                .filter(|lease| lease.may_cover(name, within.namespace.as_str()))
                .map(|lease| lease.token),
        };
        Ok(match token {
            Some(token) => request.header(X_VWATCH_LEASE, token.to_string()),
            None => request,
        })
    }
}

fn inherited(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Inherited>, Failure> {
    let Some(text) = variable(TOKEN) else { return Ok(None) };
    let Ok(token) = text.parse() else {
        return Err(Failure::Usage(format!(
            "bad {TOKEN}: got {text:?}: set it to the token of a lease, or unset it"
        )));
    };
    let (path, is_prefix) = (variable(PATH), variable(PREFIX).is_some());
    let place = |path| Place { namespace: variable(NAMESPACE).unwrap_or_default(), path, is_prefix };
    // a lease on all names has an empty path
    let on = path.or(is_prefix.then(String::new)).map(place);
    Ok(Some(Inherited { token, on }))
}

impl Inherited {
    /// Whether the lease may cover a name. A command under a lease also writes names that have nothing to do with it,
    /// and the node takes a token only for names that its lease covers.
    fn may_cover(&self, name: &str, namespace: &str) -> bool {
        self.on.as_ref().is_none_or(|on| {
            let below =
                name.strip_prefix(&on.path).is_some_and(|rest| on.path.is_empty() || rest.starts_with('/'));
            let covers = name == on.path || on.is_prefix && below;
            on.namespace == namespace && covers
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(variables: &[(&str, &str)]) -> Result<Option<Inherited>, Failure> {
        inherited(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_lease_of_the_environment_is_for_the_names_that_it_may_cover() {
        let read = |variables: &[(&str, &str)]| lease(variables).unwrap().unwrap();
        assert_eq!(lease(&[(PATH, "a")]), Ok(None));
        assert!(matches!(lease(&[(TOKEN, "x")]), Err(Failure::Usage(_))));
        let bare = read(&[(TOKEN, "7")]);
        assert!(bare.token == 7 && bare.may_cover("any", "") && bare.may_cover("any", "team"));
        let one = read(&[(TOKEN, "7"), (PATH, "jobs/n")]);
        assert!(
            one.may_cover("jobs/n", "") && !one.may_cover("jobs/n/a", "") && !one.may_cover("jobs/n", "t")
        );
        let tree = read(&[(TOKEN, "7"), (PATH, "jobs/n"), (PREFIX, "1"), (NAMESPACE, "team")]);
        assert!(tree.may_cover("jobs/n/a", "team") && tree.may_cover("jobs/n", "team"));
        assert!(!tree.may_cover("jobs/nn", "team") && !tree.may_cover("jobs/n/a", ""));
        let all = read(&[(TOKEN, "7"), (PREFIX, "1"), (NAMESPACE, "team")]);
        assert!(all.may_cover("any", "team") && !all.may_cover("any", ""));
    }
}
