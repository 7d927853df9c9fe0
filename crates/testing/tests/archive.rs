//! What transcripts are too short for: pages that end by their weight, what was deleted from the middle, questions without
//! end.

use std::collections::BTreeSet;

use bytes::Bytes;
use vorpal_core::session::inquiries::{MAX_FOUND, MAX_INQUIRIES};
use vorpal_core::store::{Direction, EntryId, NewEntry, Owner, Side, Write, flags};
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

struct Archive {
    world: World,
    owner: Owner,
    romeo: ClientId,
    ids: Vec<EntryId>,
}

/// What a query was answered with: the results, and the end or an error.
struct Answer {
    results: Vec<Element>,
    last: Element,
}

impl Answer {
    fn bodies(&self) -> Vec<Option<String>> {
        let body = |result: &Element| Some(result.find(ns::CLIENT, "message")?.find(ns::CLIENT, "body")?.content());
        self.results.iter().map(body).collect()
    }

    fn fin(&self) -> &Element {
        self.last.find(ns::MAM, "fin").unwrap_or_else(|| panic!("no end: {:?}", self.last))
    }

    fn is_complete(&self) -> bool {
        self.fin().get("complete") == Some("true")
    }

    fn end(&self, name: &str) -> String {
        let set = self.fin().find(ns::RSM, "set").expect("a set");
        set.find(ns::RSM, name).expect("an end").content()
    }
}

impl Archive {
    /// An archive of messages of these lengths.
    fn of(store: Store, lengths: &[usize]) -> Archive {
        let messages: Vec<_> = lengths.iter().map(|length| ("b", *length)).collect();
        Archive::by(store, &messages)
    }

    /// An archive of messages by these resources, of these lengths.
    fn by(store: Store, messages: &[(&str, usize)]) -> Archive {
        let mut world = World::new(1, store, true, vorpal_modules::ALL);
        assert!(world.create_account("romeo"));
        let romeo = world.client("romeo", "orchard");
        world.bind(romeo);
        let owner = world.core().loaded("romeo@localhost").expect("romeo is here").lock().owner;
        let mut ids = Vec::new();
        for (n, (resource, length)) in messages.iter().enumerate() {
            let (from, text) = (format!("juliet@localhost/{resource}"), format!("{n}:{}", "x".repeat(*length)));
            let body = format!("<message from='{from}' to='romeo@localhost'><body>{text}</body></message>");
            world.write(|source| {
                ids.push(source.entry());
                let side = Side {
                    owner,
                    dir: Direction::Received,
                    flags: flags::ARCHIVED,
                    peer: "juliet@localhost".into(),
                    meta: Bytes::new(),
                };
                let id = ids[ids.len() - 1];
                let body = Bytes::from(body.clone());
                vec![Write::Log(Box::new(NewEntry { id, time: 1_767_225_600_000, sides: [Some(side), None], body }))]
            });
            if n % 500 == 499 {
                assert_eq!(world.write_or_die(), Some(true));
                world.tick();
            }
        }
        let mut archive = Archive { world, owner, romeo, ids };
        archive.reopen();
        archive
    }

    /// So that the server knows what was written behind its back.
    fn reopen(&mut self) {
        while self.world.write_or_die() == Some(true) {}
        self.world.crash();
        self.world.bind(self.romeo);
    }

    fn query(&mut self, inner: &str) -> Answer {
        let client = &mut self.world.clients[self.romeo];
        client.inbox.clear();
        client.send(&format!("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'>{inner}</query></iq>"));
        self.world.settle();
        let mut heard: Vec<Element> = self.world.clients[self.romeo]
            .inbox
            .drain(..)
            .map(|heard| match heard {
                Heard::Element(element) => element,
                other => panic!("{other:?}"),
            })
            .collect();
        let last = heard.pop().expect("an answer");
        let forwarded = |m: &Element| m.find(ns::MAM, "result")?.find(ns::FORWARD, "forwarded").cloned();
        Answer { results: heard.iter().map(|m| forwarded(m).expect("a result")).collect(), last }
    }
}

/// A question for messages with this address: what else is in its form, and in its set.
fn with(address: &str, fields: &str, inner: &str) -> String {
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>\
         <field var='with'><value>{address}</value></field>{fields}</x>{}",
        set(inner)
    )
}

