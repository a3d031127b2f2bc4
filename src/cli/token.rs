//! `vwatch token new` and `vwatch token check`: tokens, and what they may do.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use jiff::Timestamp;

use super::failure::Failure;
use super::nodes::Credentials;
use super::output::print;
use crate::access::{
    ANONYMOUS, Entry, Grant, GrantedNames, MAX_TOKEN_NAME_BYTES, SecretDigest, Verb, new_secret,
    parse_tokens, read_tokens,
};
use crate::wire::duration;

/// Make a token
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch token new dashboard --read routes/ >> tokens.toml
  vwatch token new deploy --write routes/ --delete routes/ --lease deploy/ --ends 90d >> tokens.toml
  vwatch token new team-a --namespace team-a --read '' --write '' >> tokens.toml
  vwatch token new prometheus --observe --secret-file prometheus.token >> tokens.toml
  vwatch token new anonymous --read public/ >> tokens.toml

The entry goes to standard output, for the file of --tokens-file; it has only the SHA-256 of the secret. The secret goes \
to standard error, this one time, or to --secret-file. A node reads the file again within ten seconds, and at SIGHUP. The \
entry `anonymous` has no secret: it is for requests without a token.

A prefix covers all names that begin with it: routes covers routes-old/x too, and routes/ does not. '' is all names.")]
struct New {
    /// Its name, which logs and refusals show
    #[arg(value_name = "NAME")]
    name: String,
    /// It may read names that begin so: values, histories, lists, watches, leases and checkpoints; repeatable
    #[arg(long, value_name = "PREFIX")]
    read: Vec<String>,
    /// It may write names, events and checkpoints that begin so; repeatable
    #[arg(long, value_name = "PREFIX")]
    write: Vec<String>,
    /// It may delete names that begin so; repeatable
    #[arg(long, value_name = "PREFIX")]
    delete: Vec<String>,
    /// It may hold leases on paths that begin so; repeatable
    #[arg(long, value_name = "PREFIX")]
    lease: Vec<String>,
    /// The namespace of all its prefixes; * with the prefix '' is all namespaces [default: names without one]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// It may see the node: metrics, cluster, watchers, namespaces
    #[arg(long)]
    observe: bool,
    /// It may change the node: log level, compaction, depth of histories, polls of the upstream
    #[arg(long)]
    admin: bool,
    /// When it ends: a moment such as 2030-01-31T00:00:00Z, or a time from now such as 90d or 12h
    #[arg(long, value_name = "TIME")]
    ends: Option<String>,
    /// A new file for the secret, which only its owner can read
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Show what a token may do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch token check --tokens-file tokens.toml --token-file my.token
  vwatch token check --tokens-file tokens.toml < my.token
  vwatch token check --tokens-file tokens.toml --anonymous

The secret is that of --token-file, VWATCH_TOKEN or VWATCH_TOKEN_FILE, or what is on standard input.

Exit codes: 0 the token is valid; 1 it is none of the file, or has ended; 2 the file is wrong.")]
struct Check {
    /// The file of tokens, as a node reads it
    #[arg(long, value_name = "PATH")]
    tokens_file: PathBuf,
    /// What requests without a token may do
    #[arg(long)]
    anonymous: bool,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Debug, Subcommand)]
enum Action {
    New(Box<New>),
    Check(Box<Check>),
}

/// The command.
pub(super) fn command(with_values: fn(Command) -> Command) -> Command {
    let command = Command::new("token").about("Tokens, and what they may do").subcommand_required(true);
    Action::augment_subcommands(command)
        .mut_subcommands(|command| with_values(command.args_override_self(true)))
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))? {
        Action::New(new) => new.run(),
        Action::Check(check) => check.run(),
    }
}

impl New {
    fn run(&self) -> Result<(), Failure> {
        let is_anonymous = self.name == ANONYMOUS;
        if is_anonymous && self.secret_file.is_some() {
            return Err(Failure::Usage(format!(
                "--secret-file with the name {ANONYMOUS}: that entry has no secret: leave one of them out"
            )));
        }
        let secret = match is_anonymous {
            true => None,
            false => Some(new_secret().map_err(|error| {
                Failure::Failed(format!("no secret: the system gives no random bytes: {error}"))
            })?),
        };
        let entry = self.entry(secret.as_deref())?;
        // the node would refuse what it does not accept, and by then the secret is given away
        if let Err(error) = parse_tokens(&entry) {
            return Err(Failure::Usage(format!("no entry: {error}")));
        }
        match (&secret, &self.secret_file) {
            (Some(secret), Some(path)) => write_secret(path, secret)?,
            (Some(secret), None) => say(&format!("The secret of {:?}, shown only now: {secret}", self.name)),
            (None, _) => {}
        }
        for prefix in [&self.read, &self.write, &self.delete, &self.lease].into_iter().flatten() {
            if !prefix.is_empty() && !prefix.ends_with('/') {
                say(&format!(
                    "note: {prefix:?} also covers names such as {:?}: end it with / if not",
                    format!("{prefix}-x")
                ));
            }
        }
        print(entry.as_bytes()).inspect_err(|_| {
            // a secret without its entry is of no use, and the next try makes the file
            if let Some(path) = &self.secret_file {
                let _ = std::fs::remove_file(path);
            }
        })
    }

