//! Header fields that are lists (RFC 9110 §5.6.1): elements separated by commas, in one line or in several.

/// The elements of one line, without the spaces around them and without empty ones. A comma within quotes belongs to
/// its element.
pub fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let split = line.split(move |&byte| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        is_escaped = is_quoted && byte == b'\\';
        is_quoted ^= byte == b'"';
        byte == b',' && !is_quoted
    });
    split.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_comma_within_quotes_separates_nothing() {
        let shown = |line: &'static str| -> Vec<&str> {
            elements(line.as_bytes()).map(|element| std::str::from_utf8(element).unwrap()).collect()
        };
        assert_eq!(shown(r#"199 - "a, \", b" ,, 110 - "c""#), [r#"199 - "a, \", b""#, r#"110 - "c""#]);
        assert_eq!(shown(" , "), Vec::<&str>::new());
        assert_eq!(shown("a,\"b,c"), ["a", "\"b,c"]);
    }

    proptest! {
        #[test]
        fn no_byte_but_commas_and_space_is_lost(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let is_kept = |b: &&u8| **b != b',' && !b.is_ascii_whitespace();
            let kept: Vec<u8> = elements(&line).flatten().filter(is_kept).copied().collect();
            prop_assert_eq!(kept, line.iter().filter(is_kept).copied().collect::<Vec<_>>());
        }
    }
}
