//! `vwatch members`: the nodes of a cluster, and whether discovery, gossip and requests agree on them.

use std::fmt::Write as _;

use clap::Args;

use super::client::{OrFailure, Request};
use super::cluster_view;
use super::failure::Failure;
use super::nodes::{Nodes, TimeLimit, block_on};
use super::output::{Format, print, table};
use crate::wire::cluster::{Agreement, Cluster, Genesis, Leases, Member, SetMark, Strictest};
use crate::wire::error_code::ErrorCode;
use crate::wire::text::{Escaped, json_escaped};

/// List the nodes of a cluster, as one of them sees it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch members                  a table
  vwatch members -w simple        node id, state and address, one a line
  vwatch members -w json          the answer of GET /v1/cluster
  vwatch members http://127.0.0.2:8008

In the table, LAG counts the writes of this node that the other node has not acknowledged (* marks a node that needs a \
sync), CLOCK is how far its clock is ahead, and SET is the beginning of its digest: equal sets have equal digests. The \
last line is about leases, if the cluster has voters, as the node that was asked sees them.

Exit code 1 if this node is not ready, or if discovery, gossip and requests do not see the same nodes: the fault, and \
what to do, are on standard error.")]
pub(super) struct Members {
    /// Server port of the node, like --server-url
    #[arg(value_name = "URL", conflicts_with = "server_url")]
    typed_url: Option<String>,
    /// Form of the output: json, table or simple [env: VWATCH_OUTPUT]
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    format: Format,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Members) -> Result<(), Failure> {
    let mut nodes = args.nodes.clone();
    nodes.server_url = args.typed_url.clone().or(nodes.server_url);
    let mut client = nodes.writers()?.within(args.time.timeout);
    let request = Request::get("/v1/cluster".to_owned());
    let answer = block_on(async { client.send(&request).await })?;
    let has_path = answer.error_code() != Some(ErrorCode::NoSuchPath);
    let answer = answer.or_refusal("members").map_err(|failure| explain(failure, has_path))?;
    let mut cluster = cluster_view::parse(&answer)?;
    for members in [&mut cluster.members.live, &mut cluster.members.dead] {
        members.sort_by(|a, b| (&a.node_id, &a.server).cmp(&(&b.node_id, &b.server)));
    }
    match args.format {
        Format::Json => {
            print(format!("{}\n", json_escaped(&String::from_utf8_lossy(&answer.body))).as_bytes())?;
        }
        Format::Table => print(shown(&cluster).as_bytes())?,
        Format::Simple => print(simple(&cluster).as_bytes())?,
    }
    judge(&cluster)
}

/// Explains a missing path: the port is not a server port, or that of an old node. A server without codes answers a
/// missing path as it answers a missing name.
fn explain(failure: Failure, has_path: bool) -> Failure {
    match (failure, has_path) {
        (Failure::Missing(line), _) | (Failure::Failed(line), false) => {
            Failure::Failed(format!("{line} (only the server port knows the members)"))
        }
        (failure, _) => failure,
    }
}

/// Fails if the node is not ready or the views of the cluster do not agree.
fn judge(cluster: &Cluster) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if cluster.node.readiness != "ready" {
        wrong.push(format!("this node is not ready: {}", cluster.node.readiness));
    }
    let Agreement { dns, gossip, data, agree, sentences } = &cluster.agreement;
    if !agree {
        wrong.push(format!("discovery names {dns} nodes, gossip sees {gossip}, {data} answer"));
        wrong.extend(sentences.iter().cloned());
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(wrong.join("; "))),
    }
}

