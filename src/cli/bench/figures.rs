//! Measured values, and their output.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::super::output::{Format, table};

/// Longest time that a histogram distinguishes, in µs.
const MOST_US: u64 = 3_600_000_000;

/// A histogram of times, to three digits.
pub(super) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_US, 3).expect("bounds that are fine"))
    }
}

impl Times {
    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MOST_US).max(1));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// A percentile, in ms.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }

    pub(super) fn longest_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// Figures in the order of the output. A name with a dot is a field of an object in JSON.
#[derive(Default)]
pub(super) struct Figures(Vec<(String, Value)>);

impl Figures {
    pub(super) fn count(&mut self, name: &str, count: u64) {
        self.0.push((name.to_owned(), json!(count)));
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.0.push((name.to_owned(), json!(text)));
    }

    /// A number with three decimals; `null` without one.
    pub(super) fn number(&mut self, name: &str, number: impl Into<Option<f64>>) {
        let rounded = number.into().map(|number| (number * 1e3).round() / 1e3);
        self.0.push((name.to_owned(), json!(rounded)));
    }

    pub(super) fn times(&mut self, name: &str, times: &Times) {
        for (percentile, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)] {
            self.number(&format!("{name}.{percentile}"), times.percentile_ms(percent));
        }
        self.number(&format!("{name}.max"), times.longest_ms());
    }

    pub(super) fn printed(&self, format: Format) -> String {
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        match format {
            Format::Json => format!("{}\n", self.json()),
            Format::Table => {
                let rows: Vec<_> =
                    self.0.iter().map(|(name, value)| vec![name.clone(), shown(value)]).collect();
                table(&["FIGURE", "VALUE"], &rows)
            }
            Format::Simple => {
                let pairs: Vec<_> =
                    self.0.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
                format!("{}\n", pairs.join(" "))
            }
        }
    }

    fn json(&self) -> Value {
        let mut all = Map::new();
        for (name, value) in &self.0 {
            match name.split_once('.') {
                Some((object, field)) => {
                    let object = all.entry(object).or_insert_with(|| json!({}));
                    object[field] = value.clone();
                }
                None => drop(all.insert(name.clone(), value.clone())),
            }
        }
        Value::Object(all)
    }
}

/// The median, in ms. An event that never came counts as longest; `None` if the median never came.
pub(super) fn median_ms(times: &[Option<Duration>]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by_key(|time| time.unwrap_or(Duration::MAX));
    let middle = sorted.get(sorted.len() / 2).copied().flatten()?;
    Some(middle.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_the_longest_for_the_median() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(median_ms(&[None, ms(3), ms(1)]), Some(3.0));
        assert_eq!(median_ms(&[None, ms(3), ms(1), None]), None);
        assert_eq!(median_ms(&[]), None);
    }

    #[test]
    fn figures_in_each_form() {
        let mut times = Times::default();
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        let mut figures = Figures::default();
        figures.text("of", "watch");
        figures.count("lost", 3);
        figures.number("server.bytes", None);
        figures.times("wake_ms", &times);
        let simple = figures.printed(Format::Simple);
        assert!(simple.starts_with("of=watch lost=3 server.bytes=- wake_ms.p50=50"), "{simple}");
        let json: Value = serde_json::from_str(&figures.printed(Format::Json)).unwrap();
        assert_eq!((&json["lost"], &json["server"]["bytes"]), (&json!(3), &Value::Null));
        let p99 = json["wake_ms"]["p99"].as_f64().unwrap();
        assert!((989.0..=991.0).contains(&p99), "{p99}");
        assert!(figures.printed(Format::Table).starts_with("FIGURE         VALUE\nof             watch\n"));
    }
}
