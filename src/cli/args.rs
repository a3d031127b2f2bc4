//! The command line before and after clap: single dashes as in Go, and one line for an error.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::habits;
use crate::core::Stamp;
use crate::wire::duration;
use crate::wire::version_set::parse_rfc3339;

/// The option for all names that begin with a text.
const PREFIX: &str = "--prefix";

/// Adds the command `serve` to flags without a command, except help and version.
pub(super) fn with_command(mut typed: Vec<OsString>) -> Vec<OsString> {
    let first = typed.get(1).and_then(|first| first.to_str()).unwrap_or("");
    let of_vwatch = ["-h", "-help", "--help", "-V", "-version", "--version"];
    if first.starts_with('-') && !of_vwatch.contains(&first) {
        typed.insert(1, OsString::from("serve"));
    }
    typed
}

/// Gives long options with a single dash, as in Go, `-listen-client :80`, their second dash.
///
/// It reads the command line like clap, so that the value of an option stays unchanged, and stops at `--`. A `--prefix`
/// without a value gets the argument before it or behind it, as in `etcdctl get NAME --prefix`. `command` is built.
pub(super) fn two_dashes(command: &Command, typed: Vec<OsString>) -> Vec<OsString> {
    let mut current = command;
    let mut done = Vec::with_capacity(typed.len());
    let mut typed = typed.into_iter().peekable();
    done.extend(typed.next());
    // where the last argument that is no option is; and whether a `--prefix` waits for one
    let (mut argument, mut waits) = (None, false);
    while let Some(arg) = typed.next() {
        // no option has a text that is not UTF-8
        let text = arg.to_str().unwrap_or("").to_owned();
        if text == "--" {
            done.push(arg);
            break;
        }
        let Some(body) = text.strip_prefix('-').filter(|body| !body.is_empty()) else {
            if let Some(next) = current.find_subcommand(&arg) {
                current = next;
            } else if std::mem::take(&mut waits) {
                done.push(OsString::from(PREFIX));
            } else {
                argument = Some(done.len());
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
            // also an unknown option: the error for a long option with a typing error names all of it, not its first
            // letter
            (OsString::from(format!("-{text}")), long)
        };
        let is_bare = arg == PREFIX && takes_next(option, body);
        if is_bare && typed.peek().is_none_or(|next| is_option(current, next)) {
            match argument.take() {
                Some(at) => {
                    let value = done.remove(at);
                    done.extend([arg, value]);
                }
                None => waits = true,
            }
            continue;
        }
        done.push(arg);
        if takes_rest(option) {
            break;
        }
        if takes_next(option, body) {
            done.extend(typed.next());
        }
    }
    if waits {
        done.push(OsString::from(PREFIX));
    }
    done.extend(typed);
    done
}

/// Whether an argument is an option of this command, or of another one: no prefix begins with two dashes.
fn is_option(command: &Command, arg: &OsStr) -> bool {
    let Some(body) = arg.to_str().and_then(|text| text.strip_prefix('-')) else { return false };
    if body.starts_with('-') {
        return true;
    }
    let name = body.trim_start_matches('-').split('=').next().unwrap_or("");
    let first = body.chars().next();
    find(command, |option| is_long(option, name) || option.get_short() == first).is_some()
}

fn find(command: &Command, is_it: impl Fn(&Arg) -> bool) -> Option<&Arg> {
    command.get_arguments().find(|arg| is_it(arg))
}

fn is_long(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
}

/// Whether all further arguments are values of this one.
fn takes_rest(arg: Option<&Arg>) -> bool {
    arg.and_then(Arg::get_num_args).is_some_and(|count| count.max_values() == usize::MAX)
}

/// Whether the next argument is the value of this one.
fn takes_next(arg: Option<&Arg>, body: &str) -> bool {
    let needs_value = |arg: &Arg| {
        arg.get_action().takes_values() && arg.get_num_args().is_none_or(|count| count.min_values() > 0)
    };
    !body.contains('=') && arg.is_some_and(needs_value)
}

/// The command with the error, for "try 'vwatch get --help'".
pub(super) fn asked_of(command: &Command, typed: &[OsString]) -> String {
    let visible = |name: &OsStr| command.find_subcommand(name).filter(|found| !found.is_hide_set());
    match typed.get(1).and_then(|name| visible(name)) {
        Some(found) => format!("vwatch {}", found.get_name()),
        None => "vwatch".to_owned(),
    }
}

/// The error of clap in one line, without usage and colours. `typed` is the command line before [`two_dashes`], so that
/// the error has the text as typed.
pub(super) fn one_line(error: &clap::Error, asked_of: &str, typed: &[OsString]) -> String {
    if let Some(said) = habit(error, typed) {
        return said;
    }
    let one_too_many = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg))
            if error.kind() == ErrorKind::UnknownArgument && !arg.starts_with('-') =>
        {
            one_at_a_time(asked_of)
        }
        _ => None,
    };
    let text = error.to_string();
    let mut parts: Vec<String> = Vec::new();
    let mut instead = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let line = line.strip_prefix("tip: ").unwrap_or(line);
        if let Some(unknown) = inner(line, "unexpected argument '") {
            let shown = as_typed(typed, unknown).map_or(unknown, |arg| arg.split('=').next().unwrap_or(arg));
            parts.push(format!("unexpected argument '{shown}' found"));
            instead = instead.or_else(|| habits::option_instead(shown));
        } else if let Some(value) = inner(line, "to pass '") {
            // a text that is only a part of an argument is no value
            parts.extend(
                as_typed(typed, value).map(|arg| format!("to pass '{arg}' as a value, use '-- {arg}'")),
            );
        } else if !line.is_empty() {
            parts.push(line.to_owned());
        }
    }
    // what another tool calls it is better advice than what has a similar name
    if instead.is_some() {
        parts.truncate(1);
    }
    parts.extend(one_too_many.or(instead).map(str::to_owned));
    let mut said = String::new();
    for part in parts {
        let glue = if said.is_empty() || said.ends_with(':') || part.starts_with('[') { " " } else { ": " };
        said.push_str(if said.is_empty() { "" } else { glue });
        said.push_str(&part);
    }
    format!("{said}: try '{asked_of} --help'")
}

