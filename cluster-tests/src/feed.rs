//! Batches of `/v1/watch`.

use serde_json::Value;

use crate::http::{Request, Response};
use crate::node::Node;
use crate::stream::word;

/// A batch, as a node answered it.
#[derive(Clone, Debug)]
pub struct Batch(pub Value);

impl Batch {
    /// The batch of an answer.
    ///
    /// # Panics
    /// If it is none, or lacks a member.
    #[must_use]
    #[track_caller]
    pub fn of(answer: Response) -> Self {
        let answer = answer.expect(200);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Cache-Control"), Some("no-store, no-transform"));
        assert_eq!(answer.header("X-Accel-Buffering"), Some("no"));
        let json = answer.json();
        assert!(json["cursor"].as_str().is_some_and(|cursor| cursor.starts_with("c1.")), "{json}");
        assert!(json["more"].is_boolean() && json["now"].is_u64(), "{json}");
        Self(json)
    }

    /// Its cursor.
    ///
    /// # Panics
    /// If it is no text.
    #[must_use]
    #[track_caller]
    pub fn cursor(&self) -> &str {
        self.0["cursor"].as_str().expect("a cursor")
    }

    /// Whether there is more to tell now.
    #[must_use]
    pub fn more(&self) -> bool {
        self.0["more"] == true
    }

    /// Its events.
    ///
    /// # Panics
    /// If they are no list.
    #[must_use]
    #[track_caller]
    pub fn events(&self) -> &[Value] {
        self.0["events"].as_array().expect("events")
    }

    /// Its events, one word each: `name=version`, `-name` for a delete, and the type of all others.
    #[must_use]
    #[track_caller]
    pub fn told(&self) -> Vec<String> {
        self.events().iter().map(word).collect()
    }
}

/// The request of a watch with this query.
#[must_use]
pub fn watch(query: &str) -> Request {
    Request::new("GET", &format!("/v1/watch?{query}"))
}

/// Asks for a batch.
#[must_use]
#[track_caller]
pub fn batch(node: &Node, query: &str) -> Batch {
    Batch::of(node.client().ask(&watch(query)))
}

/// Asks for batches until there is no more. Returns what all of them tell, and the last cursor.
#[must_use]
#[track_caller]
pub fn all(node: &Node, query: &str) -> (Vec<String>, String) {
    let mut batch = batch(node, query);
    let mut told = batch.told();
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("since=")).collect();
    let query = query.join("&");
    while batch.more() {
        batch = self::batch(node, &format!("{query}&since={}", batch.cursor()));
        told.extend(batch.told());
    }
    (told, batch.cursor().to_owned())
}
