//! Names: what changes, trees of any size, and histories.

use std::time::{Duration, Instant};

use cluster_tests::heavy::heavy;
use cluster_tests::node::Node;

use super::{Page, put_all};

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn a_write_from_outside_appears_within_a_second() {
    let _heavy = heavy();
    let node = Node::start();
    node.put("routes/a?version=v1", "one").expect(204);
    let Some(page) = Page::open(node.server_addr(), "") else { return };
    page.browser.wait_text("routes/");
    page.browser.click(".row.prefix");
    page.browser.wait_text("v1");
    page.browser.click(".row:not(.prefix)");
    page.browser.wait(r##"document.querySelector("pre.data")?.innerText === "one""##);
    // a name that is new, one that changes, and one that goes
    let appears = |write: &dyn Fn(), expression: &str| {
        let began = Instant::now();
        write();
        page.browser.wait(expression);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?} for {expression}");
    };
    let rows = |text: &str| format!(r##"[...document.querySelectorAll(".row")].some((row) => {text})"##);
    appears(
        &|| drop(node.put("routes/b?version=v1", "two").expect(204)),
        &rows(r##"row.innerText.startsWith("b") && row.classList.contains("flash")"##),
    );
    appears(
        &|| drop(node.put("routes/a?version=v2", "changed").expect(204)),
        r##"document.querySelector("pre.data").innerText === "changed""##,
    );
    appears(
        &|| drop(node.put("new/x?version=v1", "x").expect(204)),
        &rows(r##"row.innerText.includes("new/")"##),
    );
    appears(
        &|| drop(node.delete("routes/b").expect(204)),
        &format!("!{}", rows(r##"row.innerText.startsWith("b")"##)),
    );
    page.go("#activity");
    page.browser.wait(r##"document.querySelectorAll(".event").length >= 4"##);
    page.browser.click("#pause");
    node.put("routes/c?version=v1", "three").expect(204);
    page.browser.click("#pause");
    page.browser.wait_text("routes/c");
    page.is_clean();
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn a_hundred_thousand_names_scroll_without_freezing() {
    let _heavy = heavy();
    let node = Node::start();
    put_all(&node, (0..100_000).map(|number| format!("many/{number:06}")));
    let Some(page) = Page::open(node.server_addr(), "") else { return };
    page.browser.click(".row.prefix");
    // the longest time between two frames, while all pages are read and scrolled through
    page.browser.run(
        "window.longest = 0; let last = performance.now();
         const look = (now) => { window.longest = Math.max(window.longest, now - last); last = now;
           requestAnimationFrame(look); };
         requestAnimationFrame(look);
         const list = document.querySelector('.list');
         window.down = setInterval(() => { list.scrollTop += 40000; }, 16);",
        &[],
    );
    page.browser.wait(r##"document.querySelector("#tally").innerText.startsWith("100,000 names")"##);
    page.browser.wait(r##"document.querySelector(".list").innerText.includes("099999")"##);
    page.browser.run("clearInterval(window.down);", &[]);
    let longest = page.browser.value("window.longest").as_f64().expect("a number");
    println!("100,000 names: the longest time between two frames was {longest:.0} ms");
    assert!(longest < 1_000.0, "{longest} ms");
    let elements = page.browser.value("document.querySelectorAll('.row').length").as_u64().expect("a number");
    assert!(elements < 200, "{elements} rows are elements");
    // one of them changes, is found by its prefix, and is shown
    node.put("many/050000?version=v2", "changed").expect(204);
    page.go("#names?in=many%2F050000&name=many%2F050000");
    page.browser.wait(r##"document.querySelector("pre.data").innerText === "changed""##);
    page.is_clean();
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn any_two_versions_stand_side_by_side() {
    let _heavy = heavy();
    let node = Node::start();
    for (version, text) in [
        ("v1", "{\"host\":\"a\",\"port\":80}"),
        ("v2", "{\"host\":\"a\",\"port\":8080}"),
        ("v3", "{\"host\":\"b\",\"port\":8080,\"tls\":true}"),
    ] {
        node.put(&format!("config?version={version}"), text).expect(204);
    }
    node.delete("config").expect(204);
    let Some(page) = Page::open(node.server_addr(), "#names?name=config") else { return };
    page.browser.wait(r##"document.querySelectorAll(".timeline li").length === 4"##);
    page.browser.wait_text("This name was deleted");
    page.browser.click(".timeline li:nth-child(2) .compare");
    page.browser.click(".timeline li:nth-child(4) .compare");
    page.browser.wait(r##"document.querySelector(".diff") !== null"##);
    let side = |kind: &str| {
        let lines =
            format!("[...document.querySelectorAll('.diff td.{kind}')].map((cell) => cell.innerText)");
        page.browser.value(&lines)
    };
    assert_eq!(side("gone").as_array().map(Vec::len), Some(2), "{}", side("gone"));
    assert_eq!(side("come").as_array().map(Vec::len), Some(3), "{}", side("come"));
    assert!(side("come").to_string().contains("8080"), "{}", side("come"));
    page.is_clean();
}
