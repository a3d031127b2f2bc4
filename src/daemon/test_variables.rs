//! Environment variables that are for tests only. Each one that is set is logged as a warning.

use std::ffi::OsString;

use crate::core::protocol::ProtocolRange;
use crate::http::fast_path::MAX_EVENT_LOOPS;
use crate::node::clock;

/// Sets the clock of the process wrong; see [`clock::set_offset`].
const CLOCK_OFFSET: &str = "VWATCH_TEST_CLOCK_OFFSET";

/// The number of event loops of the fast path, whatever the processors; with 0 there is no fast path.
const EVENT_LOOPS: &str = "VWATCH_TEST_EVENT_LOOPS";

/// A pipe. At SIGHUP all workers open it, which lasts until another process opens it.
const BLOCK: &str = "VWATCH_TEST_BLOCK";

/// The versions of the peer protocol that the process announces: `1` or `1-2`. A version that is not implemented has
/// the layout of the newest implemented one.
const PROTOCOL: &str = "VWATCH_TEST_PROTOCOL";

/// The values of the variables.
#[derive(Clone, Debug, Default)]
pub(super) struct TestVariables {
    /// The number of event loops.
    pub(super) event_loops: Option<usize>,
    /// The pipe that SIGHUP opens.
    pub(super) block: Option<OsString>,
    /// The versions of the peer protocol.
    pub(super) protocol: Option<ProtocolRange>,
}

impl TestVariables {
    /// Reads them, and sets the clock.
    ///
    /// # Errors
    /// One line, if the offset of the clock or the versions cannot be read.
    pub(super) fn read() -> Result<Self, String> {
        let value = |name| std::env::var_os(name).filter(|text| !text.is_empty());
        if let Some(offset) = value(CLOCK_OFFSET) {
            let offset = offset.to_string_lossy();
            clock::set_offset(&offset).map_err(|got| {
                format!(
                    "bad {CLOCK_OFFSET}: not a duration with its sign: got {got:?}: write +1h or -90s, or unset it"
                )
            })?;
            tracing::warn!(
                "{CLOCK_OFFSET} is for tests only: the clock of this node is off by {offset} on purpose: unset it"
            );
        }
        let event_loops = value(EVENT_LOOPS)
            .and_then(|text| text.to_str()?.parse().ok())
            .filter(|asked| *asked <= MAX_EVENT_LOOPS);
        if let Some(asked) = event_loops {
            tracing::warn!(
                "{EVENT_LOOPS} is for tests only: the fast path has {asked} event loops on purpose: unset it"
            );
        }
        let block = value(BLOCK);
        if block.is_some() {
            tracing::warn!("{BLOCK} is for tests only: SIGHUP makes this node stand still: unset it");
        }
        let protocol = value(PROTOCOL)
            .map(|text| {
                text.to_str().and_then(ProtocolRange::parse).ok_or_else(|| {
                    format!(
                        "bad {PROTOCOL}: not a range of versions: got {text:?}: write 1 or 1-2, or unset it"
                    )
                })
            })
            .transpose()?;
        if let Some(spoken) = protocol {
            tracing::warn!(
                "{PROTOCOL} is for tests only: this node announces peer protocol {spoken} on purpose: unset it"
            );
        }
        Ok(Self { event_loops, block, protocol })
    }
}
