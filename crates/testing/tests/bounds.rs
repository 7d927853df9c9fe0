//! What the operator allows one account.

use std::time::Duration;

use vorpal_core::server::Bounds;
use vorpal_testing::disk::Store;
use vorpal_testing::world::World;

fn sessions(world: &World) -> Vec<String> {
    let account = world.core().loaded("romeo@localhost").expect("somebody is logged in");
    let account = account.lock();
    account.sessions.iter().map(|session| session.jid.resource().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_session_that_is_away_for_longest_gives_way_to_a_new_one() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo"));
    world.core().set_bounds(Bounds { sessions: 2, ..Bounds::default() });
    for resource in ["first", "second"] {
        let id = world.client("romeo", resource);
        world.bind(id);
        world.enable(id);
        world.cut(id);
        world.pass(Duration::from_secs(10));
    }
    assert_eq!(sessions(&world), ["first", "second"]);
    let third = world.client("romeo", "third");
    world.bind(third);
    assert_eq!(sessions(&world), ["second", "third"]);
    let fourth = world.client("romeo", "fourth");
    world.bind(fourth);
    assert_eq!(sessions(&world), ["third", "fourth"]);
    assert!(world.clients[third].is_connected(), "who has a connection keeps it");
}
