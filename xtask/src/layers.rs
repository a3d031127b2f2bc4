//! The import graph of `src/`: no module uses one of a floor above it, and no modules use each other in a circle.
//!
//! The graph is read from `use` lines and from paths that begin with `crate::` or `super::`, without tests. A module may use what
//! its own parent defines, because it is a part of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// The floors of the program, the highest first: a module uses only modules of lower floors, and of its own room.
const FLOORS: [&[&str]; 13] = [
    &["cli"],
    &["daemon"],
    &["http"],
    &["api"],
    &["report"],
    &["cluster"],
    &["node"],
    &["fill", "sim"],
    &["replication", "config"],
    &["membership"],
    &["watch", "wire"],
    &["metrics"],
    &["core", "seal"],
];

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

/// What is wrong with the graph: one line an arrow up, and one a circle.
pub(crate) fn violations(sources: &Sources) -> Vec<String> {
    let graph: BTreeMap<&str, BTreeSet<&str>> =
        sources.iter().map(|(name, text)| (name.as_str(), uses(sources, name, text))).collect();
    let mut found = Vec::new();
    for (from, targets) in &graph {
        for to in targets {
            let (room, other) = (room(from), room(to));
            match (floor(room), floor(other)) {
                (Some(here), Some(there)) if room == other || there > here => {}
                (Some(_), Some(_)) => found.push(format!("{from} uses {to}, which is not below it")),
                _ => found.push(format!("{from} uses {to}: one of them is on no floor: add it to FLOORS")),
            }
        }
    }
    found.extend(circles(&graph).into_iter().map(|circle| format!("a circle: {}", circle.join(", "))));
    found
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
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

/// All paths of `use` lines, and those in the code that begin at the crate or at a parent.
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
    found.extend(
        words.filter(|word| word.starts_with("crate::") || word.starts_with("super::")).map(str::to_owned),
    );
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
fn circles<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (*from, reached_from(graph, from))).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut circles = Vec::new();
    for module in graph.keys() {
        if done.contains(module) || !reached[module].contains(module) {
            continue;
        }
        let circle: Vec<&str> =
            reached[module].iter().copied().filter(|other| reached[other].contains(module)).collect();
        done.extend(&circle);
        circles.push(circle);
    }
    circles
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

    fn found(modules: &[(&str, &str)]) -> Vec<String> {
        violations(&modules.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn no_module_uses_one_above_it_and_none_are_in_a_circle() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        let sources = read(&src).expect("the sources of the program");
        assert!(sources.len() > 200, "only {} modules", sources.len());
        assert_eq!(violations(&sources), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_up_is_found_in_each_form() {
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
    }

    #[test]
    fn a_circle_is_found_and_a_parent_is_none() {
        let of = |b: &str| {
            found(&[
                ("node", "use a::A;"),
                ("node::a", "use super::b::B;\nuse super::Node;"),
                ("node::b", "use super::c::C;"),
                ("node::c", b),
            ])
        };
        assert_eq!(of("use super::Node;"), Vec::<String>::new());
        assert_eq!(of("use super::{Node, a::A};"), ["a circle: node::a, node::b, node::c"]);
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let text = "// use crate::cli::run;\n#[cfg(test)]\nmod tests {\n    use crate::cli::run;\n}\n";
        assert_eq!(found(&[("cli", ""), ("core", text)]), Vec::<String>::new());
        assert_eq!(found(&[("cli", ""), ("core", "use crate::cli::run;")]).len(), 1);
        assert_eq!(
            found(&[("attic", ""), ("core", "use crate::attic::old;")]).len(),
            1,
            "a room of no floor"
        );
    }
}
