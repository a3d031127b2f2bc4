//! The import graph of `src/`: a module uses only what the table in `src/lib.rs` allows, no modules form a cycle, and
//! the pure layers use nothing of the system.
//!
//! The graph is read from `use` lines and from paths that begin with `crate::` or `super::`, without tests. A module
//! may use what its own parent defines, because it is a part of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// The layers that are built without the feature `node`: what they decide depends only on what they are given.
const PURE: [&str; 3] = ["core", "wire", "sim"];

/// What a pure layer must not use, and why. A path stands for all that is below it. `Instant` is not in the list: a
/// caller may pass one in.
const FORBIDDEN: [(&str, &str); 10] = [
    ("Instant::now", "time is passed in"),
    ("SystemTime::now", "time is passed in"),
    ("getrandom", "entropy is passed in"),
    ("std::env", "the command line reads the environment"),
    ("std::fs", "the shell reads files"),
    ("std::io", "the shell reads and writes"),
    ("std::net", "the shell opens sockets"),
    ("std::process", "the daemon starts and ends processes"),
    ("std::thread", "the caller decides where a step runs"),
    ("tokio", "the caller decides where a step runs"),
];

/// Parts of forbidden paths that are only values.
const ALLOWED: [&str; 4] =
    ["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

/// Modules by path (`http::connection`), each with its text.
pub(crate) type Sources = BTreeMap<String, String>;

/// Reads all modules below `src`, without the crate's root and files of tests.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read(src: &Path) -> io::Result<Sources> {
    let mut sources = Sources::new();
    let mut directories = vec![src.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(src).unwrap_or(&path).with_extension("");
                let mut parts: Vec<_> =
                    relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                parts.pop_if(|last| last == "mod");
                let name = parts.join("::");
                if !["lib", "main"].contains(&name.as_str()) && !name.ends_with("::tests") {
                    sources.insert(name, fs::read_to_string(&path)?);
                }
            }
        }
    }
    Ok(sources)
}

/// The layers of the program: for each top-level module those that it may use.
pub(crate) type Layers = BTreeMap<String, BTreeSet<String>>;

/// Reads the layers from the table in the text of `src/lib.rs`: the first cell of a row names the module, the last one
/// has `nothing`, names, or `all above` with or without exceptions (`but`).
///
/// # Errors
/// The row that is none of these.
pub(crate) fn layers(lib: &str) -> Result<Layers, String> {
    let mut layers = Layers::new();
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    for row in rows.skip(1) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (&[module, .., may_use], [_]) = (&cells[..], &names(cells[0])[..]) else {
            return Err(format!("not a row of a layer: {row}"));
        };
        let above = || layers.keys().cloned().collect::<BTreeSet<String>>();
        let allowed = match may_use.strip_prefix("all above") {
            Some(but) => &above() - &names(but).into_iter().collect(),
            None if may_use == "nothing" || !names(may_use).is_empty() => {
                names(may_use).into_iter().collect()
            }
            None => return Err(format!("not what a layer may use: {row}")),
        };
        if !allowed.is_subset(&above()) {
            return Err(format!("a layer may use one below it: {row}"));
        }
        layers.insert(names(module).remove(0), allowed);
    }
    Ok(layers)
}

/// The words in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What is wrong with the graph: one line for each use that no layer allows, and one for each cycle.
pub(crate) fn violations(layers: &Layers, sources: &Sources) -> Vec<String> {
    let graph: BTreeMap<&str, BTreeSet<&str>> =
        sources.iter().map(|(name, text)| (name.as_str(), uses(sources, name, text))).collect();
    let mut found = Vec::new();
    for (from, targets) in &graph {
        let here = top_level(from);
        let Some(allowed) = layers.get(here) else {
            found.push(format!("{from}: {here} is not in the table of src/lib.rs"));
            continue;
        };
        for to in targets {
            let there = top_level(to);
            if there != here && !allowed.contains(there) {
                found.push(format!("{from} uses {to}, which {here} may not use"));
            }
        }
    }
    found.extend(cycles(&graph).into_iter().map(|cycle| format!("a cycle: {}", cycle.join(", "))));
    found
}

