//! Nodes that die: another one, and the page's own.

use cluster_tests::cluster::Cluster;
use cluster_tests::heavy::heavy;

use super::Page;

/// Of a row of the table of nodes.
fn row(node: &str, expression: &str) -> String {
    format!(
        r##"[...document.querySelectorAll(".nodes tr[data-node='{node}']")].some((row) => {expression})"##
    )
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn another_node_that_is_killed_turns_red() {
    let _heavy = heavy();
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    cluster.all_see_all();
    let Some(page) = Page::open(cluster.addresses(0).1, "#cluster") else { return };
    page.browser.wait_text("they agree");
    page.browser.wait(&row("node-2", r##"row.classList.contains("good")"##));
    page.browser.wait(r##"document.querySelector("#sentence").classList.contains("good")"##);
    cluster.kill(2);
    page.browser.wait(&row("node-2", r##"row.classList.contains("bad")"##));
    page.browser.wait(r##"!document.querySelector("#sentence").classList.contains("good")"##);
    page.browser.wait(r##"document.querySelector("#node").classList.contains("warn")"##);
    cluster.restart(2);
    cluster.ready();
    page.browser.wait(&row("node-2", r##"row.classList.contains("good")"##));
    page.is_clean();
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn a_page_whose_own_node_is_killed_says_so_and_goes_on_when_it_is_back() {
    let _heavy = heavy();
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    cluster.all_see_all();
    cluster.put(0, "n", "v1");
    let Some(page) = Page::open(cluster.addresses(0).1, "#names?name=n") else { return };
    page.browser.wait_text("v1");
    // the links to the others come with the first view of the cluster
    page.browser.wait(r##"document.querySelector("#node-text").innerText === "node-0""##);
    cluster.kill(0);
    page.browser.wait(r##"!document.querySelector("#banner").hidden"##);
    page.browser.wait_text("does not answer");
    page.browser.wait(r##"document.querySelectorAll("#banner a").length === 2"##);
    page.browser.wait(r##"document.querySelector("#node").classList.contains("bad")"##);
    cluster.put(1, "n", "v2");
    cluster.restart(0);
    cluster.ready();
    page.browser.wait(r##"document.querySelector("#banner").hidden"##);
    page.browser.wait_text("v2");
    // and what comes later is told again
    cluster.put(2, "n", "v3");
    page.browser.wait_text("v3");
}
