//! `vwatch tls init`, the settings of TLS, and commands for nodes behind `https://`.

use std::os::unix::fs::PermissionsExt as _;

use cluster_tests::node::{Finished, run_to_end};
use cluster_tests::tls::Certificates;

#[test]
fn init_makes_files_that_only_their_owner_reads_and_overwrites_none() {
    let made = Certificates::make(&[]);
    let mode = |file: &str| {
        let file = std::fs::metadata(made.directory().join(file)).expect("a file");
        file.permissions().mode() & 0o777
    };
    for file in ["ca-key.pem", "server-key.pem", "client-key.pem"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    let before: Vec<_> = ["ca.pem", "server-cert.pem", "client-key.pem"].map(|file| made.read(file)).into();
    let directory = made.directory().to_str().expect("a path in UTF-8");
    let again = run_to_end(&["tls", "init", directory]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("ca.pem is there already: it is not overwritten"), "{again:?}");
    // one that is missing is not made alone
    std::fs::remove_file(made.directory().join("ca.pem")).expect("a file");
    assert_eq!(run_to_end(&["tls", "init", directory]).code, Some(1));
    assert!(!made.directory().join("ca.pem").exists());
    let after: Vec<_> = ["server-cert.pem", "client-key.pem"].map(|file| made.read(file)).into();
    assert_eq!(after, before[1..]);
    let bad = run_to_end(&["tls", "init", "/nowhere/x", "--name", "a b"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
    assert!(bad.stderr.contains("neither a host name nor an address"), "{bad:?}");
}

#[test]
fn a_wrong_setting_of_tls_is_one_line_and_exit_code_2() {
    let (made, other) = (Certificates::make(&[]), Certificates::make(&[]));
    let (certificate, key) = (made.path("server-cert.pem"), made.path("server-key.pem"));
    let write = |file: &str, text: &[u8]| {
        let path = made.directory().join(file);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let empty = write("empty.pem", b"\n");
    let torn = write("torn.pem", b"-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n");
    let sealed = write(
        "sealed.pem",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH0\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let old = write(
        "old.pem",
        b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0\n\nMIH0\n-----END EC PRIVATE KEY-----\n",
    );
    let other_key = other.path("server-key.pem");
    for (flags, line) in [
        (&["--tls-cert", &certificate][..], "--tls-cert without --tls-key: "),
        (&["--tls-key", &key], "--tls-key without --tls-cert: "),
        (&["--tls-client-port-cert", &certificate], "--tls-client-port-cert without --tls-client-port-key: "),
        (&["--tls-cert", "/nowhere.pem", "--tls-key", &key], "bad --tls-cert: the file cannot be read"),
        (&["--tls-cert", &empty, "--tls-key", &key], "bad --tls-cert: the file is empty"),
        (&["--tls-cert", "/dev/zero", "--tls-key", &key], "bad --tls-cert: the file is longer than"),
        (&["--tls-cert", &key, "--tls-key", &key], "bad --tls-cert: no certificate in the file"),
        (&["--tls-cert", &torn, "--tls-key", &key], "bad --tls-cert: the file is malformed"),
        (
            &["--tls-cert", &certificate, "--tls-key", &certificate],
            "bad --tls-key: no private key in the file",
        ),
        (
            &["--tls-cert", &certificate, "--tls-key", &other_key],
            "bad --tls-key: the key is not that of the certificate",
        ),
        (&["--tls-cert", &certificate, "--tls-key", &sealed], "bad --tls-key: the key is encrypted"),
        (&["--tls-cert", &certificate, "--tls-key", &old], "bad --tls-key: the key is encrypted"),
        (
            &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &key],
            "bad --tls-client-ca: no certificate in the file",
        ),
        (&["--tls-client-ca", &certificate], "--tls-client-ca without TLS: "),
        (&["--tls-transition"], "--tls-transition without TLS: "),
    ] {
        let Finished { code, stderr, .. } = run_to_end(flags);
        assert_eq!(code, Some(2), "{flags:?}: {stderr}");
        assert!(stderr.starts_with(&format!("vwatch: {line}")), "{flags:?}: {stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("MIH0"), "{stderr}");
    }
}

#[test]
fn commands_reach_nodes_behind_https_and_say_what_to_do_if_they_do_not() {
    // each node of these tests has an address of its own
    let names = |node: std::net::SocketAddr| node.ip().to_string();
    let (client, server) = cluster_tests::node::free_addresses();
    let made = Certificates::make(&[&names(client), "localhost"]);
    let other = Certificates::make(&["other.example", "localhost"]);
    let flags: Vec<String> = made
        .flags()
        .into_iter()
        .chain(["--tls-client-ca".into(), made.path("ca.pem"), "--lease-max-ttl=1m".into()])
        .collect();
    // its voter need not abstain
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let node = cluster_tests::node::Node::launch(client, server, &flags, &new);
    let misnamed = other.node(&[]);
    let plain = cluster_tests::node::Node::start();
    let (ca, other_ca) = (made.path("ca.pem"), other.path("ca.pem"));
    let (certificate, key) = (made.path("client-cert.pem"), made.path("client-key.pem"));
    let reads = format!("--client-url=https://{client}");
    let writes = format!("--server-url=https://{server}");
    let identity = ["--cert", &certificate, "--key", &key];
    let run = |arguments: &[&str]| run_to_end(arguments);

    let ready = ["health", &format!("https://{server}"), "--ca", &ca];
    cluster_tests::wait::wait_until("the node", cluster_tests::wait::LIMIT, || run(&ready).code == Some(0));
    let put = run(&[&["put", "n", "1", &writes, "--ca", &ca][..], &identity].concat());
    assert_eq!(put.code, Some(0), "{put:?}");
    assert_eq!(run(&["get", "n", &reads, "--ca", &ca]).stdout, "1");
    let watched = run(&["watch", "n", "-n", "1", &reads, "--ca", &ca]);
    assert_eq!((watched.code, watched.stdout.contains('1')), (Some(0), true), "{watched:?}");
    let listed = run(&["watch", "--prefix", "n", "--once", &reads, "--ca", &ca]);
    assert_ne!(listed.code, Some(1), "{listed:?}");
    // the client port is that which the server port names
    assert_eq!(run(&[&["get", "n", &writes, "--ca", &ca][..], &identity].concat()).stdout, "1");
    let locked =
        run(&[&["lock", "l", "--ttl", "30s", &writes, "--ca", &ca][..], &identity, &["--", "echo", "held"]]
            .concat());
    assert_eq!((locked.code, locked.stdout.as_str()), (Some(0), "held\n"), "{locked:?}");

    let misnamed = format!("--client-url=https://{}", misnamed.client_addr());
    let plain_port = format!("--client-url=https://{}", plain.client_addr());
    let without = format!("--client-url=http://{client}");
    for (arguments, part) in [
        (
            &["get", "n", &*reads][..],
            "an authority that is not trusted here: name the file of that authority with --ca",
        ),
        (&["get", "n", &reads, "--ca", &other_ca], "an authority that is not trusted here"),
        (&["get", "n", &misnamed, "--ca", &other_ca], "but for other.example"),
        (&["get", "n", &plain_port, "--ca", &ca], "if this port speaks none, use http://"),
        (&["get", "n", &without], "use https://"),
        (&["put", "n", "2", &writes, "--ca", &ca], "no client certificate"),
    ] {
        let Finished { code, stderr, .. } = run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part) && stderr.trim().lines().count() == 1, "{arguments:?}: {stderr}");
    }
    for (arguments, part) in [
        (&["get", "n", &reads, "--ca", "/nowhere.pem"][..], "bad --ca: the file cannot be read"),
        (&["get", "n", &reads, "--cert", &certificate], "--cert without --key"),
        (
            &[
                "get",
                "n",
                &reads,
                "--ca",
                &ca,
                "--cert",
                &certificate,
                "--key",
                &other.path("client-key.pem"),
            ],
            "bad --key: the key is not that of the certificate",
        ),
    ] {
        let Finished { code, stderr, .. } = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    }
    drop(node);
}
