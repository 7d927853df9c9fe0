//! What the operator allows one account.

use std::sync::Arc;
use std::time::Duration;

use vorpal::Program;
use vorpal_core::bounds::Bounds;
use vorpal_core::owner::roster;
use vorpal_core::route::presence::{MAX_LAST_STATUS, MAX_PRESENCE};
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::{Medium, Store};
use vorpal_testing::world::{ClientId, Secrets, Setup, World, configuration};

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

/// Somebody who is logged in.
fn online(world: &mut World, name: &str) -> ClientId {
    assert!(world.create_account(name));
    let id = world.client(name, "r");
    world.bind(id);
    id
}

/// What a client hears of a request; without pushes.
fn asked(world: &mut World, id: ClientId, xml: &str) -> Element {
    world.clients[id].inbox.clear();
    world.clients[id].send(xml);
    world.settle();
    let mut answers = world.clients[id].inbox.drain(..).filter_map(|heard| match heard {
        Heard::Element(e) if matches!(e.get("type"), Some("result" | "error")) => Some(e),
        _ => None,
    });
    answers.next_back().expect("an answer")
}

fn set_contact(world: &mut World, id: ClientId, jid: &str, name: &str, groups: &[String]) -> Element {
    let groups: String = groups.iter().map(|group| format!("<group>{group}</group>")).collect();
    let item = format!("<item jid='{jid}' name='{name}'>{groups}</item>");
    asked(world, id, &format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"))
}

fn condition(answer: &Element) -> Option<String> {
    let error = answer.find(ns::CLIENT, "error")?;
    error.elements().next().map(|condition| condition.name().to_owned())
}

fn roster_of(world: &mut World, id: ClientId) -> Element {
    asked(world, id, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
}

#[test]
fn a_contact_has_few_groups_and_their_names_are_short() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let romeo = online(&mut world, "romeo");
    let groups =
        |count: usize, length: usize| -> Vec<String> { (0..count).map(|n| format!("{n:0>length$}")).collect() };
    let fits = groups(roster::MAX_GROUPS, roster::MAX_GROUP);
    let name = "n".repeat(roster::MAX_NAME);
    assert_eq!(condition(&set_contact(&mut world, romeo, "a@x", &name, &fits)), None);
    for (name, groups) in [
        ("n".repeat(roster::MAX_NAME + 1), Vec::new()),
        (String::new(), groups(roster::MAX_GROUPS + 1, 3)),
        (String::new(), groups(1, roster::MAX_GROUP + 1)),
    ] {
        let answer = set_contact(&mut world, romeo, "b@x", &name, &groups);
        assert_eq!(condition(&answer).as_deref(), Some("not-acceptable"), "{} {groups:?}", name.len());
    }
}

#[test]
fn a_roster_is_bounded_by_the_bytes_that_a_client_is_sent() {
    for (letter, times) in [("x", 1), ("&apos;", 6)] {
        let bound = 20_000;
        let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
        let romeo = online(&mut world, "romeo");
        world.core().set_bounds(Bounds { roster_bytes: bound, ..Bounds::default() });
        let name = letter.repeat(1_000 / times);
        let mut count = 0;
        let refused = loop {
            let answer = set_contact(&mut world, romeo, &format!("contact{count}@x"), &name, &["g".repeat(200)]);
            if answer.get("type") == Some("error") {
                break answer;
            }
            count += 1;
            assert!(count < 100, "the roster has no bound");
        };
        assert_eq!(condition(&refused).as_deref(), Some("resource-constraint"));
        let sent = roster_of(&mut world, romeo).to_string_in("jabber:client").len();
        assert!((bound * 3 / 4..bound + 200).contains(&sent), "{count} contacts are sent as {sent} bytes");
        // Nor does it grow by asking somebody, or by what is changed.
        let subscribed =
            asked(&mut world, romeo, &format!("<presence type='subscribe' to='{}@localhost'/>", "y".repeat(900)));
        assert_eq!(condition(&subscribed).as_deref(), Some("resource-constraint"));
        let longer = set_contact(
            &mut world,
            romeo,
            "contact0@x",
            &name,
            &["g".repeat(200), "h".repeat(250), "i".repeat(250), "j".repeat(250)],
        );
        assert_eq!(condition(&longer).as_deref(), Some("resource-constraint"));
        // One that is too large already may shrink.
        world.core().set_bounds(Bounds { roster_bytes: 1_000, ..Bounds::default() });
        world.crash();
        world.bind(romeo);
        assert_eq!(roster_of(&mut world, romeo).to_string_in("jabber:client").len(), sent, "it is loaded as it is");
        world.core().set_bounds(Bounds { roster_bytes: 1_000, ..Bounds::default() });
        assert_eq!(condition(&set_contact(&mut world, romeo, "contact0@x", "short", &[])), None);
        let longer = set_contact(&mut world, romeo, "contact0@x", "longer", &[]);
        assert_eq!(condition(&longer).as_deref(), Some("resource-constraint"));
    }
}

#[test]
fn addresses_of_removed_contacts_are_forgotten_when_they_take_too_much() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let romeo = online(&mut world, "romeo");
    for n in 0..150 {
        let jid = format!("{n:0>1000}@x");
        assert_eq!(condition(&set_contact(&mut world, romeo, &jid, "", &[])), None);
        let item = format!("<item jid='{jid}' subscription='remove'/>");
        asked(&mut world, romeo, &format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"));
    }
    let account = world.core().loaded("romeo@localhost").expect("romeo is here");
    let rows: usize = world.core().roster(&account.lock()).1.keys().map(|jid| jid.as_str().len()).sum();
    assert!(rows <= roster::MAX_TOMBSTONE_BYTES + 2_000, "{rows}");
}

#[test]
fn a_presence_that_is_kept_is_small_and_so_are_the_addresses_it_was_sent_to() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let (romeo, _) = (online(&mut world, "romeo"), online(&mut world, "juliet"));
    let presence = |length: usize| format!("<presence><status>{}</status></presence>", "s".repeat(length));
    world.clients[romeo].send(&presence(MAX_PRESENCE - 200));
    world.settle();
    let account = world.core().loaded("romeo@localhost").expect("romeo is here");
    assert!(account.lock().available().next().is_some());
    assert_eq!(condition(&asked(&mut world, romeo, &presence(MAX_PRESENCE))).as_deref(), Some("policy-violation"));
    let mut told = 0;
    let refused = loop {
        world.clients[romeo].inbox.clear();
        world.clients[romeo].send(&format!("<presence to='juliet@localhost/{told:0>1000}'/>"));
        world.settle();
        let error = world.clients[romeo].inbox.drain(..).find_map(|heard| match heard {
            Heard::Element(e) => condition(&e).filter(|condition| condition == "resource-constraint"),
            _ => None,
        });
        if error.is_some() {
            break error;
        }
        told += 1;
        assert!(told < 200, "no bound");
    };
    assert_eq!(refused.as_deref(), Some("resource-constraint"));
    assert!((120..=130).contains(&told), "{told}");
    // What is kept of the last words is cut between two characters.
    world.clients[romeo]
        .send(&format!("<presence type='unavailable'><status>{}</status></presence>", "é".repeat(5_000)));
    world.settle();
    let last = world.core().last_activity(&account.lock()).expect("it has gone");
    assert_eq!(last.status, "é".repeat(MAX_LAST_STATUS / 2));
}

