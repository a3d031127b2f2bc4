//! What operators load into Prometheus and Grafana, against the reference of metrics and the guide.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cluster_tests::parts::find;
use serde_json::Value;

const ALERTS: &str = include_str!("../../../packaging/alerts.yaml");
const TESTS: &str = include_str!("../../../packaging/alerts.test.yaml");
const DASHBOARD: &str = include_str!("../../../packaging/grafana.json");
const GUIDE: &str = include_str!("../../../docs/guides/monitoring.md");
const METRICS: &str = include_str!("../../../docs/reference/metrics.md");

/// An alert as the file has it.
struct Alert<'a> {
    name: &'a str,
    condition: &'a str,
    summary: String,
    action: String,
}

/// The text behind a key on a line of the file.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ")
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => text.to_owned(),
    }
}

/// The alerts of the file, in order. The file keeps each value on a line of its own.
fn alerts() -> Vec<Alert<'static>> {
    let mut found: Vec<Alert<'_>> = Vec::new();
    for line in ALERTS.lines() {
        if let Some(name) = value(line, "alert") {
            found.push(Alert { name, condition: "", summary: String::new(), action: String::new() });
        }
        let Some(alert) = found.last_mut() else { continue };
        if let Some(text) = value(line, "expr") {
            alert.condition = text;
        } else if let Some(text) = value(line, "summary") {
            alert.summary = unquoted(text);
        } else if let Some(text) = value(line, "action") {
            alert.action = unquoted(text);
        }
    }
    assert!(found.len() > 25 && found.iter().all(|alert| !alert.condition.is_empty()));
    found
}

/// Checks that a node has each metric of an expression.
#[track_caller]
fn assert_documented(expression: &str) {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("vwatch_") || word.starts_with("process_"));
    let metrics: BTreeSet<&str> = metrics.collect();
    for name in &metrics {
        let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        let is_histogram =
            |name: &str| METRICS.contains(&format!("| `{name}` | `path`: `fast`, `ordinary` | a histogram"));
        let known = METRICS.contains(&format!("| `{name}` |")) || of_histogram.is_some_and(is_histogram);
        assert!(known, "{name} is not in docs/reference/metrics.md: {expression}");
    }
    // two metrics are of Prometheus itself
    let is_of_prometheus = expression.contains("up{") || expression.contains("ALERTS{");
    assert!(!metrics.is_empty() || is_of_prometheus, "no metric: {expression}");
}

#[test]
fn each_alert_is_about_documented_metrics_and_the_guide_has_its_text() {
    // links and code spans are for readers of the guide
    let plain = |cell: &str| {
        let mut text = String::new();
        let mut rest = cell;
        while let Some((before, link)) = rest.split_once('[') {
            let (name, behind) = link.split_once("](").expect("a link");
            text.extend([before, name]);
            rest = behind.split_once(')').expect("its end").1;
        }
        (text + rest).replace('`', "")
    };
    let rows = GUIDE.lines().filter(|line| line.starts_with("| `Vwatch"));
    let rows: Vec<Vec<String>> = rows
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| plain(cell.trim())).collect())
        .collect();
    let alerts = alerts();
    for alert in &alerts {
        assert_documented(&unquoted(alert.condition));
    }
    let of_file: Vec<Vec<String>> = alerts
        .iter()
        .map(|alert| vec![alert.name.to_owned(), alert.summary.clone(), alert.action.clone()])
        .collect();
    assert_eq!(rows, of_file, "docs/guides/monitoring.md, and packaging/alerts.yaml");
}

#[test]
fn each_alert_fires_in_a_test_and_does_not_in_another() {
    for Alert { name, .. } in alerts() {
        for kind in [format!("name: '{name} fires'"), format!("name: '{name} does not fire: ")] {
            assert!(TESTS.contains(&kind), "packaging/alerts.test.yaml has no {kind}");
        }
    }
    let Some(promtool) = find("promtool", "it is in the Debian package prometheus") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let said = Command::new(&promtool).args(arguments).current_dir(&folder).output().expect("promtool");
        let text = [said.stdout, said.stderr].concat();
        assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
    }
}

/// The expressions of the panels of a dashboard.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

#[test]
fn the_dashboard_shows_documented_metrics_and_its_panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 50, "{expressions:?}");
    expressions.iter().for_each(|expression| assert_documented(expression));
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let of = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(of("x") + of("w") <= 24, "{panel}");
        for x in of("x")..of("x") + of("w") {
            for y in of("y")..of("y") + of("h") {
                assert!(taken.insert((x, y)), "{} lies on another one", panel["title"]);
            }
        }
    }
}
