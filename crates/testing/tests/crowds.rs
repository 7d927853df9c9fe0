//! What others send to somebody who reads slowly, or all at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use vorpal::Program;
use vorpal_core::bounds::MAX_QUEUED_BYTES;
use vorpal_core::module::Module;
use vorpal_core::route::presence::MAX_PRESENCE;
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_store::memory::Disk;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::{Medium, Store};
use vorpal_testing::link::Weather;
use vorpal_testing::world::{ClientId, Secrets, Setup, World, configuration};

fn world(archive: bool) -> World {
    let modules: Vec<&'static Module> =
        vorpal_modules::ALL.iter().copied().filter(|module| archive || module.name != "mam").collect();
    let mut world = World::new(1, Store::Memory, true, &modules);
    for name in ["romeo", "juliet"] {
        assert!(world.create_account(name));
    }
    world
}

fn online(world: &mut World, name: &str, resource: &str) -> ClientId {
    let id = world.client(name, resource);
    world.bind(id);
    say(world, id, "<presence/>");
    id
}

fn say(world: &mut World, id: ClientId, xml: &str) {
    world.clients[id].send(xml);
    world.settle();
}

fn reads(world: &mut World, id: ClientId, reads: bool) {
    let link = world.clients[id].link.as_mut().expect("it has a connection");
    let window = if reads { usize::MAX } else { 0 };
    link.weather = Weather { down_held: !reads, window, ..Weather::default() };
}

fn heard(world: &mut World, id: ClientId) -> Vec<Element> {
    let drained = world.clients[id].inbox.drain(..);
    drained.filter_map(|heard| if let Heard::Element(element) = heard { Some(element) } else { None }).collect()
}

fn befriend(world: &mut World, one: ClientId, other: ClientId) {
    for (from, to) in [(one, "juliet"), (other, "romeo")] {
        say(world, from, &format!("<presence type='subscribe' to='{to}@localhost'/>"));
    }
    for (from, to) in [(one, "juliet"), (other, "romeo")] {
        say(world, from, &format!("<presence type='subscribed' to='{to}@localhost'/>"));
    }
    for id in [one, other] {
        heard(world, id);
    }
}

/// 250 KB, of which 850 KB are written.
fn large() -> String {
    format!("<![CDATA[{}{}]]>", "&".repeat(150_000), "x".repeat(100_000))
}

#[test]
fn nobody_ends_a_session_by_sending_it_much() {
    for archive in [true, false] {
        for (kind, more, slow) in [
            ("headline", "", false),
            ("headline", "", true),
            ("chat", "", true),
            ("normal", "", true),
            ("error", "", true),
            ("chat", "<no-store xmlns='urn:xmpp:hints'/>", true),
        ] {
            let mut world = world(archive);
            let romeo = online(&mut world, "romeo", "orchard");
            let juliet = online(&mut world, "juliet", "balcony");
            heard(&mut world, juliet);
            if slow {
                reads(&mut world, juliet, false);
            }
            for n in 0..4 {
                let body = large();
                let to = ["juliet@localhost/balcony", "juliet@localhost"][n % 2];
                say(
                    &mut world,
                    romeo,
                    &format!("<message type='{kind}' id='{n}' to='{to}'>{more}<body>{body}</body></message>"),
                );
            }
            reads(&mut world, juliet, true);
            world.settle();
            assert!(world.clients[juliet].is_connected(), "{kind}{more}, slow: {slow}, archive: {archive}");
            let ids = |elements: Vec<Element>| -> Vec<String> {
                let messages = elements.iter().filter(|element| element.is(ns::CLIENT, "message"));
                messages.filter_map(|element| element.get("id").map(str::to_owned)).collect()
            };
            let got = ids(heard(&mut world, juliet));
            let back = ids(heard(&mut world, romeo));
            let told: BTreeSet<&String> = got.iter().chain(&back).collect();
            match (kind, more) {
                // Nobody promises these.
                ("headline", _) => assert!(back.is_empty(), "{back:?}"),
                // An error to a bare address is for nobody (RFC 6121 §8.5.2.1.1).
                ("error", _) => assert_eq!(got, ["0", "2"]),
                (_, "") => assert_eq!((got.as_slice(), back.len()), (&["0", "1", "2", "3"].map(String::from)[..], 0)),
                _ => assert_eq!(told.len(), 4, "what is not kept comes back: {got:?} {back:?}"),
            }
        }
    }
}

