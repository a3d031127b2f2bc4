//! The public items of the client library, as a page to read: `docs/reference/client-api.md`.
//!
//! They are read from the text of `src/client`, which rustfmt has formed: items begin in the first column, methods four
//! columns further.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Where the page is.
const PAGE: &str = "docs/reference/client-api.md";

const HEAD: &str = "\
# The public items of the client library

All that `vwatch::client` offers to programs, without its documentation, which `cargo doc --open` has with examples. The
[guide](../guides/rust.md) explains it. `cargo xtask api` writes this page; a test compares it with the code.
";

/// What is public of one type, function or trait.
#[derive(Default)]
struct Item {
    definition: String,
    methods: Vec<String>,
}

/// Writes the page.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn write() -> Result<(), String> {
    let page = page()?;
    fs::write(root().join(PAGE), page).map_err(|error| format!("xtask: {PAGE}: {error}"))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn page() -> Result<String, String> {
    let client = root().join("src/client");
    let mut items = BTreeMap::new();
    for file in sources(&client)? {
        let text =
            fs::read_to_string(&file).map_err(|error| format!("xtask: {}: {error}", file.display()))?;
        read(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default(), &mut items);
    }
    let exported =
        fs::read_to_string(client.join("mod.rs")).map_err(|error| format!("xtask: mod.rs: {error}"))?;
    let names = exports(&exported);
    let mut page = HEAD.to_owned();
    for (name, Item { definition, methods }) in items {
        if !names.contains(&name) {
            continue;
        }
        let _ = write!(page, "\n## {name}\n\n```rust\n{definition}");
        for method in methods {
            let _ = writeln!(page, "{method}");
        }
        page.push_str("```\n");
    }
    Ok(page)
}

fn sources(folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let failed = |error| format!("xtask: {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_test = path
            .file_stem()
            .is_some_and(|stem| ["tests", "testing", "forms"].iter().any(|test| stem == *test));
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if !is_test && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The names that `pub use` lines of the module export, and what it defines itself.
fn exports(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in text.split("\npub use ").skip(1) {
        let part = part.split(';').next().unwrap_or_default();
        let list = part.split_once('{').map_or_else(
            || part.rsplit("::").next().unwrap_or_default().to_owned(),
            |(_, list)| list.trim_end_matches('}').to_owned(),
        );
        names.extend(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    }
    for part in text.split("\npub struct ").skip(1) {
        names.extend(part.split([' ', '(', ';', '<']).next().map(str::to_owned));
    }
    names
}

/// Reads the public items of a file.
fn read(text: &str, items: &mut BTreeMap<String, Item>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut within: Option<String> = None;
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if let Some(name) = line.strip_prefix("impl").map(type_of) {
            within = (!line.contains(" for ")).then_some(name);
        } else if line == "}" {
            within = None;
        } else if let Some(rest) = line.strip_prefix("pub ")
            && let Some(name) = name_of(rest)
        {
            let (definition, end) = definition(&lines[at..]);
            items.entry(name).or_default().definition = definition;
            at += end;
            continue;
        } else if let (Some(name), true) = (&within, line.starts_with("    pub ")) {
            let (signature, end) = signature(&lines[at..]);
            items.entry(name.clone()).or_default().methods.push(signature);
            at += end;
            continue;
        }
        at += 1;
    }
}

/// The name of the type of an `impl`.
fn type_of(line: &str) -> String {
    // parameters of the impl itself
    let line = match line.strip_prefix('<') {
        Some(rest) => rest.split_once('>').map_or("", |(_, rest)| rest),
        None => line,
    };
    line.trim().split([' ', '<', '{']).next().unwrap_or_default().to_owned()
}

/// The name of an item, if it is one of those that the page has.
fn name_of(line: &str) -> Option<String> {
    let kinds = ["struct ", "enum ", "trait ", "type ", "fn ", "async fn "];
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// The definition of an item without comments, attributes and what is private, and the number of its lines.
fn definition(lines: &[&str]) -> (String, usize) {
    let first = lines[0];
    if first.starts_with("pub fn") || first.starts_with("pub async fn") || first.starts_with("pub type") {
        let (signature, end) = signature(lines);
        return (format!("{}\n", signature.trim_start()), end);
    }
    if first.ends_with(';') || first.ends_with('}') {
        let private = first.find('(').filter(|_| first.starts_with("pub struct")).map(|at| &first[..at]);
        return (format!("{}\n", private.unwrap_or(first)), 1);
    }
    let end = lines.iter().position(|line| *line == "}").unwrap_or(lines.len() - 1);
    let is_struct = first.starts_with("pub struct");
    let is_shown = |line: &&&str| {
        let text = line.trim();
        let is_note = text.is_empty() || text.starts_with("//") || text.starts_with('#');
        !is_note && (!is_struct || text.starts_with("pub "))
    };
    let body: Vec<&str> = lines[1..end].iter().filter(is_shown).copied().collect();
    let definition = match body.is_empty() {
        true => format!("{first} /* private */ }}\n"),
        false => format!("{first}\n{}\n}}\n", body.join("\n")),
    };
    (definition, end + 1)
}

/// The signature of a function on one line, and the number of its lines.
fn signature(lines: &[&str]) -> (String, usize) {
    let end = lines.iter().position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
    let end = end.unwrap_or(0);
    let joined = lines[..=end].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let body = joined.find(" {").unwrap_or(joined.len());
    let text = joined[..body]
        .replace("( ", "(")
        .replace(", )", ")")
        .replace("(mut self", "(self")
        .trim_end_matches(',')
        .to_owned();
    (text, end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_the_code() {
        let kept = fs::read_to_string(root().join(PAGE)).expect("the page");
        assert!(kept == page().expect("the code"), "{PAGE} is not that of the code: run cargo xtask api");
    }

    #[test]
    fn what_is_private_is_not_public() {
        let mut items = BTreeMap::new();
        let text = "pub struct A {\n    /// Doc.\n    pub a: u8,\n    b: u8,\n}\n\nimpl A {\n    pub fn long(\n        self,\n        \
                    b: u8,\n    ) -> Self {\n        self\n    }\n\n    fn none() {}\n}\n\nimpl X for A {\n    pub fn no() {}\n}\n";
        read(text, &mut items);
        assert_eq!(items["A"].definition, "pub struct A {\n    pub a: u8,\n}\n");
        assert_eq!(items["A"].methods, ["pub fn long(self, b: u8) -> Self"]);
        assert_eq!(exports("\npub use a::{B, C};\npub use d::E;\n"), ["B", "C", "E"]);
    }
}
