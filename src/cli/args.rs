//! Between what was typed and clap: Go's single dashes on the way in, one line for a mistake on the way out.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use crate::config::raw::LATER;

/// Flags without a command are those of a node; only help and version are about vwatch.
pub(super) fn with_command(mut typed: Vec<OsString>) -> Vec<OsString> {
    let first = typed.get(1).and_then(|first| first.to_str()).unwrap_or("");
    let of_vwatch = ["-h", "-help", "--help", "-V", "-version", "--version"];
    if first.starts_with('-') && !of_vwatch.contains(&first) {
        typed.insert(1, OsString::from("serve"));
    }
    typed
}

/// Gives long options that were typed as Go takes them, `-listen-client :80`, their second dash.
///
/// It follows the command line as clap will read it, so that the value of an option stays what it is, and stops at
/// `--`. `command` is built.
pub(super) fn two_dashes(command: &Command, typed: Vec<OsString>) -> Vec<OsString> {
    let mut current = command;
    let mut done = Vec::with_capacity(typed.len());
    let mut typed = typed.into_iter();
    done.extend(typed.next());
    while let Some(arg) = typed.next() {
        // what is not UTF-8 is no option of ours
        let text = arg.to_str().unwrap_or("").to_owned();
        if text == "--" {
            done.push(arg);
            break;
        }
        let Some(body) = text.strip_prefix('-').filter(|body| !body.is_empty()) else {
            if let Some(next) = current.find_subcommand(&arg) {
                current = next;
            }
            done.push(arg);
            continue;
        };
        let name = body.trim_start_matches('-').split('=').next().unwrap_or("");
        let first = body.chars().next();
        let is_single = body.chars().count() == 1;
        let long = find(current, |option| is_long(option, name));
        let short = find(current, |option| option.get_short() == first);
        let (arg, option) = if body.starts_with('-') {
            (arg, long)
        } else if long.is_none() && short.is_some() {
            (arg, short.filter(|_| is_single))
        } else if is_single {
            (arg, None)
        } else {
            // also what nobody knows: a long option with a typo deserves a better answer than about its first letter
            (OsString::from(format!("-{text}")), long)
        };
        done.push(arg);
        if takes_next(option, body) {
            done.extend(typed.next());
        }
    }
    done.extend(typed);
    done
}

fn find(command: &Command, is_it: impl Fn(&Arg) -> bool) -> Option<&Arg> {
    command.get_arguments().find(|arg| is_it(arg))
}

fn is_long(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
}

/// Whether the next argument is this one's value.
fn takes_next(arg: Option<&Arg>, body: &str) -> bool {
    let needs_value = |arg: &Arg| {
        arg.get_action().takes_values() && arg.get_num_args().is_none_or(|count| count.min_values() > 0)
    };
    !body.contains('=') && arg.is_some_and(needs_value)
}

/// The command that a mistake was made with, for "try 'vwatch get --help'".
pub(super) fn asked_of(command: &Command, typed: &[OsString]) -> String {
    let visible = |name: &OsStr| command.find_subcommand(name).filter(|found| !found.is_hide_set());
    match typed.get(1).and_then(|name| visible(name)) {
        Some(found) => format!("vwatch {}", found.get_name()),
        None => "vwatch".to_owned(),
    }
}

/// What clap complains about, without its usage, colours and line breaks.
pub(super) fn one_line(error: &clap::Error, asked_of: &str) -> String {
    let text = error.to_string();
    let mut parts: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let line = line.strip_prefix("tip: ").unwrap_or(line);
        if !line.is_empty() && !names_what_is_missing(line) {
            parts.push(line);
        }
    }
    let mut said = String::new();
    for part in parts {
        let glue = if said.is_empty() || said.ends_with(':') || part.starts_with('[') { " " } else { ": " };
        said.push_str(if said.is_empty() { "" } else { glue });
        said.push_str(part);
    }
    format!("{said}: try '{asked_of} --help'")
}

/// clap also suggests what is hidden; a flag that would be refused is no help.
fn names_what_is_missing(line: &str) -> bool {
    let mut later = LATER.iter().flat_map(|later| later.flags);
    line.contains("similar argument") && later.any(|flag| line.contains(&format!("'--{}'", flag.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Vec<OsString> {
        std::iter::once("vwatch").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    fn read(line: &str) -> String {
        let mut command = super::super::command();
        command.build();
        let done = two_dashes(&command, with_command(typed(line)));
        let done: Vec<_> = done[1..].iter().map(|arg| arg.to_str().unwrap()).collect();
        done.join(" ")
    }

    fn mistake(line: &str) -> String {
        let mut command = super::super::command();
        command.build();
        let typed = two_dashes(&command, with_command(typed(line)));
        let asked_of = asked_of(&command, &typed);
        one_line(&command.try_get_matches_from(typed).unwrap_err(), &asked_of)
    }

    #[test]
    fn single_dashes_become_two() {
        for (line, expected) in [
            ("-listen-client :80 -block-for=1s", "serve --listen-client :80 --block-for=1s"),
            ("serve -data-limit-error=false", "serve --data-limit-error=false"),
            ("-fill-addr x -replicate-with y", "serve --fill-addr x --replicate-with y"),
            ("get -version v -timeout 1s a", "get --version v --timeout 1s a"),
            ("get -v -w json a", "get -v -w json a"),
            ("watch -n 5 a -- cmd -listen-client", "watch -n 5 a -- cmd -listen-client"),
            ("watch -n5 a", "watch -n5 a"),
            ("put a -", "put a -"),
            ("-help", "--help"),
            ("-h", "-h"),
            ("-version", "--version"),
            ("-nonsense", "serve --nonsense"),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn values_stay_as_they_are() {
        for line in [
            "serve --node-id -listen-client",
            "serve --block-for -block-for --node-id get",
            "get --version -w a",
        ] {
            assert_eq!(read(line), line);
        }
        assert_eq!(
            read("-node-id -listen-client -log-level x"),
            "serve --node-id -listen-client --log-level x"
        );
    }

    #[test]
    fn a_mistake_is_one_line_that_says_what_to_do() {
        for (line, said) in [
            (
                "--listen-clinet :80",
                "unexpected argument '--listen-clinet' found: a similar argument exists: '--listen-client': \
                 try 'vwatch serve --help'",
            ),
            ("get", "the following required arguments were not provided: <NAME>: try 'vwatch get --help'"),
            (
                "get -w xml a",
                "invalid value 'xml' for '--output <FORMAT>' [possible values: json, table, simple]: \
                 try 'vwatch get --help'",
            ),
            (
                "wathc a",
                "unrecognized subcommand 'wathc': a similar subcommand exists: 'watch': try 'vwatch --help'",
            ),
        ] {
            assert_eq!(mistake(line), said, "{line}");
        }
    }
}
