//! The sources of this repository, as the tests of pages and tidiness read them.

// Each of the two uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// One file: its path from the root of the repository, with slashes, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file below `crates/*/src`, by path.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for krate in std::fs::read_dir(root().join("crates")).expect("crates") {
        collect(&krate.expect("a crate").path().join("src"), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the sources are not where they were");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}

impl Source {
    /// The lines of the header, without the comment's signs.
    pub fn header(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim)
    }

    /// What the header says under a name: `Stores: …`, with the lines that go on with it.
    pub fn says(&self, name: &str) -> Option<String> {
        let mut lines = self.header().skip_while(|line| !line.starts_with(name));
        let first = lines.next()?.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned();
        let is_next = |line: &str| line.is_empty() || line.split_once(':').is_some_and(|(word, _)| !word.contains(' '));
        Some(lines.take_while(|line| !is_next(line)).fold(first, |text, line| format!("{text} {line}")))
    }

    /// Whether it is there for tests only.
    pub fn is_test(&self) -> bool {
        let tests = ["/tests/", "/tests.rs", "/conformance", "/testing"];
        tests.iter().any(|part| self.path.contains(part)) || self.path.starts_with("crates/load/")
    }

    /// The code without the tests at its end, without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        lines.filter(|(_, line)| !line.starts_with("//"))
    }
}
