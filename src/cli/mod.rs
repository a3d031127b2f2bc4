//! The command line: one file a command. The client commands use HTTP to reach any node.

mod args;
mod bench;
mod checkpoint;
mod client;
mod cluster_view;
mod compact;
mod complete_names;
mod completions;
mod config;
mod confirm;
mod del;
mod dev;
mod diff;
mod disk;
mod environment;
mod event;
mod export;
mod failure;
mod feed;
mod get;
mod habits;
mod health;
mod history;
mod history_depth;
mod import;
mod lease;
mod lock;
mod ls;
mod man;
mod members;
mod mirror;
mod namespace;
mod namespaces;
mod nodes;
mod outage;
mod output;
mod pages;
mod progress;
mod put;
mod revert;
mod runner;
mod serve;
mod set_line;
mod stop;
#[cfg(test)]
mod testing;
mod tls;
mod token;
mod under_lease;
mod version;
mod watch;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use failure::{Failure, complain};

/// The id of `-w` in all commands that have it.
const FORM: &str = "format";

/// Runs the command line of this process. `commit` is that of the source, if it was known when the program was built.
#[must_use]
pub fn main(commit: Option<&'static str>) -> ExitCode {
    match run(std::env::args_os().collect(), commit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(line) = failure.line() {
                complain(line);
            }
            failure.exit_code()
        }
    }
}

fn run(typed: Vec<OsString>, commit: Option<&'static str>) -> Result<(), Failure> {
    let (form, namespace) = (output::from_env(), namespace::from_env());
    let mut command = command();
    if let Ok(Some(form)) = form {
        command = with_default(command, FORM, form);
    }
    if let Ok(Some(text)) = &namespace {
        // clap keeps it until the end of the process
        command = with_default(command, namespace::OPTION, text.clone().leak());
    }
    command.build();
    let before = args::with_command(typed);
    let typed = args::two_dashes(&command, before.clone());
    let asked_of = args::asked_of(&command, &typed);
    let matches = match command.try_get_matches_from_mut(typed) {
        Ok(matches) => matches,
        // help and version are errors to clap
        Err(error) if !error.use_stderr() => return output::print(error.to_string().as_bytes()),
        Err(error) => return Err(Failure::Usage(args::one_line(&error, &asked_of, &before))),
    };
    if leaves_out(&matches, FORM) {
        form?;
    }
    if leaves_out(&matches, namespace::OPTION) {
        namespace?;
    }
    match matches.subcommand() {
        None => serve::run(&matches, commit),
        Some(("serve", matches)) => serve::run(matches, commit),
        Some((dev::COMMAND, matches)) => dev::run_node(matches, commit),
        Some(("version", matches)) => version::run(&read::<version::Version>(matches)?, commit),
        Some((name, matches)) => run_command(name, matches),
    }
}

fn run_command(name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    match name {
        // these handle signals themselves
        "bench" => return bench::run(matches),
        "dev" => return dev::run(&read::<dev::Dev>(matches)?),
        "watch" => return watch::run(&read::<watch::Watch>(matches)?),
        "lock" => return lock::run(&read::<lock::Lock>(matches)?),
        "mirror" => return mirror::run(&read::<mirror::Mirror>(matches)?),
        "export" => return export::run(&read::<export::Export>(matches)?),
        "import" => return import::run(&read::<import::Import>(matches)?),
        _ => stop::as_any_process()?,
    }
    match name {
        "get" => get::run(&read::<get::Get>(matches)?),
        "put" => put::run(&read::<put::Put>(matches)?),
        "del" => del::run(&read::<del::Del>(matches)?),
        "diff" => diff::run(&read::<diff::Diff>(matches)?),
        "history" => history::run(&read::<history::History>(matches)?),
        "revert" => revert::run(&read::<revert::Revert>(matches)?),
        "compact" => compact::run(&read::<compact::Compact>(matches)?),
        "namespaces" => namespaces::run(&read::<namespaces::Namespaces>(matches)?),
        "event" => event::run(matches),
        "checkpoint" => checkpoint::run(matches),
        "lease" => lease::run(matches),
        "config" => config::run(matches),
        "disk" => disk::run(matches),
        complete_names::COMMAND => {
            let mut command = public_command();
            command.build();
            complete_names::run(&read::<complete_names::CompleteNames>(matches)?, &command)
        }
        "completions" => completions::run(&read::<completions::Completions>(matches)?, public_command()),
        "man" => man::run(&read::<man::ManPages>(matches)?, public_command()),
        "tls" => tls::run(matches),
        "token" => token::run(matches),
        "history-depth" => history_depth::run(&read::<history_depth::HistoryDepth>(matches)?),
        "ls" => ls::run(&read::<ls::Ls>(matches)?),
        "members" => members::run(&read::<members::Members>(matches)?),
        "health" => health::run(&read::<health::Health>(matches)?),
        _ => Err(Failure::Usage(format!("{name}: no such command"))),
    }
}

