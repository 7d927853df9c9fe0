//! What the commands say to people and to programs, on the data of a stopped server and of one that runs.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const CONFIG: &str = "hosts = [\"a.example\", \"b.example\"]\n[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n\
                      [login]\niterations = 4096\n";

const KEYS: &str = "SCRAM-SHA-1$4097:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";

/// A working directory with a configuration; a server runs in it until the end of the test, if one was started.
struct Place {
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("vorpal.toml"), CONFIG).expect("the configuration");
        Place { folder, server: None }
    }

    fn serving() -> Place {
        let mut place = Place::new();
        let server = place.command(&["serve"]).stderr(Stdio::null()).spawn().expect("the server starts");
        place.server = Some(server);
        let end = Instant::now() + Duration::from_secs(60);
        while !place.run(&["status"], "").status.success() {
            assert!(Instant::now() < end, "the server does not answer");
            std::thread::yield_now();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
        command.env_clear().current_dir(self.folder.path()).args(["-c", "vorpal.toml"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command runs");
        // A command that reads nothing may be gone by now.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    fn json(&self, arguments: &[&str], input: &str) -> Value {
        let text = self.done(&[&["--json"], arguments].concat(), input);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    fn add(&self, jid: &str) {
        self.done(&["user", "add", jid], "a long secret\n");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn an_import_names_each_line_that_fails_and_creates_all_others() {
    for place in [Place::serving(), Place::new()] {
        place.add("juliet@a.example");
        let lines = [
            &format!("romeo@a.example {KEYS}"),
            "",
            &format!("juliet@a.example {KEYS}"),
            "nurse@a.example",
            &format!("tybalt@c.example {KEYS}"),
            &format!("romeo@a.example {KEYS}"),
            &format!("paris@b.example {}", KEYS.replace("4097", "12")),
            "friar@b.example SCRAM-SHA-1",
        ];
        let lines = lines.join("\n");
        for (file, name) in [("users.txt", "users.txt"), ("-", "standard input")] {
            std::fs::write(place.path("users.txt"), &lines).expect("written");
            let imported = place.run(&["user", "import", file], &lines);
            assert!(!imported.status.success(), "a line failed: {imported:?}");
            let (out, err) = (text(&imported.stdout), text(&imported.stderr));
            let counts = if file == "-" { "0 created, 2 exist already" } else { "1 created, 1 exists already" };
            assert!(out.starts_with(&format!("imported {name}: {counts}, 5 failed (")), "{out}");
            for (line, jid, error) in [
                (4, "nurse@a.example", "the address is not followed by credentials"),
                (5, "tybalt@c.example", "c.example is not a host of this server; it serves a.example, b.example"),
                (6, "romeo@a.example", "the address is already in line 1"),
                (7, "paris@b.example", "the number of iterations has to be between 4096 and 10000000"),
                (8, "friar@b.example", "expected SCRAM-SHA-1$ITERATIONS:SALT$STORED-KEY:SERVER-KEY"),
            ] {
                assert!(err.contains(&format!("{name}:{line}: {jid}: {error}")), "{err}");
            }
            assert!(!err.contains(":1: ") && !err.contains(":3: "), "an account that exists is no failure: {err}");
            let end = format!("vorpal: 5 lines of {name} failed; correct them and import them again\n");
            assert!(err.ends_with(&end), "{err}");
            assert_eq!(
                err.contains("1 account of a.example has no keys for "),
                file != "-",
                "only of what was created: {err}"
            );
        }
        assert_eq!(place.done(&["user", "list"], ""), "juliet@a.example\nromeo@a.example\n");
        assert!(place.refused(&["user", "import", "-"], "\n \n").contains("standard input has no accounts in it"));
        assert!(place.refused(&["user", "import", "none"], "").contains("none cannot be read: No such file"));
    }
}

#[test]
fn a_thousand_accounts_are_imported_at_once() {
    let place = Place::serving();
    let lines: String = (0..1_000).map(|n| format!("user{n}@b.example {KEYS}\n")).collect();
    let done = place.json(&["user", "import", "-"], &lines);
    assert_eq!((&done["done"], &done["created"], &done["failed"]), (&true.into(), &1_000.into(), &0.into()), "{done}");
    assert_eq!(done["did"], "imported standard input: 1,000 created, 0 failed");
    assert_eq!(place.json(&["status"], "")["accounts_by_host"]["b.example"], 1_000);
    let again = place.json(&["user", "import", "-"], &(lines + &format!("late@b.example {KEYS}\n")));
    let counts = ["created", "existing", "failed"].map(|name| again[name].as_u64());
    assert_eq!((&again["done"], counts), (&true.into(), [Some(1), Some(1_000), Some(0)]), "{}", again["did"]);
    assert_eq!(
        again["problems"][999],
        serde_json::json!({ "line": 1_000, "jid": "user999@b.example", "exists": true })
    );
    let commits = place.json(&["top", "--once"], "")["slow_commits"].clone();
    let batches = commits.as_array().into_iter().flatten().filter_map(|commit| commit["batches"].as_u64()).max();
    assert!(batches > Some(1), "accounts share commits: {commits}");
}

#[test]
fn every_command_that_changes_something_gives_one_object() {
    let place = Place::serving();
    let socket = place.path("data/admin.sock");
    std::fs::write(place.path("users"), format!("romeo@a.example {KEYS}\n")).expect("written");
    for arguments in [
        &["user", "add", "juliet@a.example"][..],
        &["user", "import", "users"],
        &["user", "passwd", "juliet@a.example"],
        &["user", "passwd", "--end-sessions", "juliet@a.example"],
        &["user", "disable", "juliet@a.example"],
        &["user", "enable", "juliet@a.example"],
        &["user", "rm", "--yes", "juliet@a.example"],
        &["config", "apply"],
    ] {
        let told = place.json(arguments, "a long secret");
        assert_eq!((&told["done"], told["server"].as_str()), (&Value::Bool(true), socket.to_str()), "{told}");
        assert!(told["did"].as_str().is_some_and(|did| !did.is_empty()), "{told}");
    }
}

#[test]
fn the_status_is_one_object_and_has_what_an_operator_looks_for() {
    let place = Place::serving();
    place.add("juliet@b.example");
    let status = place.json(&["status"], "");
    assert_eq!(status["accounts"], 1);
    assert_eq!(status["accounts_by_host"], serde_json::json!({ "a.example": 0, "b.example": 1 }));
    assert_eq!(status["listeners"][0]["key"], "c2s");
    assert!(status["listeners"][0]["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
    let hosts: Vec<&Value> = status["certificates"].as_array().into_iter().flatten().map(|c| &c["host"]).collect();
    assert_eq!(hosts, ["a.example", "b.example"]);
    assert!(status["certificates"][0]["until"].as_str().is_some_and(|until| until > "2020"), "{status}");
    assert!(status["trouble"].is_null() && status["disk_free_bytes"].as_u64() > Some(0), "{status}");
    assert!(status["database_bytes"].as_u64() > Some(0), "{status}");
    let told = place.done(&["status"], "");
    for name in ["server", "uptime", "trouble", "accounts", "sessions", "listeners", "certificates", "disk", "store"] {
        assert_eq!(told.lines().filter(|line| line.starts_with(&format!("{name} "))).count(), 1, "{name}: {told}");
    }
    assert!(told.contains("1 (a.example 0, b.example 1)"), "{told}");
}

#[test]
fn an_account_is_shown_and_a_host_or_account_that_does_not_exist_is_an_error() {
    let place = Place::new();
    place.add("juliet@a.example");
    place.done(&["user", "disable", "juliet@a.example"], "");
    let shown = place.done(&["user", "show", "juliet@a.example"], "");
    for line in [
        "state         disabled: nobody can log in",
        "last seen     never",
        "sessions      none",
        "waiting       0 messages, 0 B",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let object = place.json(&["user", "show", "juliet@a.example"], "");
    assert_eq!((&object["disabled"], &object["roster_entries"]), (&Value::Bool(true), &0.into()), "{object}");
    assert!(object["created"].as_str().is_some_and(|created| created > "2020"), "{object}");
    assert!(place.refused(&["user", "show", "romeo@a.example"], "").contains("there is no account romeo@a.example"));
    let told = place.refused(&["user", "list", "c.example"], "");
    assert!(told.contains("c.example is not a host of this server; it serves a.example, b.example"), "{told}");
}

#[test]
fn sessions_have_a_header_and_an_account_without_any_is_told() {
    let place = Place::serving();
    place.add("juliet@a.example");
    for arguments in [&["session", "list"][..], &["session", "list", "juliet@a.example"]] {
        let told = place.done(arguments, "");
        assert_eq!(told, "SESSION  ADDRESS  SINCE  CLIENT  TLS  MECHANISM  STATE\n");
    }
    assert_eq!(place.json(&["session", "list"], ""), serde_json::json!([]));
    let told = place.refused(&["session", "list", "romeo@a.example"], "");
    assert!(told.contains("there is no account romeo@a.example"), "{told}");
    let told = place.refused(&["session", "kick", "juliet@a.example/x"], "");
    assert!(told.contains("there is no session juliet@a.example/x: `vorpal session list juliet@a.example`"), "{told}");
}

#[test]
fn the_names_that_other_servers_use_work_too() {
    let place = Place::serving();
    let told = place.done(&["adduser", "juliet@a.example"], "a long secret");
    assert!(told.starts_with("created the account juliet@a.example ("), "{told}");
    let told = place.done(&["passwd", "juliet@a.example"], "another secret");
    assert!(told.starts_with("set the new password of juliet@a.example ("), "{told}");
    assert!(place.done(&["check"], "").starts_with("vorpal.toml: in order"));
    assert!(place.done(&["reload"], "").starts_with("applied the configuration: no changes ("));
    let told = place.done(&["deluser", "--yes", "juliet@a.example"], "");
    assert!(told.starts_with("deleted the account juliet@a.example "), "{told}");
    let xep = place.done(&["xep", "198"], "");
    for number in ["0198", "XEP-0198", "xep-198", "xep 0198"] {
        assert_eq!(place.done(&["xep", number], ""), xep);
    }
    assert!(place.refused(&["xep", "smacks"], "").contains("such as 198, 0198 or XEP-0198"));
    assert!(place.refused(&["xep", "9999"], "").contains("XEP-9999 is not implemented"));
}

#[test]
fn a_password_that_is_easily_guessed_is_warned_of_and_an_empty_one_is_explained() {
    let place = Place::new();
    for (password, warned) in
        [("seven77", true), ("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", true), ("eight888", false)]
    {
        let added = place.run(&["user", "add", &format!("{}@a.example", password.len())], password);
        assert!(added.status.success(), "{added:?}");
        assert_eq!(text(&added.stderr).contains("the password has only 7 characters"), warned, "{added:?}");
    }
    let told = place.refused(&["user", "add", "juliet@a.example"], "\n");
    assert!(
        told.contains("the password is empty, and nothing was changed: type one, or pass it on standard input"),
        "{told}"
    );
    let told = place.refused(&["user", "passwd", "8@a.example"], "");
    assert!(told.contains("the password is empty"), "{told}");
    let told = place.refused(&["user", "add", "juliet@a.example"], "a smile \u{1f600}");
    assert!(told.contains("newer than Unicode 3.2, such as an emoji"), "{told}");
    assert!(!place.done(&["user", "list"], "").contains("juliet"));
}

#[test]
fn modules_are_explained_and_all_keys_are_listed() {
    let place = Place::new();
    for module in vorpal::Program::VORPAL.modules {
        let told = place.done(&["config", "explain", &format!("modules.{}", module.name)], "");
        for (part, number) in [
            (format!("[modules.{}]\n  ", module.name), 1),
            ("\n  - Hooks:".into(), 1),
            (format!("\nmodules.{}.enabled\n", module.name), 1),
        ] {
            assert_eq!(told.matches(&part).count(), number, "{part}: {told}");
        }
    }
    assert!(place.done(&["config", "explain", "modules.mam"], "").contains("\nmodules.mam.keep\n"));
    let told = place.refused(&["config", "explain", "modules.mom"], "");
    assert!(
        told.contains("there is no key `modules.mom`") && told.contains("the modules are blocking, offline, mam"),
        "{told}"
    );
    let all = place.done(&["config", "explain"], "");
    assert!(
        all.lines().any(|line| line.starts_with("limits.login_time ") && line.ends_with("(default: \"30s\")")),
        "{all}"
    );
    assert!(all.lines().all(|line| line.contains("  (default: ")), "{all}");
}

#[test]
fn output_that_nobody_reads_is_no_error_and_a_full_disk_is_one() {
    let place = Place::new();
    place.add("juliet@a.example");
    for arguments in [
        &["flow"][..],
        &["--json", "flow"],
        &["xep", "280"],
        &["config", "default"],
        &["config", "explain"],
        &["config", "check"],
        &["user", "list"],
        &["user", "show", "juliet@a.example"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = place.command(arguments).stdout(writer).output().expect("the command runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device of Linux");
        let output = place.command(arguments).stdout(full).output().expect("the command runs");
        let told = text(&output.stderr);
        assert!(told.starts_with("vorpal: standard output cannot be written: No space left"), "{arguments:?}: {told}");
        assert_eq!(output.status.code(), Some(1));
    }
}
