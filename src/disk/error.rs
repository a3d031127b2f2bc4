//! Why a disk cannot be used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::wire::saved::SavedError;

/// Why a disk cannot be used, in one line.
#[derive(Debug)]
pub enum DiskError {
    /// A file or a directory cannot be used.
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// Another process uses the directory.
    InUse(PathBuf),
    /// The directory is one of another node.
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        of: String,
        /// The id of this node.
        ours: String,
    },
    /// The directory has another format, or is none of vwatch.
    Format {
        /// The file that says so.
        path: PathBuf,
        /// Its first line.
        found: String,
    },
    /// A saved value cannot be used.
    Value {
        /// The name whose value it is; `None` for the head.
        name: Option<String>,
        /// Why.
        cause: SavedError,
    },
    /// There are fewer or more names than were saved.
    Count {
        /// Names that were saved.
        saved: u64,
        /// Names that are there.
        found: u64,
    },
    /// The records are not those that were saved, by their digest.
    Digest,
    /// The engine cannot go on.
    Engine {
        /// What was tried.
        what: &'static str,
        /// Its error.
        cause: fjall::Error,
    },
}

impl DiskError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { what, path: path.to_owned(), cause }
    }

    /// Whether it is an error of the system, such as a lack of rights or of space, or of this version, which does not
    /// know the format; and not one of what is on the disk.
    #[must_use]
    pub fn is_of_system(&self) -> bool {
        match self {
            Self::Io { .. } | Self::InUse(_) | Self::OtherNode { .. } | Self::Format { .. } => true,
            Self::Value { cause, .. } => matches!(cause, SavedError::Format(_)),
            Self::Count { .. } | Self::Digest => false,
            Self::Engine { cause: fjall::Error::Poisoned | fjall::Error::Locked, .. } => true,
            Self::Engine { cause, .. } => {
                let mut next: Option<&(dyn Error + 'static)> = Some(cause);
                while let Some(error) = next {
                    if let Some(error) = error.downcast_ref::<io::Error>() {
                        return !matches!(
                            error.kind(),
                            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                        );
                    }
                    next = error.source();
                }
                false
            }
        }
    }

    pub(super) fn engine(what: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |cause| Self::Engine { what, cause }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, cause } => write!(f, "cannot {what} {}: {cause}", path.display()),
            Self::InUse(path) => {
                write!(
                    f,
                    "{} is in use by another node: give each node a directory of its own, or stop the other one",
                    path.display()
                )
            }
            Self::OtherNode { path, of, ours } => write!(
                f,
                "{} is the directory of the node {of:?}, and this node is {ours:?}: start it with that node id, or with \
                 another directory",
                path.display()
            ),
            Self::Format { path, found } => write!(
                f,
                "{} begins with {found:?}, which this version of vwatch does not know: use the version that wrote it, or \
                 another directory",
                path.display()
            ),
            Self::Value { name: Some(name), cause } => write!(f, "the saved value of {name}: {cause}"),
            Self::Value { name: None, cause } => write!(f, "what was saved of the set: {cause}"),
            Self::Count { saved, found } => write!(f, "{found} names are there, and {saved} were saved"),
            Self::Digest => f.write_str("the records are not those that were saved: their digest differs"),
            Self::Engine { what, cause } => write!(f, "cannot {what}: {cause}"),
        }
    }
}

impl Error for DiskError {}
