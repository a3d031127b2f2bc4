//! A little of the storm whose whole hour is `bench/measure/storm`.

use std::time::Duration;

#[test]
fn clients_that_behave_badly_leave_nothing_behind_and_cost_no_wake() {
    let _heavy = cluster_tests::heavy::heavy();
    let report = cluster_tests::storm::run(1_000, Duration::from_secs(20), |_| {});
    assert!(report.woken > 1_000 && report.hung_up > 1_000, "{report:?}");
}
