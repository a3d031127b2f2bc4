//! Everything by keyboard, with the focus visible.

use cluster_tests::heavy::heavy;
use cluster_tests::node::Node;

use super::Page;

/// The element that has the focus, by its text or label.
const FOCUSED: &str = "(() => { const one = document.activeElement; return one.getAttribute('aria-label') || \
                       one.innerText.trim() || one.id || one.name || one.tagName; })()";

#[track_caller]
fn tab_to(page: &Page, what: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        page.browser.press(&["Tab"]);
        let focused = page.browser.value(FOCUSED).as_str().unwrap_or_default().to_owned();
        // behind the last stop a browser leaves the page
        if page.browser.value("document.activeElement === document.body") == true {
            continue;
        }
        let style = "getComputedStyle(document.activeElement)";
        let visible = format!("{style}.outlineStyle !== 'none' && parseFloat({style}.outlineWidth) >= 1");
        assert_eq!(page.browser.value(&visible), true, "the focus on {focused} cannot be seen");
        if focused == what {
            return;
        }
        passed.push(focused);
    }
    panic!("no {what} in {passed:?}");
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn everything_can_be_done_by_keyboard_alone() {
    let _heavy = heavy();
    let node = Node::start();
    for (name, version) in [("a/1", "v1"), ("a/2", "v1"), ("b", "v1"), ("a/1", "v2")] {
        node.put(&format!("{name}?version={version}"), version).expect(204);
    }
    let Some(page) = Page::open(node.server_addr(), "") else { return };
    let browser = &page.browser;
    browser.wait_text("b");
    // the first stop leads to the content
    browser.press(&["Tab"]);
    assert_eq!(browser.value(FOCUSED), "Skip to the content");
    browser.press(&["Enter"]);
    assert_eq!(browser.value("document.activeElement.id"), "main");
    // the tree: open a prefix, and show a name below it
    tab_to(&page, "Names");
    browser.press(&["Right"]);
    browser.wait_text("3 names shown");
    browser.press(&["Down", "Enter"]);
    browser.wait(r##"document.querySelector("h1.subject")?.innerText === "a/1""##);
    // write
    tab_to(&page, "Write");
    browser.press(&["Enter"]);
    browser.wait("document.querySelector('dialog')?.open");
    browser.run("document.querySelector('dialog textarea').focus();", &[]);
    browser.type_text("typed");
    tab_to(&page, "Write");
    browser.press(&["Enter"]);
    browser.wait(r##"document.querySelector("pre.data").innerText.includes("typed")"##);
    assert!(node.get("a/1").expect(200).text().contains("typed"));
    // compare two, and leave a dialog by Escape
    for _ in 0..2 {
        tab_to(&page, "Compare");
        browser.press(&["Enter"]);
    }
    browser.wait("document.querySelector('.diff') !== null");
    tab_to(&page, "Delete");
    browser.press(&["Enter"]);
    browser.wait("document.querySelector('dialog')?.open");
    browser.press(&["Escape"]);
    browser.wait("document.querySelector('dialog') === null");
    node.get("a/1").expect(200);
    // each view by its link
    for (view, text) in [
        ("Watchers", "No reader waits here"),
        ("Cluster", "This node is alone"),
        ("Leases", "No lease is held"),
        ("Activity", "changes in the last second"),
    ] {
        browser.run("document.getElementById('main').focus();", &[]);
        let link =
            format!("[...document.querySelectorAll('#views a')].find((one) => one.innerText === '{view}')");
        for _ in 0..12 {
            browser.press(&["Shift+Tab"]);
            if browser.value(&format!("document.activeElement === {link}")) == true {
                break;
            }
        }
        browser.press(&["Enter"]);
        browser.wait_text(text);
    }
    page.is_clean();
}
