//! What the page changes, with a token that may and one that may not; and leases.

use cluster_tests::browser::Browser;
use cluster_tests::heavy::heavy;
use cluster_tests::http::Request;
use cluster_tests::node::Node;
use cluster_tests::tokens::TokensFile;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::json;

use super::{Page, hold};

#[track_caller]
fn fill(browser: &Browser, selector: &str, text: &str) {
    browser.wait(&format!("document.querySelector({}) !== null", json!(selector)));
    let set = "const field = document.querySelector(arguments[0]); field.value = arguments[1];
               field.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.run(set, &[selector.into(), text.into()]);
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn names_are_written_deleted_and_reverted_after_a_question() {
    let _heavy = heavy();
    let node = Node::start();
    let Some(page) = Page::open(node.server_addr(), "") else { return };
    let browser = &page.browser;
    browser.wait_text("No names yet");
    browser.click("#new-name");
    fill(browser, "dialog input[name=name]", "a/b c/ü");
    fill(browser, "dialog textarea", "first");
    fill(browser, "dialog input[name=version]", "v1");
    browser.click("dialog button.primary");
    browser.wait(r##"document.querySelector("pre.data")?.innerText === "first""##);
    assert_eq!(node.get("a/b%20c/%C3%BC").expect(200).text(), "first");
    browser.click("#write");
    fill(browser, "dialog textarea", "second\nline");
    browser.click("dialog button.primary");
    browser.wait(r##"document.querySelector("pre.data").innerText === "second\nline""##);
    assert_eq!(node.get("a/b%20c/%C3%BC").expect(200).text(), "second\nline");
    // the ends of lines stay what they are, of a text that has one kind
    node.put("a/b%20c/%C3%BC?version=crlf", "one\r\ntwo\r\n").expect(204);
    browser.wait(r##"document.querySelector("pre.data").innerText.startsWith("one")"##);
    browser.click("#write");
    browser.click("dialog button.primary");
    wait_until("the text as it was", LIMIT, || node.get("a/b%20c/%C3%BC").version() != Some("crlf"));
    assert_eq!(node.get("a/b%20c/%C3%BC").text(), "one\r\ntwo\r\n");
    browser.wait("document.querySelector('dialog') === null");
    // a refusal is shown, and the text stays
    browser.click("#write");
    fill(browser, "dialog textarea", "third");
    fill(browser, "dialog input[name=version]", "bad version");
    browser.click("dialog button.primary");
    browser.wait(r##"document.querySelector("dialog .fault").innerText.includes("version")"##);
    assert_eq!(browser.value("document.querySelector('dialog textarea').value"), "third");
    browser.press(&["Escape"]);
    browser.wait("document.querySelector('dialog') === null");
    browser.click(".timeline li:nth-child(4) .revert");
    browser.click("dialog button.primary");
    browser.wait(r##"document.querySelector("pre.data").innerText === "first""##);
    assert_eq!(node.get("a/b%20c/%C3%BC").expect(200).version(), Some("v1"));
    browser.click("#delete");
    browser.click("dialog button.danger");
    browser.wait_text("This name was deleted");
    node.get("a/b%20c/%C3%BC?timeout=0s").expect(410);
    page.is_clean();
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn a_token_is_asked_for_once_and_what_it_may_not_is_not_there() {
    let _heavy = heavy();
    let tokens = TokensFile::new();
    let admin = tokens.add("admin", &["--read", "", "--write", "", "--observe"]);
    let secret = tokens.add("page", &["--read", "a/", "--write", "a/w/"]);
    let node = Node::with(&["--tokens-file", tokens.path()]);
    for name in ["a/r/1", "a/w/1", "b/1"] {
        let put = Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).body(name).token(&admin);
        node.server().ask(&put).expect(204);
    }
    let Some(page) = Page::open(node.server_addr(), "#names?name=a%2Fw%2F1") else { return };
    let browser = &page.browser;
    browser.wait_text("This node needs a token");
    fill(browser, "#token", "wrong");
    browser.click("dialog button.primary");
    browser.wait_text("unknown token");
    fill(browser, "#token", &secret);
    browser.click("dialog button.primary");
    browser.wait(r##"document.querySelector("pre.data")?.innerText === "a/w/1""##);
    browser.wait("document.querySelector('#write') !== null");
    assert_eq!(browser.value("document.querySelector('#delete')"), json!(null), "it may not delete");
    // only its prefix is shown
    browser.wait(r##"document.querySelector(".list").innerText.includes("r/")"##);
    assert!(!browser.text().contains("b/"), "{}", browser.text());
    page.go("#names?name=a%2Fr%2F1");
    browser.wait(r##"document.querySelector("pre.data")?.innerText === "a/r/1""##);
    assert_eq!(browser.value("document.querySelector('#write')"), json!(null), "it may not write");
    page.go("#cluster");
    browser.wait_text("needs the verb observe");
    // the page keeps nothing of the token, and no script can read the cookie
    let kept = browser.value("JSON.stringify([localStorage, sessionStorage, document.cookie])");
    assert_eq!(kept, "[{},{},\"\"]");
    browser.run("location.reload();", &[]);
    browser.wait_text("needs the verb observe");
    page.go("#names?name=a%2Fw%2F1");
    let put = Request::new("PUT", "/v1/versions/a/w/1?version=v2").body("live").token(&admin);
    browser.wait(r##"document.querySelector("pre.data")?.innerText === "a/w/1""##);
    node.server().ask(&put).expect(204);
    browser.wait(r##"document.querySelector("pre.data").innerText === "live""##);
    // revoked: it asks again, within a second or so
    let text = std::fs::read_to_string(tokens.path()).expect("a file");
    let others = text.split("[[token]]").filter(|entry| !entry.contains("\"page\""));
    std::fs::write(tokens.path(), others.collect::<Vec<_>>().join("[[token]]")).expect("a file");
    node.hang_up();
    browser.wait_text("This node needs a token");
    fill(browser, "#token", &admin);
    browser.click("dialog button.primary");
    browser.wait("!document.querySelector('dialog')");
    browser.click("#sign");
    browser.wait_text("This node needs a token");
    assert!(page.browser.hosts().iter().all(|host| *host == page.at.to_string()));
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn leases_count_down_and_are_released() {
    let _heavy = heavy();
    let node = Node::with(&["--lease-max-ttl", "20s"]);
    hold(&node, "deploy/site", "ttl=20s&holder=ci%20runner");
    let short = hold(&node, "short", "ttl=4s");
    assert!(short["token"].is_u64());
    let Some(page) = Page::open(node.server_addr(), "#leases") else { return };
    let browser = &page.browser;
    browser.wait_text("ci runner");
    let left = || {
        let text = browser.value("document.querySelector('tr[data-key$=\"deploy/site\"] .until').innerText");
        let text = text.as_str().unwrap_or_default().to_owned();
        text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::MAX)
    };
    let first = left();
    assert!(first <= 20.0, "{first}");
    wait_until("it to count down", LIMIT, || left() <= first - 1.0);
    // one that is not renewed goes by itself
    browser.wait("!document.body.innerText.includes('short')");
    browser.click(".release");
    browser.click("dialog button.danger");
    browser.wait_text("No lease is held");
    let listed = node.server().ask(&Request::new("GET", "/v1/leases?prefix=deploy")).expect(200).json();
    assert_eq!(listed["leases"], json!([]));
    page.is_clean();
}
