//! Where the client ports of nodes are, of which only the server ports are known.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::transport::{Answer, NotANode, Request, Requester, SendError};
use super::url::Url;
use crate::wire::cluster::Cluster;
use crate::wire::headers::X_VWATCH_NODE;

/// Why a client port is not known.
#[derive(Debug)]
pub(crate) enum PortError {
    /// A port of the node gives no answer.
    Send(SendError),
    /// The answer about the cluster is not from a node.
    NotANode(NotANode),
    /// Any other reason, in one line.
    Other(String),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => write!(f, "{error}"),
            Self::NotANode(NotANode(line)) | Self::Other(line) => f.write_str(line),
        }
    }
}

/// The client ports of the nodes at these server ports, at least one, from their answers. A node that does not answer
/// is left out if another one answers.
///
/// # Errors
/// Why the last of them is not known, if none is.
pub(crate) async fn client_ports(servers: Vec<Url>, patience: Duration) -> Result<Vec<Url>, PortError> {
    // all at once: a silent node takes the whole time
    let mut lookups = JoinSet::new();
    for (at, server) in servers.into_iter().enumerate() {
        lookups.spawn(async move {
            let found = timeout(patience, client_port(&server)).await;
            let late = |_| Err(PortError::Other(format!("no answer from {server} within {patience:?}")));
            (at, found.unwrap_or_else(late))
        });
    }
    let mut results: Vec<(usize, Result<Url, PortError>)> = lookups.join_all().await;
    results.sort_unstable_by_key(|(at, _)| *at);
    let mut found = Vec::new();
    let mut why = PortError::Other("no server port is given".to_owned());
    for (_, result) in results {
        match result {
            Ok(url) => found.push(url),
            Err(error) => why = error,
        }
    }
    if found.is_empty() { Err(why) } else { Ok(found) }
}

/// The client port of a node. Checks that the same node is there, because ports may be mapped to others on the way.
async fn client_port(server: &Url) -> Result<Url, PortError> {
    let answer = ask(server, "/v1/cluster").await?;
    if !answer.status.is_success() {
        return Err(PortError::Other(format!("{server} answers {}", answer.status)));
    }
    let node = cluster(&answer).map_err(PortError::NotANode)?.node;
    let unsaid = |_| PortError::Other(format!("{server} does not return its client port"));
    let listens: SocketAddr = node.client.parse().map_err(unsaid)?;
    let url = match listens.ip().is_unspecified() {
        true => server.with_port(listens.port()),
        false => Url::parse(&listens.to_string()).map_err(PortError::Other)?.with_tls(server.tls.as_ref()),
    };
    // a token goes only where the same node answers, and not to a port without TLS from one with it
    let url = Url { is_https: node.client_tls, ..url.with_token(None) };
    if server.token.is_some() && server.is_https && !url.is_https {
        return Err(PortError::Other(format!(
            "{server} answers that its client port, {listens}, speaks no TLS: a token is not sent there"
        )));
    }
    let found = ask(&url, "/healthz").await?;
    let id = found.headers.get(X_VWATCH_NODE).map(HeaderValue::as_bytes);
    if id == Some(node.node_id.as_bytes()) {
        return Ok(url.with_token(server.token.as_ref()));
    }
    let other = match id {
        Some(id) => format!("node {}", String::from_utf8_lossy(id)),
        None => "no node that returns its id".to_owned(),
    };
    Err(PortError::Other(format!(
        "{server} answers that its client port is {listens}, and at {url} is {other}"
    )))
}

async fn ask(url: &Url, path: &str) -> Result<Answer, PortError> {
    let mut requester = Requester::new(vec![url.clone()]);
    requester.send(&Request::get(path.to_owned())).await.map_err(PortError::Send)
}

/// Reads the answer to `GET /v1/cluster`. JSON without an incarnation is not from a node.
///
/// # Errors
/// If the answer is not from a node.
pub(crate) fn cluster(answer: &Answer) -> Result<Cluster, NotANode> {
    let why = match Cluster::parse(&answer.body) {
        Ok(cluster) if !cluster.node.incarnation.is_empty() => return Ok(cluster),
        Ok(_) => "it describes no node".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(NotANode(format!(
        "not an answer of a vwatch node: {} answers /v1/cluster with an unreadable body: {why}",
        answer.from
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Fake, answer};

    #[tokio::test]
    async fn the_client_port_is_the_one_in_the_answer_if_the_same_node_is_there() {
        let cluster = |client: &str| {
            let json = format!(r#"{{"node":{{"node_id":"n","incarnation":"1","client":"{client}"}}}}"#);
            answer("200 OK", &[], &json)
        };
        let health = |id: &str| vec![answer("200 OK", &[("X-Vwatch-Node", id)], "ok\n")];
        for (listens, id, expected) in
            [("127.0.0.1", "n", None), ("0.0.0.0", "n", None), ("127.0.0.1", "m", Some("is node m"))]
        {
            let client = Fake::without_probes(health(id));
            let server = Fake::start(vec![cluster(&format!("{listens}:{}", client.url().port))]);
            match (client_port(&server.url()).await, expected) {
                (Ok(url), None) => assert_eq!(url.to_string(), client.url().to_string()),
                (Err(why), Some(part)) => assert!(why.to_string().contains(part), "{why}"),
                (other, _) => panic!("{other:?}"),
            }
        }
    }
}
