//! A disk that does not keep up with what is sent.

use std::sync::atomic::Ordering;

use vorpal_core::session::ledger::MAX_UNSETTLED_BYTES;
use vorpal_core::watch::counts::Count;
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_store::writer::Backlog;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

fn world() -> (World, ClientId, ClientId) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let [romeo, juliet] = ["romeo", "juliet"].map(|name| {
        assert!(world.create_account(name));
        let id = world.client(name, "r");
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    });
    heard(&mut world, romeo);
    heard(&mut world, juliet);
    (world, romeo, juliet)
}

fn heard(world: &mut World, id: ClientId) -> Vec<Element> {
    let drained = world.clients[id].inbox.drain(..);
    drained.filter_map(|heard| if let Heard::Element(element) = heard { Some(element) } else { None }).collect()
}

/// What it heard of messages: the type, and the condition of an error.
fn messages(world: &mut World, id: ClientId) -> Vec<String> {
    let messages = heard(world, id).into_iter().filter(|e| e.is(ns::CLIENT, "message"));
    messages
        .map(|message| match message.find(ns::CLIENT, "error").and_then(|error| error.elements().next()) {
            Some(condition) => condition.name().to_owned(),
            None => message.get("type").unwrap_or_default().to_owned(),
        })
        .collect()
}

fn say(world: &mut World, id: ClientId, bytes: usize) {
    let body = "x".repeat(bytes);
    world.clients[id].send(&format!("<message to='juliet@localhost' type='chat'><body>{body}</body></message>"));
    world.settle();
}

#[test]
fn a_client_is_not_read_from_while_much_of_it_waits_for_the_disk() {
    const LARGE: usize = 100 << 10;
    let (mut world, romeo, juliet) = world();
    world.mood.waits.store(true, Ordering::Relaxed);
    for _ in 0..12 {
        say(&mut world, romeo, LARGE);
    }
    let waiting = world.queue().backlog().bytes;
    assert!(waiting > MAX_UNSETTLED_BYTES / 2 && waiting < MAX_UNSETTLED_BYTES + 2 * LARGE, "{waiting} bytes wait");
    assert_eq!(messages(&mut world, juliet).len(), 0);
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert_eq!(messages(&mut world, juliet), vec!["chat"; 12], "then all of it is read");
}

#[test]
fn no_new_promise_is_made_while_too_much_waits_for_the_disk() {
    let (mut world, romeo, juliet) = world();
    world.queue().set_most(Backlog { batches: 10, bytes: usize::MAX });
    world.mood.waits.store(true, Ordering::Relaxed);
    for _ in 0..11 {
        say(&mut world, romeo, 10_000);
    }
    let before = world.queue().backlog();
    assert_eq!(before.batches, 11);
    for _ in 0..5 {
        say(&mut world, romeo, 10_000);
    }
    let grown = world.queue().backlog().bytes - before.bytes;
    assert!(grown < 5_000, "{grown} bytes: errors to a client that counts are kept as well, and are small");
    assert_eq!(world.core().counts.get(Count::BehindDisk), 5);
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert_eq!(messages(&mut world, juliet), vec!["chat"; 11]);
    assert_eq!(messages(&mut world, romeo), vec!["resource-constraint"; 5]);
    say(&mut world, romeo, 10);
    assert_eq!(messages(&mut world, juliet), ["chat"]);
}

/// A broadcast is expanded for each contact when it is submitted: what waits of one session is one of them.
#[test]
fn of_many_presences_in_one_write_one_waits_for_the_disk() {
    const CONTACTS: usize = 40;
    const WRITES: usize = 64;
    let (mut world, romeo, juliet) = world();
    world.clients[juliet].send("<presence type='subscribe' to='romeo@localhost'/>");
    world.settle();
    world.clients[romeo].send("<presence type='subscribed' to='juliet@localhost'/>");
    world.settle();
    for at in 0..CONTACTS {
        assert!(world.create_account(&format!("c{at}")));
        let id = world.client(&format!("c{at}"), "r");
        world.bind(id);
        world.clients[id].send("<presence type='subscribe' to='romeo@localhost'/>");
        world.clients[romeo].send(&format!("<presence type='subscribed' to='c{at}@localhost'/>"));
        world.settle();
    }
    heard(&mut world, juliet);
    world.mood.waits.store(true, Ordering::Relaxed);
    let status = |n: usize| format!("<presence><status>{n}</status></presence>");
    world.clients[romeo].send(&(0..WRITES).map(status).collect::<String>());
    world.settle();
    let lock = world.core().loaded("romeo@localhost").expect("he is there");
    let unsettled = world.core().report(&lock).sessions[0].stream.unsettled;
    assert_eq!(unsettled, 1, "of {WRITES}, each for {CONTACTS} contacts");
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    let of_romeo = |element: &Element| element.get("from") == Some("romeo@localhost/r");
    let said = heard(&mut world, juliet).into_iter().filter(of_romeo);
    let said: Vec<_> = said.filter_map(|e| Some(e.find(ns::CLIENT, "status")?.content())).collect();
    assert_eq!(said, (0..WRITES).map(|n| n.to_string()).collect::<Vec<_>>(), "and none is lost");
}
