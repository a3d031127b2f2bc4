//! Tokens that `vwatch token new` makes, and the file that nodes read.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::run_to_end;

/// A file of tokens, removed at the end.
#[derive(Debug)]
pub struct TokensFile(PathBuf);

impl TokensFile {
    /// A file without tokens.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vwatch-tokens-file-{}-{number}", std::process::id()));
        fs::write(&path, "").expect("a file");
        Self(path)
    }

    /// Adds a token, with the flags of `vwatch token new`. Returns its secret.
    ///
    /// # Panics
    /// If the command fails.
    #[must_use]
    #[track_caller]
    pub fn add(&self, name: &str, grants: &[&str]) -> String {
        let said = self.add_entry(name, grants);
        let secret = said.split_whitespace().find(|word| word.starts_with("vwt_"));
        secret.expect("the secret").to_owned()
    }

    /// Adds what requests without a token may do.
    ///
    /// # Panics
    /// If the command fails.
    #[track_caller]
    pub fn add_anonymous(&self, grants: &[&str]) {
        let said = self.add_entry("anonymous", grants);
        assert!(!said.contains("vwt_"), "{said}");
    }

    #[track_caller]
    fn add_entry(&self, name: &str, grants: &[&str]) -> String {
        let made = run_to_end(&[&["token", "new", name], grants].concat());
        assert_eq!(made.code, Some(0), "{made:?}");
        let text = fs::read_to_string(&self.0).expect("a file") + &made.stdout;
        fs::write(&self.0, text).expect("a file");
        made.stderr
    }

    /// Its path.
    ///
    /// # Panics
    /// If the path is not UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Default for TokensFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TokensFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
