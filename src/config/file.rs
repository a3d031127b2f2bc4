//! The file of settings: TOML, with the flags of a node by their names.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::raw::{FLAGS, Flag, Raw, Takes, TextSource};

/// Most bytes of the file.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Most errors that are told of one file.
const MAX_ERRORS: usize = 20;

/// Longest part of an unknown name that an error shows, in characters.
const MAX_SHOWN_CHARS: usize = 80;

/// The texts of a flag in a file.
struct Setting {
    flag: &'static Flag,
    /// Its line, from 1.
    line: usize,
    /// Several for a flag that is repeatable, else one.
    texts: Vec<String>,
}

impl Raw {
    /// Takes the texts of the file of settings, if there is one, for the flags that have no text yet. It blocks.
    ///
    /// # Errors
    /// All that is wrong in the form of the file; then nothing of it is taken.
    pub fn read_file(&mut self) -> Result<(), Vec<ConfigError>> {
        let Some((source, path)) = &self.file else { return Ok(()) };
        if path.as_os_str().is_empty() {
            return Err(vec![ConfigError::new(format!(
                "bad {source}: it is empty: write the path of a file"
            ))]);
        }
        let (path, mut settings) = (path.display().to_string(), read(path)?);
        // a list in the file is not mixed with one from elsewhere
        settings.retain(|setting| self.typed_at(setting.flag.name).is_none());
        for Setting { flag, line, texts } in settings {
            let source = TextSource::File { name: flag.name, place: Some(format!("{path}, line {line}")) };
            for text in texts {
                self.take(flag, source.clone(), text);
            }
        }
        Ok(())
    }
}

/// Reads a file. It blocks.
///
/// # Errors
/// All that is wrong in its form, at least one line. What the texts mean is not checked.
fn read(path: &Path) -> Result<Vec<Setting>, Vec<ConfigError>> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text));
    match read {
        Err(error) => {
            let line = format!("{} cannot be read: {error}", path.display());
            Err(vec![ConfigError::new(line)])
        }
        Ok(bytes) if bytes > MAX_FILE_BYTES => {
            let line = format!("bad {}: more than {MAX_FILE_BYTES} bytes: leave some out", path.display());
            Err(vec![ConfigError::new(line)])
        }
        Ok(_) => parse(&text).map_err(|wrong| {
            let named = |(line, why): (usize, String)| format!("bad {}, line {line}: {why}", path.display());
            wrong.into_iter().take(MAX_ERRORS).map(|one| ConfigError::new(named(one))).collect()
        }),
    }
}

/// Reads the text of a file: its settings, or all errors with their lines.
fn parse(text: &str) -> Result<Vec<Setting>, Vec<(usize, String)>> {
    let line_at = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let (table, wrong) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<_> = wrong
        .iter()
        .map(|error| (line_at(error.span().map_or(0, |span| span.start)), of_toml(error.message())))
        .collect();
    if !wrong.is_empty() {
        // what could not be read is not known, so that further errors may be none
        return Err(wrong);
    }
    let mut settings: Vec<Setting> = Vec::new();
    for (key, value) in table.get_ref() {
        let (name, line) = (key.get_ref().as_ref(), line_at(key.span().start));
        let Some(flag) = find(name) else {
            wrong.push((line, unknown(name, value.get_ref())));
            continue;
        };
        match texts(flag, value.get_ref()) {
            Err(why) => wrong.push((line, format!("{name} is {why}"))),
            Ok(texts) => settings.push(Setting { flag, line, texts }),
        }
    }
    settings.sort_by_key(|setting| setting.line);
    for (at, setting) in settings.iter().enumerate() {
        // under its second name; TOML itself has each key once
        if let Some(first) = settings[..at].iter().find(|other| other.flag.name == setting.flag.name) {
            let Setting { flag, line, .. } = setting;
            wrong.push((*line, format!("{} is in line {} too: leave one out", flag.name, first.line)));
        }
    }
    wrong.sort();
    if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name || flag.alias == Some(name))
}

