//! Challenges: the authentication that a server requests with `WWW-Authenticate` (RFC 9110 §11.6.1).
//!
//! One line may have several schemes, and a comma separates both challenges and the parameters of a challenge: `Basic
//! realm="a", Bearer realm="https://auth/token",service="b"`. The text after a comma belongs to the challenge before it
//! if a `=` follows its first word; otherwise it begins another challenge.

/// Most challenges of a line that are read; further ones are skipped.
pub const MAX_CHALLENGES: usize = 32;

/// Most parameters of a challenge that are read; further ones are skipped.
pub const MAX_PARAMETERS: usize = 32;

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case.
    pub scheme: String,
    /// Its parameters in their order, names in lower case, values without quotes.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; the first one if it is repeated.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the challenges of one line. Bytes that are not UTF-8 become U+FFFD. A quote without an end stops the reading,
/// and its challenge is left out.
#[must_use]
pub fn parse_challenges(line: &[u8]) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = line;
    loop {
        rest = skip(rest, b" \t,");
        let (word, after) = word(rest);
        if word.is_empty() {
            let Some((_, after)) = rest.split_first() else { break };
            // a byte that is not allowed here
            rest = after;
            continue;
        }
        let equals = skip(after, b" \t").strip_prefix(b"=");
        if let Some(text) = equals {
            let Some((value, after)) = value(skip(text, b" \t")) else {
                challenges.pop();
                break;
            };
            // a parameter without a scheme before it is ignored
            if let Some(current) = challenges.last_mut().filter(|c| c.parameters.len() < MAX_PARAMETERS) {
                current.parameters.push((lower(word), value));
            }
            rest = after;
            continue;
        }
        if challenges.len() == MAX_CHALLENGES {
            break;
        }
        challenges.push(Challenge { scheme: lower(word), parameters: Vec::new() });
        rest = skip_token68(after);
    }
    challenges
}

fn skip<'a>(text: &'a [u8], what: &[u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !what.contains(byte)).unwrap_or(text.len());
    &text[end..]
}

/// The token (RFC 9110 §5.6.2) at the start, and the rest.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let end = text.iter().position(|b| !is_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// The text behind a scheme without its token68: a value without a name, which a scheme may have in place of
/// parameters.
fn skip_token68(text: &[u8]) -> &[u8] {
    let start = skip(text, b" \t");
    let is_of_it = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(b);
    let end = start.iter().position(|b| !is_of_it(b)).unwrap_or(start.len());
    let behind = skip(skip(&start[end..], b"="), b" \t");
    let is_alone = end > 0 && start.len() < text.len() && (behind.is_empty() || behind.starts_with(b","));
    if is_alone { behind } else { text }
}

/// A value, quoted or not, and the rest; `None` if its quote does not end. A value without quotes ends at the next
/// comma or space, so that a URL without quotes is read correctly.
fn value(text: &[u8]) -> Option<(String, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|b| b", \t".contains(b)).unwrap_or(text.len());
        return Some((String::from_utf8_lossy(&text[..end]).into_owned(), &text[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((String::from_utf8_lossy(&value).into_owned(), &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            byte => value.push(byte),
        }
    }
    None
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each challenge as `scheme name=value name=value`.
    fn shown(line: &str) -> Vec<String> {
        let shown = |challenge: Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}={value}"));
            challenge.scheme + &parameters.collect::<String>()
        };
        parse_challenges(line.as_bytes()).into_iter().map(shown).collect()
    }

    #[test]
    fn one_line_holds_several_challenges() {
        assert_eq!(
            shown(r#"Basic realm="a, b", Bearer realm="https://a/t",service="s",scope="r:x:pull,push""#),
            ["basic realm=a, b", "bearer realm=https://a/t service=s scope=r:x:pull,push"]
        );
        assert_eq!(
            shown(r#"Bearer realm="https://a/t", service="s" , basic realm="x""#),
            ["bearer realm=https://a/t service=s", "basic realm=x"]
        );
        // of RFC 9110
        assert_eq!(
            shown(r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#),
            [r#"newauth realm=apps type=1 title=Login to "apps""#, "basic realm=simple"]
        );
        assert_eq!(shown("Negotiate, Basic realm=\"x\""), ["negotiate", "basic realm=x"]);
        assert_eq!(shown("Negotiate YWJj==, Basic realm=x"), ["negotiate", "basic realm=x"]);
        assert_eq!(shown("Negotiate abc= ,NTLM"), ["negotiate", "ntlm"]);
        assert_eq!(shown("Basic, ,, Bearer realm = x"), ["basic", "bearer realm=x"]);
        assert_eq!(shown("Basic realm=\"x\" Bearer realm=\"y\""), ["basic realm=x", "bearer realm=y"]);
    }

    #[test]
    fn a_broken_challenge_does_not_affect_the_others() {
        assert_eq!(shown(r#"Basic realm="x", Bearer realm="open"#), ["basic realm=x"]);
        assert_eq!(shown(r#"Basic realm="x\"#), Vec::<String>::new());
        assert_eq!(shown("realm=x, Basic"), ["basic"]);
        assert_eq!(shown("@@ Basic realm=x"), ["basic realm=x"]);
        assert_eq!(parse_challenges(b"Basic realm=\"\xff\", Bearer realm=x").len(), 2);
        assert_eq!(parse_challenges("a,".repeat(100).as_bytes()).len(), MAX_CHALLENGES);
        let many = parse_challenges(format!("a {}", "b=c,".repeat(100)).as_bytes());
        assert_eq!(many[0].parameters.len(), MAX_PARAMETERS);
    }

    proptest! {
        #[test]
        fn never_panics(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_challenges(&line);
        }

        #[test]
        fn reads_what_is_written(
            all in prop::collection::vec(("[a-z]{1,6}", prop::collection::vec(("[a-z]{1,5}", "[ -~]{0,12}"), 0..4)), 1..5),
        ) {
            let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
            let one = |(scheme, parameters): &(String, Vec<(String, String)>)| {
                let written: Vec<_> =
                    parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
                format!("{scheme} {}", written.join(", "))
            };
            let line = all.iter().map(one).collect::<Vec<_>>().join(", ");
            let expected: Vec<_> =
                all.into_iter().map(|(scheme, parameters)| Challenge { scheme, parameters }).collect();
            prop_assert_eq!(parse_challenges(line.as_bytes()), expected);
        }
    }
}
