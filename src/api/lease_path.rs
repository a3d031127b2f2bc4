//! The path of a lease: from a request, as the names that it covers, and as users read it.

use axum::http::Uri;

use crate::api::error::Refusal;
use crate::api::params::{self, query, shown};
use crate::api::state::Node;
use crate::core::Namespace;
use crate::core::feed::Scope;
use crate::core::lease::{LeasePath, LeasePathError};
use crate::wire::error_code::ErrorCode;

/// What the paths of leases begin with behind their namespace.
const BELOW: &str = "/leases/";

/// The path of a request.
pub(super) fn path_of(node: &Node, uri: &Uri) -> Result<LeasePath, Refusal> {
    let path = params::namespace_path(uri.path())?;
    let text = path.below(BELOW)?;
    let prefix = match query(uri, "prefix")?.as_deref() {
        None | Some("false") => false,
        Some("" | "true") => true,
        Some(other) => {
            let got = shown(other.as_bytes());
            return Err(Refusal::bad_parameter(format_args!("bad prefix: {got}: send true or false")));
        }
    };
    LeasePath::new(&path.namespace, &text, prefix, node.config.name_limit_bytes).map_err(
        |error| match error {
            LeasePathError::Name(error) => Refusal::name(&error, &node.metrics),
            error => Refusal::new(ErrorCode::BadName, error),
        },
    )
}

/// The names that a lease covers.
pub(super) fn scope_of_path(path: &LeasePath) -> Scope {
    let namespace = Namespace::new(path.namespace().as_bytes()).unwrap_or(Namespace::PLAIN);
    let text = path.as_str().as_bytes();
    if path.is_whole() {
        return Scope::new(&namespace, [], [&b""[..]]);
    }
    let below = [text, b"/"].concat();
    Scope::new(&namespace, [text], path.is_prefix().then_some(&below[..]))
}

/// What a lease covers, as users read it.
pub(super) fn named(path: &LeasePath) -> String {
    match (path.is_whole(), path.is_prefix()) {
        (true, _) => "the whole namespace".to_owned(),
        (false, true) => format!("{} and all below it", shown(path.as_str().as_bytes())),
        (false, false) => shown(path.as_str().as_bytes()),
    }
}
