//! Looking after all accounts: what is old goes, as fast as the disk allows, and little by little.

use std::time::Duration;

use vorpal_core::life::sweep::{ENTRIES, REST};
use vorpal_core::store::{Direction, Kind, LogQuery, NewEntry, Owner, Side, Write, flags};
use vorpal_testing::disk::Store;
use vorpal_testing::world::World;

/// Two days ago, with an archive that keeps a day.
fn world(accounts: usize, entries: usize) -> (World, Vec<Owner>) {
    let mut world = World::configured(1, Store::Memory, true, vorpal_modules::ALL, "modules.mam.keep = '1d'");
    for at in 0..accounts {
        assert!(world.create_account(&format!("u{at}")));
    }
    let mut reader = world.reader();
    let owner = |at| reader.find(Kind::Account, "localhost", &format!("u{at}")).expect("a reader");
    let owners: Vec<Owner> = (0..accounts).map(owner).map(|row| row.expect("an account").owner).collect();
    for owner in &owners {
        for _ in 0..entries {
            world.write(|ids| {
                let (dir, flags) = (Direction::Sent, flags::ARCHIVED);
                let side = Side { owner: *owner, dir, flags, peer: "juliet@x".into(), meta: Default::default() };
                let body = b"<message xmlns='jabber:client'/>".as_slice().into();
                vec![Write::Log(Box::new(NewEntry { id: ids.entry(), time: 0, sides: [Some(side), None], body }))]
            });
        }
    }
    world.settle();
    world.crash();
    // What was written behind the server's back is taken: everybody was there since.
    for at in 0..accounts {
        let id = world.client(&format!("u{at}"), "r");
        world.bind(id);
        world.clients[id].send("<presence/>");
        world.settle();
        world.cut(id);
    }
    world.pass(Duration::from_secs(2));
    world.advance(Duration::from_secs(2 * 24 * 3600));
    world.core().tell_time(world.now, Duration::from_secs(2 * 24 * 3600 + 3600));
    (world, owners)
}

fn stored(world: &World, owners: &[Owner]) -> usize {
    let mut reader = world.reader();
    owners.iter().map(|owner| reader.log_count(*owner, LogQuery::default()).expect("a reader")).sum()
}

/// How many steps it takes until there is nothing more to do now, and the most that one of them has deleted.
fn sweep(world: &mut World, owners: &[Owner]) -> (usize, usize) {
    let (mut steps, mut most, mut before) = (0, 0, stored(world, owners));
    loop {
        let more = world.core().sweep(world.now, world.reader().as_mut()).expect("a reader");
        world.settle();
        let after = stored(world, owners);
        (most, before, steps) = (most.max(before - after), after, steps + 1);
        if !more {
            return (steps, most);
        }
    }
}

#[test]
fn all_that_is_old_goes_without_a_pause_and_not_much_at_a_time() {
    let (mut world, owners) = world(40, 100);
    assert_eq!(stored(&world, &owners), 40 * 100);
    let (steps, most) = sweep(&mut world, &owners);
    assert_eq!(stored(&world, &owners), 0);
    assert!(most <= ENTRIES as usize + 512, "{most} at a time");
    assert!(steps < 60, "{steps} steps");
    assert_eq!(sweep(&mut world, &owners).0, 1, "then it rests");
    world.advance(REST + Duration::from_secs(1));
    world.core().tell_time(world.now, Duration::from_secs(3 * 24 * 3600));
    assert!(sweep(&mut world, &owners).0 > 1, "and begins anew");
}

#[test]
fn one_account_with_much_does_not_have_to_wait_for_the_next_round() {
    let (mut world, owners) = world(3, 1_400);
    let (steps, most) = sweep(&mut world, &owners);
    assert_eq!(stored(&world, &owners), 0);
    assert!(most < ENTRIES as usize + 512, "{most} at a time");
    assert!(steps < 20, "{steps} steps");
}
