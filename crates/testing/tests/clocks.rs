//! Somebody sets the clock, forward or backward.

use std::time::Duration;

use vorpal_core::store::{Kind, LogQuery};
use vorpal_core::watch::clock::DOUBT;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

fn away(world: &mut World) -> ClientId {
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "r");
    world.bind(id);
    world.enable(id);
    world.pass(Duration::from_secs(10));
    world.cut(id);
    id
}

#[test]
fn a_clock_that_is_set_forward_ends_no_session() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let id = away(&mut world);
    world.set_clock(world.now.plus(YEAR));
    world.pass(Duration::from_secs(300));
    world.resume(id).expect("its time is not over");
    world.cut(id);
    world.pass(Duration::from_secs(601));
    world.resume(id).expect_err("now it is");
}

#[test]
fn a_clock_that_is_set_back_keeps_no_session_for_longer() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let id = away(&mut world);
    world.set_clock(world.now.minus(YEAR));
    world.pass(Duration::from_secs(601));
    world.resume(id).expect_err("its time is over");
}

#[test]
fn a_session_that_loses_its_connection_again_and_again_has_one_deadline() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let id = away(&mut world);
    for _ in 0..20 {
        assert_eq!(world.core().deadlines(), 1);
        world.pass(Duration::from_secs(1));
        world.resume(id).expect("its time is not over");
        assert_eq!(world.core().deadlines(), 0);
        world.cut(id);
    }
    world.bind(id);
    assert_eq!(world.core().deadlines(), 0, "the new session took the place of the old one");
}

fn archived(world: &World, name: &str) -> usize {
    let mut reader = world.reader();
    let row = reader.find(Kind::Account, "localhost", name).expect("a reader").expect("an account");
    reader.log_count(row.owner, LogQuery::default()).expect("a reader")
}

/// An archive that keeps messages for a month, with one in it.
fn archive() -> World {
    let keep = "modules.mam.keep = '30d'";
    let mut world = World::configured(1, Store::Memory, true, vorpal_modules::ALL, keep);
    for name in ["romeo", "juliet"] {
        assert!(world.create_account(name));
        let id = world.client(name, "r");
        world.bind(id);
        world.clients[id].send("<presence/>");
        world.settle();
    }
    world.clients[0].send("<message to='juliet@localhost' type='chat' id='m'><body>hi</body></message>");
    world.settle();
    world.pass(Duration::from_secs(5));
    assert_eq!(archived(&world, "juliet"), 1);
    world
}

fn hours(world: &mut World, count: u32) {
    for _ in 0..count {
        world.advance(HOUR);
        // Some accounts are looked at with each tick.
        (0..4).for_each(|_| world.tick());
        world.settle();
    }
}

#[test]
fn archives_are_not_emptied_by_a_clock_that_jumped_until_the_server_has_run_with_it_for_a_day() {
    let mut world = archive();
    world.set_clock(world.now.plus(YEAR));
    hours(&mut world, 20);
    assert_eq!(archived(&world, "juliet"), 1);
    hours(&mut world, 10);
    assert_eq!(archived(&world, "juliet"), 0);
}

#[test]
fn a_clock_that_is_set_back_again_has_emptied_no_archive() {
    let mut world = archive();
    let before = world.now;
    world.set_clock(before.plus(YEAR));
    hours(&mut world, 2);
    world.set_clock(before.plus(2 * HOUR));
    hours(&mut world, 24 * 28);
    assert_eq!(archived(&world, "juliet"), 1);
    hours(&mut world, 24 * 3);
    assert_eq!(archived(&world, "juliet"), 0);
}

#[test]
fn a_server_that_starts_with_a_clock_far_ahead_of_its_newest_entry_waits_for_a_day_before_it_empties_archives() {
    let mut world = archive();
    world.set_clock(world.now.plus(YEAR));
    world.crash();
    hours(&mut world, 20);
    assert_eq!(archived(&world, "juliet"), 1);
    hours(&mut world, (DOUBT.as_secs() / 3600) as u32 - 14);
    assert_eq!(archived(&world, "juliet"), 0);
}
