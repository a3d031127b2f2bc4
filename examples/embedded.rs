//! Two nodes inside this program, which form a group: what is written at one is told at the other.
//!
//! `cargo run --example embedded`
//!
//! In earnest each node is in a program of its own, on a host of its own; see docs/guides/embedding.md.

use vwatch::client::{Event, Scope};
use vwatch::embed::Config;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // with port 0 the system chooses a port; the first node of a group names no others
    let first = Config::new().node_id("first").listen_server(([127, 0, 0, 1], 0)).replicate_with([""; 0]);
    let first = vwatch::embed(first).await?;
    let at = first.server_address().ok_or("no server port")?;
    println!("the first node is at {at}");

    let second =
        Config::new().node_id("second").listen_server(([127, 0, 0, 1], 0)).replicate_with([at.to_string()]);
    let second = vwatch::embed(second).await?;
    // some five seconds, in which they look whether there are more
    first.ready().await;
    second.ready().await;
    println!("both are ready");

    let mut events = second.client().watch(Scope::prefix("routes/")).start();
    let client = first.client();
    for number in 1..=3 {
        client.put("routes/a", format!("10.0.0.{number}")).await?;
        loop {
            match events.next().await? {
                Event::Sync { entries } => println!("{} routes stand at the second node", entries.len()),
                Event::Added(entry) | Event::Updated(entry) => {
                    println!("the second node: {} is {:?}", entry.name, entry.data.unwrap_or_default());
                    break;
                }
                other => println!("{other:?}"),
            }
        }
    }
    println!("read at the second node: {:?}", second.client().get("routes/a").await?.data);

    first.shutdown().await;
    second.shutdown().await;
    println!("both have ended");
    Ok(())
}
