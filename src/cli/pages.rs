//! The pages of a list, and of one level of it.

use std::vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::client::{Answer, Client, OrFailure, Request};
use super::failure::Failure;
use super::output::{Data, Row};
use crate::client::place::Place;
use crate::client::url::{parameter, with_query};
use crate::core::limits::MAX_NAME_BYTES;
use crate::core::{Delimiter, Stamp};
use crate::wire::list_page::{ReceivedItem, ReceivedPage};
use crate::wire::text::json_escaped;
use crate::wire::version_set::parse_rfc3339;

/// Most names of one request: fewer than a node returns at once.
const MAX_PAGE: u64 = 1000;

/// An item of a list.
#[derive(Debug)]
pub(super) enum Item {
    /// A name.
    Name(Row),
    /// Of one level: what names of deeper levels begin with.
    Prefix(String),
}

impl Item {
    /// The name or the prefix.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Name(row) => &row.name,
            Self::Prefix(prefix) => prefix,
        }
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        match self {
            Self::Name(row) => row.json(),
            Self::Prefix(prefix) => json_escaped(&json!({ "prefix": prefix }).to_string()).into_owned(),
        }
    }
}

/// The pages of a list that are still to be read.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    path: String,
    prefix: String,
    delimiter: Option<&'a Delimiter>,
    has_data: bool,
    /// The query of the next page.
    next: Option<String>,
    /// The last item of the last page.
    last: Option<String>,
}

impl<'a> Pages<'a> {
    /// The pages of all names of a place that begin with a prefix, or of one level of them. Data that is not printed
    /// should not be requested.
    pub(super) fn new(
        place: &Place,
        prefix: &str,
        delimiter: Option<&'a Delimiter>,
        limit: Option<u64>,
        has_data: bool,
    ) -> Self {
        let mut parameters = vec![parameter("prefix", prefix)];
        parameters.extend(limit.map(|limit| parameter("limit", &limit.min(MAX_PAGE).to_string())));
        parameters.extend(delimiter.map(|delimiter| parameter("delimiter", delimiter.as_str())));
        if !has_data {
            parameters.push("keys-only".to_owned());
        }
        Self {
            path: place.list(),
            prefix: prefix.to_owned(),
            delimiter,
            has_data,
            next: Some(parameters.join("&")),
            last: None,
        }
    }

    /// The items of the next page; `None` after the last one.
    pub(super) async fn next(&mut self, client: &mut Client) -> Result<Option<vec::IntoIter<Item>>, Failure> {
        let Some(query) = self.next.take() else { return Ok(None) };
        let answer = client.send(&Request::get(with_query(&self.path, &[query]))).await?;
        let answer = answer.or_refusal("list").map_err(|failure| match failure {
            // a list that does not exist is not a name that does not exist
            Failure::Missing(line) => Failure::Failed(line),
            failure => failure,
        })?;
        let items = items(&answer, self.has_data)?;
        // each page begins after the last item: so a list that repeats itself ends at its second round
        let mut last = self.last.as_deref();
        for item in &items {
            if last.is_some_and(|last| last >= item.text()) {
                return Err(leads_nowhere(&answer, &format!("{} comes again, or out of order", item.text())));
            }
            if !self.has(item) {
                let why = format!("{:?} is not on the level that was asked for", item.text());
                return Err(unreadable(&answer, &why));
            }
            last = Some(item.text());
        }
        self.next = answer.next_query();
        if self.next.is_some() && items.is_empty() {
            return Err(leads_nowhere(&answer, "a page without names has a next page"));
        }
        self.last = last.map(str::to_owned);
        Ok(Some(items.into_iter()))
    }

    /// Whether an item may be on this level. A name that does not begin with the prefix is of a node that does not know
    /// prefixes, or of something else: a command that deletes what is listed must not see it.
    fn has(&self, item: &Item) -> bool {
        let Some(delimiter) = self.delimiter else {
            return matches!(item, Item::Name(row) if row.name.starts_with(&self.prefix));
        };
        let common = delimiter.common_prefix(&self.prefix, item.text());
        match item {
            Item::Name(row) => row.name.starts_with(&self.prefix) && common.is_none(),
            // so a tree ends
            Item::Prefix(prefix) => common == Some(prefix) && prefix.len() <= MAX_NAME_BYTES,
        }
    }
}

fn leads_nowhere(answer: &Answer, why: &str) -> Failure {
    Failure::Failed(format!(
        "the list of {} does not end: {why}: check the proxies in between, or name another node with --client-url",
        answer.from
    ))
}

fn unreadable(answer: &Answer, why: &str) -> Failure {
    Failure::Failed(format!("the list of {} cannot be read: {why}: is it a vwatch node?", answer.from))
}

fn items(answer: &Answer, has_data: bool) -> Result<Vec<Item>, Failure> {
    let page: ReceivedPage =
        serde_json::from_slice(&answer.body).map_err(|error| unreadable(answer, &error.to_string()))?;
    let item = |listed| match listed {
        ReceivedItem { name: Some(name), version: Some(version), data, last_sync, expires, .. } => {
            let data = match data {
                _ if !has_data => Data::Unasked,
                Some(text) => {
                    let bytes = STANDARD.decode(text);
                    Data::Bytes(bytes.map_err(|e| unreadable(answer, &format!("bad base64: {e}")))?)
                }
                None => Data::None,
            };
            let last_sync = last_sync.and_then(|text| parse_rfc3339(&text).ok()).map(Stamp::micros);
            Ok(Item::Name(Row { name, version, data, last_sync, expires, deleted: false }))
        }
        ReceivedItem { name: None, prefix: Some(prefix), .. } => Ok(Item::Prefix(prefix)),
        _ => Err(unreadable(answer, "an item has neither a name and a version nor a prefix")),
    };
    page.versions.into_iter().map(item).collect()
}
