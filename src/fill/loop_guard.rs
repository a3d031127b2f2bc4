//! The nodes that an answer has passed, by the `Via` of followers (RFC 9110 §7.6.3). It shows a loop of upstreams.

/// Most followers behind each other.
const MAX_HOPS: usize = 16;

/// A node's name as it may stand in `Via`: a token of at most 64 bytes.
pub(super) fn pseudonym(node_id: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    node_id.chars().take(64).map(|c| if is_token(c) { c } else { '_' }).collect()
}

/// The followers that an answer has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Via {
    /// Their names, the farthest first.
    hops: Vec<String>,
}

/// Why an answer is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopError {
    /// It has passed this node.
    Loop,
    /// It has passed too many nodes.
    TooLong,
}

impl Via {
    /// Reads the header of an upstream's answer, its lines joined with commas. It may name other services than vwatch
    /// too.
    ///
    /// # Errors
    /// If it names this node, `us`, or too many nodes.
    pub(super) fn parse(field: &str, us: &str) -> Result<Self, LoopError> {
        let mut hops = Vec::new();
        for hop in field.split(',').map(str::trim).filter(|hop| !hop.is_empty()) {
            let name: String = hop.split_whitespace().nth(1).unwrap_or("?").chars().take(64).collect();
            if name == us {
                return Err(LoopError::Loop);
            }
            hops.push(name);
            if hops.len() >= MAX_HOPS {
                return Err(LoopError::TooLong);
            }
        }
        Ok(Self { hops })
    }

    /// How many nodes the answer has passed.
    pub(super) fn len(&self) -> usize {
        self.hops.len()
    }

    /// The header with which this node, `us`, answers its readers.
    pub(super) fn field(&self, us: &str) -> String {
        let hops = self.hops.iter().map(String::as_str).chain([us]);
        hops.map(|hop| format!("1.1 {}", pseudonym(hop))).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_node_adds_itself() {
        let first = Via::parse("", "f1").unwrap();
        assert_eq!((first.len(), first.field("f1").as_str()), (0, "1.1 f1"));
        let second = Via::parse("1.1 f1", "f2").unwrap();
        assert_eq!((second.len(), second.field("f2").as_str()), (1, "1.1 f1, 1.1 f2"));
    }

    #[test]
    fn a_loop_is_detected() {
        assert_eq!(Via::parse("1.1 a, 1.1 us,1.1 b", "us"), Err(LoopError::Loop));
        let long = vec!["1.1 x"; 16].join(", ");
        assert_eq!(Via::parse(&long, "us"), Err(LoopError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_sent_on(field in "\\PC{0,200}") {
            if let Ok(via) = Via::parse(&field, "us") {
                let sent = via.field("us");
                prop_assert!(sent.is_ascii() && !sent.contains(char::is_control));
                prop_assert!(Via::parse(&sent, "other").is_ok_and(|sent| sent.len() == via.len() + 1));
            }
        }
    }

    #[test]
    fn any_node_id_makes_a_token() {
        assert_eq!(pseudonym("node 1,ü"), "node_1__");
        assert_eq!(pseudonym(&"x".repeat(200)).len(), 64);
    }
}
