//! Decides which problems of the cluster are logged, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Interval of the check whether discovery, gossip and requests find the same nodes. A problem that two checks in a row
/// find is logged.
pub(crate) const CHECK_OTHERS: Duration = Duration::from_secs(10);

/// A problem that persists is logged again after this.
const LOG_AGAIN: Duration = Duration::from_secs(600);

/// The present problems of the cluster, each with the time when it was last logged.
#[derive(Default)]
pub(crate) struct Alerts(BTreeMap<String, Option<Instant>>);

impl Alerts {
    /// Records the present problems, and returns those to log now.
    pub(crate) fn check(&mut self, sentences: Vec<String>, now: Instant) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for sentence in sentences {
            let logged = match before.get(&sentence) {
                None => None,
                Some(Some(logged)) if now - *logged < LOG_AGAIN => Some(*logged),
                Some(_) => {
                    news.push(sentence.clone());
                    Some(now)
                }
            };
            self.0.insert(sentence, logged);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_problem_is_logged_and_not_at_each_check() {
        let (mut alerts, mut now) = (Alerts::default(), Instant::now());
        let mut check = |sentences: &[&str]| {
            now += CHECK_OTHERS;
            alerts.check(sentences.iter().map(ToString::to_string).collect(), now)
        };
        assert!(check(&["a"]).is_empty(), "it may be over soon");
        assert_eq!(check(&["a", "b"]), ["a"]);
        assert_eq!(check(&["a", "b"]), ["b"]);
        assert!(check(&["a", "b"]).is_empty());
        assert!(check(&["b"]).is_empty());
        assert!(check(&["a"]).is_empty());
        assert_eq!(check(&["a"]), ["a"], "it came back");
        let again =
            (0..2 * LOG_AGAIN.as_secs() / CHECK_OTHERS.as_secs()).filter(|_| !check(&["a"]).is_empty());
        assert_eq!(again.count(), 2);
    }
}
