//! Cluster secrets as operators write them: reading them, and rejecting weak ones.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// Shortest secret in bytes: no search finds 16 random characters, and common passwords are shorter.
pub const MIN_SECRET_BYTES: usize = 16;

/// Longest secret in bytes: a private key in PEM is longer, and must not be used as a secret.
pub const MAX_SECRET_BYTES: usize = 1024;

/// Fewest different bytes: `passwordpassword` has 7; of 16 random hex digits one in 90 has fewer, of 32 none.
pub const MIN_DIFFERENT_BYTES: usize = 8;

/// Most secrets at once: the new one, the old one, and room for mistakes.
pub const MAX_SECRETS: usize = 16;

const MAX_FILE_BYTES: usize = 64 << 10;

/// One or more secrets: the first seals, all open. Zeroed when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

/// Why a text or file has no usable secrets. It has the number of the line, never its content.
#[derive(Debug, PartialEq, Eq)]
pub enum SecretError {
    /// The file cannot be read.
    Unreadable {
        /// The path of the file.
        path: String,
        /// The error of the system.
        cause: String,
    },
    /// The file is longer than 64 KiB.
    FileTooLong,
    /// The file is not UTF-8.
    NotText,
    /// There are only blank lines and comments.
    None,
    /// There are more than [`MAX_SECRETS`].
    TooMany(usize),
    /// A secret of fewer than [`MIN_SECRET_BYTES`].
    TooShort {
        /// The number of the line, from 1.
        line: usize,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A secret of more than [`MAX_SECRET_BYTES`].
    TooLong {
        /// The number of the line, from 1.
        line: usize,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A secret with too few different bytes.
    TooPlain {
        /// The number of the line, from 1.
        line: usize,
        /// The number of its different bytes.
        different: usize,
    },
}

/// How to make a good secret.
const ADVICE: &str = "make one with: openssl rand -hex 32";

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, cause } => write!(
                f,
                "the file cannot be read: got {path:?} ({cause}): give the path of a file that this user may read"
            ),
            Self::FileTooLong => {
                write!(
                    f,
                    "the file is too long: got more than {MAX_FILE_BYTES} bytes: give one secret a line"
                )
            }
            Self::NotText => write!(f, "not UTF-8: got other bytes: {ADVICE}"),
            Self::None => write!(f, "no secret: got only blank lines and comments: {ADVICE}"),
            Self::TooMany(count) => write!(
                f,
                "too many secrets: got {count}: keep the new and the old one, {MAX_SECRETS} at most"
            ),
            Self::TooShort { line, bytes } => write!(
                f,
                "the secret on line {line} is too short: got {bytes} bytes, {MIN_SECRET_BYTES} are the least: {ADVICE}"
            ),
            Self::TooLong { line, bytes } => write!(
                f,
                "the secret on line {line} is too long: got {bytes} bytes, {MAX_SECRET_BYTES} are the most: {ADVICE}"
            ),
            Self::TooPlain { line, different } => write!(
                f,
                "the secret on line {line} is too easy to guess: got {different} different bytes, \
                 {MIN_DIFFERENT_BYTES} are the least: {ADVICE}"
            ),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secrets {
    /// Reads one secret a line. Ignores blank lines, lines that begin with `#`, and spaces around a secret.
    ///
    /// # Errors
    /// If there are no secrets or too many, or if one is too weak or too long.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut secrets: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let secret = line.trim().as_bytes();
            if secret.is_empty() || secret.starts_with(b"#") {
                continue;
            }
            check(at + 1, secret)?;
            if !secrets.iter().any(|known| known.as_slice() == secret) {
                secrets.push(Zeroizing::new(secret.to_vec()));
            }
        }
        match secrets.len() {
            0 => Err(SecretError::None),
            1..=MAX_SECRETS => Ok(Self(secrets)),
            count => Err(SecretError::TooMany(count)),
        }
    }

    /// Reads a file in that form, 64 KiB at most.
    ///
    /// # Errors
    /// If it cannot be read, or as [`Self::parse`].
    pub fn read_file(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |error: io::Error| SecretError::Unreadable {
            path: path.display().to_string(),
            cause: error.to_string(),
        };
        // allocated with its whole size, so that growing leaves no copies in memory
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 64));
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(SecretError::FileTooLong);
        }
        Self::parse(std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|secret| secret.as_slice())
    }
}

fn check(line: usize, secret: &[u8]) -> Result<(), SecretError> {
    let bytes = secret.len();
    if bytes < MIN_SECRET_BYTES {
        return Err(SecretError::TooShort { line, bytes });
    }
    if bytes > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong { line, bytes });
    }
    let mut seen = [false; 256];
    secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    if different < MIN_DIFFERENT_BYTES {
        return Err(SecretError::TooPlain { line, different });
    }
    Ok(())
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "correct horse battery";
    const B: &str = "0123456789abcdef";

    #[test]
    fn one_a_line_comments_and_blank_lines_aside() {
        let text = format!("# made on Monday\r\n\n  {A}  \r\n\t# old\n{B}\n{A}\n");
        let secrets = Secrets::parse(&text).unwrap();
        assert_eq!(secrets.iter().collect::<Vec<_>>(), [A.as_bytes(), B.as_bytes()]);
        assert_eq!(format!("{secrets:?}"), "***");
    }

    #[test]
    fn weak_secrets_are_refused_by_line_and_never_shown() {
        for (text, error) in [
            (String::new(), SecretError::None),
            ("# only this\n\n".into(), SecretError::None),
            (format!("{A}\nhunter2"), SecretError::TooShort { line: 2, bytes: 7 }),
            ("x".repeat(2000), SecretError::TooLong { line: 1, bytes: 2000 }),
            ("passwordpassword".into(), SecretError::TooPlain { line: 1, different: 7 }),
            ((0..17).map(|i| format!("{A}{i}\n")).collect(), SecretError::TooMany(17)),
        ] {
            let got = Secrets::parse(&text).unwrap_err();
            assert_eq!(got, error);
            let line = got.to_string();
            assert!(!line.contains("hunter2") && !line.contains("passwordpassword"), "{line}");
            assert!(line.matches(": ").count() >= 2 && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn files() {
        let dir = std::env::temp_dir().join(format!("vwatch-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("secret");
        assert!(matches!(Secrets::read_file(&path), Err(SecretError::Unreadable { .. })));
        assert!(matches!(Secrets::read_file(&dir), Err(SecretError::Unreadable { .. })));
        std::fs::write(&path, format!("{A}\n")).unwrap();
        assert_eq!(Secrets::read_file(&path), Secrets::parse(A));
        std::fs::write(&path, [0xff; 32]).unwrap();
        assert_eq!(Secrets::read_file(&path), Err(SecretError::NotText));
        std::fs::write(&path, vec![b'#'; MAX_FILE_BYTES + 1]).unwrap();
        assert_eq!(Secrets::read_file(&path), Err(SecretError::FileTooLong));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
