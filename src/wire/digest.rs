//! Digests of content as registries write them: `sha256:` and 64 hex digits (OCI image specification, "Digests").

/// Least number of hex digits of a digest of an unknown algorithm.
const FEWEST_DIGITS: usize = 32;

/// Longest digest, in bytes: a digest is used as a version, and versions are not longer.
const MAX_BYTES: usize = crate::core::limits::MAX_VERSION_BYTES;

/// Whether a text is a digest: an algorithm, a colon, and hex digits, as many as the algorithm has.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else { return false };
    let is_hex = encoded.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let has_its_length = match algorithm {
        "sha256" => encoded.len() == 64,
        "sha512" => encoded.len() == 128,
        _ => encoded.len() >= FEWEST_DIGITS,
    };
    is_algorithm(algorithm) && is_hex && has_its_length && text.len() <= MAX_BYTES
}

/// Whether a text is a digest, or begins like one and so is meant as one.
#[must_use]
pub fn is_meant_as_digest(text: &str) -> bool {
    is_digest(text) || ["sha256:", "sha512:"].iter().any(|algorithm| text.starts_with(algorithm))
}

fn is_algorithm(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.split(['+', '.', '_', '-']).all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let hex = |digits: usize| "0123456789abcdef".repeat(16)[..digits].to_owned();
        for (algorithm, digits) in [("sha256", 64), ("sha512", 128), ("blake3", 64), ("multihash+base58", 40)]
        {
            assert!(is_digest(&format!("{algorithm}:{}", hex(digits))), "{algorithm}");
        }
        for text in [
            "".to_owned(),
            hex(64),
            format!("sha256:{}", hex(63)),
            format!("sha256:{}", hex(64).to_uppercase()),
            format!("sha512:{}", hex(64)),
            format!("SHA256:{}", hex(64)),
            format!(":{}", hex(64)),
            format!("a..b:{}", hex(64)),
            format!("latest:{}", hex(8)),
            format!("sha256:{}/", hex(63)),
        ] {
            assert!(!is_digest(&text), "{text}");
        }
        assert!(is_meant_as_digest("sha256:abc") && !is_meant_as_digest("host:tag"));
    }
}