/// What a client finds that asks for page after page: the numbers of the messages in the order of the archive, how many
/// pages there were, and how many of them had no message.
fn page_on(archive: &mut Archive, backwards: bool, ask: impl Fn(&str) -> String) -> (Vec<usize>, usize, usize) {
    let (mut seen, mut empty) = (Vec::new(), 0);
    let mut place = if backwards { "<before/>".to_owned() } else { String::new() };
    for pages in 1.. {
        assert!(pages < 100, "pages without end");
        let answer = archive.query(&ask(&place));
        let bodies = answer.bodies().into_iter().map(|body| body.expect("a body"));
        let numbers: Vec<usize> =
            bodies.map(|body| body.split(':').next().expect("a number").parse().expect("a number")).collect();
        empty += usize::from(numbers.is_empty());
        match backwards {
            true => seen.splice(0..0, numbers).for_each(drop),
            false => seen.extend(numbers),
        }
        if answer.is_complete() {
            return (seen, pages, empty);
        }
        place = match backwards {
            true => format!("<before>{}</before>", answer.end("first")),
            false => format!("<after>{}</after>", answer.end("last")),
        };
    }
    unreachable!("the loop ends")
}

fn set(inner: &str) -> String {
    format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>")
}

#[test]
fn pages_end_by_their_weight_and_nothing_is_left_out_in_either_direction() {
    let lengths = [10, 50_000, 70_000, 20_000, 200_000, 10, 10, 100_000, 27_000, 1];
    for store in [Store::Memory, Store::Sqlite] {
        let mut archive = Archive::of(store, &lengths);
        for backwards in [false, true] {
            let mut seen = Vec::new();
            let mut place = if backwards { "<before/>".to_owned() } else { String::new() };
            for page in 0.. {
                assert!(page < lengths.len(), "pages without end");
                let answer = archive.query(&set(&format!("<max>100</max>{place}")));
                let bodies: Vec<String> = answer.bodies().into_iter().map(|body| body.expect("a body")).collect();
                let weight: usize = bodies.iter().map(String::len).sum();
                assert!(bodies.len() == 1 || weight <= MAX_FOUND, "{} of {weight} bytes", bodies.len());
                let numbers = bodies.iter().filter_map(|body| body.split(':').next()?.parse::<usize>().ok());
                match backwards {
                    true => seen.splice(0..0, numbers.collect::<Vec<_>>()).for_each(drop),
                    false => seen.extend(numbers),
                }
                if answer.is_complete() {
                    break;
                }
                place = match backwards {
                    true => format!("<before>{}</before>", answer.end("first")),
                    false => format!("<after>{}</after>", answer.end("last")),
                };
            }
            assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>(), "{store:?}, backwards: {backwards}");
        }
    }
}

#[test]
fn a_search_ends_by_what_it_reads_and_finds_all_page_after_page_in_either_direction() {
    // A search reads 138 of these. Behind number 300 there is none for longer than that.
    let phone = [0, 1, 2, 137, 138, 139, 140, 277, 278, 279, 299];
    let resource = |n| if phone.contains(&n) { "phone" } else { "b" };
    let messages: Vec<_> = (0..600).map(|n| (resource(n), 30_000)).collect();
    for store in [Store::Memory, Store::Sqlite] {
        let mut archive = Archive::by(store, &messages);
        for (backwards, max) in [(false, 100), (true, 100), (false, 1), (true, 2)] {
            let ask = |place: &str| with("juliet@localhost/phone", "", &format!("<max>{max}</max>{place}"));
            let (seen, pages, empty) = page_on(&mut archive, backwards, ask);
            assert_eq!(seen, phone, "{store:?}, backwards: {backwards}, {max}");
            assert!(empty >= 2 && pages >= 5, "{pages} pages, {empty} of them empty");
            let none = |place: &str| with("juliet@localhost/none", "", &format!("<max>{max}</max>{place}"));
            assert_eq!(page_on(&mut archive, backwards, none), (vec![], 5, 5));
        }
        // An empty page says between which entries there is none, and nothing of their number.
        let answer = archive.query(&with("juliet@localhost/none", "", ""));
        let tell = |archive: &Archive, n: usize| {
            archive.world.core().loaded("romeo@localhost").expect("romeo is here").lock().ids().tell(archive.ids[n])
        };
        assert_eq!((answer.end("first"), answer.end("last")), (tell(&archive, 0), tell(&archive, 137)));
        let set = answer.fin().find(ns::RSM, "set").expect("a set");
        assert!(set.find(ns::RSM, "first").expect("an end").get("index").is_none() && !set.has(ns::RSM, "count"));
        // One by one.
        let ids: String = (100..350).map(|n| format!("<value>{}</value>", tell(&archive, n))).collect();
        let ids = format!("<field var='ids'>{ids}</field>");
        for backwards in [false, true] {
            let ask = |place: &str| with("juliet@localhost/phone", &ids, &format!("<max>100</max>{place}"));
            let (seen, pages, _) = page_on(&mut archive, backwards, ask);
            assert_eq!(seen, phone[3..], "{store:?}, backwards: {backwards}");
            assert!(pages > 1);
        }
    }
}

