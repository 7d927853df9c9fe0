//! A running server reads its configuration again: all of it takes effect, or nothing.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
hosts = ["one.example", "two.example"]
[listen]
c2s = ["127.0.0.1:0"]
c2s_tls = []
"#;

/// A server of its own, ended with the test.
struct Serving {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn with(text: &str) -> Serving {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("vorpal.toml");
        std::fs::write(&config, text).expect("the configuration");
        let child = vorpal(&config).arg("serve").stderr(Stdio::null()).spawn().expect("the server starts");
        let serving = Serving { child, folder };
        let end = Instant::now() + Duration::from_secs(60);
        while !serving.run(&["status"]).status.success() {
            assert!(Instant::now() < end, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        serving
    }

    fn run(&self, arguments: &[&str]) -> Output {
        vorpal(&self.folder.path().join("vorpal.toml")).args(arguments).output().expect("the command runs")
    }

    fn configure(&self, text: &str) -> Output {
        std::fs::write(self.folder.path().join("vorpal.toml"), text).expect("the configuration");
        self.run(&["--json", "config", "apply"])
    }

    /// What it serves, asked of the server itself.
    fn hosts(&self) -> String {
        let status: serde_json::Value = serde_json::from_slice(&self.run(&["--json", "status"]).stdout).expect("JSON");
        status["hosts"].to_string()
    }
}

fn vorpal(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
    command.arg("--config").arg(config).env_remove("VORPAL_CONFIG");
    command
}

#[test]
fn a_reload_is_all_or_nothing() {
    let server = Serving::with(CONFIG);
    assert_eq!(server.hosts(), r#"["one.example","two.example"]"#);

    // A host goes and another comes; what needs a restart is named, and named again the next time.
    let text = "durability = \"crash\"\n".to_owned() + &CONFIG.replace("two.example", "three.example");
    for _ in 0..2 {
        let applied = server.configure(&text);
        assert!(applied.status.success(), "{applied:?}");
        let answer: serde_json::Value = serde_json::from_slice(&applied.stdout).expect("JSON");
        assert!(answer["done"] == true && answer["server"].is_string(), "{answer}");
        let did = answer["did"].as_str().expect("a text");
        assert!(did.ends_with(", of which 1 takes effect with the next start"), "{did}");
        let rows = &answer["changes"];
        let waits = |row: &&serde_json::Value| row["needs_restart"] == true;
        let waiting: Vec<_> = rows.as_array().into_iter().flatten().filter(waits).map(|row| &row["change"]).collect();
        assert_eq!(waiting, ["durability: \"power\" -> \"crash\""]);
        assert_eq!(server.hosts(), r#"["one.example","three.example"]"#);
    }

    // All mistakes are told, and everything is as before, whichever step they are found in.
    let unknown =
        CONFIG.replace("two.example", "four.example") + "[modules.smacks]\nresume_tim = \"1h\"\n[log]\nlevl = 1\n";
    let refused = server.configure(&unknown);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(told.starts_with("vorpal: nothing was reloaded:\n"), "{told}");
    assert!(told.contains("vorpal.toml:7:1") && told.contains("did you mean `resume_time`?"), "{told}");
    assert!(told.contains("vorpal.toml:9:1") && told.contains("did you mean `level`?"), "{told}");
    let missing = CONFIG.replace("two.example", "four.example") + "[tls]\ncertificate = \"no.pem\"\nkey = \"no.pem\"\n";
    let refused = server.configure(&missing);
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.starts_with("vorpal: nothing was reloaded:\n"), "{told}");
    assert!(told.contains("the certificate of four.example"), "{told}");
    assert_eq!(server.hosts(), r#"["one.example","three.example"]"#);
}

#[test]
fn a_module_that_needs_a_new_table_waits_for_a_restart() {
    let off = format!("{CONFIG}[modules.blocking]\nenabled = false\n");
    let server = Serving::with(&off);
    let refused = server.configure(CONFIG);
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("`blocklist`") && told.contains("restart"), "{told}");
    // It left no trace: what does not need the table is taken up.
    assert!(server.configure(&off.replace("two", "three")).status.success());
    assert_eq!(server.hosts(), r#"["one.example","three.example"]"#);
}

#[test]
fn the_commands_about_the_configuration_need_no_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("vorpal.toml");
    let run = |arguments: &[&str]| vorpal(&config).args(arguments).output().expect("it runs");
    let text = |output: Output| String::from_utf8(output.stdout).expect("UTF-8");
    std::fs::write(&config, run(&["config", "default"]).stdout).expect("the default file");
    assert!(run(&["config", "check"]).status.success());
    assert!(text(run(&["config", "explain", "modules.smacks.resume_time"])).contains("Default:      \"10m\""));
    assert!(text(run(&["flow", "localhost"])).contains("message/Copy"));
    assert!(text(run(&["xep", "280"])).contains("crates/modules/src/carbons.rs"));
    assert!(!run(&["xep", "9999"]).status.success());
}
