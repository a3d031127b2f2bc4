//! Which nodes a client command speaks to.

use std::future::Future;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::url::Url;

/// Where the nodes are. Every command takes both, so that a script can give all of them the same options.
#[derive(Debug, Args)]
pub(super) struct Nodes {
    /// Where to read: the client port of a node, or several, comma separated, tried in turn [env: VWATCH_CLIENT_URL]
    /// [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    client_url: Option<String>,
    /// Where to write: the server port of a node, or several, comma separated, tried in turn [env:
    /// VWATCH_SERVER_URL] [default: http://127.0.0.1:8008]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    server_url: Option<String>,
}

impl Nodes {
    /// A client for the ports that answer reads.
    pub(super) fn readers(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.reader_urls()?, "client-url"))
    }

    /// A client for the ports that take writes.
    pub(super) fn writers(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.writer_urls()?, "server-url"))
    }

    /// The ports that answer reads, at least one.
    pub(super) fn reader_urls(&self) -> Result<Vec<Url>, Failure> {
        urls(self.client_url.as_deref(), "client-url", "VWATCH_CLIENT_URL", "http://127.0.0.1:8080")
    }

    /// The ports that take writes, at least one.
    pub(super) fn writer_urls(&self) -> Result<Vec<Url>, Failure> {
        urls(self.server_url.as_deref(), "server-url", "VWATCH_SERVER_URL", "http://127.0.0.1:8008")
    }
}

fn urls(typed: Option<&str>, flag: &str, variable: &str, default: &str) -> Result<Vec<Url>, Failure> {
    // as of a node, an empty one counts as unset
    let of_env = std::env::var_os(variable).filter(|text| !text.is_empty());
    let (source, text) = match (typed, of_env) {
        (Some(text), _) => (format!("--{flag}"), text.to_owned()),
        (None, Some(text)) => (variable.to_owned(), text.to_string_lossy().into_owned()),
        (None, None) => (format!("--{flag}"), default.to_owned()),
    };
    Url::parse_list(&text).map_err(|why| Failure::Usage(format!("bad {source}: {why}")))
}

/// Runs one client command: a single thread is plenty.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

/// A name has at least one byte: an empty one is most likely a variable of a script that is not set.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::Usage("bad name: it is empty: name at least one byte".to_owned()));
    }
    Ok(())
}
