//! Voters of leases that are not as they should be: two processes with one id, and clocks that are wrong.

use cluster_tests::cluster::{CLOCK, Cluster};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};

use super::leases::{delete, error, plan, put, settled, token};

/// Takes a lease at a node and gives it back. The token, or the code of the error.
fn tries(cluster: &Cluster, i: usize, path: &str) -> Result<u64, String> {
    let answer = put(cluster, i, &format!("{path}?ttl=1s&wait=2s"));
    if answer.status != 200 {
        return Err(error(&answer).to_owned());
    }
    let token = token(&answer);
    delete(cluster, i, path, token).expect(204);
    Ok(token)
}

fn refused(cluster: &Cluster, i: usize, reason: &str) -> f64 {
    cluster.node(i).metric(&format!("vwatch_lease_votes_refused_total{{reason=\"{reason}\"}}"))
}

fn live_voters(cluster: &Cluster, i: usize) -> f64 {
    cluster.node(i).metric("vwatch_lease_voters{state=\"live\"}")
}

#[test]
fn a_voter_that_is_two_processes_does_not_count_until_one_is_gone() {
    let voters = "node-0,node-1,node-2";
    let plan = plan(5).flag("--lease-voters", voters);
    // a machine that was restored from an image has the id of another one
    let mut cluster = plan.env(3, "VWATCH_NODE_ID", "node-2").env(4, "VWATCH_NODE_ID", "node-1").prepare();
    (0..3).for_each(|i| cluster.restart(i));
    wait_until("the nodes", LIMIT, || (0..3).all(|i| cluster.node(i).is_ready()));
    wait_until("leases", LIMIT, || (0..3).all(|i| tries(&cluster, i, "a").is_ok()));
    cluster.restart(3);
    for i in 0..3 {
        wait_for_value(LIMIT, || live_voters(&cluster, i), |live| *live == 2.0);
    }
    // two of three are a majority
    let before = tries(&cluster, 0, "a").expect("a lease");
    cluster.restart(4);
    wait_until("the nodes", LIMIT, || (3..5).all(|i| cluster.node(i).is_ready()));
    for i in 0..5 {
        wait_for_value(LIMIT, || live_voters(&cluster, i), |live| *live == 1.0);
    }
    for i in 0..5 {
        assert_eq!(tries(&cluster, i, "a"), Err("no-majority".to_owned()), "at {i}");
    }
    cluster.kill(1);
    cluster.kill(3);
    // which of the two processes is the right one makes no difference, once one is gone for long enough
    for i in [0, 2, 4] {
        wait_for_value(LIMIT, || live_voters(&cluster, i), |live| *live == 3.0);
        wait_until("a lease", LIMIT, || tries(&cluster, i, "a").is_ok_and(|token| token > before));
    }
}

#[test]
fn clocks_that_differ_by_a_second_change_nothing_and_one_that_is_far_off_does_not_vote() {
    let plan = plan(3).env(1, CLOCK, "+700ms").env(2, CLOCK, "-700ms");
    let mut cluster = plan.start();
    settled(&cluster, 3);
    let mut last = 0;
    for turn in 0..9 {
        // conflicting paths, whose coordinator is the same as long as the members are
        let path = ["q/x", "q", "q/x/y"][turn % 3];
        let token = tries(&cluster, turn % 3, path).expect("a lease");
        assert!(token > last, "{token} after {last}");
        last = token;
    }
    let _ = cluster.stop(2);
    cluster.set_env(2, CLOCK, "+20s");
    cluster.restart(2);
    let mut ask = |i: usize| {
        // it is ready for the moment before it sees that its clock is wrong: the tokens that it gives are refused
        let Ok(token) = tries(&cluster, i, "q").map_err(|code| assert_eq!(code, "no-majority")) else {
            return false;
        };
        assert!(token > last && token < now_us() + 10_000_000, "no clock is far ahead here");
        last = token;
        true
    };
    wait_until("a vote that its clock forbids", LIMIT, || {
        for i in 0..2 {
            ask(i);
        }
        refused(&cluster, 2, "clock_in_doubt") > 0.0
    });
    // the two others are a majority
    for i in 0..2 {
        wait_until("a lease", LIMIT, || ask(i));
    }
}
