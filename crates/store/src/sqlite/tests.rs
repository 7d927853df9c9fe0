//! The rules, and what only this backend can get wrong.

use super::*;
use crate::conformance::{self, Store};
use crate::memory::{Disk, Memory};
use crate::testing::Folder;

/// Bounds so small that everything happens in a few steps.
pub fn tight() -> Options {
    Options {
        durability: Durability::Crash,
        tail_bulk: 20,
        tail_rest: 5,
        tail_piece: 7,
        wal_busy: 10,
        wal_rest: 5,
        tidy: 4,
        ..Options::default()
    }
}

fn store(folder: &Folder, options: Options) -> Box<dyn Backend> {
    Box::new(Sqlite::open(folder.path(), options).unwrap())
}

#[test]
fn it_does_what_every_backend_must_do() {
    for options in [tight(), Options { durability: Durability::Crash, ..Options::default() }] {
        for (rule, case) in conformance::CASES {
            println!("{rule}");
            let folder = Folder::new();
            case(&mut Store::new(&|| store(&folder, options)));
        }
    }
}

#[test]
fn under_random_use_it_says_what_the_memory_store_says() {
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let (folder, disk) = (Folder::new(), Disk::new());
        let memory = || -> Box<dyn Backend> { Box::new(Memory::open(&disk).unwrap()) };
        let sqlite = || store(&folder, tight());
        conformance::compare(seed, 150, &mut Store::new(&memory), &mut Store::new(&sqlite));
    }
}
