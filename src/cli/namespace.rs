//! The option `--namespace`, and the paths of names in a namespace.

use clap::Args;

use super::args::quoted;
use super::environment;
use super::failure::Failure;
use crate::client::place::Place;
use crate::core::Namespace;

/// The id of the option in all commands that have it.
pub(super) const OPTION: &str = "namespace";

/// The variable with the namespace for commands without the option.
const VARIABLE: &str = "VWATCH_NAMESPACE";

/// The namespace of the names of a command.
#[derive(Clone, Debug, Args)]
pub(super) struct InNamespace {
    /// The namespace of the name; '' is that of plain names [env: VWATCH_NAMESPACE]
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true, value_parser = parse)]
    pub(super) namespace: Namespace,
}

/// Reads a namespace that clients may use; an empty text is that of plain names.
pub(super) fn parse(text: &str) -> Result<Namespace, String> {
    if text.is_empty() {
        return Ok(Namespace::PLAIN);
    }
    match Namespace::new(text.as_bytes()) {
        Ok(namespace) if namespace.is_own() => {
            Err("those that begin with '.' are the nodes' own: use another one".to_owned())
        }
        Ok(namespace) => Ok(namespace),
        Err(error) => Err(error.to_string()),
    }
}

/// The namespace in the environment, if there is one.
///
/// # Errors
/// If it is none.
pub(super) fn from_env() -> Result<Option<String>, Failure> {
    let Some(text) = environment::variable(VARIABLE) else { return Ok(None) };
    match parse(&text) {
        Ok(_) => Ok(Some(text)),
        Err(why) => Err(Failure::Usage(format!("bad {VARIABLE}: got {text:?}: {why}"))),
    }
}

impl InNamespace {
    /// The paths of this namespace.
    pub(super) fn place(&self) -> Place {
        Place::of(self.namespace.clone())
    }

    /// A failure whose advice is about the history of a plain name, with this namespace in it.
    pub(super) fn advising(&self, failure: Failure) -> Failure {
        const COMMAND: &str = "vwatch history ";
        match failure {
            Failure::Missing(line) => Failure::Missing(match line.rsplit_once(COMMAND) {
                Some((before, name)) => format!("{before}{COMMAND}{}{name}", self.typed()),
                None => line,
            }),
            failure => failure,
        }
    }

    /// The option as it is typed, with a space behind it; empty for plain names.
    pub(super) fn typed(&self) -> String {
        match self.namespace.is_plain() {
            true => String::new(),
            false => format!("--namespace {} ", quoted(self.namespace.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_part_of_each_path() {
        let plain = InNamespace { namespace: parse("").unwrap() };
        assert_eq!(
            (plain.place().path_of("a b"), plain.place().list()),
            ("/v1/versions/a%20b".into(), "/v1/versions".into())
        );
        assert_eq!(plain.typed(), "");
        let log = InNamespace { namespace: parse("log.a").unwrap() };
        assert_eq!(log.place().path_of("a//b"), "/v1/ns/log.a/versions/a//b");
        assert_eq!(log.place().history_of("n"), "/v1/ns/log.a/history/n");
        assert_eq!(log.place().list(), "/v1/ns/log.a/versions");
        assert_eq!(log.place().events_of("e/1"), "/v1/ns/log.a/events/e/1");
        assert_eq!(log.typed(), "--namespace log.a ");
    }

    #[test]
    fn advice_has_the_namespace() {
        let within = |text: &str| InNamespace { namespace: parse(text).unwrap() };
        let failure = || Failure::Missing("no such revision: see: vwatch history n".to_owned());
        assert_eq!(within("").advising(failure()), failure());
        let advised = Failure::Missing("no such revision: see: vwatch history --namespace a n".to_owned());
        assert_eq!(within("a").advising(failure()), advised);
        assert_eq!(within("a").advising(Failure::Unchanged), Failure::Unchanged);
    }

    #[test]
    fn what_is_no_namespace_of_a_client_is_refused() {
        for text in ["A", "a/b", ".own", "..", "a b", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