#[test]
fn a_contact_with_many_large_presences_keeps_nobody_out() {
    let mut world = world(true);
    let romeo = online(&mut world, "romeo", "orchard");
    let juliet = online(&mut world, "juliet", "r0");
    befriend(&mut world, romeo, juliet);
    let status = "s".repeat(MAX_PRESENCE - 500);
    let presence = format!("<presence><status>{status}</status></presence>");
    say(&mut world, juliet, &presence);
    for n in 1..50 {
        let id = world.client("juliet", &format!("r{n}"));
        world.bind(id);
        say(&mut world, id, &presence);
    }
    assert!(50 * presence.len() > MAX_QUEUED_BYTES);
    for managed in [false, true] {
        let other = world.client("romeo", "tomb");
        world.bind(other);
        if managed {
            world.enable(other);
        }
        say(&mut world, other, "<presence/>");
        assert!(world.clients[other].is_connected());
        let seen: BTreeSet<String> =
            heard(&mut world, other).iter().filter_map(|element| element.get("from").map(str::to_owned)).collect();
        let of_juliet = seen.iter().filter(|from| from.starts_with("juliet@")).count();
        assert_eq!(of_juliet, 50, "managed: {managed}");
        // Whoever reads slowly is told when it reads.
        world.cut(other);
        if managed {
            assert!(world.resume(other).is_ok());
            assert!(world.clients[other].is_connected());
        }
    }
    let slow = world.client("romeo", "slow");
    world.bind(slow);
    reads(&mut world, slow, false);
    say(&mut world, slow, "<presence/>");
    let waits = world.core().report(&world.core().loaded("romeo@localhost").expect("it is there"));
    let waits = waits.sessions.iter().map(|session| session.stream.weight).max();
    assert!(waits.is_some_and(|weight| weight < MAX_QUEUED_BYTES / 2), "{waits:?}");
    reads(&mut world, slow, true);
    world.settle();
    let seen = heard(&mut world, slow);
    let from = seen.iter().filter_map(|element| element.get("from")).filter(|from| from.starts_with("juliet@"));
    assert_eq!(from.collect::<BTreeSet<_>>().len(), 50);
}

#[test]
fn presence_that_grows_does_not_pass_the_bound() {
    let mut world = world(true);
    let juliet = online(&mut world, "juliet", "balcony");
    reads(&mut world, juliet, false);
    let mut senders = Vec::new();
    for n in 0..49 {
        let id = world.client("romeo", &format!("r{n}"));
        world.bind(id);
        senders.push(id);
    }
    let weight = |world: &World| {
        let report = world.core().report(&world.core().loaded("juliet@localhost").expect("it is there"));
        report.sessions.iter().map(|session| session.stream.weight).max().unwrap_or_default()
    };
    for length in [15_000, 100, 15_500, 250_000] {
        for id in &senders {
            let status = "s".repeat(length);
            say(
                &mut world,
                *id,
                &format!("<presence to='juliet@localhost/balcony'><status>{status}</status></presence>"),
            );
            assert!(weight(&world) <= MAX_QUEUED_BYTES, "{} after {length}", weight(&world));
        }
    }
    for id in senders {
        let refused = heard(&mut world, id).iter().filter(|element| element.get("type") == Some("error")).count();
        assert_eq!(refused, 1, "the largest is refused to who sends it");
    }
    reads(&mut world, juliet, true);
    world.settle();
    assert!(world.clients[juliet].is_connected());
}

