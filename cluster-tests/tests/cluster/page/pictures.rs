//! Pictures of all views, to be looked at: below `target/page-pictures`.

use std::path::Path;

use cluster_tests::browser::Colours;
use cluster_tests::cluster::Cluster;
use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request};

use super::{Page, escaped};

const SIZES: [(u32, u32); 2] = [(1280, 900), (390, 844)];

const VIEWS: [(&str, &str); 8] = [
    ("names", "#names"),
    ("name", "#names?name=routes%2Fshop%2Fcheckout"),
    ("empty", "#names?ns=team-b"),
    ("watchers", "#watchers"),
    ("cluster", "#cluster"),
    ("leases", "#leases"),
    ("activity", "#activity"),
    ("deleted", "#names?name=flags%2Fold-menu"),
];

/// Names as a team would have them.
fn write(cluster: &Cluster) {
    let node = cluster.node(0);
    for (name, data) in [
        ("routes/shop/checkout", r##"{"upstream":"http://10.2.0.14:8080","weight":100,"timeout":"2s"}"##),
        ("routes/shop/cart", r##"{"upstream":"http://10.2.0.17:8080","weight":100}"##),
        ("routes/login", r##"{"upstream":"http://10.2.1.3:8080"}"##),
        ("images/web", "sha256:8f1c2b6d0f6f3a2f5e0a9b7c"),
        ("images/worker", "sha256:1f0be6c8d13e7a55e1d0c4aa"),
        ("flags/new-checkout", "true"),
        ("flags/old-menu", "false"),
        ("config/db.toml", "host = \"db-1.internal\"\nport = 5432\npool = 24\n"),
        ("models/ranker:prod", "s3://models/ranker/2026-11-28"),
        ("readme.txt", "What stands here is told to all."),
    ] {
        node.put(&escaped(name), data).expect(204);
    }
    for weight in [90, 50, 10] {
        let data = format!(
            r##"{{"upstream":"http://10.2.0.14:8080","canary":"http://10.2.0.99:8080","weight":{weight},"timeout":"2s"}}"##
        );
        node.put(&escaped("routes/shop/checkout"), data).expect(204);
    }
    node.delete(&escaped("flags/old-menu")).expect(204);
    for number in 0..40 {
        node.put(&escaped(&format!("hosts/rack-{}/host-{number:02}", number % 4)), "up").expect(204);
    }
}

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn pictures_of_all_views() {
    let _heavy = heavy();
    let mut cluster =
        Cluster::of(4).flag("--lease-voters", "node-0,node-1,node-2").flag("--lease-max-ttl", "60s").start();
    cluster.ready();
    cluster.all_see_all();
    write(&cluster);
    let version = cluster.node(0).get("flags/new-checkout").expect(200).version().expect("one").to_owned();
    let mut parked: Vec<Connection> = (0..7)
        .map(|_| {
            let target = format!("/v1/versions/flags/new-checkout?version={version}&timeout=60s");
            cluster.node(0).watch(&Request::new("GET", &target))
        })
        .collect();
    parked.extend((0..2).map(|_| {
        cluster.node(0).watch(&Request::new("GET", "/v1/versions/coming/soon?version=&timeout=60s"))
    }));
    cluster.kill(3);
    for (path, query) in [
        ("deploy/site", "ttl=60s&holder=ci-runner-12"),
        ("migrations", "ttl=60s&prefix=true&holder=alice%40laptop"),
        ("batch/nightly", "ttl=60s&slots=4&claim=2&holder=worker-3"),
    ] {
        let request = Request::new("PUT", &format!("/v1/leases/{path}?{query}"));
        cluster_tests::wait::wait_until("a majority of voters", 4 * cluster_tests::wait::LIMIT, || {
            Connection::open(cluster.addresses(0).1).ask(&request).status != 503
        });
    }
    let Some(page) = Page::open(cluster.addresses(0).1, "#cluster") else { return };
    let browser = &page.browser;
    browser.wait(r##"document.querySelector(".nodes tr.bad") !== null"##);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page-pictures");
    std::fs::create_dir_all(&folder).expect("a folder");
    page.go("#activity");
    for number in 0..60 {
        cluster.node(1).put(&format!("routes/login?version=v{number}"), "x").expect(204);
        cluster
            .node(1)
            .put(&format!("hosts/rack-1/host-{:02}", number % 40), format!("load {number}"))
            .expect(204);
    }
    browser.wait(r##"document.querySelectorAll(".event").length > 5"##);
    for (width, height) in SIZES {
        for colours in [Colours::Light, Colours::Dark] {
            browser.screen(width, height, colours);
            for (name, place) in VIEWS {
                page.go("#activity");
                page.go(place);
                browser.wait("document.querySelector('main .loading') === null");
                if name == "names" {
                    for prefix in ["hosts/", "routes/"] {
                        let open = format!(
                            "[...document.querySelectorAll('.row.prefix')].find((row) => row.innerText === '{prefix}')"
                        );
                        browser.wait(&open);
                        browser.run(&format!("{open}.click();"), &[]);
                    }
                    browser.wait_text("shop/");
                }
                if name == "name" {
                    browser.click(".timeline li:nth-child(1) .compare");
                    browser.click(".timeline li:nth-child(3) .compare");
                }
                browser.run("window.scrollTo(0, 0);", &[]);
                let wide = browser.value("document.documentElement.scrollWidth > window.innerWidth + 1");
                assert_eq!(wide, false, "{name} is wider than {width}");
                browser.picture(&folder.join(format!("{name}-{width}-{colours:?}.png").to_lowercase()));
            }
        }
    }
    browser.screen(390, 844, Colours::Light);
    page.go("#names?name=routes%2Flogin");
    browser.click("#write");
    browser.picture(&folder.join("write-390-light.png"));
    browser.press(&["Escape"]);
    browser.screen(1280, 900, Colours::Light);
    page.go("#names");
    cluster.kill(0);
    browser.wait(r##"!document.querySelector("#banner").hidden"##);
    browser.picture(&folder.join("lost-1280-light.png"));
}
