//! The `vorpal` command in a directory of its own, as an operator runs it.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A working directory of its own.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o644)).expect("its mode");
    }

    /// Without a file unless one is named: one that this machine has is none of ours.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// The same, not run yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vorpal"));
        command.env_clear().env("VORPAL_CONFIG", "").current_dir(self.0.path()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// The mode of a file, without its type.
pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// A server that is ended with the test, and its log.
pub struct Serving {
    pub child: Child,
    log: BufReader<std::process::ChildStderr>,
    /// What it has logged, as far as it was read.
    pub said: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts a server and reads its log until it is ready.
    pub fn start(command: &mut Command) -> Serving {
        let mut serving = Serving::spawn(command);
        serving.until(" ready ");
        serving
    }

    /// Starts a server.
    pub fn spawn(command: &mut Command) -> Serving {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        Serving { child, log, said: String::new() }
    }

    /// Reads the log until a line has `part`, and gives that line. Fails if the log ends before.
    pub fn until(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).expect("UTF-8");
            self.said += &line;
            assert!(read > 0, "the log ends without {part:?}:\n{}", self.said);
            if line.contains(part) {
                return line;
            }
        }
    }
}
