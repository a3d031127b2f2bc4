//! The documentation against the program: reference tables, the watchers of the client guide, links, and the form of
//! the text. So none of them can drift.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use cluster_tests::cluster::Cluster;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, free_addresses};
use cluster_tests::parts::find;
use cluster_tests::tls::Certificates;
use cluster_tests::upstream::{Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};
use vwatch::api::routes;
use vwatch::config::PagePorts;
use vwatch::config::raw::FLAGS;
use vwatch::core::mutants::Mutant;
use vwatch::metrics::Port;
use vwatch::wire::error_code::ErrorCode;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

#[track_caller]
fn read(path: &str) -> String {
    read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder whose names end with the extension.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in read_dir(folder).expect("a folder of this repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found
}

/// All pages, by their path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "bench/README.md"]
            .map(|name| root().join(name))
            .into();
    found.extend(files_below(&root().join("docs"), "md"));
    let from_root = |path: &Path| path.strip_prefix(root()).expect("below the root").to_owned();
    found.iter().map(|path| (from_root(path), read_to_string(path).expect("a page"))).collect()
}

/// The lines of a page outside of code blocks, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    page.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!is_fence && !in_code).then_some((at + 1, line))
    })
}

/// The cells of each row of the tables of a page whose first cell begins with a code span.
fn rows(page: &str) -> Vec<Vec<String>> {
    let of_code = prose(page).filter(|(_, line)| line.starts_with("| `"));
    of_code
        .map(|(_, line)| {
            line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// The text of a cell that is one code span.
fn code(cell: &str) -> Option<&str> {
    let inner = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!inner.contains('`')).then_some(inner)
}

/// A line without its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_reference_of_flags_has_all_flags_with_their_defaults() {
    let page = read("docs/reference/flags.md");
    let documented: BTreeMap<String, Option<String>> = rows(&page)
        .iter()
        .filter_map(|row| {
            let flag = code(&row[0])?.strip_prefix("--")?;
            Some((flag.to_owned(), code(&row[1]).map(str::to_owned)))
        })
        .collect();
    let flags: BTreeMap<String, Option<String>> =
        FLAGS.iter().map(|flag| (flag.name.to_owned(), flag.default.map(str::to_owned))).collect();
    assert_eq!(documented, flags, "a default in code is one that --help prints; others are described");
    for name in FLAGS.iter().flat_map(|flag| [flag.alias, flag.vwatch_env]).flatten() {
        assert!(page.contains(name), "the page has no {name}");
    }
}

#[test]
fn the_reference_of_metrics_has_what_nodes_show() {
    let page = read("docs/reference/metrics.md");
    let documented: BTreeSet<String> = rows(&page)
        .iter()
        .filter_map(|row| code(&row[0]))
        .filter(|name| name.starts_with("vwatch_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect();

    // one that fills from another vwatch, and two that fill from another service and notify each other as owners
    let leader = Node::start();
    let follower = Node::with(&["--fill-from", &format!("http://{}", leader.client_addr())]);
    let upstream = Upstream::start(|_| status(200).header("ETag", "\"v1\""));
    let caches = ["--fill-strategy=FILL_CACHE", "--fill-path=/{{.name}}", "--fill-expiry=1s"];
    let url = upstream.url();
    let caches = Node::group(2, &[&caches[..], &["--fill-from", &url]].concat());
    let shown =
        |node: &Node| node.server().ask(&Request::new("GET", "/metrics")).expect(200).text().to_owned();
    let names: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
    wait_until("an owner to be notified of readers", LIMIT, || {
        for name in &names {
            caches[0].get(name);
        }
        shown(&caches[0]).contains("\nvwatch_fill_owners_told_total{")
    });
    let url = format!("http://{}", leader.client_addr());
    let mirror = Node::with(&["--fill-strategy", "FILL_MIRROR", "--fill-from", &url]);
    // the harness asks without TLS, so one port has none
    let made = Certificates::make(&[]);
    let (client, server) = free_addresses();
    let flags = ["--tls-client-port-cert".to_owned(), made.path("server-cert.pem")];
    let flags = [&flags[..], &["--tls-client-port-key".to_owned(), made.path("server-key.pem")]].concat();
    let secure = Node::launch(client, server, &flags, &[]);
    wait_until("the node to listen", LIMIT, || Connection::try_open(server).is_ok());
    let pages = [&leader, &follower, &mirror, &caches[0], &secure].map(shown);
    let real: BTreeSet<String> = pages
        .iter()
        .flat_map(|page| page.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = real.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&real).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the page: {missing:?}; in no node: {gone:?}");
}

/// Where an endpoint is: port, path, method.
type Endpoint = (String, String, String);

#[test]
fn the_reference_of_endpoints_has_what_the_ports_answer() {
    let page = read("docs/reference/http.md");
    let table = page.split("## Endpoints").nth(1).expect("a table of endpoints");
    let table = table.split("\n## ").next().expect("its end");
    let mut documented: BTreeSet<Endpoint> = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        for port in cells[0].split(", ") {
            for method in cells[1].split(", ") {
                let path = code(cells[2]).expect("a path").to_owned();
                documented.insert((port.to_owned(), path, method.to_owned()));
            }
        }
    }
    assert!(documented.len() > 15, "{documented:?}");

    // what a port allows is what is documented for it, HEAD aside, which goes with each GET
    let node = Node::start();
    let ports = [("client", node.client_addr()), ("server", node.server_addr())];
    let paths: BTreeSet<&String> = documented.iter().map(|(_, path, _)| path).collect();
    for path in &paths {
        let real = [("{name}", "a-name"), ("{id}", "an-id"), ("{namespace}", "log.a"), ("{type}", "e")]
            .iter()
            .fold(path.to_string(), |path, (part, real)| path.replace(part, real));
        for (port, address) in ports {
            let answer = Connection::open(address).ask(&Request::new("PATCH", &real));
            let allowed: BTreeSet<String> = match answer.status {
                405 => {
                    answer.header("Allow").expect("Allow").split(',').map(|m| m.trim().to_owned()).collect()
                }
                404 => BTreeSet::new(),
                status => panic!("PATCH {real} on the {port} port: {status}"),
            };
            let methods = |set: BTreeSet<String>| set.into_iter().filter(|m| m != "HEAD").collect::<Vec<_>>();
            let of_page = documented.iter().filter(|(p, its, _)| p == port && its == *path);
            let of_page: BTreeSet<String> = of_page.map(|(.., method)| method.clone()).collect();
            assert_eq!(methods(of_page), methods(allowed), "{path} on the {port} port");
        }
    }

    // and there is no path that is not documented
    let tables = [Port::Client, Port::Server].map(|port| routes::table(port, PagePorts::default()));
    let routes: BTreeSet<String> = tables.iter().flatten().map(|route| placeless(&route.path)).collect();
    let paths: BTreeSet<String> = paths.iter().map(|path| placeless(path)).collect();
    assert!(routes.len() > 10, "{routes:?}");
    for route in routes.iter().filter(|route| !route.ends_with('/')) {
        // in a namespace they are what they are without one
        let plain = route.replace("/v1/ns/{}/", "/v1/");
        assert!(paths.contains(route) || paths.contains(&plain), "{route} is not in the table of endpoints");
    }
}

/// A path without the names of its parameters.
fn placeless(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// The whole-number constants of a file of limits, by name.
fn constants(path: &str) -> BTreeMap<String, u64> {
    let source = read(path);
    let declared = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    let numbers = declared.filter_map(|line| {
        let (name, rest) = line.split_once(": ")?;
        let (kind, value) = rest.split_once(" = ")?;
        matches!(kind, "usize" | "u64" | "u32" | "u8").then_some((name, value.trim_end_matches(';')))
    });
    numbers.map(|(name, value)| (name.to_owned(), evaluate(value))).collect()
}

/// The value of a product or a shift of numbers.
fn evaluate(expression: &str) -> u64 {
    let number = |text: &str| -> u64 {
        let digits = text.trim().replace('_', "");
        digits.parse().unwrap_or_else(|_| panic!("{expression}: teach this test to read it"))
    };
    match expression.split_once("<<") {
        Some((left, right)) => evaluate(left) << number(right),
        None => expression.split('*').map(number).product(),
    }
}

#[test]
fn the_reference_of_errors_has_the_codes_of_the_program() {
    let is_code = |row: &Vec<String>| row.len() == 3 && row[0].starts_with('`');
    let listed: Vec<(String, String)> = rows(&read("docs/reference/errors.md"))
        .into_iter()
        .filter(is_code)
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone()))
        .collect();
    let codes: Vec<(String, String)> =
        ErrorCode::all().map(|code| (code.as_str().to_owned(), code.status().to_string())).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_reference_of_limits_has_the_constants_of_the_code() {
    let page = read("docs/reference/limits.md");
    let is_name =
        |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let documented: BTreeMap<String, u64> = rows(&page)
        .iter()
        .filter_map(|row| {
            let name = code(&row[0]).filter(|name| is_name(name) && name.contains('_'))?;
            Some((name.to_owned(), row.get(1)?.parse().ok()?))
        })
        .collect();
    let mut real = constants("src/core/limits.rs");
    let of_node = constants("src/node/limits.rs");
    assert!(real.len() > 10 && of_node.len() > 10);
    for (name, value) in of_node {
        assert!(real.insert(name.clone(), value).is_none(), "{name} stands twice");
    }
    assert_eq!(documented, real);
    // and the other tables name the limits that are counted
    let node = Node::start();
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    for line in
        metrics.text().lines().filter_map(|line| line.strip_prefix("vwatch_limit_hits_total{limit=\""))
    {
        let limit = line.split('"').next().expect("a value");
        assert!(page.contains(&format!("`{limit}`")), "the limit {limit} is not in the page");
    }
}

#[test]
fn the_table_of_mutants_has_all_of_them() {
    let page = read("docs/testing.md");
    let table = page.split("\n## Mutants\n").nth(1).expect("a table of mutants").split("\n## ").next();
    let documented: BTreeSet<String> =
        rows(table.expect("its end")).iter().filter_map(|row| code(&row[0]).map(str::to_owned)).collect();
    let all: BTreeSet<String> = Mutant::ALL.iter().map(|mutant| format!("{mutant:?}")).collect();
    assert_eq!(documented, all);
}

#[test]
fn the_client_guide_shows_the_watchers_as_they_are() {
    let guide = read("docs/guides/client.md");
    for (file, language) in
        [("examples/watch.py", "python"), ("examples/watch.sh", "sh"), ("examples/watch.mjs", "js")]
    {
        let block = format!("```{language}\n{}```\n", read(file));
        assert!(guide.contains(&block), "docs/guides/client.md does not have {file} as it is");
    }
}

/// Runs a watcher of the examples against three nodes: it prints each change, while nodes stop, start and are lost.
/// A line of one that watches many names has the name before the version. `waits` is how many readers wait at a node.
fn prints_each_change(program: &str, file: &str, name: &str, waits: impl Fn(&Node) -> usize) {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let file = root().join(file).to_str().expect("a path of text").to_owned();
    let urls: Vec<String> = (0..3).map(|i| format!("http://{}", cluster.addresses(i).0)).collect();
    let arguments: Vec<&str> =
        [file.as_str(), "watched"].into_iter().chain(urls.iter().map(String::as_str)).collect();
    let mut watcher = Node::program(program, &arguments);
    let mut expected = String::new();
    let mut printed = |watcher: &mut Node, line: &str| {
        expected.push_str(name);
        expected.push_str(line);
        expected.push('\n');
        wait_until(&format!("{program} to print {line:?}"), LIMIT, || {
            assert!(watcher.is_running(), "it ended: {}", watcher.stderr());
            assert!(expected.starts_with(&watcher.stdout()), "{} in place of {expected}", watcher.stdout());
            watcher.stdout() == expected
        });
    };

    // it waits for a name that does not exist yet
    wait_until("a parked watcher", LIMIT, || (0..3).map(|i| waits(cluster.node(i))).sum::<usize>() == 1);
    cluster.put(0, "watched", "v1").expect(204);
    printed(&mut watcher, "v1 v1");
    cluster.put(1, "watched", "v2").expect(204);
    printed(&mut watcher, "v2 v2");
    cluster.delete(2, "watched").expect(204);
    printed(&mut watcher, "deleted");
    cluster.put(2, "watched", "v3").expect(204);
    printed(&mut watcher, "v3 v3");

    // the node where it waits stops in order, and another version is written meanwhile
    let at = (0..3).find(|i| waits(cluster.node(*i)) == 1).unwrap_or(0);
    cluster.stop(at);
    cluster.put((at + 1) % 3, "watched", "v4").expect(204);
    printed(&mut watcher, "v4 v4");
    cluster.restart(at);
    cluster.ready();
    // two are killed, so that only the one that was restarted is left
    for lost in [(at + 1) % 3, (at + 2) % 3] {
        cluster.all_agree();
        cluster.kill(lost);
    }
    cluster.put(at, "watched", "v5").expect(204);
    printed(&mut watcher, "v5 v5");

    // all are lost, and a new set begins: its stamps are later, and stamps of the old one do not count
    cluster.kill(at);
    for i in 0..3 {
        cluster.restart(i);
    }
    cluster.ready();
    // one that watches many names learns that the new set has nothing of this one; one of one name waits for it
    if !name.is_empty() {
        printed(&mut watcher, "deleted");
    }
    cluster.put(1, "watched", "v6").expect(204);
    printed(&mut watcher, "v6 v6");

    watcher.terminate();
    // a shell ends once what it waits for does
    drop(cluster);
    watcher.wait_exit(LIMIT);
}

#[test]
fn the_python_watcher_prints_each_change() {
    if find("python3", "install python3").is_some() {
        prints_each_change("python3", "examples/watch.py", "", Node::parked);
    }
}

#[test]
fn the_shell_watcher_prints_each_change() {
    if find("curl", "install curl").is_some() {
        prints_each_change("sh", "examples/watch.sh", "", Node::parked);
    }
}

#[test]
fn the_javascript_watcher_prints_each_change() {
    if find("node", "install nodejs, 18 or newer").is_some() {
        let streams = |node: &Node| node.metric("vwatch_streams") as usize;
        prints_each_change("node", "examples/watch.mjs", "watched ", streams);
    }
}

/// The anchors of a page: its headings, as they are written in a link.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// The targets of the links of a page.
fn links(page: &str) -> Vec<String> {
    let text: String = prose(page).map(|(_, line)| without_code(line) + "\n").collect();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let pages = pages();
    let mut checked = 0;
    for (path, page) in &pages {
        for link in links(page).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => normal(&path.parent().expect("a folder").join(file)),
            };
            assert!(root().join(&target).exists(), "{}: {link}: there is no such file", path.display());
            let is_there =
                || anchors(&read_to_string(root().join(&target)).expect("a page")).contains(anchor);
            assert!(anchor.is_empty() || is_there(), "{}: {link}: there is no such heading", path.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

/// The files that a code span names, if it is a path of this repository: `src/{a,b}.rs` names two.
fn files(span: &str) -> Vec<String> {
    const FOLDERS: [&str; 8] =
        ["src/", "cluster-tests/", "bench/", "xtask/", "docs/", "docker/", "examples/", ".ci/"];
    let of_src = ["core/", "wire/", "node/", "replication/", "fill/"];
    let is_source = span.ends_with(".rs") && of_src.iter().any(|folder| span.starts_with(folder));
    let path = if is_source { format!("src/{span}") } else { span.to_owned() };
    if !FOLDERS.iter().any(|folder| path.starts_with(folder)) || path.contains([' ', '…', '<', '*']) {
        return Vec::new();
    }
    match (path.split_once('{'), path.split_once('}')) {
        (Some((head, _)), Some((_, tail))) => {
            let inner = &path[head.len() + 1..path.len() - tail.len() - 1];
            inner.split(',').map(|part| format!("{head}{part}{tail}")).collect()
        }
        _ => vec![path],
    }
}

#[test]
fn files_that_are_named_exist() {
    let mut checked = 0;
    for (path, page) in pages() {
        let spans = prose(&page).flat_map(|(_, line)| line.split('`').skip(1).step_by(2));
        for file in spans.flat_map(files) {
            assert!(root().join(&file).exists(), "{}: there is no {file}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

/// Each row of the table of attackers names tests, and these exist.
#[test]
fn the_table_of_attackers_names_tests_that_exist() {
    let page = read("SECURITY.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "{rows:?}");
    let mut checked = 0;
    for row in rows {
        let shown_by = row.trim_end_matches('|').rsplit(" | ").next().expect("a last cell");
        let mut file = None;
        for span in shown_by.split('`').skip(1).step_by(2) {
            match span.strip_suffix(".rs") {
                Some(_) => file = Some(read(span)),
                None => {
                    let text = file.as_ref().unwrap_or_else(|| panic!("no file before {span}"));
                    assert!(text.contains(&format!("fn {span}()")), "there is no {span}: {row}");
                }
            }
            checked += 1;
        }
        assert!(file.is_some(), "no test: {row}");
    }
    assert!(checked > 25, "{checked}");
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().expect("a path of text").split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.iter().collect()
}

#[test]
fn each_page_can_be_reached_from_the_readme() {
    let pages = pages();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut left = vec![PathBuf::from("README.md")];
    while let Some(path) = left.pop() {
        for link in links(&pages[&path]) {
            let file = link.split('#').next().expect("a part").to_owned();
            let target = normal(&path.parent().expect("a folder").join(file));
            if pages.contains_key(&target) && reached.insert(target.clone()) {
                left.push(target);
            }
        }
    }
    let lost: Vec<_> = pages.keys().filter(|path| !reached.contains(*path)).collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

/// Words that are hard to read for engineers with another first language. See CONTRIBUTING.md.
const HARD_WORDS: [&str; 10] =
    ["who", "whom", "whoever", "whomever", "nobody", "somebody", "anybody", "anew", "how-manyeth", "thereof"];

/// Most columns of a line of prose.
const LONGEST_LINE: usize = 120;

/// The lines of prose that are too long or have hard words.
fn hard_to_read<'a>(path: &Path, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in lines {
        let at = format!("{}:{number}", path.display());
        let may_be_longer = line.trim_start_matches([' ', '/', '!']).starts_with('|')
            || line.contains("](")
            || line.contains("://");
        if line.chars().count() > LONGEST_LINE && !may_be_longer {
            found.push(format!("{at}: {} columns, at most {LONGEST_LINE}", line.chars().count()));
        }
        let plain = without_code(line).to_lowercase();
        let words = plain.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '\'');
        found.extend(words.filter(|word| HARD_WORDS.contains(word)).map(|word| format!("{at}: {word}")));
    }
    found
}

#[test]
fn prose_is_short_enough_for_a_line_and_has_no_hard_words() {
    let found: Vec<_> = pages().iter().flat_map(|(path, page)| hard_to_read(path, prose(page))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn comments_are_short_enough_for_a_line_and_have_no_hard_words() {
    let mut found = Vec::new();
    for folder in ["src", "bench/src", "xtask/src", "cluster-tests/src", "cluster-tests/tests"] {
        for path in files_below(&root().join(folder), "rs") {
            let text = read_to_string(&path).expect("a file of this repository");
            let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
            found.extend(hard_to_read(&path, lines.filter(|(_, line)| line.trim_start().starts_with("//"))));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
