//! `vwatch complete-names -- WORDS`: the names that a shell offers, by one quick request. Scripts of
//! `vwatch completions` call it.

use std::io::Write;

use clap::{Arg, Args, Command, FromArgMatches};

use super::args::quoted;
use super::client::Client;
use super::failure::Failure;
use super::namespace::InNamespace;
use super::nodes::{Nodes, block_on};
use super::pages::Pages;
use crate::core::Delimiter;

/// The command, which is hidden.
pub(super) const COMMAND: &str = "complete-names";

/// How long a shell waits for names.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// Most names that are offered.
const MOST: u64 = 200;

/// The arguments of commands that are names, or what names begin with.
const NAMES: [&str; 5] = ["name", "names", "prefix", "typed_prefix", "path"];

/// Print the names that a command line may go on with
#[derive(Debug, Args)]
pub(super) struct CompleteNames {
    /// The command line behind the program, up to the word that is typed now
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

/// Where the nodes are, as the command line says.
#[derive(Debug, Args)]
struct At {
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    nodes: Nodes,
}

/// Runs it. `command` is the whole tree of commands, built. Without names, and without a node, it prints nothing.
pub(super) fn run(args: &CompleteNames, command: &Command) -> Result<(), Failure> {
    let Some(asked) = Asked::of(command, &args.words) else { return Ok(()) };
    let nodes = At::augment_args(Command::new(COMMAND).no_binary_name(true).args_override_self(true));
    let Ok(matches) = nodes.try_get_matches_from(&asked.options) else { return Ok(()) };
    let Ok(at) = At::from_arg_matches(&matches) else { return Ok(()) };
    let Ok(mut client) = at.nodes.readers(Some(PATIENCE)) else { return Ok(()) };
    let Ok(names) = block_on(names(&at.within, &asked.word, &mut client)) else { return Ok(()) };
    let mut out = std::io::stdout().lock();
    for name in names {
        writeln!(out, "{name}")?;
    }
    Ok(())
}

/// One level of the names that begin with a word. Those that a shell would have to quote are left out.
async fn names(within: &InNamespace, word: &str, client: &mut Client) -> Result<Vec<String>, Failure> {
    let slash = Delimiter::new("/").expect("one byte");
    let mut pages = Pages::new(&within.place(), word, Some(&slash), Some(MOST), false);
    let items = pages.next(client).await?.into_iter().flatten();
    Ok(items.map(|item| item.text().to_owned()).filter(|name| quoted(name) == *name).collect())
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// What the names begin with.
    word: String,
    /// The options about nodes and the namespace, with their values.
    options: Vec<String>,
}

impl Asked {
    /// `None` where no name is expected.
    fn of(root: &Command, words: &[String]) -> Option<Self> {
        let (word, before) = words.split_last()?;
        let (mut current, mut positions, mut options) = (root, 0, Vec::new());
        let mut waits_for: Option<&Arg> = None;
        for text in before {
            if let Some(option) = waits_for.take() {
                options.extend(of_nodes(option, text));
            } else if text == "--" {
                return None;
            } else if let Some(body) = text.strip_prefix("--") {
                let (name, value) = match body.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (body, None),
                };
                let option = current.get_arguments().find(|arg| arg.get_long() == Some(name))?;
                match value {
                    Some(value) => options.extend(of_nodes(option, value)),
                    None if option.get_action().takes_values() => waits_for = Some(option),
                    None => {}
                }
            } else if let Some(short) = text.strip_prefix('-').filter(|short| !short.is_empty()) {
                let is_it = |arg: &&Arg| arg.get_short().is_some_and(|own| short == own.to_string());
                let option = current.get_arguments().find(is_it);
                waits_for = option.filter(|option| option.get_action().takes_values());
            } else if let Some(next) = current.find_subcommand(text) {
                current = next;
            } else {
                positions += 1;
            }
        }
        let position = |at| current.get_positionals().nth(at);
        let here = match waits_for {
            Some(option) => option,
            None if word.starts_with('-') => return None,
            // the last one may take several
            None => position(positions).or_else(|| {
                current
                    .get_positionals()
                    .last()
                    .filter(|arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1))
            })?,
        };
        let is_name = NAMES.contains(&here.get_id().as_str()) && here.get_action().takes_values();
        is_name.then(|| Self { word: word.clone(), options })
    }
}

/// An option that says where names are, as it is typed.
fn of_nodes(option: &Arg, value: &str) -> Option<String> {
    const NEEDED: [&str; 7] = ["client_url", "server_url", "ca", "cert", "key", "token_file", "namespace"];
    let long = option.get_long().filter(|_| NEEDED.contains(&option.get_id().as_str()))?;
    Some(format!("--{long}={value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Fake, answer};
    use super::*;

    fn asked(line: &[&str]) -> Option<(String, Vec<String>)> {
        let mut root = super::super::public_command();
        root.build();
        let words: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        Asked::of(&root, &words).map(|asked| (asked.word, asked.options))
    }

    #[test]
    fn names_are_offered_where_names_are_expected() {
        let plain = |word: &str| Some((word.to_owned(), Vec::new()));
        assert_eq!(asked(&["get", "re"]), plain("re"));
        assert_eq!(asked(&["get", "a", ""]), plain(""));
        assert_eq!(asked(&["del", "--prefix", "re"]), plain("re"));
        assert_eq!(asked(&["watch", "-n", "5", "-w", "json", "re"]), plain("re"));
        assert_eq!(asked(&["ls", "re"]), plain("re"));
        assert_eq!(asked(&["revert", "re"]), plain("re"));
        assert_eq!(asked(&["lease", "grant", "re"]), plain("re"));
        assert_eq!(
            asked(&["get", "--namespace=a", "--client-url", "http://h:1", "--timeout", "1s", "re"]),
            Some(("re".to_owned(), vec!["--namespace=a".to_owned(), "--client-url=http://h:1".to_owned()]))
        );
        for none in [
            &[][..],
            &["ge"],
            &["get", "--re"],
            &["get", "--namespace", "a"],
            &["get", "--nonsense", "a"],
            &["revert", "a", "7"],
            &["put", "a", "da"],
            &["watch", "a", "--", "ec"],
            &["dev", "a"],
            &["export", "fi"],
            &["lock", "--prefix", "--ttl", "1"],
        ] {
            assert_eq!(asked(none), None, "{none:?}");
        }
        assert_eq!(asked(&["lock", "--prefix", "a"]), plain("a"));
    }

    #[tokio::test]
    async fn one_level_is_offered_without_what_needs_quotes() {
        let name =
            |name| json!({"name": name, "version": "v", "data": null, "last-sync": "2025-03-13T03:48:12Z"});
        let items = [name("r/a"), name("r/a b"), json!({"prefix": "r/c/"})];
        let fake = Fake::start(vec![answer("200 OK", &[], &json!({"versions": items}).to_string())]);
        let within = InNamespace { namespace: super::super::namespace::parse("").unwrap() };
        assert_eq!(names(&within, "r/", &mut fake.client()).await.unwrap(), ["r/a", "r/c/"]);
        let seen = fake.seen();
        assert!(
            seen[0].starts_with("GET /v1/versions?prefix=r/&limit=200&delimiter=/&keys-only "),
            "{seen:?}"
        );
    }
}
