//! The environment variables of the client commands.

/// The text of a variable. An empty variable counts as unset, as for a node.
pub(super) fn variable(name: &str) -> Option<String> {
    let text = std::env::var_os(name).filter(|text| !text.is_empty());
    text.map(|text| text.to_string_lossy().into_owned())
}
