//! A session that another connection has taken over: the old one has no more part in it.

use vorpal_proto::stanza::{Stanza, Type};
use vorpal_testing::disk::Store;
use vorpal_testing::world::World;

#[test]
fn a_connection_that_was_replaced_counts_nothing_and_ends_nothing() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "orchard");
    world.bind(id);
    world.enable(id);
    let core = world.core().clone();
    let lock = core.loaded("romeo@localhost").expect("somebody is logged in");
    let session = lock.lock().sessions[0].clone();
    let old = session.epoch();
    world.resume(id).expect("the session is there");
    let new = session.epoch();
    assert_ne!(old, new);

    let entered = || core.stream(&session).ledger().entered();
    let before = entered();
    core.refuse(world.now, &lock, &session, old, None);
    let late = core.receive(world.now, &lock, &session, old, Stanza::message(Type::Chat));
    assert!(matches!(late, Ok(None)));
    assert_eq!(entered(), before, "the client sends again what the old connection read too late");
    core.hang_up(world.now, &lock, &session, old);
    assert_eq!(lock.lock().sessions.len(), 1);

    core.refuse(world.now, &lock, &session, new, None);
    assert_eq!(entered(), before + 1, "a stanza with a fault is counted");
    core.hang_up(world.now, &lock, &session, new);
    assert_eq!(lock.lock().sessions.len(), 0);
}
