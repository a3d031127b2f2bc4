//! Watches that go on over HTTP/2, many on one connection.

use std::time::Duration;

use cluster_tests::node::Node;
use cluster_tests::stream::{FORMS, word};
use cluster_tests::wait::LIMIT;
use h2::RecvStream;
use http::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use super::http2::{Client, answer, read, request, runtime, tag, wait_parked_async};

struct Stream {
    body: RecvStream,
    text: String,
    is_event_stream: bool,
    /// Lines of an event stream that are no events.
    asides: Vec<String>,
}

impl Stream {
    async fn open(client: &mut Client, form: &str, query: &str) -> Self {
        let asked = request("GET", &format!("/v1/watch?{query}"), &[("accept", form)]);
        let response = client.send(asked, b"").await;
        let (head, body) = timeout(LIMIT, response).await.expect("in time").expect("an answer").into_parts();
        assert_eq!(
            (head.status, &head.headers["content-type"]),
            (StatusCode::OK, &form.parse().expect("text"))
        );
        Self { body, text: String::new(), is_event_stream: form == FORMS[0], asides: Vec::new() }
    }

    /// The next event; `None` at the end, which is no error.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(at) = self.text.find('\n') {
                let line: String = self.text.drain(..=at).collect();
                let line = line.trim_end();
                match line.strip_prefix("data: ") {
                    Some(data) if self.is_event_stream => {
                        return Some(serde_json::from_str(data).expect("JSON"));
                    }
                    _ if !self.is_event_stream => return Some(serde_json::from_str(line).expect("JSON")),
                    _ => self.asides.push(line.to_owned()),
                }
            }
            let data = timeout(2 * LIMIT, self.body.data()).await.expect("in time")?.expect("no reset");
            self.body.flow_control().release_capacity(data.len()).expect("what was taken");
            self.text.push_str(std::str::from_utf8(&data).expect("ASCII"));
        }
    }

    /// The next event that is no `progress`, as a word.
    async fn told(&mut self) -> String {
        loop {
            let event = self.next().await.expect("an event and no end");
            if event["type"] != "progress" {
                return word(&event);
            }
        }
    }
}

async fn write(client: &mut Client, target: &str, data: &[u8]) {
    let put = request("PUT", &format!("/v1/versions/{target}"), &[]);
    assert_eq!(client.ask(put, data).await.0.status(), StatusCode::NO_CONTENT);
}

#[test]
fn streams_and_reads_of_one_connection_are_told_each_its_own() {
    const NAMES: usize = 20;
    let node = Node::start();
    runtime().block_on(async {
        let mut writer = Client::open(node.server_addr()).await;
        let mut client = Client::open(node.client_addr()).await;
        for name in 0..NAMES {
            write(&mut writer, &format!("a/{name:02}?version=v0"), b"x").await;
        }
        let mut streams = Vec::new();
        let mut parked = Vec::new();
        for name in 0..NAMES {
            let query = format!("name=a/{name:02}");
            streams.push(Stream::open(&mut client, FORMS[name % 2], &query).await);
            parked.push(client.send(read(&format!("a/{name:02}?version=v0&timeout=1m")), b"").await);
        }
        let mut all = Stream::open(&mut client, FORMS[1], "prefix=a/&mode=all&since=now").await;
        for (name, stream) in streams.iter_mut().enumerate() {
            assert_eq!(
                [stream.told().await, stream.told().await],
                [format!("a/{name:02}=v0"), "synced".into()]
            );
        }
        wait_parked_async(&node, NAMES).await;
        for version in 1..4 {
            for (name, stream) in streams.iter_mut().enumerate() {
                write(&mut writer, &format!("a/{name:02}?version=v{version}"), b"x").await;
                let expected = format!("a/{name:02}=v{version}");
                assert_eq!(stream.told().await, expected);
                assert_eq!(all.told().await, expected);
                // a read between them
                let (head, _) = client.ask(read(&format!("a/{name:02}")), b"").await;
                assert_eq!(tag(&head), format!("\"v{version}\""));
            }
        }
        for parked in parked {
            assert_eq!(tag(&answer(parked).await.0), "\"v1\"");
        }
        // one that is given up ends alone
        drop(streams.remove(0));
        write(&mut writer, "a/01?version=v4", b"x").await;
        assert_eq!([streams[0].told().await, all.told().await], ["a/01=v4", "a/01=v4"]);
    });
}

/// The window of the connection has room for others; that of the stream which is not read is full.
#[test]
fn a_stream_that_is_not_read_does_not_hold_up_the_others() {
    const WRITES: usize = 300;
    let node = Node::start();
    runtime().block_on(async {
        let mut writer = Client::open(node.server_addr()).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 16).initial_connection_window_size(1 << 20);
        let mut client = Client::with(node.client_addr(), &builder).await;
        let query = "name=a&since=now&data=text";
        let mut slow = Stream::open(&mut client, FORMS[0], query).await;
        let mut quick = [
            Stream::open(&mut client, FORMS[0], query).await,
            Stream::open(&mut client, FORMS[1], query).await,
        ];
        for write in 1..=WRITES {
            self::write(&mut writer, &format!("a?version=v{write}"), &[b'x'; 3_000]).await;
            for stream in &mut quick {
                assert_eq!(stream.told().await, format!("a=v{write}"));
            }
        }
        let (head, _) = client.ask(read("a"), b"").await;
        assert_eq!(tag(&head), format!("\"v{WRITES}\""));
        let mut told = 1;
        while slow.told().await != format!("a=v{WRITES}") {
            told += 1;
        }
        assert!(told < WRITES / 2, "{told} of {WRITES} were kept, and not only a window of them");
    });
}

#[test]
fn quiet_streams_show_that_they_live() {
    let node = Node::start();
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        for form in FORMS {
            let mut stream = Stream::open(&mut client, form, "prefix=&since=now&heartbeat=1s").await;
            for _ in 0..3 {
                assert_eq!(stream.next().await.expect("a sign of life")["type"], "progress");
            }
            assert!(form != FORMS[0] || stream.asides.iter().any(|line| line.starts_with(':')));
        }
    });
}

#[test]
fn the_end_of_the_node_ends_all_streams_in_order() {
    let mut node = Node::start();
    runtime().block_on(async {
        let mut writer = Client::open(node.server_addr()).await;
        let mut client = Client::open(node.client_addr()).await;
        let mut streams = Vec::new();
        for number in 0..50 {
            let mut stream = Stream::open(&mut client, FORMS[number % 2], "prefix=&since=now").await;
            assert_eq!(stream.next().await.expect("a sign of life")["type"], "progress");
            streams.push(stream);
        }
        write(&mut writer, "a?version=v", b"x").await;
        node.terminate();
        for stream in &mut streams {
            let mut told = Vec::new();
            while let Some(event) = stream.next().await {
                told.push(word(&event));
            }
            assert!(told.contains(&"a=v".to_owned()), "{told:?}");
            let has_retry = stream.asides.iter().any(|line| line.starts_with("retry: "));
            assert_eq!(has_retry, stream.is_event_stream, "{:?}", stream.asides);
        }
        timeout(LIMIT, client.connection).await.expect("an end").expect("a task").expect("in order");
    });
    assert!(node.wait_exit(LIMIT + Duration::from_secs(10)).success());
    assert!(!node.stderr().contains("still open"), "{}", node.stderr());
}
