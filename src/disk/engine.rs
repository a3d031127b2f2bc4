//! The store of keys and values below the directory of a node: fjall, a journal with a log-structured merge tree.
//! `docs/internals/disk.md` has the measurements by which it was chosen.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::error::DiskError;
use crate::core::digest_trie::item;
use crate::core::{Name, Record};
use crate::wire::saved::{SavedHead, decode_name, decode_records, encode_records};

/// Bytes of blocks that are kept in memory. All is read once, at the start.
const CACHE_BYTES: u64 = 8 << 20;

/// Bytes of what was written last and is kept in memory until it goes to its place.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Most bytes of the journal: the least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Key of the head. It is in the keyspace of the names: of two keyspaces of a damaged journal one may come back older
/// than the other.
const HEAD: &[u8] = b"h";

/// Keys of names begin with it.
const NAME: u8 = b'n';

fn key_of(name: &Name) -> Vec<u8> {
    [&[NAME], name.as_bytes()].concat()
}

/// A set on the disk: records by name, and the head.
pub struct Engine {
    database: Database,
    rows: Keyspace,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the set in a directory, or begins one.
    ///
    /// # Errors
    /// If the engine cannot.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(DiskError::engine("open the saved set"))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = database.keyspace("rows", options).map_err(DiskError::engine("open the saved set"))?;
        Ok(Self { database, rows })
    }

    /// Writes names with all of their records, and the head, all or nothing. A name without records is removed. If
    /// `synced`, they outlive a loss of power.
    ///
    /// # Errors
    /// If the engine cannot. What was there before is still there.
    pub fn commit<'a>(
        &mut self,
        names: impl IntoIterator<Item = (&'a Name, &'a [Record])>,
        head: &SavedHead,
        synced: bool,
    ) -> Result<(), DiskError> {
        let mode = if synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (name, records) in names {
            match records {
                [] => batch.remove(&self.rows, key_of(name)),
                records => batch.insert(&self.rows, key_of(name), encode_records(name, records.iter())),
            }
        }
        batch.insert(&self.rows, HEAD, head.encode());
        batch.commit().map_err(DiskError::engine("save"))
    }

    /// The head; `None` if nothing was saved yet.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn head(&self) -> Result<Option<SavedHead>, DiskError> {
        let value = self.rows.get(HEAD).map_err(DiskError::engine("read the saved set"))?;
        let head = value.map(|value| SavedHead::decode(&value)).transpose();
        head.map_err(|cause| DiskError::Value { name: None, cause })
    }

    /// All names with their records, in the order of the names.
    pub fn names(&self) -> impl Iterator<Item = Result<(Name, Vec<Record>), DiskError>> + use<> {
        self.rows.prefix([NAME]).map(|guard| {
            let (key, value) = guard.into_inner().map_err(DiskError::engine("read the saved set"))?;
            let key = key.get(1..).unwrap_or_default();
            let shown = || Some(String::from_utf8_lossy(key).escape_debug().to_string());
            let name = decode_name(key).map_err(|cause| DiskError::Value { name: shown(), cause })?;
            let records = decode_records(&name, &value);
            let records = records.map_err(|cause| DiskError::Value { name: shown(), cause })?;
            Ok((name, records))
        })
    }

    /// Reads all names, checks that they are what was saved with the head, and hands them to `each` until that returns
    /// false. Returns the number of names; `None` if `each` wanted no more.
    ///
    /// # Errors
    /// If a value cannot be read, or the records are not those of the head. Some were handed over then.
    pub fn read(&self, mut each: impl FnMut(&[Record]) -> bool) -> Result<Option<u64>, DiskError> {
        let Some(head) = self.head()? else { return Ok(Some(0)) };
        let key = head.set.genesis.key;
        let (mut found, mut sum) = (0, 0_u128);
        for read in self.names() {
            let (_, records) = read?;
            found += 1;
            sum = records.iter().fold(sum, |sum, record| sum.wrapping_add(item(&key, record)));
            if !each(&records) {
                return Ok(None);
            }
        }
        match head.digest {
            Some(digest) if found != digest.count => Err(DiskError::Count { saved: digest.count, found }),
            Some(digest) if sum != digest.sum => Err(DiskError::Digest),
            _ => Ok(Some(found)),
        }
    }

    /// Drops what was overwritten from the files. The journal stays.
    ///
    /// # Errors
    /// If the engine cannot.
    pub fn compact(&mut self) -> Result<(), DiskError> {
        let compact = || {
            self.rows.rotate_memtable_and_wait()?;
            self.rows.major_compact()
        };
        compact().map_err(DiskError::engine("compact the saved set"))
    }

    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }

    /// Makes all that was committed outlive a loss of power.
    ///
    /// # Errors
    /// If the engine cannot.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.database.persist(PersistMode::SyncAll).map_err(DiskError::engine("save"))
    }
}
