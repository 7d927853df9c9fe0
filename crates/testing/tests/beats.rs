//! What is written about a second later, little by little.

use vorpal_core::life::beat::{BEATS, RIDERS};
use vorpal_proto::ns;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const MANY: usize = 300;

/// Many clients with stream management, each of which has just received a message and acknowledged it.
fn world() -> (World, Vec<ClientId>) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let clients: Vec<ClientId> = (0..MANY)
        .map(|at| {
            let name = format!("u{at}");
            assert!(world.create_account(&name));
            let id = world.client(&name, "r");
            world.bind(id);
            world.enable(id);
            world.clients[id].send("<presence/>");
            world.settle();
            id
        })
        .collect();
    world.tick();
    world.settle();
    for (at, id) in clients.iter().enumerate() {
        let to = (at + 1) % MANY;
        let xml = format!("<message to='u{to}@localhost' type='chat' id='m{at}'><body>hi</body></message>");
        world.clients[*id].send(&xml);
        world.settle();
    }
    for id in &clients {
        let h = world.clients[*id].smacks.as_ref().expect("it counts").received;
        world.clients[*id].send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        world.settle();
    }
    (world, clients)
}

fn messages(world: &mut World, id: ClientId) -> usize {
    let heard = world.clients[id].inbox.drain(..);
    heard.filter(|heard| matches!(heard, Heard::Element(e) if e.is(ns::CLIENT, "message"))).count()
}

/// How many batches each of so many beats submits.
fn beat(world: &mut World, count: u32) -> Vec<usize> {
    let beats = (0..count).map(|_| {
        world.core().beat(world.now);
        let batches = world.queue().backlog().batches;
        world.settle();
        batches
    });
    beats.collect()
}

#[test]
fn what_many_accounts_put_off_is_written_in_few_batches_and_not_at_once() {
    let (mut world, clients) = world();
    let batches = beat(&mut world, 2 * BEATS);
    let (all, most) = (batches.iter().sum::<usize>(), batches.iter().max().copied().unwrap_or(0));
    assert!(all >= MANY / RIDERS, "{batches:?}");
    assert!(all <= 2 * MANY / RIDERS + 4, "{batches:?}");
    assert!(most <= 2, "{batches:?}");
    // What is stored by that: nobody gets anything twice, or sends it twice.
    world.crash();
    for id in clients {
        messages(&mut world, id);
        assert_eq!(world.resume(id).ok(), Some(2), "the presence and the message");
        assert_eq!(messages(&mut world, id), 0);
    }
}

#[test]
fn a_batch_of_many_that_fails_is_written_again_and_fails_nothing_else() {
    let (mut world, clients) = world();
    world.mood.refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    beat(&mut world, BEATS + BEATS / 2);
    world.mood.refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    let xml = "<message to='u1@localhost' type='chat' id='again'><body>hi</body></message>";
    messages(&mut world, clients[1]);
    world.clients[clients[0]].send(xml);
    world.settle();
    assert_eq!(messages(&mut world, clients[1]), 1);
    let written = beat(&mut world, 2 * BEATS).iter().sum::<usize>();
    assert!(written > MANY / RIDERS, "{written} batches: what failed is written again");
    world.crash();
    for (at, id) in clients.into_iter().enumerate().skip(2) {
        messages(&mut world, id);
        assert_eq!(world.resume(id).ok(), Some(2), "u{at}");
        assert_eq!(messages(&mut world, id), 0, "u{at}");
    }
}
