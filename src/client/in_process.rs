//! A client of a node in the same process: reads and writes of it are calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::error::Error;
use super::local::{Here, LocalNode, LocalPort, LocalRecord};
use super::nodes::Nodes;
use super::stamps::Stamps;
use super::url::Url;
use super::value::{Value, Written};
use super::{Client, Inner, MAX_STAMPS};

/// Stands for the URL of the node in requests and in messages. No connection is made to it.
const URL: &str = "http://embedded:1";

impl Client {
    /// A client of a node in this process.
    pub(crate) fn local(node: &Arc<dyn LocalNode>, timeout: Duration) -> Self {
        // never fails: the text is a URL
        let url = Url::parse(URL).unwrap_or_else(|error| unreachable!("{error}"));
        let at = |port| Nodes::here(Here::new(node, port, url.clone()), url.clone());
        Self {
            inner: Arc::new(Inner {
                readers: OnceCell::new_with(Some(at(LocalPort::Client))),
                writers: Some(at(LocalPort::Server)),
                leases: Some(at(LocalPort::Server)),
                servers: Vec::new(),
                timeout,
                stamps: Mutex::new(Stamps::new(MAX_STAMPS)),
            }),
            place: Arc::default(),
            lease: None,
            expires: None,
        }
    }

    /// Reads a full name of a node in this process, if there is one and no request is needed for it: the node has all
    /// that the program has seen of the name.
    pub(super) fn get_here(&self, name: &str) -> Option<Result<Value, Error>> {
        let here = self.inner.readers.get()?.local().filter(|_| self.place.is_plain())?;
        let record = here.node().get(name)?;
        let mut stamps = self.stamps();
        match record {
            LocalRecord::Value(value) if stamps.see(name, value.revision) => Some(Ok(value)),
            LocalRecord::Deleted(revision) if stamps.see_delete(name, revision) => {
                Some(Err(Error::Gone { revision: Some(revision) }))
            }
            LocalRecord::Missing if stamps.get(name).is_none() || stamps.is_deleted(name) => {
                Some(Err(Error::NotFound))
            }
            // the node has to catch up
            _ => None,
        }
    }

    /// Writes a full name at a node in this process, if there is one and no request is needed for it.
    pub(super) fn put_here(&self, name: &str, data: &[u8]) -> Option<Written> {
        let is_usual = self.place.is_plain() && self.lease.is_none() && self.expires.is_none();
        let here = self.inner.writers.as_ref()?.local().filter(|_| is_usual)?;
        let written = here.node().put(name, data)?;
        self.stamps().see(name, written.revision);
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use hyper::Response;

    use super::super::local::{Answering, LocalAnswer, LocalRequest};
    use super::*;

    /// A node with prepared records and answers.
    #[derive(Debug, Default)]
    struct Fake {
        records: Mutex<VecDeque<Option<LocalRecord>>>,
        answers: Mutex<VecDeque<Response<Bytes>>>,
        seen: Mutex<Vec<(LocalPort, String)>>,
    }

    impl LocalNode for Fake {
        fn get(&self, _: &str) -> Option<LocalRecord> {
            self.records.lock().unwrap().pop_front().flatten()
        }

        fn put(&self, name: &str, data: &[u8]) -> Option<Written> {
            let version = String::from_utf8(data.to_vec()).unwrap();
            (name == "here").then_some(Written { version, revision: 6, expires: None })
        }

        fn send(&self, port: LocalPort, request: LocalRequest, _: bool) -> Answering<'_> {
            self.seen.lock().unwrap().push((port, format!("{} {}", request.method(), request.uri())));
            let answer = self.answers.lock().unwrap().pop_front();
            Box::pin(async move { answer.map(LocalAnswer::Whole) })
        }
    }

    fn response(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Bytes> {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Bytes::from(body)).unwrap()
    }

    fn client(records: Vec<Option<LocalRecord>>, answers: Vec<Response<Bytes>>) -> (Arc<Fake>, Client) {
        let node = Arc::new(Fake {
            records: Mutex::new(records.into()),
            answers: Mutex::new(answers.into()),
            seen: Mutex::default(),
        });
        let local: Arc<dyn LocalNode> = Arc::<Fake>::clone(&node);
        (node, Client::local(&local, Duration::from_secs(5)))
    }

    fn value(revision: u64) -> LocalRecord {
        LocalRecord::Value(Value {
            version: format!("v{revision}"),
            revision,
            expires: None,
            data: Bytes::new(),
        })
    }

