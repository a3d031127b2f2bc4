//! Names and data that try to be more than text.

use cluster_tests::heavy::heavy;
use cluster_tests::http::Request;
use cluster_tests::node::Node;

use super::{Page, escaped, hold};

/// Names that are markup, turn the direction of text, look like others, or are long.
fn names() -> Vec<String> {
    [
        "<img src=x onerror=\"window.hacked=1\">",
        "<script>window.hacked=1</script>",
        "\"><svg onload=window.hacked=1>",
        "javascript:window.hacked=1",
        "${window.hacked=1}{{window.hacked=1}}",
        "safe\u{202e}gpj.exe",
        "zero\u{200b}width\u{feff}",
        "tag\u{e0041}\u{2066}",
        "شبكة/אב",
        "a//..//b",
        "x/./../y",
        "&amp;&lt;b&gt;",
        "__proto__/constructor",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(["long".repeat(127)])
    .collect()
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn hostile_names_and_data_do_nothing() {
    let _heavy = heavy();
    let node = Node::with(&["--name-limit-bytes", "4096", "--lease-max-ttl", "5s"]);
    let huge = "n".repeat(4096);
    let data: [&[u8]; 5] = [
        b"<img src=x onerror=window.hacked=1><script>window.hacked=1</script>",
        b"\x1b[31mred\x1b[0m\x07\x00\x08",
        b"\xff\xfe\x00\x80not utf-8",
        "\u{202e}turned\u{2066}\u{200b}".as_bytes(),
        b"{\"__proto__\":{\"hacked\":1},\"a\":\"<b>\\u202e</b>\",\"n\":123456789012345678901234567890}",
    ];
    let all: Vec<String> = names().into_iter().chain([huge]).collect();
    for (at, name) in all.iter().enumerate() {
        for version in ["<b>v1</b>", "v2\u{202e}x"] {
            let target = format!("/v1/versions/{}?version={}", escaped(name), escaped(version));
            node.server().ask(&Request::new("PUT", &target).body(data[at % data.len()])).expect(204);
        }
        let parked = format!("/v1/versions/{}?version={}&timeout=60s", escaped(name), escaped("v2\u{202e}x"));
        // it stays parked when its connection is dropped late
        std::mem::forget(node.watch(&Request::new("GET", &parked)));
    }
    let Some(page) = Page::open(node.server_addr(), "") else { return };
    let browser = &page.browser;
    browser.wait(r##"document.querySelectorAll(".row").length > 5"##);
    browser.wait_text("U+202E");
    browser.wait_text("U+200B");
    for name in &all {
        let place = format!("#names?name={}", escaped(name));
        page.go(&place);
        let length = name.chars().count();
        browser.wait(r##"document.querySelectorAll(".timeline li").length === 2"##);
        let title = browser.value("document.querySelector('h1.subject').textContent");
        let title = title.as_str().unwrap_or_default().to_owned();
        assert!(title.chars().count() >= length, "{name}: {title}");
        for turned in ['\u{202e}', '\u{200b}', '\u{2066}', '\u{feff}'] {
            assert!(!title.contains(turned), "{name}: {title}");
        }
        for form in ["text", "json", "hex"] {
            browser.click(&format!(".data-view button[data-value={form}]"));
        }
        browser.click(".timeline li:nth-child(1) .compare");
        browser.click(".timeline li:nth-child(2) .compare");
        let shown = browser.text();
        assert!(!shown.contains('\u{202e}') && !shown.contains('\u{1b}') && !shown.contains('\0'), "{name}");
        // nothing is wider than the window
        let is_wide = browser.value("document.documentElement.scrollWidth > window.innerWidth + 1");
        assert_eq!(is_wide, false, "{name}");
        browser.click(".data-view button[data-value=text]");
    }
    for view in ["#watchers", "#leases", "#activity", "#cluster"] {
        if view == "#leases" {
            let holder = escaped("<img src=x onerror=window.hacked=1>\u{202e}");
            hold(&node, &escaped("<b>path</b>"), &format!("ttl=5s&holder={holder}"));
        }
        page.go(view);
        if view == "#leases" {
            browser.wait_text("<b>path</b>");
        }
        browser.wait("document.querySelector('main .loading') === null");
        if view == "#activity" {
            let target = format!("/v1/versions/{}?version=v3", escaped(&all[0]));
            node.server().ask(&Request::new("PUT", &target).body("x")).expect(204);
            browser.wait(r##"document.querySelectorAll(".event").length > 0"##);
        }
        assert!(!browser.text().contains('\u{202e}'), "{view}");
    }
    assert_eq!(browser.value("window.hacked"), serde_json::Value::Null);
    // no element that the page does not make itself
    assert_eq!(
        browser.value("document.querySelectorAll('main img, main script, main svg, main b').length"),
        0
    );
    page.is_clean();
}
