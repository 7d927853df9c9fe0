//! A host whose modules change while sessions are there, as they do by a reload of the configuration.

use std::time::Duration;

use vorpal_core::registry::Registry;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

fn heard(world: &mut World, id: ClientId) -> Vec<String> {
    world.settle();
    world.clients[id].inbox.drain(..).map(|heard| format!("{heard:?}")).collect()
}

fn say(world: &mut World, id: ClientId, xml: &str) -> String {
    world.clients[id].send(xml);
    heard(world, id).concat()
}

/// The host has all modules but this one from here on.
fn without(world: &World, name: &str) {
    let core = world.core();
    let left = vorpal_modules::ALL.iter().copied().filter(|module| module.name != name);
    let registry = Registry::build(left, core.names.clone(), |_| None).expect("the modules are set up");
    core.hosts()[0].set_registry(registry);
}

#[test]
fn a_session_keeps_stream_management_when_it_is_switched_off() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo") && world.create_account("juliet"));
    let [managed, other, juliet] =
        [("romeo", "orchard"), ("romeo", "home"), ("juliet", "balcony")].map(|(name, at)| {
            let id = world.client(name, at);
            world.bind(id);
            id
        });
    for id in [other, juliet] {
        say(&mut world, id, "<presence/>");
    }
    let enabled = say(&mut world, managed, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    assert!(enabled.contains("enabled"), "{enabled}");
    without(&world, "smacks");

    // Acknowledgements go on, both ways, and what is sent is counted.
    let ack = say(&mut world, managed, "<presence/><r xmlns='urn:xmpp:sm:3'/>");
    assert!(ack.contains("<a xmlns='urn:xmpp:sm:3' h='1'/>"), "{ack}");
    say(&mut world, juliet, "<message to='romeo@localhost/orchard' type='chat'><body>hi</body></message>");
    world.pass(Duration::from_secs(2));
    let asked = heard(&mut world, managed).concat();
    assert!(asked.contains("<body>hi</body>") && asked.contains("<r xmlns='urn:xmpp:sm:3'/>"), "{asked}");
    let answered = say(&mut world, managed, "<a xmlns='urn:xmpp:sm:3' h='3'/>");
    assert_eq!(answered, "", "two presences and the message were counted");
    assert!(world.clients[managed].is_connected());

    // Nobody gets it any more, and nobody is thrown out for asking.
    for id in [managed, other] {
        let refused = say(&mut world, id, "<enable xmlns='urn:xmpp:sm:3'/>");
        assert!(refused.contains("failed") && world.clients[id].is_connected(), "{refused}");
    }
    let late = world.client("juliet", "chamber");
    world.bind(late);
    let refused = say(&mut world, late, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(refused.contains("feature-not-implemented"), "{refused}");
    // What only makes sense where it is on is unknown where it never was.
    let unknown = say(&mut world, late, "<r xmlns='urn:xmpp:sm:3'/>");
    assert!(unknown.contains("unsupported-stanza-type"), "{unknown}");
}
