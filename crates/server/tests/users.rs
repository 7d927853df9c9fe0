//! The commands about accounts, on the data of a stopped server and of one that runs.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn vorpal(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
    command.arg("--config").arg(folder.join("vorpal.toml")).env_remove("VORPAL_CONFIG").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command runs");
    // A command that reads nothing may be gone by now.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("vorpal.toml"), config).expect("the configuration");
    folder
}

/// How often the files of the data hold this text.
fn found(folder: &Path, text: &str) -> usize {
    let files = std::fs::read_dir(folder.join("data")).expect("the data");
    let count = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    };
    files.filter_map(Result::ok).map(|file| count(&file.path())).sum()
}

/// Runs the server in a folder until the end of the test.
struct Serving(std::process::Child);

impl Serving {
    fn start(folder: &Path) -> Serving {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
        command.arg("--config").arg(folder.join("vorpal.toml")).env_remove("VORPAL_CONFIG").arg("serve");
        let serving = Serving(command.stderr(Stdio::null()).spawn().expect("the server starts"));
        let end = Instant::now() + Duration::from_secs(60);
        while !vorpal(folder, &["status"], "").status.success() {
            assert!(Instant::now() < end, "the server does not answer");
            std::thread::yield_now();
        }
        serving
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const OFFERS_SHA_512: &str = "[login]\nmechanisms = [\"SCRAM-SHA-512\"]\niterations = 4096\n";

#[test]
fn keys_are_kept_for_what_the_host_offers_and_nothing_else() {
    let folder = folder(OFFERS_SHA_512);
    let added = vorpal(folder.path(), &["user", "add", "juliet@localhost"], "secret\n");
    assert!(added.status.success(), "{added:?}");
    assert_ne!(found(folder.path(), "SCRAM-SHA-512$4096:"), 0);
    for other in ["SCRAM-SHA-1$", "SCRAM-SHA-256$"] {
        assert_eq!(found(folder.path(), other), 0, "{other}");
    }
}

#[test]
fn an_import_keeps_what_the_host_offers_or_else_all_there_is() {
    const SHA1: &str = "SCRAM-SHA-1$4097:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";
    const SHA256: &str = "SCRAM-SHA-256$4098:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                          wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    for (mechanisms, sha1, sha256) in [
        ("[\"SCRAM-SHA-256\", \"PLAIN\"]", false, true),
        ("[\"SCRAM-SHA-1\"]", true, false),
        ("[\"SCRAM-SHA-512\", \"PLAIN\"]", true, true),
    ] {
        let folder = folder(&format!("[login]\nmechanisms = {mechanisms}\n"));
        std::fs::write(folder.path().join("users"), format!("juliet@localhost {SHA1} {SHA256}\n")).expect("a file");
        let file = folder.path().join("users");
        let imported = vorpal(folder.path(), &["user", "import", file.to_str().expect("UTF-8")], "");
        assert!(imported.status.success(), "{imported:?}");
        assert_eq!(found(folder.path(), "SCRAM-SHA-1$4097") > 0, sha1, "{mechanisms}");
        assert_eq!(found(folder.path(), "SCRAM-SHA-256$4098") > 0, sha256, "{mechanisms}");
    }
}

#[test]
fn a_name_that_no_login_reaches_is_not_created_and_one_of_mixed_scripts_is_warned_of() {
    let folder = folder("[login]\niterations = 4096\n");
    let add = |name: &str| vorpal(folder.path(), &["user", "add", &format!("{name}@localhost")], "a long secret\n");
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let joined = add("\u{915}\u{94d}\u{200d}\u{937}");
    assert!(!joined.status.success());
    assert!(said(&joined).contains("create \u{915}\u{94d}\u{937}@localhost"), "{joined:?}");
    let directions = add("\u{5d0}1");
    assert!(!directions.status.success());
    assert!(said(&directions).contains("left-to-right and right-to-left"), "{directions:?}");
    let cyrillic = add("\u{430}dmin");
    assert!(cyrillic.status.success());
    assert!(said(&cyrillic).contains("mixes letters of Cyrillic and Latin"), "{cyrillic:?}");
    let latin = add("admin");
    assert!(latin.status.success() && said(&latin).is_empty(), "{latin:?}");

    const KEYS: &str = "SCRAM-SHA-1$4097:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";
    let names = ["\u{5d0}1", "r\u{3bf}meo", "juliet"].map(|name| format!("{name}@localhost {KEYS}\n"));
    let file = folder.path().join("users");
    std::fs::write(&file, names.concat()).expect("a file");
    let imported = vorpal(folder.path(), &["--json", "user", "import", file.to_str().expect("UTF-8")], "");
    let answer: serde_json::Value = serde_json::from_slice(&imported.stdout).expect("JSON");
    assert_eq!((&answer["created"], &answer["failed"]), (&2.into(), &1.into()), "{answer}");
    let rows = &answer["problems"];
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    assert!(rows[0]["error"].to_string().contains("cannot log in") && rows[1]["warning"].is_string(), "{rows}");
    let listed = vorpal(folder.path(), &["--json", "user", "list"], "");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(4), "{listed}");
}

#[test]
fn a_new_password_says_which_sessions_go_on_and_a_kick_needs_one() {
    let folder = folder("[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n[login]\niterations = 4096\n");
    let _serving = Serving::start(folder.path());
    let run = |arguments: &[&str]| vorpal(folder.path(), arguments, "a long secret\n");
    assert!(run(&["user", "add", "juliet@localhost"]).status.success());
    for arguments in
        [&["user", "passwd", "juliet@localhost"][..], &["user", "passwd", "--end-sessions", "juliet@localhost"]]
    {
        let changed = run(arguments);
        assert!(changed.status.success() && changed.stderr.is_empty(), "nobody is there: {changed:?}");
    }
    let kicked = run(&["session", "kick", "juliet@localhost"]);
    assert!(!kicked.status.success());
    assert!(String::from_utf8_lossy(&kicked.stderr).contains("there is no session"), "{kicked:?}");
}

#[test]
fn a_server_leaves_no_core_dump() {
    let folder = folder("[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n");
    let serving = Serving::start(folder.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.0.id())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the line");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}
