//! What waits while the disk does: presence to many is one stanza until it is said.

use std::sync::atomic::Ordering;

use vorpal_core::module::Module;
use vorpal_proto::jid::BareJid;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const CONTACTS: usize = 40;

fn say(world: &mut World, id: ClientId, xml: &str) {
    world.clients[id].send(xml);
    world.settle();
}

/// Romeo, whose presence goes to all the others, who are here.
fn world() -> (World, ClientId, Vec<ClientId>) {
    let modules: Vec<&'static Module> = vorpal_modules::ALL.iter().copied().filter(|m| m.name != "mam").collect();
    let mut world = World::new(1, Store::Memory, true, &modules);
    assert!(world.create_account("romeo"));
    let romeo = world.client("romeo", "orchard");
    world.bind(romeo);
    let mut others = Vec::new();
    for n in 0..CONTACTS {
        let name = format!("contact{n}");
        assert!(world.create_account(&name));
        let id = world.client(&name, "home");
        world.bind(id);
        say(&mut world, id, "<presence/>");
        say(&mut world, id, "<presence type='subscribe' to='romeo@localhost'/>");
        say(&mut world, romeo, &format!("<presence type='subscribed' to='{name}@localhost'/>"));
        others.push(id);
    }
    for client in &mut world.clients {
        client.inbox.clear();
    }
    (world, romeo, others)
}

fn waits(world: &World) -> usize {
    let romeo: BareJid = "romeo@localhost".parse().expect("an address");
    let core = world.core();
    let lock = core.loaded(romeo.as_str()).expect("it is here");
    core.report(&lock).unsaid
}

#[test]
fn presence_to_many_waits_for_its_commit_as_one_stanza() {
    let (mut world, romeo, others) = world();
    say(&mut world, romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    world.mood.waits.store(true, Ordering::Relaxed);
    let mut sessions = Vec::new();
    for n in 0..8 {
        // It comes and goes, while nothing is written.
        let id = world.client("romeo", &format!("place{n}"));
        world.bind(id);
        say(&mut world, id, "<presence/>");
        say(&mut world, romeo, &format!("<presence><status>{n}</status></presence>"));
        say(&mut world, id, "</stream:stream>");
        sessions.push(id);
    }
    let unsaid = waits(&world);
    assert!(unsaid > 0 && unsaid < 8 * 12, "{unsaid} things wait to be said");
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert_eq!(waits(&world), 0);
    for id in others {
        let heard = world.clients[id].inbox.drain(..);
        let told =
            heard.filter(|heard| matches!(heard, Heard::Element(element) if element.name() == "presence")).count();
        // Of each place that it came and went, and the first of what the session in the orchard said; the rest of it follows.
        assert!(told > 8 * 2, "told {told} times");
    }
}