/// The line for a command of another tool.
fn habit(error: &clap::Error, typed: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let words: Vec<&str> =
        typed.iter().skip(1).filter_map(|arg| arg.to_str()).filter(|arg| !arg.starts_with('-')).collect();
    let instead = habits::instead(&words)?;
    Some(format!("unrecognized subcommand '{}': {instead}", words[..habits::length(&words)].join(" ")))
}

/// The text between `before`, with which a line begins, and the next quote.
fn inner<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.split_once('\'').map(|(inner, _)| inner)
}

/// The argument as typed that an error of clap names: it may have one dash, and its value after `=`.
fn as_typed<'a>(typed: &'a [OsString], spoken_of: &str) -> Option<&'a str> {
    typed.iter().filter_map(|arg| arg.to_str()).find(|arg| {
        let name = arg.split('=').next().unwrap_or(arg);
        name == spoken_of || name.starts_with('-') && spoken_of.strip_prefix('-') == Some(name)
    })
}

/// A text quoted for a shell, as one word.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The advice for a command with one argument too many.
fn one_at_a_time(asked_of: &str) -> Option<&'static str> {
    match asked_of {
        "vwatch put" => Some("it writes one name: put quotes around a value with spaces"),
        "vwatch history" => Some("it shows one name: run it for each"),
        "vwatch revert" => Some("it takes one name and one revision"),
        "vwatch ls" => Some("it lists one prefix: run it for each"),
        "vwatch health" => Some("separate URLs by commas"),
        _ => None,
    }
}

/// Reads the stamp of a write.
pub(super) fn stamp(text: &str) -> Result<Stamp, String> {
    Stamp::parse(text.as_bytes()).map_err(|error| format!("{error}: write one such as 1741837692000000"))
}

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// This one.
    At(Stamp),
    /// So long before now.
    Ago(Duration),
}

/// Reads a time: microseconds since 1970, RFC 3339, an age, or `now`.
pub(super) fn time(text: &str) -> Result<Time, &'static str> {
    const ADVICE: &str = "not a time: write microseconds since 1970, a time such as 2026-11-28T12:00:00Z, an age such \
                          as 5m, or now";
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = match text {
        "now" => Some(Time::Ago(Duration::ZERO)),
        _ if is_number => Stamp::parse(text.as_bytes()).ok().map(Time::At),
        _ => match duration::parse(text) {
            Ok(age) => Some(Time::Ago(age)),
            Err(_) => parse_rfc3339(text).ok().map(Time::At),
        },
    };
    parsed.ok_or(ADVICE)
}

