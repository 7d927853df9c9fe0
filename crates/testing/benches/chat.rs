//! What a message costs between two connections, without sockets and TLS: nanoseconds, the best of many rounds, and allocations.
//!
//! `cargo bench -p vorpal-testing --bench chat`. For instructions, which do not depend on what else the machine does:
//! `valgrind --tool=callgrind --toggle-collect='*::measured' <the built bench> chat` divides by `ROUNDS`.

use std::time::Instant;

use bytes::BytesMut;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const ROUNDS: usize = 10_000;

const TEXT: &str =
    "Good night, good night! Parting is such sweet sorrow that I shall say good night till it be morrow.";

/// A world in which these have logged in, and the bytes that `romeo/one` sends to `juliet/one`.
fn world(clients: &[&str], managed: bool, carbons: bool) -> (World, BytesMut) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    for name in ["romeo", "juliet"] {
        assert!(world.create_account(name));
    }
    for name in clients {
        let (account, resource) = name.split_once('/').expect("account/resource");
        let id = world.client(account, resource);
        world.bind(id);
        if managed {
            world.enable(id);
        }
        if carbons {
            world.clients[id].send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        }
        world.clients[id].send("<presence/>");
        world.settle();
    }
    let message = format!(
        "<message to='juliet@localhost/one' type='chat' id='0-0-0000001'><body>{TEXT}</body><request xmlns='urn:xmpp:receipts'/></message>"
    );
    (world, BytesMut::from(message.as_bytes()))
}

/// What the first client sends, and what the others are given. Its own function, for callgrind.
#[inline(never)]
fn measured(world: &mut World, message: &[u8], receivers: &[ClientId], rounds: usize, out: &mut Vec<u8>) {
    let mut input = BytesMut::new();
    for _ in 0..rounds {
        input.extend_from_slice(message);
        let now = world.now;
        let link = world.clients[0].link.as_mut().expect("a connection");
        link.connection.input(now, &mut input);
        input = BytesMut::new();
        world.write_or_die();
        for &id in receivers {
            let link = world.clients[id].link.as_mut().expect("a connection");
            out.clear();
            link.connection.input(now, &mut input);
            link.connection.output(out, 16 * 1024);
            assert!(!out.is_empty(), "{id} got nothing");
            link.connection.written();
        }
    }
}

fn bench(wanted: &[String], name: &str, clients: &[&str], carbons: bool) {
    if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
        return;
    }
    let (mut world, message) = world(clients, false, carbons);
    let receivers: Vec<ClientId> = (1..clients.len()).collect();
    let mut out = Vec::with_capacity(64 * 1024);
    measured(&mut world, &message, &receivers, 10, &mut out);
    let cost = allocation_counter::measure(|| measured(&mut world, &message, &receivers, 100, &mut out));
    let best = (0..if wanted.is_empty() { 20 } else { 1 }).map(|_| {
        let begin = Instant::now();
        measured(&mut world, &message, &receivers, ROUNDS, &mut out);
        begin.elapsed().as_nanos() / ROUNDS as u128
    });
    println!("{name:10} {:6} ns {:5.1} allocations", best.min().unwrap_or_default(), cost.count_total as f64 / 100.0);
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    bench(&wanted, "chat", &["romeo/one", "juliet/one"], false);
    bench(&wanted, "carbons", &["romeo/one", "juliet/one", "romeo/two", "juliet/two"], true);
}