#[test]
fn a_search_ends_by_the_number_of_what_it_reads() {
    let messages: Vec<_> = (0..10_100).map(|n| (if n % 10_050 == 0 { "phone" } else { "b" }, 1)).collect();
    let mut archive = Archive::by(Store::Sqlite, &messages);
    for backwards in [false, true] {
        let ask = |place: &str| with("juliet@localhost/phone", "", place);
        assert_eq!(page_on(&mut archive, backwards, ask), (vec![0, 10_050], 3, 1));
    }
}

#[test]
fn a_page_is_bounded_by_what_is_written_whatever_the_query_is_called() {
    let mut archive = Archive::of(Store::Memory, &[10; 250]);
    // Each of these becomes six bytes.
    for length in [0, 1, 254, 255] {
        let called = "&apos;".repeat(length);
        let client = &mut archive.world.clients[archive.romeo];
        client.inbox.clear();
        client.send(&format!("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='{called}'/></iq>"));
        archive.world.settle();
        let inbox = archive.world.clients[archive.romeo].inbox.drain(..);
        let heard: Vec<String> = inbox
            .map(|heard| match heard {
                Heard::Element(element) => element.to_string_in("jabber:client"),
                other => panic!("{other:?}"),
            })
            .collect();
        let (last, results) = heard.split_last().expect("an answer");
        let bytes: usize = results.iter().map(String::len).sum();
        assert!(!results.is_empty() && last.contains("type='result'"), "{last}");
        assert!(bytes <= MAX_FOUND, "{length}: {} results of {bytes} bytes", results.len());
    }
    for length in [256, 200_000] {
        let called = "x".repeat(length);
        let client = &mut archive.world.clients[archive.romeo];
        client.send(&format!("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='{called}'/></iq>"));
        archive.world.settle();
        let heard: Vec<Heard> = archive.world.clients[archive.romeo].inbox.drain(..).collect();
        let [Heard::Element(answer)] = heard.as_slice() else { panic!("{heard:?}") };
        let error = answer.find(ns::CLIENT, "error").expect("an error");
        assert!(error.has(ns::STANZA_ERROR, "bad-request"), "{answer:?}");
    }
}

#[test]
fn of_a_message_deleted_from_the_middle_its_place_is_left() {
    for store in [Store::Memory, Store::Sqlite] {
        let mut archive = Archive::of(store, &[1, 1, 1]);
        let (owner, id) = (archive.owner, archive.ids[1]);
        let before = archive.query(&set("<max>10</max>"));
        archive
            .world
            .write(|_| vec![Write::LogEdit { owner, id, set: 0, clear: 0, meta: None, body: Some(Bytes::new()) }]);
        archive.reopen();
        let after = archive.query(&set("<max>10</max>"));
        assert_eq!(after.bodies(), [Some("0:x".into()), None, Some("2:x".into())]);
        assert!(after.results[1].find(ns::DELAY, "delay").is_some());
        assert_eq!(before.fin().to_string_in(""), after.fin().to_string_in(""));
        let told = archive.world.core().loaded("romeo@localhost").expect("romeo is here").lock().ids().tell(id);
        assert_eq!(archive.query(&set(&format!("<after>{told}</after>"))).bodies(), [Some("2:x".into())]);
        assert_eq!(archive.query(&set(&format!("<before>{told}</before>"))).bodies(), [Some("0:x".into())]);
    }
}

