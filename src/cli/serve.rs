//! `vwatch [serve]`: runs a node.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::failure::{Failure, complain};
use crate::config::raw::{CONFIG, FLAGS, Flag, Takes};
use crate::config::{Config, ConfigError, Raw};

pub(super) fn command() -> Command {
    Command::new("serve")
        .about("Run a node (this is what vwatch does without a command)")
        .args_override_self(true)
        .args(args())
        .after_help(format!("{EXAMPLES}\n\n{}", notes()))
}

/// The flags for clap.
pub(super) fn args() -> impl Iterator<Item = Arg> {
    flags().map(working)
}

fn flags() -> impl Iterator<Item = &'static Flag> {
    std::iter::once(&CONFIG).chain(FLAGS)
}

fn named(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).allow_hyphen_values(true).help(flag.help);
    let arg = arg.help_heading("Flags of a node");
    match flag.alias {
        Some(alias) => arg.alias(alias),
        None => arg,
    }
}

fn working(flag: &Flag) -> Arg {
    let help = match flag.default {
        Some(default) => format!("{} [default: {default}]", flag.help),
        None => flag.help.to_owned(),
    };
    let arg = named(flag).help(help);
    match flag.takes {
        Takes::Text(value) => arg.value_name(value),
        Takes::Texts(value) => arg.value_name(value).action(ArgAction::Append),
        Takes::Switch => {
            arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  vwatch                                   reads on 127.0.0.1:8080,
                                           writes on 127.0.0.1:8008
  vwatch --listen-client :8080             reads from everywhere
  vwatch -block-for 30s -log-level=debug   single dashes work too
  VWATCH_LOG_LEVEL=debug vwatch            each flag has a variable
  vwatch --config vwatch.toml              or is in a file";

/// Notes about all flags.
pub(super) fn notes() -> &'static str {
    "Each flag also reads VWATCH_<FLAG>, such as VWATCH_LISTEN_CLIENT, and the file of --config; a flag takes \
     precedence over its variable, and that over the file. An empty variable counts as unset. Durations are written as 10s, 1m30s or 250ms, sizes in bytes or with KiB, \
     MiB or GiB.\n\nRequests to --fill-from obey HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl does, except \
     for this machine's own addresses. Requests to peers use no proxy."
}

/// Runs it. `commit` is that of the source, if it was known when the program was built.
pub(super) fn run(matches: &ArgMatches, commit: Option<&'static str>) -> Result<(), Failure> {
    let config = configure(matches, std::env::vars_os())?;
    crate::daemon::run(config, commit).map_err(|error| Failure::Usage(error.to_string()))
}

fn configure(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Failure> {
    let refused = |error: ConfigError| Failure::Usage(error.to_string());
    let mut raw = Raw::collect(typed(matches), env).map_err(refused)?;
    for name in &raw.unknown_env {
        complain(&format!(
            "warning: {name} is no setting and is ignored: 'vwatch serve --help' has the names"
        ));
    }
    raw.read_file().map_err(|errors| match &errors[..] {
        [one] => Failure::Usage(one.to_string()),
        [first, rest @ ..] => {
            Failure::Usage(format!("{first} (and {} more: 'vwatch config check FILE' has all)", rest.len()))
        }
        [] => Failure::Usage("the file of settings is wrong".to_owned()),
    })?;
    Config::from_raw(&raw).map_err(refused)
}

/// The given flags with their texts.
fn typed(matches: &ArgMatches) -> Vec<(String, String)> {
    let mut typed = Vec::new();
    for flag in flags() {
        if !matches.contains_id(flag.name) {
            continue;
        }
        let texts = matches.get_many::<String>(flag.name).unwrap_or_default();
        let before = typed.len();
        typed.extend(texts.map(|text| (flag.name.to_owned(), text.clone())));
        if typed.len() == before {
            typed.push((flag.name.to_owned(), String::new()));
        }
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::super::args;
    use super::*;

    fn try_matches_of(line: &str) -> Result<ArgMatches, String> {
        let mut command = super::super::command();
        command.build();
        let typed = std::iter::once("vwatch").chain(line.split_whitespace()).map(OsString::from).collect();
        let typed = args::two_dashes(&command, args::with_command(typed));
        let matches = command.try_get_matches_from(typed).map_err(|error| error.to_string())?;
        Ok(matches.subcommand_matches("serve").unwrap_or(&matches).clone())
    }

    fn matches_of(line: &str) -> ArgMatches {
        try_matches_of(line).expect("flags")
    }

    fn configured(line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        configure(&try_matches_of(line)?, env.iter().map(|&(name, text)| (name.into(), text.into())))
            .map_err(|failure| failure.line().unwrap_or("").to_owned())
    }

    #[test]
    fn with_and_without_the_word_serve() {
        for line in
            ["-listen-client :7000", "serve --listen-client=:7000", "--listen-client :1 -listen-client :7000"]
        {
            assert_eq!(configured(line, &[]).unwrap().listen_client, ":7000", "{line}");
        }
    }

    #[test]
    fn booleans_take_only_an_equals_sign() {
        assert!(!configured("-data-limit-error=false", &[]).unwrap().data_limit_error);
        assert!(!configured("--data-limit-error=F", &[]).unwrap().data_limit_error);
        let env = [("VWATCH_DATA_LIMIT_ERROR", "0")];
        assert!(!configured("", &env).unwrap().data_limit_error);
        assert!(configured("--data-limit-error -block-for 1s", &env).unwrap().data_limit_error);
        assert!(configured("--data-limit-error false", &[]).is_err());
    }

    #[test]
    fn each_flag_works_with_one_dash() {
        for flag in flags() {
            let typed_as = match flag.takes {
                Takes::Switch => vec![format!("-{}=x", flag.name)],
                _ => vec![format!("-{} x", flag.name), format!("-{}=x", flag.name)],
            };
            for line in typed_as {
                assert_eq!(typed(&matches_of(&line)), [(flag.name.to_owned(), "x".to_owned())], "{line}");
            }
        }
    }

    /// The flags of the Go vwatch, with a value that is not the default, and what the node then prints of it.
    #[test]
    fn each_flag_of_the_go_vwatch_keeps_its_name_and_meaning() {
        const OF_GO: [(&str, &str, &str, &str); 16] = [
            ("listen-client", ":7000", "ListenClient", "\":7000\""),
            ("listen-server", "127.0.0.1:7001", "ListenServer", "\"127.0.0.1:7001\""),
            ("node-id", "a", "NodeId", "\"a\""),
            ("replicate-with", "http://b:8008,c:8008", "ReplicateWith", "\"b:8008,c:8008\""),
            ("replicate-interval", "2s", "ReplicateInterval", "\"2s\""),
            ("replicate-resolve-interval", "3s", "ReplicateResolveInterval", "\"3s\""),
            ("replicate-limit-bytes", "2048", "ReplicateLimitBytes", "2048"),
            ("fill-from", "http://up:8080", "FillFrom", "\"http://up:8080\""),
            ("fill-addr", "http://up:8080", "FillFrom", "\"http://up:8080\""),
            (
                "fill-path",
                "/v2/{{.repository}}/manifests/{{.tag}}",
                "FillPath",
                "\"/v2/{{.repository}}/manifests/{{.tag}}\"",
            ),
            ("fill-expiry", "1m", "FillExpiry", "\"1m0s\""),
            ("fill-strategy", "FILL_CACHE", "FillStrategy", "\"FILL_CACHE\""),
            ("data-limit-bytes", "1024", "DataLimitBytes", "1024"),
            ("data-limit-error", "false", "DataLimitError", "false"),
            ("block-for", "250ms", "BlockFor", "\"250ms\""),
            ("jitter-per-watch", "1ms", "JitterPerWatch", "\"1ms\""),
        ];
        for (flag, value, name, shown) in OF_GO {
            let beside = if ["fill-path", "fill-expiry", "fill-strategy"].contains(&flag) {
                "-fill-addr=http://a "
            } else {
                ""
            };
            for line in [format!("{beside}-{flag}={value}"), format!("{beside}--{flag}={value}")] {
                let pretty = configured(&line, &[]).unwrap().pretty();
                let row = pretty.lines().find(|row| row.trim_start().split([' ', ':']).next() == Some(name));
                let row = row.unwrap_or_else(|| panic!("{line}: no {name} in {pretty}"));
                assert!(row.trim_end_matches(',').ends_with(&format!(": {shown}")), "{line}: {row}");
            }
        }
    }

    #[test]
    fn help_shows_only_what_works() {
        let help = command().render_long_help().to_string();
        for flag in flags() {
            assert!(help.contains(&format!("\n      --{}", flag.name)), "{}", flag.name);
        }
    }
}
