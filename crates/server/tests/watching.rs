//! A running server is watched through its socket and its page for monitoring.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server of its own, ended with the test.
struct Serving {
    child: Child,
    folder: tempfile::TempDir,
    monitoring: u16,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vorpal(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
    command.env_clear().arg("-c").arg(config);
    command
}

impl Serving {
    fn start() -> Serving {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder_config(&folder);
        write_config(&path, free.port(), "256 MiB");
        let child = vorpal(&path).arg("serve").stderr(Stdio::null()).spawn().expect("the server starts");
        let serving = Serving { child, folder, monitoring: free.port() };
        let end = Instant::now() + Duration::from_secs(60);
        while !serving.run(&["status"]).status.success() {
            assert!(Instant::now() < end, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        serving
    }

    fn run(&self, arguments: &[&str]) -> Output {
        vorpal(&folder_config(&self.folder)).args(arguments).output().expect("the command runs")
    }

    fn top(&self) -> Value {
        let done = self.run(&["--json", "top", "--once"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).expect("a line of JSON")
    }

    fn reserve(&self, size: &str) {
        write_config(&folder_config(&self.folder), self.monitoring, size);
        let done = self.run(&["config", "apply"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.monitoring)).expect("it listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("an answer, and the end");
        text
    }

    /// Waits until `/health` answers this.
    fn health(&self, status: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.get("/health");
            if text.starts_with(&format!("HTTP/1.1 {status} ")) {
                return text;
            }
            assert!(Instant::now() < end, "not {status}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn folder_config(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("vorpal.toml")
}

fn write_config(path: &Path, monitoring: u16, reserve: &str) {
    let text = format!(
        "[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\nmetrics = [\"127.0.0.1:{monitoring}\"]\n[storage]\nreserve = \"{reserve}\"\n"
    );
    std::fs::write(path, text).expect("the configuration");
}

#[test]
fn top_and_the_metrics_tell_of_a_server_that_is_idle() {
    let server = Serving::start();
    let view = server.top();
    assert_eq!((view["sessions"].as_u64(), view["panics"].as_u64()), (Some(0), Some(0)));
    assert!(view["trouble"].is_null() && view["disk_free_bytes"].as_u64().is_some_and(|free| free > 0), "{view}");
    let screen = server.run(&["top", "--once"]).stdout;
    assert!(String::from_utf8_lossy(&screen).contains("takes writes"));
    let page = server.get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("\nvorpal_sessions_attached 0\n"), "{page}");
    assert!(page.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{page}");
}

#[test]
fn a_reserve_that_the_disk_does_not_have_refuses_accounts_until_it_is_lowered() {
    let server = Serving::start();
    let add = |jid: &str| server.run(&["user", "add", jid, "--password", "secret"]);
    assert!(server.health("200").ends_with("ok\n"));
    assert!(add("romeo@localhost").status.success());
    // No disk of a machine that runs tests has so much left.
    server.reserve("1 TiB");
    let free = server.top()["disk_free_bytes"].as_u64().expect("the disk tells");
    assert!(free < 1 << 40, "this test needs a disk with less than 1 TiB left");
    let trouble = server.health("503");
    assert!(
        trouble.contains("1048576 MiB are reserved") && trouble.contains("until 1310720 MiB are free"),
        "{trouble}"
    );
    let refused = add("juliet@localhost");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the disk is nearly full"), "{refused:?}");
    assert!(server.top()["trouble"].is_string());
    server.reserve("0 B");
    server.health("200");
    assert!(add("juliet@localhost").status.success());
}

#[test]
fn an_account_is_followed_by_a_bounded_number_who_make_room_when_they_go() {
    let server = Serving::start();
    assert!(server.run(&["user", "add", "romeo@localhost", "--password", "secret"]).status.success());
    let refused = server.run(&["trace", "nobody@localhost"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no account nobody@localhost"));
    let socket = server.folder.path().join("data/admin.sock");
    let follow = || {
        let mut socket = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        socket.write_all(b"{\"order\":\"trace\",\"jid\":\"romeo@localhost\"}\n").expect("it is read");
        let mut line = String::new();
        BufReader::new(&socket).read_line(&mut line).expect("an answer");
        (socket, line)
    };
    let mut all: Vec<_> = (0..8).map(|_| follow()).collect();
    assert!(all.iter().all(|(_, line)| line == "\"done\"\n"), "{all:?}");
    assert!(follow().1.contains("8 accounts are already being followed"));
    all.pop();
    let end = Instant::now() + Duration::from_secs(20);
    while follow().1 != "\"done\"\n" {
        assert!(Instant::now() < end, "nobody made room");
        std::thread::sleep(Duration::from_millis(20));
    }
}
