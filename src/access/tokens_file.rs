//! The file of tokens: TOML, one table `[[token]]` a token.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::rights::{Grant, GrantedNames};
use super::secret::SecretDigest;
use super::verb::Verb;
use crate::core::limits::MAX_NAME_BYTES;
use crate::core::{Namespace, Stamp};

/// Most bytes of the file.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Most tokens in it.
pub const MAX_TOKENS: usize = 10_000;

/// Most grants of one token.
pub const MAX_GRANTS: usize = 64;

/// Longest name of a token, in bytes.
pub const MAX_TOKEN_NAME_BYTES: usize = 128;

/// The name of the entry that stands for requests without a token.
pub const ANONYMOUS: &str = "anonymous";

/// An entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which logs and refusals show.
    pub name: String,
    /// The digest of its secret; `None` for the entry of requests without a token.
    pub digest: Option<SecretDigest>,
    /// When it ends.
    pub ends: Option<Stamp>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// Why a file of tokens cannot be used, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensError(String);

impl fmt::Display for TokensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TokensError {}

fn wrong<T>(line: impl fmt::Display) -> Result<T, TokensError> {
    // a text of the file must not break the line, nor a terminal
    Err(TokensError(line.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    token: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    sha256: Option<String>,
    ends: Option<toml::value::Datetime>,
    grants: Vec<GrantTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantTable {
    verbs: Vec<String>,
    namespace: Option<String>,
    prefix: Option<String>,
}

/// Reads a file of tokens. It blocks.
///
/// # Errors
/// If it cannot be read, or is wrong.
pub fn read_tokens(path: &Path) -> Result<Vec<Entry>, TokensError> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text));
    match read {
        Err(error) => wrong(format_args!("{} cannot be read: {error}", path.display())),
        Ok(bytes) if bytes > MAX_FILE_BYTES => {
            wrong(format_args!("{} has more than {MAX_FILE_BYTES} bytes", path.display()))
        }
        Ok(_) => {
            parse_tokens(&text).or_else(|TokensError(why)| wrong(format_args!("{}: {why}", path.display())))
        }
    }
}