/// What the pure layers use of the system: one line for each use.
pub(crate) fn impurities(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (module, text) in sources.iter().filter(|(module, _)| PURE.contains(&top_level(module))) {
        for path in paths(&without_tests(text)) {
            let is_in = |root: &str| path == root || path.starts_with(&format!("{root}::"));
            let is_forbidden =
                |(root, _): &&(&str, &str)| is_in(root) || path.ends_with(&format!("::{root}"));
            if let Some((_, reason)) = FORBIDDEN.iter().find(is_forbidden)
                && !ALLOWED.iter().any(|root| is_in(root))
            {
                found.push(format!("{module} uses {path}: {reason}"));
            }
        }
    }
    found
}

fn top_level(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// The modules that a module uses, without its parents.
fn uses<'a>(sources: &'a Sources, module: &str, text: &str) -> BTreeSet<&'a str> {
    let mut used = BTreeSet::new();
    for path in paths(&without_tests(text)) {
        if let Some(target) = resolve(sources, module, &path)
            && target != module
            && !module.starts_with(&format!("{target}::"))
        {
            used.insert(target);
        }
    }
    used
}

/// The module that a path leads to.
fn resolve<'a>(sources: &'a Sources, module: &str, path: &str) -> Option<&'a str> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = Vec::new();
    match parts[0] {
        "crate" => drop(parts.remove(0)),
        "self" => {
            base = module.split("::").collect();
            parts.remove(0);
        }
        "super" => {
            base = module.split("::").collect();
            while parts.first() == Some(&"super") {
                parts.remove(0);
                base.pop();
            }
        }
        child if sources.contains_key(&format!("{module}::{child}")) => base = module.split("::").collect(),
        _ => return None,
    }
    base.extend(parts);
    (1..=base.len()).rev().find_map(|length| {
        let (name, _) = sources.get_key_value(&base[..length].join("::"))?;
        Some(name.as_str())
    })
}

/// The text without comments, and without what is behind the first module of tests.
fn without_tests(text: &str) -> String {
    let code: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect();
    let is_tests = |at: &usize| {
        code[*at].trim() == "#[cfg(test)]"
            && code.get(at + 1).is_some_and(|next| next.ends_with('{') && next.contains("mod "))
    };
    let end = (0..code.len()).find(is_tests).unwrap_or(code.len());
    code[..end].join("\n")
}