    #[tokio::test]
    async fn a_read_is_a_call_unless_the_node_is_behind() {
        let caught_up = response(200, &[("etag", "\"v9\""), ("x-last-sync", "9")], "");
        let records = vec![Some(value(7)), Some(value(9)), Some(LocalRecord::Deleted(8)), None];
        let (node, client) =
            client(records, vec![caught_up, response(404, &[("x-vwatch-error", "not-found")], "")]);
        assert_eq!(client.get("n").await.unwrap().revision, 7);
        assert_eq!(client.get("n").await.unwrap().revision, 9);
        assert!(node.seen.lock().unwrap().is_empty());
        // it has an older delete, and then what was seen
        assert_eq!(client.get("n").await.unwrap().revision, 9);
        // the node leaves it to a request
        assert_eq!(client.get("m").await, Err(Error::NotFound));
        let seen = node.seen.lock().unwrap();
        assert_eq!(seen[0].0, LocalPort::Client);
        assert!(seen[0].1.starts_with("GET /v1/versions/n?timeout="), "{seen:?}");
        assert_eq!(seen[1].1, "GET /v1/versions/m");
    }

    #[tokio::test]
    async fn what_is_gone_is_told_and_nothing_is_older_than_a_value() {
        let records = vec![
            Some(LocalRecord::Deleted(8)),
            Some(LocalRecord::Missing),
            Some(value(9)),
            Some(LocalRecord::Missing),
        ];
        let missing = || response(404, &[("x-vwatch-error", "not-found")], "");
        let (node, client) = client(records, vec![missing()]);
        assert_eq!(client.get("n").await, Err(Error::Gone { revision: Some(8) }));
        assert_eq!(client.get("n").await, Err(Error::NotFound));
        assert_eq!(client.get("n").await.unwrap().revision, 9);
        // a request is asked, and then the node has ended
        let error = client.get("n").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert_eq!(node.seen.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_write_is_a_call_and_is_seen() {
        let older = vec![Some(value(5))];
        let (node, client) =
            client(older, vec![response(200, &[("etag", "\"v6\""), ("x-last-sync", "6")], "")]);
        assert_eq!(client.put("here", "v6").await.unwrap().revision, 6);
        assert!(node.seen.lock().unwrap().is_empty());
        assert_eq!(
            client.get("here").await.unwrap().revision,
            6,
            "what stands is older than what was written"
        );
    }

    #[tokio::test]
    async fn a_node_that_is_busy_is_asked_again_and_one_that_stops_is_not() {
        let refusal = |code| response(503, &[("x-vwatch-error", code), ("retry-after", "1")], "later\n");
        let done = response(204, &[("etag", "\"v1\""), ("x-last-sync", "5")], "");
        let (node, client) =
            client(vec![], vec![refusal("joining"), refusal("busy"), done, refusal("stopping")]);
        assert_eq!(client.put("n", "1").await.unwrap().revision, 5);
        let error = client.put("n", "2").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        let seen = node.seen.lock().unwrap();
        assert_eq!(seen.len(), 4);
        assert!(
            seen.iter().all(|(port, line)| *port == LocalPort::Server && line == "PUT /v1/versions/n"),
            "{seen:?}"
        );
    }

    #[tokio::test]
    async fn a_lease_of_a_node_in_this_process_is_like_any_other() {
        let granted = r#"{"path":"here","prefix":false,"holder":"","id":"5f","token":7,"ttl_ms":10000,"expires_in_ms":10000}"#;
        let written = response(204, &[("etag", "\"v1\""), ("x-last-sync", "5")], "");
        let held = response(409, &[("x-vwatch-error", "lease-held")], "held\n");
        let (node, client) =
            client(vec![], vec![response(200, &[], granted), written, held, response(204, &[], "")]);
        let lease = client.lease("here").acquire().await.unwrap();
        // a write with a token is a request
        assert_eq!(lease.client().put("here", "v1").await.unwrap().revision, 5);
        assert!(matches!(client.lease("here").acquire().await, Err(Error::LeaseHeld { .. })));
        assert_eq!(lease.release().await, Ok(()));
        let seen = node.seen.lock().unwrap();
        let lines: Vec<_> = seen.iter().map(|(_, line)| line.split("request=").next().unwrap()).collect();
        let acquired = "PUT /v1/leases/here?";
        let expected = [acquired, "PUT /v1/versions/here", acquired, "DELETE /v1/leases/here?token=7&id=5f"];
        assert_eq!(lines, expected);
        assert!(seen.iter().all(|(port, _)| *port == LocalPort::Server));
    }
}
