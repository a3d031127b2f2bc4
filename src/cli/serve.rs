//! `vwatch [serve]`: runs a node.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::failure::{Failure, complain};
use crate::config::raw::{FLAGS, Flag, Takes};
use crate::config::{Config, Raw};

pub(super) fn command() -> Command {
    Command::new("serve")
        .about("Run a node (this is what vwatch does without a command)")
        .args_override_self(true)
        .args(args())
        .after_help(format!("{EXAMPLES}\n\n{}", notes()))
}

/// The flags for clap.
pub(super) fn args() -> impl Iterator<Item = Arg> {
    FLAGS.iter().map(working)
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
  VWATCH_LOG_LEVEL=debug vwatch            each flag has a variable";

/// Notes about all flags.
pub(super) fn notes() -> &'static str {
    "Each flag also reads VWATCH_<FLAG>, such as VWATCH_LISTEN_CLIENT; a flag takes precedence, and an \
     empty variable counts as unset. Durations are written as 10s, 1m30s or 250ms, sizes in bytes or with KiB, \
     MiB or GiB.\n\nRequests to --fill-from obey HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl does, except \
     for this machine's own addresses. Requests to peers use no proxy."
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let config = configure(matches, std::env::vars_os())?;
    crate::daemon::run(config).map_err(|error| Failure::Usage(error.to_string()))
}

fn configure(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Failure> {
    let refused = |error: crate::config::ConfigError| Failure::Usage(error.to_string());
    let raw = Raw::collect(typed(matches), env).map_err(refused)?;
    for name in &raw.unknown_env {
        complain(&format!(
            "warning: {name} is no setting and is ignored: 'vwatch serve --help' has the names"
        ));
    }
    Config::from_raw(&raw).map_err(refused)
}

/// The given flags with their texts.
fn typed(matches: &ArgMatches) -> Vec<(String, String)> {
    let mut typed = Vec::new();
    for flag in FLAGS {
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

    fn configured(line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let mut command = super::super::command();
        command.build();
        let typed = std::iter::once("vwatch").chain(line.split_whitespace()).map(OsString::from).collect();
        let typed = args::two_dashes(&command, args::with_command(typed));
        let matches = command.try_get_matches_from(typed).map_err(|error| error.to_string())?;
        let matches = matches.subcommand_matches("serve").unwrap_or(&matches);
        configure(matches, env.iter().map(|&(name, text)| (name.into(), text.into())))
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
    fn help_shows_only_what_works() {
        let help = command().render_long_help().to_string();
        for flag in FLAGS {
            assert!(help.contains(&format!("\n      --{}", flag.name)), "{}", flag.name);
        }
    }
}