fn shown(cluster: &Cluster) -> String {
    let header = ["NODE", "STATE", "SERVER", "REGION", "RECORDS", "SET", "LAG", "CLOCK", "HEARD", "ERROR"];
    let node = &cluster.node;
    let mut rows = vec![vec![
        node.node_id.clone(),
        format!("{} (asked)", node.readiness),
        node.server.clone(),
        or_dash(&node.region),
        node.set.records.to_string(),
        set(&node.set),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
    ]];
    let members = &cluster.members;
    rows.extend(members.live.iter().map(|member| row(member, &member.state)));
    rows.extend(members.dead.iter().map(|member| row(member, "dead")));
    rows.extend(members.unreadable.iter().map(|unreadable| {
        let mut row = vec!["?".to_owned(), "unreadable".to_owned(), unreadable.gossip.clone()];
        row.resize(header.len() - 1, "-".to_owned());
        row.push(unreadable.error.clone());
        row
    }));
    let Agreement { dns, gossip, data, agree, .. } = &cluster.agreement;
    let verdict = if *agree { "they agree" } else { "they do not agree" };
    let numbers = format!("discovery names {dns}, gossip sees {gossip}, {data} answer: {verdict}");
    let set_line = set_line(node.set.genesis.as_ref());
    let (limits, leases) = (limit_line(cluster), leases_line(&cluster.leases));
    format!("{}{numbers}{set_line}\n{limits}{leases}", table(&header, &rows))
}

/// The leases at the node that was asked, if the cluster has voters.
fn leases_line(leases: &Leases) -> String {
    if leases.voters == 0 {
        return String::new();
    }
    let mut line = format!("leases: {} held, {} waiting here", leases.known, leases.waiting);
    let _ = write!(line, "; {} of {} voters are live", leases.live_voters, leases.voters);
    if leases.doubled_voters > 0 {
        let _ = write!(line, ", {} are two processes with one node id", leases.doubled_voters);
    }
    if leases.with_other_voters > 0 {
        let _ = write!(line, "; {} nodes have other voters", leases.with_other_voters);
    }
    match (leases.remembered, leases.abstains_for_ms) {
        (None, _) => line.push_str("; this node is no voter"),
        (Some(_), 0) => line.push_str("; this node votes"),
        (Some(_), ms) => {
            let _ = write!(line, "; this node abstains for {:.1}s", ms as f64 / 1000.0);
        }
    }
    let refused: Vec<String> =
        leases.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if !refused.is_empty() {
        let _ = write!(line, "; votes refused: {}", refused.join(", "));
    }
    line + "\n"
}

/// Whose limit of histories decides, if not all nodes have the same one.
fn limit_line(cluster: &Cluster) -> String {
    let Strictest { max_bytes, node_id, .. } = &cluster.history.strictest;
    let others = cluster.members.live.iter().filter_map(|member| member.max_history_bytes);
    match others.chain([cluster.history.max_bytes as u64]).all(|limit| limit == *max_bytes) {
        true => String::new(),
        false => format!(
            "older versions take at most {max_bytes} bytes: {node_id} has the least --max-history-bytes\n"
        ),
    }
}

fn set_line(genesis: Option<&Genesis>) -> &'static str {
    match genesis {
        Some(genesis) if genesis.provisional => "; the set is provisional, and is given up for any other",
        _ => "",
    }
}

