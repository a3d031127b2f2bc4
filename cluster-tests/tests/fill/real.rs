//! Upstreams that others have written: Debian's `docker-registry` and, as S3, `moto_server` from `PyPI`.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, free_addresses, get};
use cluster_tests::parts::{Part, find};
use cluster_tests::wait::{LIMIT, wait_until};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vwatch-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A real registry, which notifies `notify` of each push.
struct Registry {
    address: SocketAddr,
    _part: Part,
    _directory: Directory,
}

impl Registry {
    fn start(name: &str, address: SocketAddr, notify: Option<&Node>) -> Option<Self> {
        let program = find("docker-registry", "apt-get install docker-registry")?;
        let directory = Directory::new(name);
        let data = directory.0.join("data");
        let notifications = notify.map_or_else(String::new, |node| {
            format!(
                "notifications: {{endpoints: [{{name: vwatch, url: 'http://{}/v1/fill/registry-events', \
                 timeout: 5s, threshold: 5, backoff: 1s}}]}}\n",
                node.server_addr()
            )
        });
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}', secret: test}}\n{notifications}",
            data.display()
        );
        let file = directory.0.join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&file);
        Some(Self { address, _part: Part::start(command, address), _directory: directory })
    }

    fn ask(&self, request: &Request) -> Response {
        Connection::open(self.address).ask(request)
    }

    fn push_blob(&self, repository: &str, bytes: &str) -> String {
        let digest = sha256(bytes);
        let upload = self.ask(&Request::new("POST", &format!("/v2/{repository}/blobs/uploads/")).body(""));
        let location = upload.expect(202).header("Location").unwrap().to_owned();
        let target = &location[location.find("/v2/").unwrap()..];
        let put = Request::new("PUT", &format!("{target}&digest={digest}"));
        self.ask(&put.header("Content-Type", "application/octet-stream").body(bytes)).expect(201);
        digest
    }

    /// Pushes an image that `mark` distinguishes from others. Returns its digest.
    fn push(&self, repository: &str, tag: &str, mark: &str) -> String {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"mark":"{mark}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[]}}"#
        );
        let digest = self.push_blob(repository, &config);
        const KIND: &str = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{KIND}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{digest}"}},"layers":[]}}"#,
            config.len()
        );
        let put = Request::new("PUT", &format!("/v2/{repository}/manifests/{tag}"));
        let pushed = self.ask(&put.header("Content-Type", KIND).body(&manifest)).expect(201);
        assert_eq!(pushed.header("Docker-Content-Digest"), Some(sha256(&manifest).as_str()));
        sha256(&manifest)
    }
}

fn sha256(text: &str) -> String {
    let mut sum =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils");
    sum.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = sum.wait_with_output().unwrap().stdout;
    format!("sha256:{}", &String::from_utf8(output).unwrap()[..64])
}

/// The command line of vwatch's own description, with the registry's address filled in, and its expected output.
#[test]
fn a_tag_of_a_registry_is_watched_by_interval() {
    let (address, _) = free_addresses();
    let Some(registry) = Registry::start("interval", address, None) else { return };
    let first = registry.push("repo/image", "tag", "one");
    let url = format!("http://{address}");
    #[rustfmt::skip]
    let node = Node::with(&[
        "-fill-addr", &url, "-fill-path", "/v2/{{.repository}}/manifests/{{.tag}}", "-fill-strategy", "FILL_CACHE",
        // the interval is 10s there
        "-fill-expiry", "300ms",
    ]);
    let read = node.client().ask(&Request::new("GET", "/version/repo/image:tag")).expect(200);
    assert_eq!((read.version(), read.text()), (Some(first.as_str()), ""));

    let mut watchers: Vec<_> =
        (0..50).map(|_| node.watch(&get(&format!("repo/image:tag?version={first}&timeout=1m")))).collect();
    node.wait_parked(50);
    let second = registry.push("repo/image", "tag", "two");
    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).version(), Some(second.as_str()));
    }
    // a tag that is moved back is believed once it stays
    registry.push("repo/image", "tag", "one");
    wait_until("the tag to be back", LIMIT, || {
        node.get("repo/image:tag").expect(200).version() == Some(first.as_str())
    });
    node.get("repo/image:other").expect(404);
    // by digest, and the tag beside it does not count
    for name in [format!("repo/image@{second}"), format!("repo/image:tag@{second}")] {
        assert_eq!(node.get(&name).expect(200).version(), Some(second.as_str()), "{name}");
    }
    node.get(&format!("repo/image@sha256:{}", "0".repeat(64))).expect(404);
    let latest = registry.push("repo/image", "latest", "three");
    assert_eq!(node.get("repo/image").expect(200).version(), Some(latest.as_str()));
}