    /// The entry for the file.
    fn entry(&self, secret: Option<&str>) -> Result<String, Failure> {
        if self.name.len() > MAX_TOKEN_NAME_BYTES {
            return Err(Failure::Usage(format!(
                "bad NAME: more than {MAX_TOKEN_NAME_BYTES} bytes: use a shorter one"
            )));
        }
        let mut text = format!("\n[[token]]\nname = {}\n", quoted(&self.name));
        if let Some(secret) = secret {
            text.push_str(&format!("sha256 = \"{}\"\n", SecretDigest::of(secret.as_bytes())));
        }
        if let Some(ends) = &self.ends {
            text.push_str(&format!("ends = {}\n", moment(ends)?));
        }
        let grants = self.grants();
        if grants.is_empty() {
            return Err(Failure::Usage(
                "no grant: a token without one may do nothing: give --read, --write, --delete, --lease, --observe or \
                 --admin"
                    .to_owned(),
            ));
        }
        text.push_str("grants = [\n");
        for (verbs, prefix) in grants {
            let words: Vec<String> = verbs.iter().map(|verb| quoted(verb.as_str())).collect();
            let names = prefix.map_or_else(String::new, |prefix| {
                let namespace =
                    self.namespace.as_ref().map(|namespace| format!(", namespace = {}", quoted(namespace)));
                format!("{}, prefix = {}", namespace.unwrap_or_default(), quoted(prefix))
            });
            text.push_str(&format!("  {{ verbs = [{}]{names} }},\n", words.join(", ")));
        }
        text.push_str("]\n");
        Ok(text)
    }

    /// The grants: the verbs of each prefix together.
    fn grants(&self) -> Vec<(Vec<Verb>, Option<&str>)> {
        let by_verb = [
            (Verb::Read, &self.read),
            (Verb::Write, &self.write),
            (Verb::Delete, &self.delete),
            (Verb::Lease, &self.lease),
        ];
        let mut grants: Vec<(Vec<Verb>, Option<&str>)> = Vec::new();
        for (verb, prefixes) in by_verb {
            for prefix in prefixes {
                match grants.iter_mut().find(|(_, other)| *other == Some(prefix)) {
                    Some((verbs, _)) if verbs.contains(&verb) => {}
                    Some((verbs, _)) => verbs.push(verb),
                    None => grants.push((vec![verb], Some(prefix))),
                }
            }
        }
        let of_the_node: Vec<Verb> = [(Verb::Observe, self.observe), (Verb::Admin, self.admin)]
            .into_iter()
            .filter_map(|(verb, is_given)| is_given.then_some(verb))
            .collect();
        grants.extend((!of_the_node.is_empty()).then_some((of_the_node, None)));
        grants
    }
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A moment, or a time from now.
fn moment(text: &str) -> Result<Timestamp, Failure> {
    const SECONDS_OF_A_DAY: u64 = 24 * 3600;
    if let Ok(moment) = text.parse::<Timestamp>() {
        return match moment > Timestamp::now() {
            true => Ok(moment),
            false => Err(Failure::Usage(format!("bad --ends: got {text:?}: it is over: write a later one"))),
        };
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let from_now = match days.and_then(|days| days.checked_mul(SECONDS_OF_A_DAY)) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => duration::parse(text).ok(),
    };
    let from_now =
        from_now.filter(|time| !time.is_zero()).map(|time| Duration::from_secs(time.as_secs().max(1)));
    let end = from_now.and_then(|time| {
        let now = Timestamp::from_second(Timestamp::now().as_second()).ok()?;
        now.checked_add(time).ok()
    });
    end.ok_or_else(|| {
        Failure::Usage(format!(
            "bad --ends: got {text:?}: write a moment such as 2030-01-31T00:00:00Z, or a time from now such as 90d or 12h"
        ))
    })
}

fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(format!("{secret}\n").as_bytes()));
    written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// A line for the user, apart from what goes to standard output.
