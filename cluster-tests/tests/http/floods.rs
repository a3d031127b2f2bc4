//! A little of the floods whose long run is `bench/measure/floods`.

use std::time::Duration;

/// What a node may take more than before, whatever comes: the bytes in flight of its client port, a quarter of
/// `--max-set-bytes`, and as much again for what frames, connections and the allocator add to them.
const MOST_KB: u64 = 2 * (256 << 10);

#[test]
fn no_flood_keeps_others_from_being_answered_or_exhausts_memory() {
    let _heavy = cluster_tests::heavy::heavy();
    let all = cluster_tests::floods::run(0..cluster_tests::floods::COUNT, Duration::from_millis(300), |_| {});
    let before = all[0].most_kb;
    for figures in &all {
        assert!(figures.sent > 0 || figures.flood == "nothing", "{figures:?}");
        assert!(!figures.reads.is_empty() && !figures.writes.is_empty(), "{figures:?}");
        assert!(
            figures.most_kb < before + MOST_KB,
            "{}: {} kB, {before} before",
            figures.flood,
            figures.most_kb
        );
    }
}
