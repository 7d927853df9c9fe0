//! What everybody has and no archive keeps is deleted, little by little, also where the server crashed before.

use std::time::Duration;

use vorpal_core::life::beat::BEATS;
use vorpal_core::store::{Kind, LogQuery};
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const MANY: usize = 1_300;

/// So many entries of one account go with a beat, at most.
const AT_ONCE: usize = 512;

fn stored(world: &World) -> usize {
    let mut reader = world.reader();
    let juliet = reader.find(Kind::Account, "localhost", "juliet").expect("a reader").expect("an account");
    reader.log_count(juliet.owner, LogQuery::default()).expect("a reader")
}

/// Juliet has received and acknowledged many messages.
fn world(store: Store) -> (World, ClientId) {
    let modules: Vec<_> = vorpal_modules::ALL.iter().copied().filter(|module| module.name != "mam").collect();
    let mut world = World::new(1, store, true, &modules);
    let [romeo, juliet] = ["romeo", "juliet"].map(|name| {
        assert!(world.create_account(name));
        let id = world.client(name, "r");
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    });
    // The first round, with nothing to delete: the next one begins a minute later.
    world.pass(Duration::from_secs(2));
    for at in 0..MANY {
        world.clients[romeo].send(&format!("<message to='juliet@localhost' id='m{at}'><body>hi</body></message>"));
        if at % 50 == 49 {
            world.settle();
            let h = world.clients[juliet].smacks.as_ref().expect("it counts").received;
            world.clients[juliet].send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            world.settle();
        }
    }
    world.settle();
    world.pass(Duration::from_secs(2));
    (world, juliet)
}

/// Waits until nothing is left, and checks that no beat deletes much.
fn wait(world: &mut World) {
    let mut before = stored(world);
    for _ in 0..130 * BEATS {
        world.pass(Duration::from_secs(1) / BEATS);
        let after = stored(world);
        assert!(before - after <= AT_ONCE, "{} at once", before - after);
        before = after;
    }
    assert_eq!(before, 0);
}

#[test]
fn entries_that_everybody_has_go_in_pieces() {
    for store in [Store::Memory, Store::Sqlite] {
        let (mut world, _) = world(store);
        assert!(stored(&world) > 2 * AT_ONCE);
        wait(&mut world);
    }
}

// With the first that the account takes again.
#[test]
fn what_a_crash_left_goes_in_pieces_as_well() {
    for store in [Store::Memory, Store::Sqlite] {
        let (mut world, juliet) = world(store);
        world.crash();
        world.resume(juliet).expect("the session is back");
        world.clients[juliet].send("<message to='juliet@localhost' id='own'><body>hi</body></message>");
        world.settle();
        let h = world.clients[juliet].smacks.as_ref().expect("it counts").received;
        world.clients[juliet].send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        world.settle();
        assert!(stored(&world) > 2 * AT_ONCE);
        wait(&mut world);
    }
}
