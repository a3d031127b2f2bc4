//! The path of a name below the directory of a mirror, and back.
//!
//! Slashes of the name separate directories. Everything else that cannot be a file is encoded, so that each name has a
//! path of its own, inside of the directory, and each path says its name:
//!
//! | in the name | in the path |
//! |---|---|
//! | `%`, control characters | `%` and two hex digits for each byte |
//! | a component that is `.`, `..`, or begins with `.vwatch` | its first dot is `%2E` |
//! | an empty component, such as in `a//b`, `/a` and `a/` | `%` |
//! | a component over 240 bytes | directories that end with `%+`, and the rest of it |
//! | `a/b`, where `a` is a name too | `a%/b` |
//!
//! The last rule depends on the other names: [`super::folder`] keeps it.

use std::fmt::Write;

/// Most bytes of a component of a path. File systems have 255, and some characters may follow.
const MAX_COMPONENT_BYTES: usize = 240;

/// What an empty component is.
const EMPTY: &str = "%";

/// The end of a component that goes on in the next one.
const CONTINUED: &str = "%+";

/// The end of a directory beside a file of its name.
pub(super) const BESIDE_A_FILE: char = '%';

/// How the mirror's own files begin.
pub(super) const OWN: &str = ".vwatch";

/// The components of the path of a name, at least one. The last one is the file.
pub(super) fn path_of(name: &str) -> Vec<String> {
    let mut path = Vec::new();
    for component in name.split('/') {
        encode(component, &mut path);
    }
    path
}

fn encode(component: &str, path: &mut Vec<String>) {
    if component.is_empty() {
        return path.push(EMPTY.to_owned());
    }
    let is_reserved = matches!(component, "." | "..") || component.starts_with(OWN);
    let (mut piece, mut is_first) = (String::new(), true);
    let mut text = String::new();
    for c in component.chars() {
        text.clear();
        // a piece behind the first one could be of this kind by chance
        let is_dot = |piece: &String| c == '.' && piece.is_empty() && (is_reserved || !is_first);
        if c == '%' || c.is_control() || is_dot(&piece) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // writing into a String does not fail
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(c);
        }
        if piece.len() + text.len() > MAX_COMPONENT_BYTES {
            path.push(std::mem::take(&mut piece) + CONTINUED);
            is_first = false;
            if c == '.' {
                text = "%2E".to_owned();
            }
        }
        piece.push_str(&text);
    }
    path.push(piece);
}

/// The name with this path. `None` if it is the path of no name.
pub(super) fn name_of(path: &[String]) -> Option<String> {
    let (file, folders) = path.split_last()?;
    let folders: Vec<&str> = folders.iter().map(|folder| plain(folder)).collect();
    let mut name = Vec::new();
    for folder in &folders {
        match folder.strip_suffix(CONTINUED) {
            Some(piece) => decode(piece, &mut name)?,
            None => {
                decode(folder, &mut name)?;
                name.push(b'/');
            }
        }
    }
    decode(file, &mut name)?;
    let name = String::from_utf8(name).ok()?;
    // one path a name
    let own = path_of(&name);
    let is_own = own.iter().map(String::as_str).eq(folders.into_iter().chain([file.as_str()]));
    is_own.then_some(name)
}

/// The name of a directory without the mark that a file has its name.
fn plain(folder: &str) -> &str {
    folder.strip_suffix(BESIDE_A_FILE).filter(|plain| !plain.is_empty()).unwrap_or(folder)
}

fn decode(piece: &str, name: &mut Vec<u8>) -> Option<()> {
    if piece == EMPTY {
        return Some(());
    }
    let mut parts = piece.split('%');
    name.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let digits = part.get(..2)?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        name.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn joined(name: &str) -> String {
        path_of(name).join("/")
    }

    #[test]
    fn names_that_cannot_be_paths_have_a_path() {
        for (name, path) in [
            ("a", "a"),
            ("a/b.c", "a/b.c"),
            (".env", ".env"),
            ("", "%"),
            ("/", "%/%"),
            ("a//b/", "a/%/b/%"),
            ("../x", "%2E./x"),
            (".", "%2E"),
            ("...", "..."),
            (".vwatch-cursor", "%2Evwatch-cursor"),
            ("100%", "100%25"),
            ("a\0\n\u{9b}", "a%00%0A%C2%9B"),
            ("naïve", "naïve"),
            ("%", "%25"),
            ("%2E", "%252E"),
        ] {
            assert_eq!(joined(name), path, "{name:?}");
            assert_eq!(name_of(&path_of(name)).as_deref(), Some(name));
        }
    }

    #[test]
    fn long_components_are_split() {
        let long = "x".repeat(1000);
        let path = path_of(&format!("a/{long}/b"));
        assert_eq!(path.len(), 2 + 5);
        assert_eq!(name_of(&path), Some(format!("a/{long}/b")));
        // a piece is neither a way up nor a file of the mirror
        for end in ["..", ".", ".vwatch-cursor"] {
            let name = "x".repeat(MAX_COMPONENT_BYTES) + end;
            let path = path_of(&name);
            assert!(path[1].starts_with("%2E"), "{path:?}");
            assert_eq!(name_of(&path), Some(name));
        }
    }

    #[test]
    fn a_directory_may_be_marked_and_other_paths_are_no_names() {
        let name = |path: &str| name_of(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(name("a%/b").as_deref(), Some("a/b"));
        assert_eq!(name("%%/b").as_deref(), Some("/b"));
        assert_eq!(name("x%+/b"), None, "it is not long");
        for path in ["a%", ".vwatch-cursor", "..", "%2", "%ZZ", "a%2Eb", "%2e", "a/%2Ex", "%FF", "a%%/b"] {
            assert_eq!(name(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn each_name_has_a_path_of_its_own_inside(
            names in prop::collection::hash_set("[a.%/+\\x00ü]{0,6}|(\\.vwatch|x{238}|[.]|[ü%]{239}){0,3}", 1..20),
        ) {
            let mut paths = HashSet::new();
            for name in &names {
                let path = path_of(name);
                prop_assert!(path.iter().all(|part| !part.is_empty() && part.len() <= 255));
                prop_assert!(path.iter().all(|part| part != "." && part != ".." && !part.contains(['/', '\0'])));
                prop_assert!(!path[0].starts_with(OWN));
                prop_assert_eq!(name_of(&path), Some(name.clone()));
                paths.insert(path);
            }
            prop_assert_eq!(paths.len(), names.len());
        }
    }
}
