//! What was sent is stored by number: the last word of an orderly stop is about all sessions, and a long row is not written for each
//! stanza.

use std::time::Duration;

use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

fn world() -> (World, [ClientId; 2]) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let clients = ["romeo", "juliet"].map(|name| {
        assert!(world.create_account(name));
        let id = world.client(name, "r");
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    });
    world.clients[clients[1]].smacks.as_mut().expect("it counts").mute = true;
    (world, clients)
}

/// Juliet is sent messages, which she does not acknowledge. Says how often a row was due.
fn send(world: &mut World, romeo: ClientId, count: usize) -> usize {
    let mut due = 0;
    for at in 0..count {
        world.clients[romeo].send(&format!("<message to='juliet@localhost' id='m{at}'><body>hi</body></message>"));
        world.settle();
        due += usize::from(world.core().commit_checkpoints(world.now));
        world.settle();
    }
    due
}

#[test]
fn the_last_row_of_an_account_in_use_is_due_until_it_is_written() {
    let (mut world, [romeo, _]) = world();
    send(&mut world, romeo, 3);
    let juliet = world.load(&"juliet@localhost".parse().expect("an address")).expect("she is here");
    let core = world.core().clone();
    core.suspend(world.now);
    let in_use = juliet.lock();
    // Romeo's alone.
    assert_eq!(core.checkpoints().len(), 1);
    assert!(core.commit_checkpoints(world.now));
    assert!(core.checkpoints().is_empty());
    drop(in_use);
    assert!(core.commit_checkpoints(world.now));
    assert_eq!(core.checkpoints().len(), 1);
    assert!(!core.commit_checkpoints(world.now));
}

// The writer may have asked for the row just before, and write it as one that is not the last.
#[test]
fn a_row_that_is_due_when_the_server_stops_is_due_once_more() {
    let (mut world, [romeo, _]) = world();
    world.clients[romeo].send("<message to='juliet@localhost' id='m'><body>hi</body></message>");
    world.settle();
    let core = world.core().clone();
    core.suspend(world.now);
    // One of Romeo's, and two of Juliet's, to whom something was sent since the last commit.
    assert_eq!(core.checkpoints().len(), 3);
}

#[test]
fn a_long_row_is_not_written_for_each_stanza() {
    let (mut world, [romeo, _]) = world();
    assert_eq!(send(&mut world, romeo, 16), 16);
    send(&mut world, romeo, 624);
    let due = send(&mut world, romeo, 80);
    assert!(due <= 3, "{due}");
    // What is missing in it then is written all the same.
    send(&mut world, romeo, 1);
    world.pass(Duration::from_secs(2));
    let before = world.clients[1].smacks.as_ref().expect("it counts").received;
    world.crash();
    assert!(world.resume(1).is_ok());
    world.settle();
    assert_eq!(world.clients[1].smacks.as_ref().expect("it counts").received, before);
}
