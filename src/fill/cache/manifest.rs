//! Manifests of a registry: which names stand for one, and the digest of one that comes without it.

use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::Instant;

use crate::core::Version;
use crate::fill::entries::Entry;
use crate::fill::http::{self, Body, RequestError};

/// Longest manifest whose digest is computed here, in bytes: twice the size that the distribution specification lets
/// registries accept. The node never holds more than a piece of it.
const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// The `Accept` of a request for a manifest, unless `--fill-headers` has one: a manifest as it was pushed. Without it
/// a registry converts the manifest to an older form, which has another digest.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// Whether a name stands for a manifest of a registry.
pub(super) fn is_manifest(entry: &Entry) -> bool {
    entry.path.contains("/manifests/")
}

/// The digest of a manifest as a version, `sha256:` and 64 hex digits.
///
/// # Errors
/// If the body is compressed, too long, breaks off, or does not arrive by the deadline.
pub(super) async fn digest_of(
    head: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Result<Version, RequestError> {
    if head.contains_key(CONTENT_ENCODING) {
        return Err(RequestError::Unusable(
            "its manifest is compressed although the request did not allow that".to_owned(),
        ));
    }
    let digest = http::sha256(body, MAX_MANIFEST_BYTES, deadline).await?;
    Version::new(format!("sha256:{digest}").as_bytes())
        .map_err(|error| RequestError::Unusable(error.to_string()))
}