/// An error of TOML. Its message quotes nothing of the file, which may have secrets.
fn of_toml(message: &str) -> String {
    match message {
        "duplicate key" => "a setting is given twice: leave one out".to_owned(),
        message => {
            let first = message.lines().next().unwrap_or_default();
            format!("not TOML: {first}: write settings as block-for = \"10s\"")
        }
    }
}

fn unknown(name: &str, value: &DeValue<'_>) -> String {
    let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
    let advice = match (meant(name), value) {
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, DeValue::Table(_)) => "settings are in no table".to_owned(),
        (None, _) => "'vwatch serve --help' has the names, here without dashes".to_owned(),
    };
    format!("no setting {shown:?}: {advice}")
}

/// The name that is spelled most like this one, if it is like it.
fn meant(name: &str) -> Option<&'static str> {
    const MOST_EDITS: usize = 2;
    if name.len() > MAX_SHOWN_CHARS {
        return None;
    }
    let plain = name.trim_start_matches('-').trim_start_matches("VWATCH_");
    let plain = plain.to_ascii_lowercase().replace('_', "-");
    let names = FLAGS.iter().map(|flag| (edits(flag.name, &plain), flag.name));
    names.min().filter(|(edits, _)| *edits <= MOST_EDITS).map(|(_, name)| name)
}

