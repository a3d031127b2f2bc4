//! A node inside a program with ports that want tokens: the program itself needs none.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use vwatch::client::{Client, Error, Scope};
use vwatch::embed::Config;
use vwatch::wire::error_code::ErrorCode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ports_want_tokens_and_the_program_needs_none() {
    let path = std::env::temp_dir().join(format!("vwatch-embedded-tokens-{}", std::process::id()));
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let grants = "grants = [{ verbs = [\"read\"], prefix = \"a/\" }]";
    fs::write(&path, format!("[[token]]\nname = \"reader\"\nsha256 = \"{hash}\"\n{grants}\n"))
        .expect("a file");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config::new().listen_client(any).listen_server(any).tokens_file(&path);
    let node = super::embed(config).await;
    let own = node.client();
    own.put("a/1", "x").await.expect("the program's own");
    own.put("b/1", "x").await.expect("the program's own");
    own.watch(Scope::prefix("")).start().next().await.expect("the program's own");
    let page = own.list("").next_page().await.expect("the program's own");
    assert_eq!(page.map(|page| page.len()), Some(2));

    let address = node.client_address().expect("a port").to_string();
    let client = |token: Option<&str>| {
        let builder = Client::builder().nodes([&address]);
        token.map_or(builder.clone(), |token| builder.token(token)).build().expect("a client")
    };
    let code = |read: Result<_, Error>| match read {
        Err(Error::Rejected { code, .. }) => code,
        other => panic!("not rejected: {}", other.is_ok()),
    };
    assert_eq!(code(client(None).get("a/1").await), Some(ErrorCode::NoToken));
    assert_eq!(code(client(Some("wrong")).get("a/1").await), Some(ErrorCode::UnknownToken));
    assert_eq!(code(client(Some("test")).get("b/1").await), Some(ErrorCode::NotGranted));
    client(Some("test")).get("a/1").await.expect("it is granted");
    node.shutdown().await;
    fs::remove_file(&path).expect("a file");
}