#[test]
fn a_push_is_known_at_once_by_notification() {
    let (address, _) = free_addresses();
    let url = format!("http://{address}");
    let node = Node::with(&[
        "--fill-from",
        &url,
        "--fill-path",
        "/v2/{{.repository}}/manifests/{{.tag}}",
        "--fill-strategy",
        "FILL_CACHE",
        "--fill-expiry",
        "10m",
    ]);
    let Some(registry) = Registry::start("notified", address, Some(&node)) else { return };
    let first = registry.push("repo/image", "tag", "one");
    wait_until("the registry to be found", LIMIT, || node.get("repo/image:tag?timeout=5s").status == 200);
    let mut watcher = node.watch(&get(&format!("repo/image:tag?version={first}&timeout=1m")));
    node.wait_parked(1);
    let pushed = Instant::now();
    let second = registry.push("repo/image", "tag", "two");
    assert_eq!(watcher.answer().expect(200).version(), Some(second.as_str()));
    assert!(pushed.elapsed() < Duration::from_secs(20), "long before the next interval");
}

/// An S3 server with a public bucket, for which requests need no signature.
struct S3 {
    address: SocketAddr,
    _part: Part,
}

impl S3 {
    fn start() -> Option<Self> {
        let program = find("moto_server", "pip install 'moto[server,s3]'")?;
        let (address, _) = free_addresses();
        let mut command = Command::new(program);
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        Some(Self { address, _part: Part::start(command, address) })
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        let mut connection = Connection::open(self.address);
        connection.send_bytes(
            format!(
                "{method} {target} HTTP/1.1\r\nHost: {}\r\nX-Amz-Acl: public-read\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                self.address,
                body.len()
            )
            .as_bytes(),
        );
        connection.answer()
    }
}

#[test]
fn an_object_of_s3_changes_is_deleted_and_comes_back() {
    let Some(s3) = S3::start() else { return };
    s3.ask("PUT", "/bucket", "").expect(200);
    s3.ask("PUT", "/bucket/dir/object", "one").expect(200);
    let url = format!("http://{}", s3.address);
    let node = Node::with(&[
        "--fill-from",
        &url,
        "--fill-path",
        "/bucket/{{.name}}",
        "--fill-strategy",
        "FILL_CACHE",
        "--fill-expiry",
        "300ms",
    ]);
    let read = node.get("dir/object").expect(200);
    // S3's tag of a small object is its MD5
    assert_eq!((read.version(), read.text()), (Some("f97c5d29941bfb1b2fdab0874906ab82"), ""));

    let mut watcher = node.watch(&get(&format!("dir/object?version={}&timeout=1m", read.version().unwrap())));
    node.wait_parked(1);
    s3.ask("PUT", "/bucket/dir/object", "two").expect(200);
    let changed = watcher.answer().expect(200);
    assert_eq!(changed.version(), Some("b8a9f715dbb64fd5c56e7783c6820a61"));
    assert!(changed.last_sync() > read.last_sync());

    let mut watcher =
        node.watch(&get(&format!("dir/object?version={}&timeout=1m", changed.version().unwrap())));
    node.wait_parked(1);
    s3.ask("DELETE", "/bucket/dir/object", "").expect(204);
    let gone = watcher.answer().expect(410);
    assert!(gone.last_sync() > changed.last_sync());

    let mut watcher = node.watch(&get("dir/object?version=&timeout=1m"));
    node.wait_parked(1);
    s3.ask("PUT", "/bucket/dir/object", "one").expect(200);
    let back = watcher.answer().expect(200);
    assert_eq!(back.version(), read.version());
    assert!(back.last_sync() > gone.last_sync());
}
