//! What a cache has, in a file.
//!
//! The first line says what the file is, and of which watch; then comes a line for each name, and a last one with a
//! checksum of all lines before it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::files::{read_at_most, replace};
use super::value::Entry;

/// The version of the format.
const FORMAT: u32 = 1;
/// Most bytes that are read.
const MOST: u64 = 4 << 30;

/// A file with what a cache has.
#[derive(Clone, Debug)]
pub(super) struct CacheFile {
    path: Arc<Path>,
    /// What tells its watch from others.
    watch: Arc<str>,
}

/// What the file has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) names: BTreeMap<String, Entry>,
    pub(super) cursor: String,
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    vwatch_cache: u32,
    watch: Cow<'a, str>,
    cursor: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    version: String,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    data: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct End {
    xxh3: String,
}

impl CacheFile {
    pub(super) fn new(path: PathBuf, watch: String) -> Self {
        Self { path: path.into(), watch: watch.into() }
    }

    /// What the file has; `None` if there is none.
    ///
    /// # Errors
    /// One line, if there is a file that is not one of this watch.
    pub(super) fn read(&self) -> Result<Option<Kept>, String> {
        let shown = self.path.display();
        let bytes =
            read_at_most(&self.path, MOST).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let kept = self.parse(&bytes);
        kept.map(Some)
            .map_err(|why| format!("cannot use {shown} as a cache: {why}: name another file, or remove it"))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// One line, if it cannot be written.
    pub(super) fn write(&self, names: &BTreeMap<String, Entry>, cursor: &str) -> Result<(), String> {
        replace(&self.path, |file| {
            let mut file = Summed { file, sum: Xxh3Default::new() };
            let watch = Cow::Borrowed(&*self.watch);
            file.line(&Head { vwatch_cache: FORMAT, watch, cursor: cursor.into() })?;
            for Entry { name, version, revision, expires, data } in names.values() {
                let data = data.as_ref().map(|data| STANDARD.encode(data));
                let (name, version, revision, expires) = (name.clone(), version.clone(), *revision, *expires);
                file.line(&Line { name, version, revision, expires, data })?;
            }
            let xxh3 = sum_of(&file.sum);
            file.line(&End { xxh3 })
        })
        .map_err(|error| format!("cannot keep the cache in {}: {error}", self.path.display()))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Kept, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let first = text.lines().next().unwrap_or_default();
        let head: Head<'_> = serde_json::from_str(first).map_err(|_| "it is something else".to_owned())?;
        if head.vwatch_cache != FORMAT {
            return Err(format!("its format is {} and not {FORMAT}", head.vwatch_cache));
        }
        if head.watch != *self.watch {
            return Err(format!("it is of the watch {}", head.watch));
        }
        let body = text.trim_end_matches('\n');
        let (before, last) = body.rsplit_once('\n').ok_or("it is cut off")?;
        let End { xxh3 } = serde_json::from_str(last).map_err(|_| "it is cut off")?;
        let mut sum = Xxh3Default::new();
        sum.write(before.as_bytes());
        sum.write(b"\n");
        if xxh3 != sum_of(&sum) {
            return Err("it is damaged".to_owned());
        }
        let mut names = BTreeMap::new();
        for line in before.lines().skip(1) {
            let Line { name, version, revision, expires, data } =
                serde_json::from_str(line).map_err(|error| error.to_string())?;
            let data =
                data.map(|data| STANDARD.decode(data)).transpose().map_err(|error| error.to_string())?;
            let data = data.map(Into::into);
            names.insert(name.clone(), Entry { name, version, revision, expires, data });
        }
        Ok(Kept { names, cursor: head.cursor.into_owned() })
    }
}

struct Summed<'a> {
    file: &'a mut dyn Write,
    sum: Xxh3Default,
}

impl Summed<'_> {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.sum.write(&text);
        self.file.write_all(&text)
    }
}

fn sum_of(sum: &Xxh3Default) -> String {
    format!("{:032x}", sum.digest128())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::Folder;
    use super::*;

    fn entry(name: &str, data: Option<&[u8]>) -> (String, Entry) {
        let data = data.map(|data| data.to_vec().into());
        let (version, expires) = ("v".to_owned(), (name == "a").then_some(9));
        (name.to_owned(), Entry { name: name.to_owned(), version, revision: 7, expires, data })
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = Folder::new();
        let file = CacheFile::new(folder.path().join("cache"), r#"["a"]"#.to_owned());
        assert_eq!(file.read(), Ok(None));
        for names in [
            BTreeMap::new(),
            BTreeMap::from([entry("a", None), entry("b\u{2028}", Some(b"\n\xff")), entry("c", Some(b""))]),
        ] {
            file.write(&names, "c1.x").unwrap();
            assert_eq!(file.read(), Ok(Some(Kept { names, cursor: "c1.x".to_owned() })));
        }
    }

    #[test]
    fn a_file_that_is_damaged_or_something_else_is_not_used() {
        let folder = Folder::new();
        let path = folder.path().join("cache");
        let file = CacheFile::new(path.clone(), r#"["a"]"#.to_owned());
        file.write(&BTreeMap::from([entry("a", Some(b"data")), entry("b", None)]), "c1.x").unwrap();
        let good = fs::read(&path).unwrap();
        let why = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            file.read().unwrap_err()
        };
        // each byte matters, except for the last line feed
        for at in 0..good.len() - 1 {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            why(&bytes);
            why(&good[..at]);
        }
        assert!(why(b"my notes\n").contains("it is something else"));
        assert!(why(b"").contains("it is something else"));
        fs::write(&path, &good).unwrap();
        let other = CacheFile::new(path, "x".to_owned());
        assert!(other.read().unwrap_err().contains("it is of the watch [\"a\"]"));
    }
}
