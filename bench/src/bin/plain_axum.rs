//! A server that a node's writes are compared with: axum as its documentation shows it, with one value behind one
//! channel. It keeps no names, stamps, histories or limits.
//!
//! `plain_axum READERS WRITERS` listens on the two addresses; `GET` of any name returns the value, and `PUT` sets it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The number of the value, and the value.
type Value = Arc<watch::Sender<(u64, Bytes)>>;

async fn read(State(value): State<Value>) -> impl IntoResponse {
    let (number, data) = value.borrow().clone();
    ([(ETAG, format!("\"v{number}\""))], data)
}

async fn write(State(value): State<Value>, data: Bytes) -> impl IntoResponse {
    let mut written = 0;
    value.send_modify(|(number, held)| {
        *number += 1;
        *held = data;
        written = *number;
    });
    (StatusCode::NO_CONTENT, [(ETAG, format!("\"v{written}\""))])
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut addresses = std::env::args().skip(1);
    let mut listener = async || {
        let address = addresses.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        TcpListener::bind(address).await
    };
    let (readers, writers) = (listener().await?, listener().await?);
    let value = Value::new(watch::channel((0, Bytes::new())).0);
    let reads = Router::new().route("/v1/versions/{*name}", get(read)).with_state(Arc::clone(&value));
    let writes = Router::new().route("/v1/versions/{*name}", put(write)).with_state(value);
    tokio::spawn(async move { axum::serve(readers, reads).await });
    axum::serve(writers, writes).await
}
