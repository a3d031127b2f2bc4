//! Tests that load the machine run one at a time.
//!
//! All tests of an area are one process, and run beside each other. A test that opens thousands of connections or
//! keeps the processors busy for seconds takes the place of [`heavy`] first, so that no other one does so beside it.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The place of a heavy test, free again when dropped.
#[derive(Debug)]
pub struct Heavy {
    _place: MutexGuard<'static, ()>,
}

/// Waits until no other heavy test of this process runs. Then this process may open as many files as the system allows.
#[must_use]
pub fn heavy() -> Heavy {
    static PLACE: Mutex<()> = Mutex::new(());
    // a heavy test that failed leaves its place in order
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    raise_limit();
    Heavy { _place: place }
}

/// How many files this process may have open.
#[must_use]
pub fn most_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The limit of open files is one for the process, and each node that starts from here inherits it.
fn raise_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // some systems allow no more than they promise: the tests then do with what there is
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    });
}