fn row(member: &Member, state: &str) -> Vec<String> {
    let lag = member.lag.map(|lag| format!("{lag}{}", if member.dirty == Some(true) { "*" } else { "" }));
    vec![
        member.node_id.clone(),
        state.to_owned(),
        member.server.clone(),
        or_dash(&member.region),
        member.set.records.to_string(),
        set(&member.set),
        lag.unwrap_or_else(|| "-".to_owned()),
        member.clock_offset_us.map_or_else(|| "-".to_owned(), offset),
        format!("{:.1}s ago", member.heartbeat_age_ms as f64 / 1000.0),
        member.error.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn set(set: &SetMark) -> String {
    match set.genesis {
        Some(_) => set.digest.chars().take(8).collect(),
        None => "-".to_owned(),
    }
}

fn offset(us: i64) -> String {
    match us.unsigned_abs() {
        0..10_000 => format!("{us:+}µs"),
        10_000..10_000_000 => format!("{:+}ms", us / 1000),
        _ => format!("{:+}s", us / 1_000_000),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn simple(cluster: &Cluster) -> String {
    let node = &cluster.node;
    let line =
        |id: &str, state: &str, server: &str| format!("{}\n", Escaped(format_args!("{id} {state} {server}")));
    let mut text = line(&node.node_id, &node.state, &node.server);
    let all = cluster.members.live.iter().map(|member| (member, member.state.as_str()));
    for (member, state) in all.chain(cluster.members.dead.iter().map(|member| (member, "dead"))) {
        text.push_str(&line(&member.node_id, state, &member.server));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cluster::{Members, ThisNode};

    fn cluster() -> Cluster {
        let set = SetMark {
            records: 2,
            digest: "abcdef0123456789".to_owned(),
            genesis: Some(Genesis::default()),
            ..SetMark::default()
        };
        let node = ThisNode {
            node_id: "node-1".to_owned(),
            readiness: "ready".to_owned(),
            state: "ready".to_owned(),
            server: "127.0.0.1:8008".to_owned(),
            set: set.clone(),
            ..ThisNode::default()
        };
        let other = Member {
            node_id: "node-2".to_owned(),
            state: "ready".to_owned(),
            server: "127.0.0.2:8008".to_owned(),
            region: "eu".to_owned(),
            set,
            lag: Some(3),
            dirty: Some(true),
            clock_offset_us: Some(-12_345),
            heartbeat_age_ms: 300,
            ..Member::default()
        };
        Cluster {
            node,
            members: Members { live: vec![other], ..Members::default() },
            agreement: Agreement { dns: 2, gossip: 2, data: 2, agree: true, sentences: Vec::new() },
            ..Cluster::default()
        }
    }

    #[test]
    fn a_table() {
        assert_eq!(
            shown(&cluster()),
            "NODE    STATE          SERVER          REGION  RECORDS  SET       LAG  CLOCK  HEARD     ERROR\n\
             node-1  ready (asked)  127.0.0.1:8008  -       2        abcdef01  -    -      -         -\n\
             node-2  ready          127.0.0.2:8008  eu      2        abcdef01  3*   -12ms  0.3s ago  -\n\
             discovery names 2, gossip sees 2, 2 answer: they agree\n"
        );
        assert_eq!(simple(&cluster()), "node-1 ready 127.0.0.1:8008\nnode-2 ready 127.0.0.2:8008\n");
        assert_eq!(judge(&cluster()), Ok(()));
    }

    #[test]
    fn the_least_limit_of_histories_is_named_if_limits_differ() {
        let mut differ = cluster();
        assert_eq!(limit_line(&differ), "");
        differ.history.max_bytes = 100;
        differ.history.strictest = Strictest { max_bytes: 100, ..Strictest::default() };
        assert_eq!(limit_line(&differ), "", "the other one does not say its limit");
        differ.members.live[0].max_history_bytes = Some(50);
        differ.history.strictest =
            Strictest { max_bytes: 50, node_id: "node-2".to_owned(), ..Strictest::default() };
        let line = "older versions take at most 50 bytes: node-2 has the least --max-history-bytes\n";
        assert!(shown(&differ).ends_with(&format!("they agree\n{line}")));
    }

    #[test]
    fn leases_have_a_line_if_there_are_voters() {
        let mut cluster = cluster();
        cluster.leases = Leases { voters: 3, live_voters: 3, known: 4, waiting: 1, ..Leases::default() };
        let line = "leases: 4 held, 1 waiting here; 3 of 3 voters are live; this node is no voter\n";
        assert!(shown(&cluster).ends_with(&format!("they agree\n{line}")), "{}", shown(&cluster));
        cluster.leases.remembered = Some(2);
        assert!(shown(&cluster).ends_with("; this node votes\n"));
        let refused = [("held".to_owned(), 2), ("other_voters".to_owned(), 1)];
        cluster.leases = Leases {
            live_voters: 0,
            doubled_voters: 1,
            with_other_voters: 2,
            abstains_for_ms: 1_540,
            refused: refused.into_iter().collect(),
            ..cluster.leases
        };
        assert!(shown(&cluster).ends_with(
            "; 0 of 3 voters are live, 1 are two processes with one node id; 2 nodes have other voters; \
             this node abstains for 1.5s; votes refused: held 2, other_voters 1\n"
        ));
    }

    #[test]
    fn each_fault_is_a_failure() {
        let mut joining = cluster();
        joining.node.readiness = "joining".to_owned();
        assert_eq!(judge(&joining), Err(Failure::Failed("this node is not ready: joining".to_owned())));
        let mut split = cluster();
        split.agreement =
            Agreement { dns: 3, agree: false, sentences: vec!["x: y".to_owned()], ..split.agreement };
        let Err(Failure::Failed(line)) = judge(&split) else { panic!("it is not well") };
        assert_eq!(line, "discovery names 3 nodes, gossip sees 2, 2 answer; x: y");
    }
}