/// How many bytes have to be inserted, left out or replaced to make one text of the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// The texts of a value, or what it is and what is expected, without the value, which may be a secret.
fn texts(flag: &Flag, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let of_list = |list: &toml::de::DeArray<'_>| {
        let texts = list.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            item => Err(format!("a list with {}: {}", kind(item), expected(flag))),
        });
        texts.collect::<Result<Vec<_>, _>>()
    };
    match (flag.takes, value) {
        (Takes::Switch, DeValue::Boolean(is_on)) => Ok(vec![is_on.to_string()]),
        (Takes::Text(_) | Takes::Texts(_), DeValue::String(text)) => Ok(vec![text.clone().into_owned()]),
        (Takes::Text("BYTES" | "COUNT"), DeValue::Integer(number)) => Ok(vec![number.to_string()]),
        (Takes::Texts(_), DeValue::Array(list)) => of_list(list),
        (Takes::Text("URLS" | "IDS"), DeValue::Array(list)) => {
            // no text: then the list counts as not given
            of_list(list).map(|texts| (!texts.is_empty()).then(|| texts.join(",")).into_iter().collect())
        }
        (_, value) => Err(format!("{}: {}", kind(value), expected(flag))),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn expected(flag: &Flag) -> String {
    match (flag.takes, flag.default) {
        (Takes::Switch, _) => "write true or false, without quotes".to_owned(),
        (Takes::Texts(_), _) => "write a list such as [\"one\", \"other\"]".to_owned(),
        (Takes::Text("URLS" | "IDS"), _) => {
            "write a text such as \"one,other\", or a list such as [\"one\", \"other\"]".to_owned()
        }
        (Takes::Text("BYTES"), _) => "write a number, or a text such as \"64KiB\"".to_owned(),
        (Takes::Text("COUNT"), _) => "write a number".to_owned(),
        (Takes::Text(_), Some(default)) => format!("write a text such as {default:?}"),
        (Takes::Text(_), None) => "write a text in quotes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag, its texts, and its line.
    type Parsed = (&'static str, Vec<String>, usize);

    fn parsed(text: &str) -> Result<Vec<Parsed>, Vec<(usize, String)>> {
        let all = parse(text)?;
        Ok(all.into_iter().map(|setting| (setting.flag.name, setting.texts, setting.line)).collect())
    }

    #[test]
    fn each_kind_of_flag_has_its_values() {
        let text = "# a comment\nlisten-client = \":8080\"\ndata-limit-error = false\nmax-set-bytes = \"2GiB\"\n\
                    data-limit-bytes = 0x1000\nmax-leases = 10_000\nreplicate-with = [\n  \"a\", \"b:1\",\n]\n\
                    lease-voters = \"a,b\"\nfill-headers = ['A: 1', \"B: 2\"]\nfill-prefix = 'one'\nfill-addr = \"x\"\n\
                    lease-voters-before = []\n";
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = vec![
            ("listen-client", texts(&[":8080"]), 2),
            ("data-limit-error", texts(&["false"]), 3),
            ("max-set-bytes", texts(&["2GiB"]), 4),
            ("data-limit-bytes", texts(&["0x1000"]), 5),
            ("max-leases", texts(&["10000"]), 6),
            ("replicate-with", texts(&["a,b:1"]), 7),
            ("lease-voters", texts(&["a,b"]), 10),
            ("fill-headers", texts(&["A: 1", "B: 2"]), 11),
            ("fill-prefix", texts(&["one"]), 12),
            ("fill-from", texts(&["x"]), 13),
            ("lease-voters-before", texts(&[]), 14),
        ];
        assert_eq!(parsed(text), Ok(expected));
        assert_eq!(parsed(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_is_expected() {
        for (text, line, said) in [
            ("\nlisten-clinet = ':1'", 2, "no setting \"listen-clinet\": did you mean listen-client?"),
            ("BLOCK_FOR = '1s'", 1, "no setting \"BLOCK_FOR\": did you mean block-for?"),
            ("'--block-for' = '1s'", 1, "no setting \"--block-for\": did you mean block-for?"),
            ("x = 1", 1, "no setting \"x\": 'vwatch serve --help' has the names, here without dashes"),
            ("[cluster]\nregion = 'a'", 1, "no setting \"cluster\": settings are in no table"),
            ("fill.from = 'a'", 1, "no setting \"fill\": settings are in no table"),
            ("block-for = 10", 1, "block-for is a number: write a text such as \"10s\""),
            ("node-id = 1.5", 1, "node-id is a number with a fraction: write a text in quotes"),
            ("node-id = ['a']", 1, "node-id is a list: write a text in quotes"),
            ("data-limit-error = 'no'", 1, "data-limit-error is a text: write true or false, without quotes"),
            ("max-leases = true", 1, "max-leases is true or false: write a number"),
            ("max-set-bytes = 1.5", 1, "write a number, or a text such as \"64KiB\""),
            (
                "\n\nreplicate-with = ['a', 1]",
                3,
                "replicate-with is a list with a number: write a text such as",
            ),
            (
                "cors-origin = 2026-01-01",
                1,
                "cors-origin is a time: write a list such as [\"one\", \"other\"]",
            ),
            ("region = 'a'\nregion = 'b'", 2, "a setting is given twice: leave one out"),
            ("fill-from = 'a'\n\nfill-addr = 'b'", 3, "fill-from is in line 1 too: leave one out"),
            ("region = a", 1, "not TOML: "),
            ("\nregion = \"a", 2, "not TOML: "),
            ("region", 1, "not TOML: "),
        ] {
            let wrong = parsed(text).expect_err(text);
            assert_eq!(wrong[0].0, line, "{wrong:?}");
            assert!(wrong[0].1.contains(said) && !wrong[0].1.contains('\n'), "{text}: {wrong:?}");
        }
        let wrong = parsed("x = 1\nblock-for = 10\nregion = 'fine'\ny = 2\n").unwrap_err();
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn no_error_shows_a_value() {
        for text in [
            "cluster-secret = 's3cret",
            "cluster-secret = s3cret",
            "cluster-secret = \"s3cret\\q\"",
            "cluster-secret = ['s3cret']",
            "cluster-secret = { a = 's3cret' }",
            "cluster-secret = 's3cret'\ncluster-secret = 's3cret'",
            "fill-headers = ['Authorization: s3cret', 1]",
            "s = 's3cret'",
        ] {
            let wrong = format!("{:?}", parsed(text).expect_err(text));
            assert!(!wrong.contains("s3cret"), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_one_error() {
        let error =
            |path: &str| read(Path::new(path)).err().map(|all| all[0].to_string()).unwrap_or_default();
        assert!(error("/nowhere/f.toml").starts_with("/nowhere/f.toml cannot be read: "));
        assert!(error("/").starts_with("/ cannot be read: "));
        assert!(error("/dev/zero").starts_with("bad /dev/zero: more than 1048576 bytes"));
    }
}
