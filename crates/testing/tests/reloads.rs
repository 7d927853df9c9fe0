//! A host whose modules change while sessions are there, as they do by a reload of the configuration.

use std::time::Duration;

use vorpal_core::module::registry::Registry;
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
fn without(world: &mut World, name: &str) {
    let core = world.core();
    let left = vorpal_modules::ALL.iter().copied().filter(|module| module.name != name);
    let registry = Registry::build(left, core.names.clone(), |_| None).expect("the modules are set up");
    core.set_registry(world.now, &core.hosts()[0], registry);
    world.settle();
}

const NONE: &str = "no module has this name";

/// Two who see each other's presence, each with a session.
fn friends() -> (World, ClientId, ClientId) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo") && world.create_account("juliet"));
    let [romeo, juliet] = [("romeo", "phone"), ("juliet", "balcony")].map(|(name, at)| {
        let id = world.client(name, at);
        world.bind(id);
        say(&mut world, id, "<presence/>");
        id
    });
    for (id, other) in [(romeo, "juliet"), (juliet, "romeo")] {
        say(&mut world, id, &format!("<presence type='subscribe' to='{other}@localhost'/>"));
    }
    for (id, other) in [(romeo, "juliet"), (juliet, "romeo")] {
        say(&mut world, id, &format!("<presence type='subscribed' to='{other}@localhost'/>"));
    }
    heard(&mut world, romeo);
    (world, romeo, juliet)
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
    without(&mut world, "smacks");

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

#[test]
fn an_acknowledgement_without_a_count_ends_the_stream_alike_when_stream_management_is_switched_off() {
    let ending = |off: bool, a: &str| {
        let (mut world, romeo, _) = friends();
        say(&mut world, romeo, "<enable xmlns='urn:xmpp:sm:3'/>");
        if off {
            without(&mut world, "smacks");
        }
        let heard = say(&mut world, romeo, a);
        assert!(!world.clients[romeo].is_connected(), "{a}: {heard}");
        heard
    };
    for a in
        ["<a xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='-1'/>", "<a xmlns='urn:xmpp:sm:3' h='4294967296'/>"]
    {
        assert!(ending(false, a).contains("bad-format"), "{a}");
        assert_eq!(ending(true, a), ending(false, a), "{a}");
    }
    // White space around the number is none of it (XML Schema Part 2, §4.3.6).
    for off in [false, true] {
        let (mut world, romeo, _) = friends();
        say(&mut world, romeo, "<enable xmlns='urn:xmpp:sm:3'/>");
        if off {
            without(&mut world, "smacks");
        }
        assert_eq!(say(&mut world, romeo, "<a xmlns='urn:xmpp:sm:3' h=' 0 '/>"), "");
        assert!(world.clients[romeo].is_connected());
    }
}

#[test]
fn what_was_held_for_an_inactive_client_comes_when_client_states_are_switched_off() {
    let (mut world, romeo, juliet) = friends();
    say(&mut world, romeo, "<inactive xmlns='urn:xmpp:csi:0'/>");
    say(&mut world, juliet, "<presence><show>away</show></presence>");
    say(&mut world, juliet, "<message to='romeo@localhost' type='headline'><body>news</body></message>");
    assert_eq!(heard(&mut world, romeo).concat(), "", "both are held");
    without(&mut world, "csi");
    let [away, news] = &heard(&mut world, romeo)[..] else { panic!("what was held comes") };
    assert!(away.contains("away") && news.contains("news"), "{away} {news}");

    // Its client goes on as its stream began.
    for name in ["active", "inactive"] {
        let said = say(&mut world, romeo, &format!("<{name} xmlns='urn:xmpp:csi:0'/>"));
        assert!(said.is_empty() && world.clients[romeo].is_connected(), "{said}");
    }
    say(&mut world, juliet, "<presence><show>xa</show></presence>");
    assert!(heard(&mut world, romeo).concat().contains("xa"), "nothing is held any more");

    // What it said meanwhile was not heard: nothing is held for it before it speaks again.
    without(&mut world, NONE);
    say(&mut world, juliet, "<presence><show>dnd</show></presence>");
    assert!(heard(&mut world, romeo).concat().contains("dnd"), "nothing is held");
    say(&mut world, romeo, "<inactive xmlns='urn:xmpp:csi:0'/>");
    say(&mut world, juliet, "<presence><show>chat</show></presence>");
    assert_eq!(heard(&mut world, romeo).concat(), "", "it is held");
}

#[test]
fn what_was_held_for_a_client_that_is_away_comes_once_when_it_is_back() {
    let (mut world, romeo, juliet) = friends();
    world.enable(romeo);
    say(&mut world, romeo, "<inactive xmlns='urn:xmpp:csi:0'/>");
    say(&mut world, juliet, "<presence><show>away</show></presence>");
    world.cut(romeo);
    world.settle();
    without(&mut world, "csi");
    assert!(world.resume(romeo).is_ok(), "the session is there");
    let back = heard(&mut world, romeo).concat();
    assert_eq!(back.matches("away").count(), 1, "{back}");
    say(&mut world, romeo, "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    assert!(world.clients[romeo].is_connected(), "the counts agree");
}

#[test]
fn client_states_are_unknown_where_they_never_were() {
    let left: Vec<_> = vorpal_modules::ALL.iter().copied().filter(|module| module.name != "csi").collect();
    let mut world = World::new(1, Store::Memory, true, &left);
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "phone");
    world.bind(id);
    let unknown = say(&mut world, id, "<inactive xmlns='urn:xmpp:csi:0'/>");
    assert!(unknown.contains("unsupported-stanza-type"), "{unknown}");
}
