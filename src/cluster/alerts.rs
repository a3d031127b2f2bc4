//! What of a group's troubles is worth a line in the log, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked at whether discovery, gossip and requests come to the same nodes. What is wrong at two looks is
/// told.
pub(crate) const CHECK_OTHERS: Duration = Duration::from_secs(10);

/// What is still wrong is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// What is wrong with the group, since when, and when it was told.
#[derive(Default)]
pub(crate) struct Alerts(BTreeMap<String, Option<Instant>>);

impl Alerts {
    /// What is to be told of what is wrong now.
    pub(crate) fn look(&mut self, sentences: Vec<String>, now: Instant) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for sentence in sentences {
            let told = match before.get(&sentence) {
                None => None,
                Some(Some(told)) if now - *told < TELL_AGAIN => Some(*told),
                Some(_) => {
                    news.push(sentence.clone());
                    Some(now)
                }
            };
            self.0.insert(sentence, told);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_for_a_while_is_told_and_not_at_each_look() {
        let (mut alerts, mut now) = (Alerts::default(), Instant::now());
        let mut look = |sentences: &[&str]| {
            now += CHECK_OTHERS;
            alerts.look(sentences.iter().map(ToString::to_string).collect(), now)
        };
        assert!(look(&["a"]).is_empty(), "it may be over soon");
        assert_eq!(look(&["a", "b"]), ["a"]);
        assert_eq!(look(&["a", "b"]), ["b"]);
        assert!(look(&["a", "b"]).is_empty());
        assert!(look(&["b"]).is_empty());
        assert!(look(&["a"]).is_empty());
        assert_eq!(look(&["a"]), ["a"], "it came back");
        let again =
            (0..2 * TELL_AGAIN.as_secs() / CHECK_OTHERS.as_secs()).filter(|_| !look(&["a"]).is_empty());
        assert_eq!(again.count(), 2);
    }
}