/// All paths of `use` lines, and all of several words in the code.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut statement: Option<String> = None;
    for line in code.lines() {
        let words = line.trim_start();
        let words = words
            .strip_prefix("pub")
            .map_or(words, |words| words.trim_start_matches(|c| c != ' ').trim_start());
        if statement.is_none() && words.starts_with("use ") {
            statement = Some(String::new());
        }
        match &mut statement {
            Some(text) => {
                text.push_str(words.strip_prefix("use ").unwrap_or(line));
                if line.trim_end().ends_with(';') {
                    expand("", text.trim_end().trim_end_matches(';'), &mut found);
                    statement = None;
                }
            }
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    let of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c: char| !of_path(c)).map(|word| word.trim_end_matches(':'));
    found.extend(words.filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// The single paths of a tree of imports.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let mut depth = 0;
    let mut start = 0;
    let ends = tree.char_indices().chain([(tree.len(), ',')]).collect::<Vec<_>>();
    for (at, c) in ends {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = tree[start..at].trim();
                start = (at + 1).min(tree.len());
                match item.split_once('{') {
                    Some((head, inner)) => {
                        let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
                        expand(&format!("{prefix}{}", head.trim()), inner, found);
                    }
                    None if item.is_empty() => {}
                    None => {
                        let item = item.split(" as ").next().unwrap_or(item);
                        found.push(format!("{prefix}{item}").trim_end_matches("::self").to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// Groups of modules each of which leads to all others of its group.
fn cycles<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (*from, reached_from(graph, from))).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut cycles = Vec::new();
    for module in graph.keys() {
        if done.contains(module) || !reached[module].contains(module) {
            continue;
        }
        let cycle: Vec<&str> =
            reached[module].iter().copied().filter(|other| reached[other].contains(module)).collect();
        done.extend(&cycle);
        cycles.push(cycle);
    }
    cycles
}

/// All modules that a module leads to.
fn reached_from<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = graph[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&graph[module]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "\
//! | module | content | may use |
//! |---|---|---|
//! | [`core`] | a | nothing |
//! | `seal` | b | nothing |
//! | [`wire`] | c, with `code` | `core` |
//! | `node` | d | all above but `seal` |
//! | `http` | e | all above |
//! | `cli` | f | all above |
";

    fn sources(modules: &[(&str, &str)]) -> Sources {
        modules.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn found(modules: &[(&str, &str)]) -> Vec<String> {
        violations(&layers(LIB).expect("a good table"), &sources(modules))
    }

    #[test]
    fn the_program_keeps_its_layers() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        let layers = layers(&fs::read_to_string(src.join("lib.rs")).expect("the root")).expect("a table");
        let sources = read(&src).expect("the sources of the program");
        assert!(sources.len() > 200, "only {} modules", sources.len());
        assert_eq!(violations(&layers, &sources), Vec::<String>::new());
        assert_eq!(impurities(&sources), Vec::<String>::new());
    }

    #[test]
    fn the_table_says_what_a_layer_may_use() {
        let layers = layers(LIB).expect("a good table");
        let of = |name: &str| layers[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(layers.len(), 6);
        assert_eq!((of("core"), of("wire")), (vec![], vec!["core"]));
        assert_eq!((of("node"), of("http")), (vec!["core", "wire"], vec!["core", "node", "seal", "wire"]));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error() {
        for row in ["| `a` | b | some |", "| a | b | nothing |", "| `a` | b | `http` |"] {
            let text =
                format!("//! | module | content | may use |\n//! {row}\n//! | `http` | c | nothing |\n");
            assert!(layers(&text).is_err(), "{row}");
        }
    }

    #[test]
    fn a_use_that_is_not_allowed_is_found_in_each_form() {
        for text in [
            "use crate::http::listener;",
            "pub(crate) use crate::http::{self, listener::{Listener, listen}};",
            "use crate::{\n    http::listener as l,\n};",
            "fn f() { crate::http::listener::listen() }",
            "use super::super::http::listener;",
        ] {
            let modules = [("http", ""), ("http::listener", ""), ("node", ""), ("node::store", text)];
            let found = found(&modules);
            assert!(found.iter().any(|line| line.starts_with("node::store uses http")), "{text}: {found:?}");
        }
        assert_eq!(found(&[("seal", ""), ("node", "use crate::seal::Key;")]).len(), 1, "an exception");
    }

    #[test]
    fn a_cycle_is_found_and_a_parent_is_none() {
        let of = |b: &str| {
            found(&[
                ("node", "use a::A;"),
                ("node::a", "use super::b::B;\nuse super::Node;"),
                ("node::b", "use super::c::C;"),
                ("node::c", b),
            ])
        };
        assert_eq!(of("use super::Node;"), Vec::<String>::new());
        assert_eq!(of("use super::{Node, a::A};"), ["a cycle: node::a, node::b, node::c"]);
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let text = "// use crate::cli::run;\n#[cfg(test)]\nmod tests {\n    use crate::cli::run;\n}\n";
        assert_eq!(found(&[("cli", ""), ("core", text)]), Vec::<String>::new());
        assert_eq!(found(&[("cli", ""), ("core", "use crate::cli::run;")]).len(), 1);
        assert_eq!(found(&[("attic", "")]).len(), 1, "a module that the table does not have");
    }

    #[test]
    fn what_a_pure_layer_must_not_use_is_found_in_each_form() {
        let of = |module: &str, text: &str| impurities(&sources(&[(module, text)])).len();
        for text in [
            "use std::time::Instant;\nfn f() -> Instant { Instant::now() }",
            "fn f() { std::time::SystemTime::now(); }",
            "use std::{fmt, net};",
            "use std::net::{Ipv4Addr, TcpStream};",
            "fn f() { std::thread::sleep(TIME) }",
            "use std::fs::File;",
            "fn f() -> u64 { getrandom::u64().unwrap_or(0) }",
        ] {
            assert_eq!(of("core::set", text), 1, "{text}");
            assert_eq!(of("wire", text), 1, "{text}");
            assert_eq!(of("node::clock", text), 0, "{text}");
        }
        for text in [
            "use std::time::{Duration, Instant};\nfn f(now: Instant) {}",
            "use std::net::Ipv6Addr;",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        ] {
            assert_eq!(of("core", text), 0, "{text}");
        }
    }
}