/// The command with the value of an option for commands that are typed without it.
fn with_default(command: Command, id: &'static str, value: &'static str) -> Command {
    let choose = |arg: Arg| if arg.get_id() == id { arg.default_value(value) } else { arg };
    command.mut_args(choose).mut_subcommands(|command| with_default(command, id, value))
}

/// Whether the typed command has an option, and was typed without it.
fn leaves_out(matches: &ArgMatches, id: &str) -> bool {
    let is_default = matches!(matches.try_contains_id(id), Ok(true))
        && matches.value_source(id) == Some(ValueSource::DefaultValue);
    is_default || matches.subcommand().is_some_and(|(_, matches)| leaves_out(matches, id))
}

fn read<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, Failure> {
    T::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))
}

/// All commands.
fn command() -> Command {
    let hidden = Command::new(dev::COMMAND).hide(true).args_override_self(true).args(serve::args());
    let names = client_command::<complete_names::CompleteNames>(complete_names::COMMAND).hide(true);
    public_command().subcommand(hidden).subcommand(names)
}

/// The commands that are for users.
fn public_command() -> Command {
    Command::new("vwatch")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Notifies very many readers, within milliseconds, that the version of a named thing has changed",
        )
        .override_usage("vwatch [serve] [FLAGS]\n       vwatch <COMMAND> NAME [OPTIONS]")
        .subcommand_help_heading("Commands")
        .args_conflicts_with_subcommands(true)
        .args_override_self(true)
        .args(serve::args())
        .after_help(format!("{EXAMPLES}\n\n{}\n\n{EXIT_CODES}", serve::notes()))
        .subcommand(serve::command())
        .subcommand(client_command::<get::Get>("get"))
        .subcommand(client_command::<put::Put>("put"))
        .subcommand(client_command::<del::Del>("del"))
        .subcommand(client_command::<ls::Ls>("ls"))
        .subcommand(client_command::<watch::Watch>("watch"))
        .subcommand(client_command::<mirror::Mirror>("mirror"))
        .subcommand(client_command::<diff::Diff>("diff"))
        .subcommand(client_command::<history::History>("history"))
        .subcommand(client_command::<revert::Revert>("revert"))
        .subcommand(client_command::<compact::Compact>("compact"))
        .subcommand(client_command::<history_depth::HistoryDepth>("history-depth"))
        .subcommand(client_command::<namespaces::Namespaces>("namespaces"))
        .subcommand(client_command::<export::Export>("export"))
        .subcommand(client_command::<import::Import>("import"))
        .subcommand(event::command(with_hyphen_values))
        .subcommand(checkpoint::command(with_hyphen_values))
        .subcommand(client_command::<lock::Lock>("lock"))
        .subcommand(lease::command(with_hyphen_values))
        .subcommand(bench::command())
        .subcommand(client_command::<members::Members>("members"))
        .subcommand(client_command::<dev::Dev>("dev"))
        .subcommand(config::command(with_hyphen_values))
        .subcommand(disk::command(with_hyphen_values))
        .subcommand(tls::command(with_hyphen_values))
        .subcommand(token::command(with_hyphen_values))
        .subcommand(client_command::<health::Health>("health"))
        .subcommand(client_command::<completions::Completions>("completions"))
        .subcommand(client_command::<man::ManPages>("man"))
        .subcommand(client_command::<version::Version>("version"))
}