/// Reads the text of a file of tokens.
///
/// # Errors
/// If it is wrong: each entry has to be right, so that none is left out without a word.
pub fn parse_tokens(text: &str) -> Result<Vec<Entry>, TokensError> {
    let tables: Tables = match toml::from_str(text) {
        Ok(tables) => tables,
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            return wrong(format_args!("line {line}: {}", without_quotes(error.message())));
        }
    };
    if tables.token.len() > MAX_TOKENS {
        return wrong(format_args!("more than {MAX_TOKENS} tokens"));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = Vec::with_capacity(tables.token.len());
    for table in tables.token {
        let entry = entry(table)?;
        let name = &entry.name;
        if !names.insert(name.clone()) {
            return wrong(format_args!("token {name:?} is there twice: give each its own name"));
        }
        if entry.digest.is_some_and(|digest| !digests.insert(digest.0)) {
            return wrong(format_args!("token {name:?} has the sha256 of another one: make a new secret"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// A message about TOML without what it quotes of the file, which may be a secret at the wrong place.
fn without_quotes(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.starts_with("missing field") {
        return line.to_owned();
    }
    let before = line.split(['`', '"', '\'']).next().unwrap_or_default().trim();
    match line.find("expected") {
        Some(at) if at >= before.len() => format!("{before}, {}", &line[at..]),
        _ => before.to_owned(),
    }
}

fn entry(table: Table) -> Result<Entry, TokensError> {
    let Table { name, sha256, ends, grants } = table;
    let shown: String = name.chars().take(MAX_TOKEN_NAME_BYTES).collect();
    let bad = |why: fmt::Arguments<'_>| wrong(format_args!("token {shown:?}: {why}"));
    if name.is_empty() || name.len() > MAX_TOKEN_NAME_BYTES || name.chars().any(char::is_control) {
        return bad(format_args!(
            "use a name of 1 to {MAX_TOKEN_NAME_BYTES} bytes without control characters"
        ));
    }
    let digest = match sha256 {
        None if name == ANONYMOUS => None,
        None => return bad(format_args!("it has no sha256: vwatch token new makes an entry")),
        Some(_) if name == ANONYMOUS => {
            return bad(format_args!("it stands for requests without a token: leave sha256 out"));
        }
        Some(text) => match SecretDigest::parse(&text) {
            None => return bad(format_args!("its sha256 is not 64 hexadecimal digits")),
            digest => digest,
        },
    };
    let ends = match ends {
        None => None,
        Some(time) => match time.to_string().parse::<jiff::Timestamp>() {
            Ok(time) => {
                let micros = u64::try_from(time.as_microsecond()).unwrap_or(0);
                Some(Stamp::from_micros(micros).unwrap_or(Stamp::ZERO))
            }
            Err(_) => {
                return bad(format_args!("ends = {time} is no moment: write it as 2030-01-31T00:00:00Z"));
            }
        },
    };
    if grants.len() > MAX_GRANTS {
        return bad(format_args!("more than {MAX_GRANTS} grants"));
    }
    let grants = grants.into_iter().map(grant).collect::<Result<_, String>>();
    match grants {
        Ok(grants) => Ok(Entry { name, digest, ends, grants }),
        Err(why) => bad(format_args!("{why}")),
    }
}

fn grant(table: GrantTable) -> Result<Grant, String> {
    let GrantTable { verbs, namespace, prefix } = table;
    let words = Verb::ALL.map(Verb::as_str).join(", ");
    if verbs.is_empty() {
        return Err(format!("a grant without verbs: use some of {words}"));
    }
    let verbs = verbs
        .iter()
        .map(|word| Verb::parse(word).ok_or_else(|| format!("no verb {word:?}: use some of {words}")))
        .collect::<Result<Vec<_>, _>>()?;
    let of_the_node = verbs.iter().find(|verb| !verb.is_of_names());
    let of_names = verbs.iter().find(|verb| verb.is_of_names());
    let names = match (of_names, of_the_node) {
        (Some(one), Some(other)) => {
            return Err(format!(
                "{one} is about names and {other} about the node: give each a grant of its own"
            ));
        }
        (None, Some(verb)) if namespace.is_some() || prefix.is_some() => {
            return Err(format!("{verb} is about the node: leave namespace and prefix out"));
        }
        (None, _) => None,
        (Some(verb), None) => Some(names(*verb, namespace.as_deref(), prefix)?),
    };
    Ok(Grant { verbs, names })
}

fn names(verb: Verb, namespace: Option<&str>, prefix: Option<String>) -> Result<GrantedNames, String> {
    let Some(prefix) = prefix else {
        return Err(format!("{verb} without a prefix: write prefix = \"\" for all names"));
    };
    if prefix.len() > MAX_NAME_BYTES || prefix.chars().any(char::is_control) {
        return Err(format!(
            "no name begins with the prefix {:?}",
            prefix.chars().take(80).collect::<String>()
        ));
    }
    match namespace {
        None => Ok(GrantedNames::Prefix(Namespace::PLAIN, prefix)),
        Some("*") if prefix.is_empty() => Ok(GrantedNames::Everything),
        Some("*") => Err("namespace = \"*\" with a prefix: write prefix = \"\"".to_owned()),
        Some(text) => match Namespace::new(text.as_bytes()) {
            Ok(namespace) if namespace.is_own() => {
                Err(format!("{text:?} is a namespace of the node itself: use another one"))
            }
            Ok(namespace) => Ok(GrantedNames::Prefix(namespace, prefix)),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn one(rest: &str) -> Result<Entry, String> {
        let text = format!("[[token]]\nname = \"t\"\nsha256 = \"{HASH}\"\n{rest}");
        parse_tokens(&text).map(|mut all| all.remove(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read() {
        let text = format!(
            "# tokens\n[[token]]\nname = \"dashboard\"\nsha256 = \"{HASH}\"\nends = 2030-01-31T00:00:00Z\n\
             grants = [\n  {{ verbs = [\"read\", \"lease\"], prefix = \"routes/\" }},\n  \
             {{ verbs = [\"write\"], namespace = \"team\", prefix = \"\" }},\n  {{ verbs = [\"observe\"] }},\n]\n\n\
             [[token]]\nname = \"anonymous\"\ngrants = [{{ verbs = [\"read\"], namespace = \"*\", prefix = \"\" }}]\n"
        );
        let entries = parse_tokens(&text).expect("it is right");
        let team = Namespace::new(b"team").expect("it is one");
        let names = |namespace, prefix: &str| Some(GrantedNames::Prefix(namespace, prefix.to_owned()));
        let dashboard = Entry {
            name: "dashboard".to_owned(),
            digest: Some(SecretDigest::of(b"test")),
            ends: Stamp::from_micros(1_896_048_000_000_000).ok(),
            grants: vec![
                Grant { verbs: vec![Verb::Read, Verb::Lease], names: names(Namespace::PLAIN, "routes/") },
                Grant { verbs: vec![Verb::Write], names: names(team, "") },
                Grant { verbs: vec![Verb::Observe], names: None },
            ],
        };
        let anonymous = Entry {
            name: "anonymous".to_owned(),
            digest: None,
            ends: None,
            grants: vec![Grant { verbs: vec![Verb::Read], names: Some(GrantedNames::Everything) }],
        };
        assert_eq!(entries, [dashboard, anonymous]);
        assert_eq!(parse_tokens(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for (rest, why) in [
            ("grants = [{ verbs = [\"raed\"], prefix = \"\" }]", "no verb \"raed\""),
            ("grants = [{ verbs = [], prefix = \"\" }]", "a grant without verbs"),
            ("grants = [{ verbs = [\"read\"] }]", "read without a prefix: write prefix = \"\" for all names"),
            ("grants = [{ verbs = [\"admin\"], prefix = \"\" }]", "leave namespace and prefix out"),
            ("grants = [{ verbs = [\"read\", \"admin\"], prefix = \"\" }]", "a grant of its own"),
            ("grants = [{ verbs = [\"read\"], namespace = \".own\", prefix = \"\" }]", "of the node itself"),
            ("grants = [{ verbs = [\"read\"], namespace = \"A\", prefix = \"\" }]", "bad namespace"),
            ("grants = [{ verbs = [\"read\"], namespace = \"*\", prefix = \"a\" }]", "with a prefix"),
            ("grants = [{ verbs = [\"read\"], prefix = \"a\\u0001\" }]", "no name begins"),
            ("ends = 2030-01-31\ngrants = []", "is no moment"),
            ("ends = \"soon\"\ngrants = []", "line 4"),
            ("", "grants"),
            ("grants = []\nvwt_secret = \"x\"", "line 5: unknown field, expected one of `name`"),
            ("grants = \"vwt_secret\"", "line 4: invalid type: string, expected a sequence"),
            ("grants = [", "line"),
        ] {
            let error = one(rest).expect_err(rest);
            assert!(error.contains(why) && !error.contains('\n'), "{rest}: {error}");
            assert!(!error.contains("vwt_secret"), "{error}");
        }
        let entry = |name: &str, hash: &str| {
            let hash = if hash.is_empty() { String::new() } else { format!("sha256 = \"{hash}\"\n") };
            format!("[[token]]\nname = \"{name}\"\n{hash}grants = []\n")
        };
        let other = HASH.replace('9', "8");
        for (text, why) in [
            (entry("a", ""), "it has no sha256"),
            (entry("a", "12"), "not 64 hexadecimal digits"),
            (entry("anonymous", HASH), "leave sha256 out"),
            (entry("", HASH), "use a name"),
            (entry("a", HASH) + &entry("a", &other), "is there twice"),
            (entry("a", HASH) + &entry("b", HASH), "has the sha256 of another one"),
        ] {
            let error = parse_tokens(&text).expect_err(&text).to_string();
            assert!(error.contains(why) && !error.contains('\n'), "{text}: {error}");
        }
        assert!(parse_tokens(&entry("a", HASH).repeat(MAX_TOKENS + 1)).is_err());
        let missing = read_tokens(Path::new("/nowhere/tokens")).expect_err("it is not there").to_string();
        assert!(missing.starts_with("/nowhere/tokens cannot be read"), "{missing}");
    }
}
