//! Nodes in containers, on the real engine: the image, the group that finds itself by a name of the network, and what
//! happens when a container is cut from it. Without an engine each test prints that it was skipped.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use cluster_tests::docker::{Container, Group, Image, LIMIT, Project, docker, engine, skipped};
use cluster_tests::wait::wait_until;

#[test]
fn the_image_is_a_binary_and_no_more() {
    if !engine("the_image_is_a_binary_and_no_more") {
        return;
    }
    let image = Image::of_here();
    let config = docker(&["image", "inspect", "--format", "{{json .}}", image.tag()]);
    let image_of: serde_json::Value = serde_json::from_str(&config).unwrap();
    let config = &image_of["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "/vwatch", "health"]));
    let ports: Vec<_> = config["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["8008/tcp", "8008/udp", "8080/tcp"]);
    let environment: Vec<_> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().split('=').next().unwrap())
        .collect();
    assert_eq!(environment, ["PATH", "VWATCH_LISTEN_CLIENT", "VWATCH_LISTEN_SERVER"]);
    let bytes = image_of["Size"].as_u64().unwrap();
    // its own crate is not optimised here, which takes more than twice the room of a release
    assert!(bytes < 32_000_000, "{bytes} bytes");
    let said = docker(&["run", "--rm", "--pull", "never", image.tag(), "--version"]);
    assert!(said.starts_with("vwatch "), "{said}");
}

#[test]
fn containers_are_a_group_that_grows_is_cut_and_heals() {
    if !engine("containers_are_a_group_that_grows_is_cut_and_heals") {
        return;
    }
    let mut group = Group::new();
    group.grow(3);
    group.wait_ready();
    group.nodes()[0].put("written/on-one", "1");
    for node in group.nodes() {
        node.wait_get("written/on-one", "1");
        is_not_root(node);
        wait_until("the engine to call it healthy", LIMIT, || {
            node.inspect("{{.State.Health.Status}}") == "healthy"
        });
    }

    let deaths = |node: &Container| node.log().matches(" is dead (").count();
    let address = group.address(1);
    group.cut(1);
    // the newcomers take the address that became free, so that the one that is cut comes back with another
    group.grow(5);
    let cut = &group.nodes()[1];
    let rest: Vec<&Container> = group.nodes().iter().filter(|node| node.name != cut.name).collect();
    for node in &rest {
        wait_until("a node that came during the cut to be ready", LIMIT, || node.is_ready());
        node.wait_get("written/on-one", "1");
    }
    // the fault has happened when both sides believe that the other one is gone, and neither has what the other wrote
    wait_until("the cut to be noticed", LIMIT, || {
        deaths(cut) >= 2 && rest[..2].iter().all(|node| deaths(node) >= 1)
    });
    cut.put("cut/here", "here");
    cut.put("cut/both", "early");
    rest[0].put("cut/there", "there");
    rest[0].put("cut/both", "late");
    for node in &rest {
        node.wait_get("cut/there", "there");
        assert_eq!(node.get("cut/here"), None);
    }
    assert_eq!((cut.get("cut/there"), cut.get("cut/both").as_deref()), (None, Some("early")));

    group.mend(1);
    let now_at = group.address(1);
    assert_ne!(now_at, address);
    let listed = format!(" ready {now_at}:8008");
    for node in group.nodes() {
        wait_until("all to know where it is now", LIMIT, || {
            node.vwatch(&["members", "-w", "simple"]).is_some_and(|members| {
                members.contains(&listed) && members.matches(" ready ").count() == group.nodes().len()
            })
        });
    }
    for node in group.nodes() {
        for (name, data) in [("cut/here", "here"), ("cut/there", "there"), ("cut/both", "late")] {
            node.wait_get(name, data);
        }
    }
    let held = group.wait_same();
    assert_eq!(held.matches("\"name\"").count(), 4, "{held}");

    assert_eq!(group.shrink(2), [0, 0, 0], "stopped by SIGTERM, in order");
    group.nodes()[1].put("written/after", "2");
    group.nodes()[0].wait_get("written/after", "2");
    assert_eq!(group.shrink(0), [0, 0]);
}

#[test]
fn names_are_searched_as_in_kubernetes() {
    if !engine("names_are_searched_as_in_kubernetes") {
        return;
    }
    let mut group = Group::below("default.svc.cluster.local");
    group.grow(2);
    group.wait_ready();
    group.nodes()[0].put("below/a-domain", "1");
    group.nodes()[1].wait_get("below/a-domain", "1");
    // the commands use the resolver of the C library, and not that of discovery
    let asked = |url: &str| group.nodes()[1].vwatch(&["health", "--url", url]);
    assert!(asked("http://node:8008").is_some());
    assert!(asked("http://unknown:8008").is_none());
    assert_eq!(group.shrink(0), [0, 0]);
}

#[test]
fn compose_makes_a_group_of_a_service_and_scales_it() {
    let test = "compose_makes_a_group_of_a_service_and_scales_it";
    if !engine(test) {
        return;
    }
    let Some(project) = Project::of("compose.yaml") else { return skipped(test, NO_COMPOSE) };
    project.run(&["up", "--detach", "--scale", "node=3"]);
    let ready = |count: usize| ready(&project, count);
    ready(3)[0].put("by/compose", "3");
    project.run(&["up", "--detach", "--scale", "node=5"]);
    let five = ready(5);
    for node in &five {
        node.wait_get("by/compose", "3");
        is_not_root(node);
        assert_eq!(node.inspect("{{.RestartCount}}"), "0");
    }
    project.run(&["up", "--detach", "--scale", "node=2"]);
    let two = ready(2);
    two[1].put("by/compose", "2");
    two[0].wait_get("by/compose", "2");
    project.run(&["stop"]);
    for node in project.nodes() {
        assert_eq!(node.inspect("{{.State.ExitCode}}"), "0");
    }
}

/// With `down` all containers are removed, and the volumes stay: the next containers are the same set.
#[test]
fn compose_with_volumes_keeps_what_it_holds() {
    let test = "compose_with_volumes_keeps_what_it_holds";
    if !engine(test) {
        return;
    }
    let Some(project) = Project::of("compose.disk.yaml") else { return skipped(test, NO_COMPOSE) };
    project.run(&["up", "--detach"]);
    let first = ready(&project, 3);
    first[0].put("kept/by-volumes", "7");
    for node in &first {
        node.wait_get("kept/by-volumes", "7");
        is_not_root(node);
    }
    project.run(&["down"]);
    assert!(project.nodes().is_empty(), "all containers are gone");
    project.run(&["up", "--detach"]);
    for node in ready(&project, 3) {
        node.wait_get("kept/by-volumes", "7");
        assert_eq!(node.inspect("{{.RestartCount}}"), "0");
    }
}

const NO_COMPOSE: &str = "there is neither `docker compose` nor `docker-compose`";

/// Waits until a project has so many containers, and all are ready nodes.
fn ready(project: &Project, count: usize) -> Vec<Container> {
    wait_until(&format!("{count} ready nodes"), LIMIT, || {
        let nodes = project.nodes();
        nodes.len() == count && nodes.iter().all(Container::is_ready)
    });
    project.nodes()
}

/// By the process in the kernel of the machine, not by the settings of the image.
#[track_caller]
fn is_not_root(node: &Container) {
    let top = docker(&["top", &node.name, "-o", "pid,uid"]);
    let uids: Vec<_> = top.lines().skip(1).map(|line| line.split_whitespace().last().unwrap()).collect();
    // the node, and now and then a check of its health
    assert!(!uids.is_empty() && uids.iter().all(|uid| *uid == "65532"), "{top}");
}