/// The requests that wait for an account, as they are kept.
fn requests(world: &World, name: &str) -> Vec<String> {
    let account = world.core().loaded(&format!("{name}@localhost")).expect("it is here");
    let account = account.lock();
    world.core().roster(&account).1.values().filter_map(|item| item.request.clone()).collect()
}

#[test]
fn a_large_request_is_kept_as_far_as_a_person_reads_it() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let (romeo, _) = (online(&mut world, "romeo"), online(&mut world, "juliet"));
    let status = "<status>may I?</status><nick xmlns='http://jabber.org/protocol/nick'>R.</nick>";
    for (payload, kept) in [
        (format!("{status}<x xmlns='urn:x'/>"), format!("{status}<x xmlns='urn:x'/>")),
        (format!("{status}<x xmlns='urn:x'>{}</x>", "x".repeat(5_000)), status.to_owned()),
        (format!("{status}<x xmlns='urn:x'>{}</x>", "x".repeat(248_000)), status.to_owned()),
        (format!("<status>{}</status>", "x".repeat(5_000)), String::new()),
        (format!("<status>{}</status>", "&apos;".repeat(3_000)), String::new()),
    ] {
        world.clients[romeo].send("<presence type='unsubscribe' to='juliet@localhost'/>");
        world.clients[romeo].send(&format!("<presence type='subscribe' to='juliet@localhost'>{payload}</presence>"));
        world.settle();
        let requests = requests(&world, "juliet");
        assert_eq!(requests.len(), 1);
        let inner = requests[0].split_once('>').map(|(_, rest)| rest).unwrap_or_default();
        assert_eq!(inner.trim_end_matches("</presence>"), kept);
        assert!(requests[0].len() <= roster::MAX_REQUEST);
    }
}

