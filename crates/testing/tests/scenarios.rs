//! Every transcript of `tests/scenarios` at the root of the repository, on each store, with and without pass-through.

use std::path::{Path, PathBuf};

use vorpal::Program;
use vorpal_testing::disk::Store;
use vorpal_testing::scenario::{Stage, play_file};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let only = std::env::var("SCENARIO").unwrap_or_default();
    // KNOWN=1 plays what is known to fail.
    let folder = if std::env::var("KNOWN").is_ok() { folder.join("known") } else { folder };
    let entries = std::fs::read_dir(folder).expect("the folder of the scenarios");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt") && path.to_string_lossy().contains(&only));
    files.sort();
    files
}

fn play(store: Store, passthrough: bool) {
    let update = std::env::var("UPDATE").is_ok_and(|update| update == "1") && store == Store::Memory && passthrough;
    let stage = Stage { store, passthrough, program: Program::VORPAL, update };
    let (mut scenes, mut wrong) = (0, Vec::new());
    for file in files() {
        match play_file(&file, stage) {
            Ok(count) => scenes += count,
            Err(why) => wrong.push(why),
        }
    }
    assert!(
        wrong.is_empty(),
        "\n{}\n\n(UPDATE=1 writes what was received, SCENARIO=name plays some)",
        wrong.join("\n\n")
    );
    assert!(scenes > 0, "there are scenes");
    println!("{scenes} scenes");
}

#[test]
fn scenes_play_in_memory() {
    play(Store::Memory, true);
}

#[test]
fn scenes_play_in_memory_without_pass_through() {
    play(Store::Memory, false);
}

#[test]
fn scenes_play_on_sqlite() {
    play(Store::Sqlite, true);
}

#[test]
fn scenes_play_on_sqlite_without_pass_through() {
    play(Store::Sqlite, false);
}