#[test]
fn more_questions_than_may_wait_are_put_off_and_the_rest_are_answered_in_order() {
    let mut archive = Archive::of(Store::Memory, &[1]);
    let many = usize::from(MAX_INQUIRIES) + 3;
    let ask = |n| format!("<iq type='set' id='q{n}'><query xmlns='urn:xmpp:mam:2'/></iq>");
    let asked: String = (0..many).map(ask).collect();
    let client = &mut archive.world.clients[archive.romeo];
    client.inbox.clear();
    client.send(&asked);
    archive.world.settle();
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for heard in archive.world.clients[archive.romeo].inbox.drain(..) {
        let Heard::Element(element) = heard else { panic!("{heard:?}") };
        let id = element.get("id").unwrap_or_default().to_owned();
        match element.get("type") {
            Some("result") => answered.push(id),
            Some("error") => {
                let error = element.find(ns::CLIENT, "error").expect("an error");
                assert!(error.has(ns::STANZA_ERROR, "resource-constraint") && error.get("type") == Some("wait"));
                refused.push(id);
            }
            _ => {}
        }
    }
    let ids = |range: std::ops::Range<usize>| range.map(|n| format!("q{n}")).collect::<Vec<_>>();
    assert_eq!(answered, ids(0..many - 3));
    assert_eq!(refused, ids(many - 3..many));
    // The bound is one of what waits, not of a session's life.
    assert_eq!(archive.query("").bodies().len(), 1);
}

#[test]
fn a_client_that_does_not_read_is_not_read_for() {
    let mut archive = Archive::of(Store::Memory, &[100_000; 12]);
    archive.world.enable(archive.romeo);
    archive.world.clients[archive.romeo].smacks.as_mut().expect("stream management").mute = true;
    let ask = |n| format!("<iq type='set' id='q{n}'><query xmlns='urn:xmpp:mam:2'/></iq>");
    let asked: String = (0..8).map(ask).collect();
    archive.world.clients[archive.romeo].inbox.clear();
    archive.world.clients[archive.romeo].send(&asked);
    archive.world.settle();
    let answered: BTreeSet<String> = archive.world.clients[archive.romeo]
        .inbox
        .iter()
        .filter_map(|heard| match heard {
            Heard::Element(e) if e.is(ns::CLIENT, "iq") => e.get("id").map(str::to_owned),
            _ => None,
        })
        .collect();
    // Each page is of 100 kB, and what is not acknowledged is kept.
    assert_eq!(answered, BTreeSet::from(["q0".to_owned(), "q1".to_owned()]));
    assert!(archive.world.clients[archive.romeo].is_connected());
    // Its connection is lost: what was not read for is answered with an error when it comes back.
    archive.world.cut(archive.romeo);
    archive.world.clients[archive.romeo].smacks.as_mut().expect("stream management").mute = false;
    assert!(archive.world.resume(archive.romeo).is_ok());
    archive.world.settle();
    let put_off = archive.world.clients[archive.romeo]
        .inbox
        .iter()
        .filter(|heard| matches!(heard, Heard::Element(e) if e.get("type") == Some("error")))
        .count();
    assert_eq!(put_off, 6);
}

/// It acknowledges nothing any more: what waits for that would keep its stream open for ever.
#[test]
fn a_client_that_closes_its_stream_is_told_of_what_was_not_read_and_let_go() {
    let mut archive = Archive::of(Store::Memory, &[100_000; 12]);
    archive.world.enable(archive.romeo);
    archive.world.clients[archive.romeo].smacks.as_mut().expect("stream management").mute = true;
    let ask = |n| format!("<iq type='set' id='q{n}'><query xmlns='urn:xmpp:mam:2'/></iq>");
    let asked: String = (0..4).map(ask).collect();
    archive.world.clients[archive.romeo].inbox.clear();
    archive.world.clients[archive.romeo].send(&asked);
    archive.world.clients[archive.romeo].send("</stream:stream>");
    archive.world.settle();
    let mut answers = Vec::new();
    let mut ended = false;
    for heard in archive.world.clients[archive.romeo].inbox.drain(..) {
        match heard {
            Heard::Element(e) if e.is(ns::CLIENT, "iq") => {
                answers
                    .push((e.get("id").unwrap_or_default().to_owned(), e.get("type").unwrap_or_default().to_owned()));
            }
            Heard::End => ended = true,
            _ => {}
        }
    }
    let expected = [("q0", "result"), ("q1", "result"), ("q2", "error"), ("q3", "error")];
    assert_eq!(answers, expected.map(|(id, kind)| (id.to_owned(), kind.to_owned())));
    assert!(ended, "its stream is closed");
}