fn client_command<T: Args>(name: &'static str) -> Command {
    with_hyphen_values(T::augment_args(Command::new(name).args_override_self(true)))
}

/// The argument after an option is its value: a version may begin with a dash, and the option has the best error for a
/// number below zero.
fn with_hyphen_values(command: Command) -> Command {
    command.mut_args(|arg| {
        let is_option = !arg.is_positional() && arg.get_action().takes_values();
        arg.allow_hyphen_values(is_option)
    })
}

const EXAMPLES: &str = "\
Examples:
  vwatch                                 a node: reads on 127.0.0.1:8080,
                                         writes on 127.0.0.1:8008
  vwatch put repo/artifact:latest 3456   write; prints the version
  vwatch get repo/artifact:latest        read; of several names, each
  vwatch get --prefix repo/              all names under a prefix, with data
  vwatch watch repo/artifact:latest      print each change as it happens
  vwatch watch NAME -- ./deploy.sh       run a command at each change
  vwatch watch --prefix repo/            all names under a prefix
  vwatch mirror repo/ DIR                a file for each of them
  vwatch diff --since CURSOR NAME        what has changed since then
  vwatch ls --prefix repo/               list names
  vwatch del repo/artifact:latest        delete
  vwatch del --prefix repo/              all names under a prefix
  vwatch history NAME                    what it was, and when
  vwatch revert NAME REVISION            write an old version again
  vwatch compact 24h                     keep older versions of a day
  vwatch put --namespace team-a NAME 1   a name apart from all others
  vwatch namespaces                      list them
  vwatch export FILE                     names with their values, as lines of JSON
  vwatch import FILE                     write them, with their stamps
  vwatch event put --namespace log.x TYPE --data TEXT
                                         add an event to a log
  vwatch checkpoint set ID CURSOR        let a compaction wait for a reader
  vwatch lock jobs/nightly -- ./job.sh   run a command on one machine at a time
  vwatch lease ls                        the locks that are held
  vwatch bench watch --watchers 10000    measure a node
  vwatch bench stream --streams 2000     and its streams
  vwatch members                         the nodes of a cluster
  vwatch dev                             a cluster on this machine, to try
  vwatch config check FILE               would a node take this file of settings?
  vwatch tls init DIR                    certificates, to try TLS
  vwatch token new NAME --read PREFIX    a token, and its entry for --tokens-file
  vwatch health                          is the node ready?";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed (unreachable, rejected); 2 bad command line or setting; 3 unchanged (get --version); 4 \
no such name; 5 lost to a newer write; 6 a write that may have been done; 75 a lease is lost; 76 a lease stands in the \
way; 128 and the number of the signal that ended \
the command. 'vwatch watch --help' has the codes of 'watch -n COUNT NAME -- COMMAND', and 'vwatch lock --help' those of \
its command.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        command().debug_assert();
    }

    /// The width of the terminal is unknown: a line that is also broken in the source would be broken twice.
    #[test]
    fn prose_in_help_is_not_broken_by_hand() {
        fn check(command: &Command) {
            let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = notes.lines().collect();
            for pair in lines.windows(2) {
                let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let is_broken = is_prose(pair[0]) && is_prose(pair[1]) && pair[0].len() > 80;
                assert!(!is_broken, "{}: {:?}", command.get_name(), pair[0]);
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }
}
