use vorpal_core::core::core_names;
use vorpal_store::memory::{Disk, Fault, Memory};

use super::*;

struct Unheard;

impl Wake for Unheard {
    fn wake(&self) {}
}

/// Starts on a disk, with a source of random bytes that all have this value.
fn start(disk: &Disk, byte: u8) -> Result<Kernel, BootError> {
    let setup = Setup {
        names: core_names(),
        hosts: Vec::new(),
        bounds: Bounds::default(),
        reserve: 7,
        place: Some("/d".into()),
    };
    let surroundings = Surroundings {
        now: Timestamp::from_millis(1_767_225_600_000),
        random: Box::new(move |bytes| bytes.fill(byte)),
        loader: Arc::new(Unheard),
    };
    boot(Box::new(Memory::open(disk).expect("the disk is free")), setup, surroundings)
}

fn secret_of(kernel: &mut Kernel) -> Option<[u8; SECRET]> {
    let server = kernel.writer.map("server", Loading::Cold).expect("a map");
    read_secret(server, kernel.reader.as_mut()).expect("the store can be read")
}

#[test]
fn the_secret_is_made_with_the_store_and_never_changes() {
    let disk = Disk::new();
    let mut first = start(&disk, 1).expect("a new store");
    assert_eq!(secret_of(&mut first), Some([1; SECRET]));
    assert_eq!(first.core.reserve.least(), 7);
    drop(first);
    disk.crash(0);
    let mut second = start(&disk, 2).expect("the same store");
    assert_eq!(secret_of(&mut second), Some([1; SECRET]));
}

#[test]
fn a_new_store_that_cannot_be_written_to_is_refused() {
    let disk = Disk::new();
    disk.next(Fault::Fail(StoreError::Full));
    let error = start(&disk, 1).map(drop).expect_err("no secret");
    assert_eq!(error.to_string(), "writing the store's secret");
    assert!(matches!(error.source, StoreError::Full) && !error.is_crash());
}

#[test]
fn a_full_disk_does_not_keep_a_server_from_its_store() {
    let disk = Disk::new();
    drop(start(&disk, 1).expect("a new store"));
    disk.crash(0);
    disk.next(Fault::Fail(StoreError::Full));
    assert!(start(&disk, 2).is_ok(), "only the number of the run is not stored");
}

#[test]
fn a_crash_while_starting_is_told_from_other_errors() {
    let disk = Disk::new();
    disk.next(Fault::CrashBefore);
    assert!(start(&disk, 1).map(drop).expect_err("a dead process").is_crash());
    disk.crash(0);
    assert!(start(&disk, 1).is_ok());
}
