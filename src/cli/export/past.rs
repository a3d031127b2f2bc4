//! `vwatch export --history`: all records that are kept, by a watch from the oldest one on.

use std::io::Write;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::client::{Client, OrFailure, Request};
use super::super::failure::{Failure, complain};
use super::super::set_line::SetLine;
use super::{Export, Told};
use crate::client::place::Place;
use crate::client::transport::ReceivedBatch;
use crate::core::Namespace;

/// Most events of an answer.
const PAGE: u64 = 1000;

/// A record, as a watch tells it with its data as text.
#[derive(Deserialize)]
struct Event {
    name: String,
    #[serde(default)]
    version: Option<String>,
    revision: u64,
    #[serde(default)]
    expires: Option<u64>,
    #[serde(default)]
    data: Option<String>,
    /// `base64` where the data is no text.
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    current: bool,
    #[serde(default)]
    expired: bool,
}

/// Writes all that is kept of the names of a namespace. What is written while it reads may be told too.
pub(super) async fn export<W: Write>(
    args: &Export,
    namespace: &Namespace,
    client: &mut Client,
    told: &mut Told<'_, W>,
) -> Result<(), Failure> {
    let path = Place::of(namespace.clone()).watch();
    let mut since = "oldest".to_owned();
    let mut is_complete = true;
    loop {
        client.limit(args.timeout);
        let body = json!({
            "prefixes": [args.prefix], "since": since, "mode": "all", "data": "text", "limit": PAGE, "timeout": "0s",
        });
        let request = Request::question(path.clone(), body.to_string().into_bytes());
        let answer = client.send(&request).await?.or_refusal("export")?;
        let batch: ReceivedBatch = answer.json()?;
        let mut is_synced = false;
        for event in batch.events {
            match event.get("type").and_then(Value::as_str) {
                Some("put" | "delete") => {
                    if let Some(line) = line(namespace, event, &answer.from)? {
                        told.line(&line)?;
                    }
                }
                Some("synced") => is_synced = true,
                Some("compacted") => is_complete = false,
                // another set, or a node that lacks writes: what was told is no history of the set that is there now
                Some(kind @ ("reset" | "ahead")) => {
                    return Err(Failure::Failed(format!(
                        "{}: the export was interrupted ({kind}): run it again",
                        answer.from
                    )));
                }
                _ => {}
            }
        }
        if is_synced || !batch.more {
            break;
        }
        since = batch.cursor;
    }
    if !is_complete {
        told.progress.clear();
        complain("older versions of some names are not kept any more: the export has the rest");
    }
    Ok(())
}

/// The line of an event; `None` of a delete that the end of a value brought: an import leaves out what has ended.
fn line(namespace: &Namespace, event: Map<String, Value>, from: &str) -> Result<Option<SetLine>, Failure> {
    let event: Event = serde_json::from_value(Value::Object(event)).map_err(|error| {
        Failure::Failed(format!("the answer of {from} cannot be read: {error}: is it a vwatch node?"))
    })?;
    if event.expired {
        return Ok(None);
    }
    let is_base64 = event.encoding.as_deref() == Some("base64");
    let (data, data_base64) = if is_base64 { (None, event.data) } else { (event.data, None) };
    Ok(Some(SetLine {
        namespace: namespace.as_str().to_owned(),
        name: event.name,
        deleted: event.version.is_none(),
        version: event.version,
        revision: event.revision,
        expires: event.expires,
        data,
        data_base64,
        past: !event.current,
    }))
}