fn say(line: &str) {
    // whether it can be written changes nothing
    let _ = writeln!(io::stderr(), "{line}");
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let entries = read_tokens(&self.tokens_file)
            .map_err(|error| Failure::Usage(format!("bad --tokens-file: {error}")))?;
        let (digest, what) = match self.anonymous {
            true => (None, "no entry for requests without a token"),
            false => {
                (Some(SecretDigest::of(self.secret()?.as_bytes())), "no token of this file has this secret")
            }
        };
        let Some(entry) = entries.iter().find(|entry| entry.digest == digest) else {
            return Err(Failure::Failed(format!("{what}: {}", self.tokens_file.display())));
        };
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        if entry.ends.is_some_and(|end| end.micros() <= now) {
            return Err(Failure::Failed(format!("the token {:?} has ended", entry.name)));
        }
        print(described(entry).as_bytes())
    }

    fn secret(&self) -> Result<String, Failure> {
        const MOST: u64 = 4096;
        if let Some(secret) = self.credentials.secret()? {
            return Ok(secret);
        }
        let mut text = String::new();
        let read = io::stdin().take(MOST + 1).read_to_string(&mut text);
        let bytes = read.map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
        if bytes as u64 > MOST {
            return Err(Failure::Usage(format!("no secret: standard input has more than {MOST} bytes")));
        }
        match text.trim() {
            "" => Err(Failure::Usage(
                "no secret: give --token-file or VWATCH_TOKEN, or write it to standard input".to_owned(),
            )),
            secret => Ok(secret.to_owned()),
        }
    }
}

/// What an entry allows, one line a grant.
fn described(entry: &Entry) -> String {
    let mut text = format!("token {:?}", entry.name);
    if let Some(end) = entry.ends {
        let end = i64::try_from(end.micros()).ok().and_then(|end| Timestamp::from_microsecond(end).ok());
        text.push_str(&end.map_or_else(String::new, |end| format!(", until {end}")));
    }
    text.push('\n');
    for Grant { verbs, names } in &entry.grants {
        let words: Vec<&str> = verbs.iter().map(|verb| verb.as_str()).collect();
        let on = match names {
            None => "the node".to_owned(),
            Some(GrantedNames::Everything) => "all names of all namespaces".to_owned(),
            Some(GrantedNames::Prefix(namespace, prefix)) => {
                let of = match namespace.as_str() {
                    "" => String::new(),
                    namespace => format!(" of the namespace {namespace}"),
                };
                match &**prefix {
                    "" => format!("all names{of}"),
                    prefix => format!("names{of} that begin with {prefix:?}"),
                }
            }
        };
        text.push_str(&format!("  {}: {on}\n", words.join(", ")));
    }
    if entry.grants.is_empty() {
        text.push_str("  nothing\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> New {
        New {
            name: name.to_owned(),
            read: Vec::new(),
            write: Vec::new(),
            delete: Vec::new(),
            lease: Vec::new(),
            namespace: None,
            observe: false,
            admin: false,
            ends: None,
            secret_file: None,
        }
    }

    #[test]
    fn an_entry_is_what_a_node_reads() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let token = New {
            read: texts(&["routes/", "a\"\\b"]),
            write: texts(&["routes/"]),
            namespace: Some("team".to_owned()),
            observe: true,
            ends: Some("2030-01-31T00:00:00Z".to_owned()),
            ..new("da\"sh")
        };
        let entry = token.entry(Some("secret")).expect("an entry");
        let [entry] = &parse_tokens(&entry).expect("it is read")[..] else { panic!("one") };
        assert_eq!((&*entry.name, entry.digest), ("da\"sh", Some(SecretDigest::of(b"secret"))));
        assert_eq!(
            described(entry),
            "token \"da\\\"sh\", until 2030-01-31T00:00:00Z\n  read, write: names of the namespace team that begin with \
             \"routes/\"\n  read: names of the namespace team that begin with \"a\\\"\\\\b\"\n  observe: the node\n"
        );
        let anonymous = New { read: texts(&[""]), ..new(ANONYMOUS) }.entry(None).expect("an entry");
        let entry = &parse_tokens(&anonymous).expect("it is read")[0];
        assert_eq!(described(entry), "token \"anonymous\"\n  read: all names\n");
    }

    #[test]
    fn a_token_that_may_nothing_is_none() {
        let failure = new("x").entry(Some("s")).expect_err("no grant");
        assert!(failure.line().is_some_and(|line| line.contains("--read")), "{failure:?}");
    }

    #[test]
    fn ends_are_moments_and_times_from_now() {
        let now = Timestamp::now().as_second();
        let seconds = |text: &str| moment(text).expect(text).as_second() - now;
        assert!((90 * 86_400 - 1..=90 * 86_400 + 5).contains(&seconds("90d")));
        assert!((43_199..=43_205).contains(&seconds("12h")));
        assert_eq!(moment("2030-01-31T00:00:00Z").expect("a moment").to_string(), "2030-01-31T00:00:00Z");
        for bad in ["", "soon", "2001-01-01T00:00:00Z", "0s", "2030-01-31", "-1d", "99999999999999d"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