#[test]
fn the_requests_of_an_account_are_bounded_in_bytes_and_none_is_lost_for_them() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    online(&mut world, "juliet");
    let many = 150;
    for n in 0..many {
        let id = online(&mut world, &format!("stranger{n}"));
        let status = "s".repeat(3_500);
        world.clients[id]
            .send(&format!("<presence type='subscribe' to='juliet@localhost'><status>{status}</status></presence>"));
        world.settle();
        world.cut(id);
    }
    let requests = requests(&world, "juliet");
    assert_eq!(requests.len(), many);
    let bytes: usize = requests.iter().map(String::len).sum();
    assert!(bytes <= 2 * roster::MAX_REQUEST_BYTES && bytes > roster::MAX_REQUEST_BYTES / 2, "{bytes}");
    assert!(requests.iter().any(|request| !request.contains("<status>")), "the later ones lost what they said");
}

#[test]
fn one_domain_cannot_use_up_all_requests() {
    let mut world = World::with(Setup {
        seed: 1,
        medium: Medium::new(Store::Memory),
        program: Program::VORPAL,
        config: configuration(Program::VORPAL, "hosts = [\"localhost\", \"example.org\"]").expect("a configuration"),
        bounds: None,
        secrets: Arc::new(Secrets::derive()),
    });
    online(&mut world, "juliet");
    let mut ask = |name: &str, host: &'static str| {
        assert!(world.create_account_at(name, host));
        let id = world.client_at(name, host, "r");
        world.bind(id);
        world.clients[id].send("<presence type='subscribe' to='juliet@localhost'/>");
        world.settle();
        world.cut(id);
        requests(&world, "juliet").len()
    };
    for n in 0..roster::MAX_REQUESTS_OF_DOMAIN + 3 {
        let kept = ask(&format!("foreign{n}"), "example.org");
        assert_eq!(kept, (n + 1).min(roster::MAX_REQUESTS_OF_DOMAIN));
    }
    assert_eq!(ask("neighbour", "localhost"), roster::MAX_REQUESTS_OF_DOMAIN + 1);
}

#[test]
fn a_block_list_is_bounded_in_bytes_and_in_what_one_request_names() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let romeo = online(&mut world, "romeo");
    let block = |jids: &mut dyn Iterator<Item = String>| {
        let items: String = jids.map(|jid| format!("<item jid='{jid}'/>")).collect();
        format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{items}</block></iq>")
    };
    let repeats = block(&mut (0..2_001).map(|n| format!("b{}@x", n % 10)));
    assert_eq!(condition(&asked(&mut world, romeo, &repeats)).as_deref(), Some("resource-constraint"));
    let long = |from: u32, to: u32| block(&mut (from..to).map(|n| format!("{n:0>1000}@x")));
    assert_eq!(condition(&asked(&mut world, romeo, &long(0, 130))), None);
    assert_eq!(condition(&asked(&mut world, romeo, &long(130, 260))), None);
    assert_eq!(condition(&asked(&mut world, romeo, &long(260, 270))).as_deref(), Some("resource-constraint"));
    assert_eq!(condition(&asked(&mut world, romeo, &long(0, 1))), None, "what is blocked already takes nothing");
}

#[test]
fn preferences_of_the_archive_are_bounded_in_bytes() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let romeo = online(&mut world, "romeo");
    let prefs = |count: u32| {
        let jids: String = (0..count).map(|n| format!("<jid>{n:0>500}@{}/{n:0>500}</jid>", "d".repeat(60))).collect();
        format!(
            "<iq type='set' id='p'><prefs xmlns='urn:xmpp:mam:2' default='roster'><always>{jids}</always></prefs></iq>"
        )
    };
    assert_eq!(condition(&asked(&mut world, romeo, &prefs(100))), None);
    assert_eq!(condition(&asked(&mut world, romeo, &prefs(200))).as_deref(), Some("resource-constraint"));
}

#[test]
fn a_roster_that_is_larger_than_the_queue_of_a_session_is_given_to_it() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let id = online(&mut world, "romeo");
    let groups: Vec<String> = (0..9).map(|n| format!("{n}{}", "g".repeat(240))).collect();
    for n in 0..380 {
        assert_eq!(condition(&set_contact(&mut world, id, &format!("c{n}@localhost"), "n", &groups)), None);
    }
    let other = world.client("romeo", "other");
    world.bind(other);
    world.enable(other);
    for _ in 0..3 {
        let roster = roster_of(&mut world, other);
        assert_eq!(roster.get("type"), Some("result"));
        assert!(roster.to_string_in("jabber:client").len() > vorpal_core::bounds::MAX_QUEUED_BYTES);
        let ping = asked(&mut world, other, "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
        assert_eq!(ping.get("type"), Some("result"));
        assert!(world.clients[other].is_connected());
        let h = world.clients[other].smacks.as_ref().map_or(0, |smacks| smacks.received);
        world.clients[other].send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        world.settle();
    }
}