impl Time {
    /// The stamp of this time, at the time `now`.
    pub(super) fn stamp(&self, now: Stamp) -> Stamp {
        match self {
            Self::At(stamp) => *stamp,
            Self::Ago(age) => now.before(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

/// Reads a count of at least 1.
pub(super) fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|&count| count > 0).ok_or("not a whole number of at least 1")
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
        let before = with_command(typed(line));
        let typed = two_dashes(&command, before.clone());
        let asked_of = asked_of(&command, &typed);
        one_line(&command.try_get_matches_from(typed).unwrap_err(), &asked_of, &before)
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
            (
                "mirror -timeout 3s p d -exec cmd -timeout -- -v",
                "mirror --timeout 3s p d --exec cmd -timeout -- -v",
            ),
            ("put a -", "put a -"),
            ("get a --prefix", "get --prefix a"),
            ("get -w json a -prefix", "get -w json --prefix a"),
            ("get a --prefix -w json", "get --prefix a -w json"),
            ("get --prefix -w json a", "get -w json --prefix a"),
            ("watch a b --prefix", "watch a --prefix b"),
            ("del --prefix", "del --prefix"),
            ("get a --prefix --keys-only", "get --prefix a --keys-only"),
            ("get --prefix -dash a", "get --prefix -dash a"),
            ("lock a --prefix -- cmd", "lock a --prefix -- cmd"),
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
    fn a_mistake_is_one_line_with_advice() {
        for (line, said) in [
            (
                "--listen-clinet :80",
                "unexpected argument '--listen-clinet' found: a similar argument exists: '--listen-client': \
                 try 'vwatch serve --help'",
            ),
            ("get", "the following required arguments were not provided: <NAME>...: try 'vwatch get --help'"),
            (
                "get -w xml a",
                "invalid value 'xml' for '--output <FORMAT>' [possible values: json, table, simple]: \
                 try 'vwatch get --help'",
            ),
            (
                "wathc a",
                "unrecognized subcommand 'wathc': some similar subcommands exist: 'health', 'watch': \
                 try 'vwatch --help'",
            ),
            (
                "put a b c",
                "unexpected argument 'c' found: it writes one name: put quotes around a value with spaces: \
                 try 'vwatch put --help'",
            ),
            ("set a b", "unrecognized subcommand 'set': use 'vwatch put': try 'vwatch put --help'"),
            ("List", "unrecognized subcommand 'List': use 'vwatch ls': try 'vwatch ls --help'"),
            (
                "put -dash=1 val",
                "unexpected argument '-dash' found: to pass '-dash=1' as a value, use '-- -dash=1': \
                 try 'vwatch put --help'",
            ),
            (
                "put --dash val",
                "unexpected argument '--dash' found: to pass '--dash' as a value, use '-- --dash': \
                 try 'vwatch put --help'",
            ),
            ("get -vx n", "unexpected argument '-x' found: try 'vwatch get --help'"),
            (
                "put --modified -5 n",
                "invalid value '-5' for '--modified <MICROS>': not a whole number of microseconds since 1970: \
                 write one such as 1741837692000000: try 'vwatch put --help'",
            ),
            (
                "watch -n -5 n",
                "invalid value '-5' for '--count <COUNT>': not a whole number of at least 1: \
                 try 'vwatch watch --help'",
            ),
            (
                "ls --limit -5",
                "invalid value '-5' for '--limit <COUNT>': not a whole number of at least 1: \
                 try 'vwatch ls --help'",
            ),
        ] {
            assert_eq!(mistake(line), said, "{line}");
        }
    }

    #[test]
    fn a_time_is_a_stamp_a_date_an_age_or_now() {
        let now = Stamp::from_micros(1_700_000_000_000_000).unwrap();
        let at = |text: &str| time(text).map(|time| time.stamp(now).micros());
        for (text, micros) in [
            ("1741837692000000", 1_741_837_692_000_000),
            ("2025-03-13T03:48:12Z", 1_741_837_692_000_000),
            ("2025-03-13T04:48:12.000001+01:00", 1_741_837_692_000_001),
            ("5m", 1_699_999_700_000_000),
            ("0s", 1_700_000_000_000_000),
            ("now", 1_700_000_000_000_000),
        ] {
            assert_eq!(at(text), Ok(micros), "{text}");
        }
        for text in ["", "-5m", "yesterday", "Now", "2025-03-13", "1e9", "99999999999999999999"] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("--replicate-with"), "--replicate-with");
        assert_eq!(quoted("127.0.0.1:8008,[::1]:1"), "'127.0.0.1:8008,[::1]:1'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_command_takes_all_arguments_behind_it() {
        let mut command = super::super::command();
        command.build();
        let line = "mirror -timeout 3s p d -exec cmd -timeout --namespace x -- -n";
        let matches = command.clone().get_matches_from(two_dashes(&command, with_command(typed(line))));
        let matches = matches.subcommand_matches("mirror").unwrap();
        let exec: Vec<_> =
            matches.get_many::<OsString>("exec").unwrap().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(exec, ["cmd", "-timeout", "--namespace", "x", "--", "-n"]);
        assert_eq!(matches.get_one::<String>("prefix").unwrap(), "p");
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        let mut command = super::super::command();
        command.build();
        let line = "get --version -v1 --client-url -x -- -n";
        let matches =
            command.clone().try_get_matches_from(two_dashes(&command, with_command(typed(line)))).unwrap();
        let matches = matches.subcommand_matches("get").unwrap();
        let text = |id: &str| matches.get_one::<String>(id).unwrap().as_str();
        assert_eq!((text("version"), text("client_url"), text("names")), ("-v1", "-x", "-n"));
    }
}