#[test]
fn an_answer_that_is_larger_than_the_queue_counts_as_long_as_it_is_held() {
    let mut world = world(true);
    let first = online(&mut world, "romeo", "first");
    let groups: String = (0..16).map(|n| format!("<group>{n}{}</group>", "g".repeat(240))).collect();
    for n in 0..200 {
        let item = format!("<item jid='c{n}@localhost'>{groups}</item>");
        say(&mut world, first, &format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
    }
    let juliet = online(&mut world, "juliet", "balcony");
    let other = world.client("romeo", "other");
    world.bind(other);
    world.clients[other].send("<enable xmlns='urn:xmpp:sm:3'/>");
    say(&mut world, other, "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>");
    let closed = heard(&mut world, other);
    assert!(world.clients[other].is_connected(), "{:?}", closed.last());
    say(&mut world, other, "<iq type='get' id='2' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    say(&mut world, other, "<presence/>");
    let weight = |world: &World| {
        let report = world.core().report(&world.core().loaded("romeo@localhost").expect("it is there"));
        let other = report.sessions.iter().max_by_key(|session| session.stream.weight);
        other.map_or(0, |session| session.stream.weight)
    };
    assert!(weight(&world) > MAX_QUEUED_BYTES);
    say(&mut world, other, "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    for _ in 0..8_000 {
        world.clients[juliet].send("<message type='headline' to='romeo@localhost/other'/>");
    }
    world.settle();
    assert!(weight(&world) <= MAX_QUEUED_BYTES, "{}", weight(&world));
    assert!(world.clients[other].is_connected());
}

#[test]
fn a_client_with_an_old_version_of_a_long_roster_is_given_all_of_it() {
    let mut world = world(true);
    let romeo = online(&mut world, "romeo", "orchard");
    for n in 0..100 {
        let item = format!("<item jid='c{n}@localhost' name='{}'/>", "n".repeat(900));
        say(&mut world, romeo, &format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
    }
    let mut epoch = String::new();
    for (number, pushes) in [(None, 0), (Some("1"), 0), (Some("60"), 4)] {
        let ver = number.map_or(String::new(), |number| format!("ver='{epoch}.{number}'"));
        let other = world.client("romeo", "other");
        world.bind(other);
        heard(&mut world, other);
        say(&mut world, other, &format!("<iq type='get' id='r'><query xmlns='jabber:iq:roster' {ver}/></iq>"));
        let heard = heard(&mut world, other);
        let items = |element: &Element| element.find(ns::ROSTER, "query").map_or(0, |query| query.elements().count());
        let answer = heard.iter().find(|element| element.get("type") == Some("result")).expect("an answer");
        assert_eq!((items(answer), heard.len() - 1), (if pushes == 0 { 100 } else { 0 }, pushes), "{ver}");
        if let Some(ver) = answer.find(ns::ROSTER, "query").and_then(|query| query.get("ver")) {
            epoch = ver.split_once('.').expect("a version has an epoch").0.to_owned();
        }
        world.cut(other);
    }
}

/// What an answer to a question for the roster says: its version, and whom it lists; nothing if nothing has changed.
fn roster(world: &mut World, id: ClientId, ver: &str) -> Option<(String, Vec<String>)> {
    heard(world, id);
    say(world, id, &format!("<iq type='get' id='r'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>"));
    let answers = heard(world, id);
    let query = answers.iter().find(|e| e.get("id") == Some("r"))?.find(ns::ROSTER, "query")?;
    let listed = query.elements().filter_map(|item| item.get("jid")).map(str::to_owned);
    Some((query.get("ver")?.to_owned(), listed.collect()))
}

/// RFC 6121 §2.6.3: the numbers of a roster go back with its backup, and are given anew for other changes.
#[test]
fn a_version_from_after_a_backup_is_not_known_when_the_backup_is_back() {
    let mut world = World::with(Setup {
        seed: 1,
        medium: Medium::Memory(Disk::forgetful(1)),
        program: Program::VORPAL,
        config: configuration(Program::VORPAL, "").expect("a configuration"),
        bounds: None,
        secrets: Arc::new(Secrets::derive()),
    });
    assert!(world.create_account("romeo"));
    let set = |world: &mut World, contact: &str| {
        let id = world.client("romeo", "orchard");
        world.bind(id);
        let item = format!("<item jid='{contact}@localhost'/>");
        say(world, id, &format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
        id
    };
    let first = set(&mut world, "a");
    let backup = roster(&mut world, first, "").expect("a roster");
    say(
        &mut world,
        first,
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='b@localhost'/></query></iq>",
    );
    let newest = roster(&mut world, first, "").expect("a roster");
    assert_eq!(newest.1, ["a@localhost", "b@localhost"]);
    world.lose_power(1);
    let second = set(&mut world, "c");
    let (ver, listed) = roster(&mut world, second, &newest.0).expect("all of it");
    assert_eq!(listed, ["a@localhost", "c@localhost"]);
    assert_eq!(roster(&mut world, second, &ver), None, "that one is known");
    // What was so at the time of the backup is so.
    heard(&mut world, second);
    assert_eq!(roster(&mut world, second, &backup.0), None);
}
