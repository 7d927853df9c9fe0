//! What a page of an archive costs, from the question to the bytes of the answer: with a thousand messages and with a million.
//!
//! `cargo bench -p vorpal-testing --bench archive`, or with the numbers of messages behind `--`. The time is that of one
//! thread that does nothing else: the store, the answer, and the session's bytes; not the socket.

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::time::Instant;

use bytes::Bytes;
use vorpal_core::session::Wire;
use vorpal_core::store::{Direction, NewEntry, Side, Write, flags};
use vorpal_proto::stanza::Stanza;
use vorpal_testing::disk::Store;
use vorpal_testing::world::World;

const CONTACTS: usize = 20;
const PAGE: usize = 50;
const ROUNDS: usize = 400;

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 100_000, 1_000_000] } else { sizes };
    let mut world = World::new(1, Store::Sqlite, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo"));
    let romeo = world.client("romeo", "orchard");
    world.bind(romeo);
    let mut filled = 0;
    for size in sizes {
        fill(&mut world, filled, size);
        filled = size;
        world.crash();
        world.bind(romeo);
        let first = set(&format!("<max>{PAGE}</max>"));
        let last = set(&format!("<max>{PAGE}</max><before/>"));
        let middle = with(&format!("contact{}@localhost", CONTACTS / 2), &format!("<max>{PAGE}</max><before/>"));
        for (name, query) in [("first page", first), ("last page", last), ("last page with one contact", middle)] {
            measure(&mut world, &format!("{size:>8} messages, {name}"), &query, PAGE);
        }
        let nowhere = with(&format!("contact{}@localhost/nowhere", CONTACTS / 2), "");
        measure(&mut world, &format!("{size:>8} messages, a full address in vain"), &nowhere, 0);
    }
}

fn set(inner: &str) -> String {
    format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>")
}

fn with(address: &str, inner: &str) -> String {
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>\
         <field var='with'><value>{address}</value></field></x>{}",
        set(inner)
    )
}

/// Messages of 150 bytes of text, by some contacts in turn.
fn fill(world: &mut World, from: usize, to: usize) {
    let owner = world.core().loaded("romeo@localhost").expect("romeo is here").lock().owner;
    let text = "Call me but love, and I'll be new baptized; henceforth I never will be Romeo. ".repeat(2);
    for n in from..to {
        let contact = n % CONTACTS;
        let body = format!(
            "<message from='contact{contact}@localhost/phone' to='romeo@localhost' type='chat' id='m{n}'><body>{text}</body>\
             <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        world.write(|ids| {
            let side = Side {
                owner,
                dir: Direction::Received,
                flags: flags::ARCHIVED,
                peer: format!("contact{contact}@localhost").into(),
                meta: Bytes::new(),
            };
            let (id, time, body) = (ids.entry(), 1_767_225_600_000, Bytes::from(body.clone()));
            vec![Write::Log(Box::new(NewEntry { id, time, sides: [Some(side), None], body }))]
        });
        if n % 500 == 499 {
            assert_eq!(world.write_or_die(), Some(true));
            world.tick();
        }
    }
    while world.write_or_die() == Some(true) {}
    world.tick();
}

fn measure(world: &mut World, name: &str, query: &str, expected: usize) {
    let core = world.core().clone();
    let lock = core.loaded("romeo@localhost").expect("romeo is here");
    let session = lock.lock().sessions[0].clone();
    let registry = lock.lock().host.registry();
    let mut reader = world.reader();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let iq = format!("<iq type='set' id='{round}'><query xmlns='urn:xmpp:mam:2'>{query}</query></iq>");
        let iq = Stanza::parse(&iq).expect("a stanza");
        let mut out = Output(Vec::new());
        let begin = Instant::now();
        let _ = core.receive(world.now, &lock, &session, session.epoch(), iq);
        let inquiry = core.inquiry(&lock, &session).expect("a question");
        let found = (inquiry.job)(reader.as_mut());
        core.answered(world.now, inquiry.asker, found);
        core.pull(&lock, &session, &registry, session.epoch(), &mut out, usize::MAX);
        times.push(begin.elapsed());
        let results = String::from_utf8_lossy(&out.0).matches("<result ").count();
        assert_eq!(results, expected);
    }
    times.sort();
    let (half, most) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    println!("{name:48} {:6} µs, of a hundred the slowest {:6} µs", half.as_micros(), most.as_micros());
}

/// The output of a TCP connection.
struct Output(Vec<u8>);

impl Wire for Output {
    fn stanza(&mut self, stanza: &Stanza) {
        stanza.write(&mut self.0, None);
    }

    fn nonza(&mut self, xml: &[u8]) {
        self.0.extend_from_slice(xml);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
