//! Instructions and allocations of the hot paths. Unlike times they hardly depend on the machine or on what else it
//! does, so they belong in a review.
//!
//! `cargo run --release -p vorpal-benches` prints them beside those of `docs/benches.md`; with `--write` it writes that file
//! anew. Instructions need valgrind. Its profiles are left in `target/benches`: `callgrind_annotate target/benches/chat.out`
//! says what costs what.

mod paths;
mod store;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::paths::PATHS;

/// How often a path is taken before it is measured: tables have grown, buffers are there.
const WARM_UP: usize = 50;
/// How often it is measured.
const TIMES: usize = 400;

const TABLE: &str = "docs/benches.md";
const HEAD: &str = "\
# What the hot paths cost

Written by `cargo run --release -p vorpal-benches -- --write`, which needs valgrind (`apt-get install valgrind`). Without
`--write` it prints the figures of the working copy beside these. Each is the mean of 400 runs in one thread, the whole server
in memory, no TLS. Instructions are those of callgrind, allocator included: from run to run they vary by less than one in a thousand,
with the version of the compiler by more. Allocations are exact.

The whole server, with TLS, sockets, tokio and SQLite, is counted by `bench/instructions.py`: instructions, copies, allocations and
UTF-8 validations per message, while ten pairs of users chat ([decision 0008](decisions/0008-cost.md)).

| path | instructions | allocations | bytes allocated |
|---|---|---|---|
";

#[derive(Debug, Parser)]
#[command(about = "Instructions and allocations of the hot paths")]
struct Options {
    /// Only paths whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Write docs/benches.md.
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Take one path and print its allocations: what is run under valgrind.
    #[arg(long, hide = true)]
    take: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(name) = &options.take {
        let path = PATHS.iter().find(|path| path.name == name).context("no such path")?;
        let cost = take(path.make);
        println!("{} {}", cost.0, cost.1);
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has a folder above")?;
    let text = std::fs::read_to_string(root.join(TABLE)).unwrap_or_default();
    let known = read(&text);
    let mut table = String::from(HEAD);
    println!("{:<52} {:>13} {:>9} {:>9}   before", "path", "instructions", "allocs", "bytes");
    for path in PATHS.iter().filter(|path| options.only.as_ref().is_none_or(|only| path.name.contains(only))) {
        if !(path.exists)() {
            println!("{:<52} not yet", path.text);
            continue;
        }
        let (allocations, bytes) = take(path.make);
        let instructions = instructions(root, path.name)?;
        let row = [mean(instructions), mean(allocations), mean(bytes)];
        let before = known.get(path.text).map(|cells| cells.join("  ")).unwrap_or_default();
        println!("{:<52} {:>13} {:>9} {:>9}   {before}", path.text, row[0], row[1], row[2]);
        writeln!(table, "| {} | {} | {} | {} |", path.text, row[0], row[1], row[2])?;
    }
    if options.write {
        std::fs::write(root.join(TABLE), table)?;
    }
    Ok(())
}

/// Counts of all measured runs, as one with a digit after the point.
fn mean(total: u64) -> String {
    let tenths = (total * 10 + TIMES as u64 / 2) / TIMES as u64;
    if tenths < 1000 && !tenths.is_multiple_of(10) {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        (tenths / 10).to_string()
    }
}

/// The figures of a table by their paths.
fn read(table: &str) -> BTreeMap<&str, Vec<&str>> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    cells.filter_map(|cells| Some((*cells.first()?, cells.get(1..)?.to_vec()))).collect()
}

/// What is measured; it has a name that callgrind can be told.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
}

/// Allocations, and bytes of them.
fn take(make: fn() -> Box<dyn paths::Run>) -> (u64, u64) {
    let mut path = make();
    let (mut allocations, mut bytes) = (0, 0);
    for time in 0..WARM_UP + TIMES {
        path.prepare();
        if time < WARM_UP {
            path.run();
        } else {
            // The counter's own call is not measured, and what it adds to each allocation is a few instructions.
            let counted = allocation_counter::measure(|| measured(&mut || path.run()));
            allocations += counted.count_total;
            bytes += counted.bytes_total;
        }
        path.clean();
    }
    (allocations, bytes)
}

/// Runs this program again, under valgrind.
fn instructions(root: &Path, name: &str) -> Result<u64> {
    let folder: PathBuf = root.join("target/benches");
    std::fs::create_dir_all(&folder)?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=vorpal_benches::measured*"])
        .arg(format!("--callgrind-out-file={}", folder.join(format!("{name}.out")).display()))
        .arg(std::env::current_exe()?)
        .args(["--take", name])
        .output()
        .context("valgrind is not installed: apt-get install valgrind")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{name} under valgrind: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.split(' ').next()?.parse().ok());
    let collected = collected.with_context(|| format!("valgrind says no figure: {said}"))?;
    ensure!(collected > 0, "valgrind saw no call of the measured function");
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = read("# x\n\n| path | instructions |\n|---|---|\n| a JID | 12 | 1.5 |\n");
        assert_eq!(table.get("a JID"), Some(&vec!["12", "1.5"]));
    }

    #[test]
    fn small_means_have_a_digit_and_large_ones_have_none() {
        assert_eq!(mean(600), "1.5");
        assert_eq!(mean(800), "2");
        assert_eq!(mean(400 * 1000 + 300), "1000");
    }

    #[test]
    fn every_path_runs_and_names_are_used_once() {
        for (at, path) in PATHS.iter().enumerate() {
            assert!(PATHS.iter().skip(at + 1).all(|other| other.name != path.name && other.text != path.text));
            if (path.exists)() {
                let mut run = (path.make)();
                for _ in 0..3 {
                    run.prepare();
                    run.run();
                    run.clean();
                }
            }
        }
    }
}
