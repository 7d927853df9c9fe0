//! Private XML storage (XEP-0049): its limits in bytes, and that all of it goes with the account. Its scenes are
//! `tests/scenarios/0049-private.txt`.

use std::time::Duration;

use vorpal_core::module::Section;
use vorpal_core::store::{Loading, MapQuery, Owner};
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::link::Weather;
use vorpal_testing::world::{ClientId, World};

const KIB: usize = 1 << 10;

fn world(store: Store, section: &str) -> (World, ClientId) {
    let settings = format!("[modules.private]\n{section}");
    let mut world = World::configured(1, store, true, vorpal_modules::ALL, &settings);
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "r");
    world.bind(id);
    (world, id)
}

/// Sends a request, and gives its answer.
fn ask(world: &mut World, id: ClientId, kind: &str, payload: &str) -> Element {
    let query = format!("<iq type='{kind}' id='q'><query xmlns='jabber:iq:private'>{payload}</query></iq>");
    world.clients[id].send(&query);
    world.settle();
    let answer = world.clients[id].inbox.drain(..).find_map(|heard| match heard {
        Heard::Element(iq) if iq.get("id") == Some("q") => Some(iq),
        _ => None,
    });
    answer.expect("an answer")
}

/// `ok`, or the condition and type of the error.
fn told(answer: &Element) -> String {
    let Some(error) = answer.find(ns::CLIENT, "error") else { return "ok".into() };
    let condition = error.elements().next().map_or("", |condition| condition.name());
    format!("{condition} {}", error.get("type").unwrap_or_default())
}

/// An element of this name with so many bytes of text.
fn item(name: &str, bytes: usize) -> String {
    format!("<{name} xmlns='urn:x'>{}</{name}>", "t".repeat(bytes))
}

#[test]
fn an_element_and_an_answer_have_a_maximum_size() {
    let (mut world, id) = world(Store::Memory, "");
    let tags = item("one", 0).len();
    let set = |world: &mut World, payload: &str| told(&ask(world, id, "set", payload));
    assert_eq!(set(&mut world, &item("one", 128 * KIB - tags)), "ok");
    assert_eq!(set(&mut world, &item("one", 128 * KIB - tags + 1)), "policy-violation modify");
    // What has no room in one answer is told in two.
    assert_eq!(set(&mut world, &item("two", 1)), "ok");
    let both = "<one xmlns='urn:x'/><two xmlns='urn:x'/>";
    assert_eq!(told(&ask(&mut world, id, "get", both)), "policy-violation modify");
    let one = ask(&mut world, id, "get", "<one xmlns='urn:x'/><three xmlns='urn:x'/>");
    let one = one.elements().next().and_then(|query| query.elements().next()).map(|one| one.content().len());
    assert_eq!(one, Some(128 * KIB - tags), "as it was");
    let long = |len: usize| format!("<n xmlns='{}'/>", "n".repeat(len));
    assert_eq!(told(&ask(&mut world, id, "get", &long(511))), "ok");
    assert_eq!(told(&ask(&mut world, id, "get", &long(512))), "policy-violation modify");
}

#[test]
fn an_account_has_a_maximum_size_and_what_is_there_may_shrink() {
    let (mut world, id) = world(Store::Memory, "max_bytes = \"64 KiB\"");
    let set = |world: &mut World, payload: &str| told(&ask(world, id, "set", payload));
    let around = item("one", 0).len() + "urn:xone".len();
    assert_eq!(set(&mut world, &item("one", 40 * KIB - around)), "ok");
    assert_eq!(set(&mut world, &item("two", 24 * KIB - around)), "ok", "to the byte");
    assert_eq!(set(&mut world, &item("six", 1)), "resource-constraint wait");
    assert_eq!(set(&mut world, &item("two", 24 * KIB - around + 1)), "resource-constraint wait");
    assert_eq!(set(&mut world, &(item("one", 1) + &item("two", 40 * KIB))), "ok", "all of a set counts together");
    assert_eq!(set(&mut world, "<two xmlns='urn:x'/>"), "ok");
    assert_eq!(set(&mut world, &item("six", 60 * KIB)), "ok");
    // The maximum was lowered: nothing is lost, and nothing is added.
    let core = world.core().clone();
    let host = core.hosts().first().cloned().expect("a host");
    let section: Section = "max_bytes = \"64 KiB\"\nmax_items = 1".parse().expect("a section");
    let modules = vorpal_modules::ALL.iter().copied();
    let registry = vorpal_core::module::registry::Registry::build(modules, core.names.clone(), |name| {
        (name == "private").then(|| section.clone())
    });
    core.set_registry(world.now, &host, registry.expect("the modules"));
    assert_eq!(set(&mut world, &item("one", 2)), "ok", "still two of them, and enough room");
    assert_eq!(set(&mut world, &item("ten", 1)), "resource-constraint wait");
    assert_eq!(set(&mut world, "<six xmlns='urn:x'/>"), "ok");
    assert_eq!(set(&mut world, &item("ten", 1)), "resource-constraint wait");
    assert_eq!(set(&mut world, &(item("ten", 1) + "<one xmlns='urn:x'/>")), "ok", "one for another");
}

/// A question waits while its client does not read, and the size is not what it was when it was asked.
#[test]
fn what_grows_before_it_is_read_is_not_told_at_once() {
    let (mut world, slow) = world(Store::Memory, "");
    assert_eq!(told(&ask(&mut world, slow, "set", &item("big", 120 * KIB))), "ok");
    assert_eq!(told(&ask(&mut world, slow, "set", &(item("one", 1) + &item("two", 1)))), "ok");
    let other = world.client("romeo", "other");
    world.bind(other);
    let link = world.clients[slow].link.as_mut().expect("it is connected");
    (link.weather.window, link.weather.down_held) = (0, true);
    let (big, both) = ("<big xmlns='urn:x'/>", "<one xmlns='urn:x'/><two xmlns='urn:x'/>");
    for (id, names) in [("a", big), ("b", big), ("c", big), ("d", both)] {
        let query = format!("<iq type='get' id='{id}'><query xmlns='jabber:iq:private'>{names}</query></iq>");
        world.clients[slow].send(&query);
    }
    world.settle();
    for name in ["one", "two"] {
        assert_eq!(told(&ask(&mut world, other, "set", &item(name, 100 * KIB))), "ok");
    }
    world.clients[slow].link.as_mut().expect("it is connected").weather = Weather::default();
    world.settle();
    let answers: Vec<(String, String)> = world.clients[slow]
        .inbox
        .drain(..)
        .filter_map(|heard| match heard {
            Heard::Element(iq) => Some((iq.get("id")?.to_owned(), told(&iq))),
            _ => None,
        })
        .collect();
    let told = [("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "policy-violation modify")];
    assert_eq!(answers, told.map(|(id, told)| (id.to_owned(), told.to_owned())));
}

/// Few bytes ask for many: what is beyond 16 KiB counts for the traffic of who asked, as of every answer.
#[test]
fn a_large_answer_that_is_read_is_charged() {
    let (mut world, id) = world(Store::Memory, "");
    let lock = world.load(&"romeo@localhost".parse().expect("an address")).expect("romeo");
    let session = lock.lock().sessions.first().cloned().expect("a session");
    let mut charged = |bytes: usize| {
        assert_eq!(told(&ask(&mut world, id, "set", &item("one", bytes))), "ok");
        assert_eq!(told(&ask(&mut world, id, "get", "<one xmlns='urn:x'/>")), "ok");
        world.core().stream(&session).take_answered()
    };
    assert_eq!(charged(15 * KIB), 0);
    assert!((84 * KIB..85 * KIB).contains(&charged(100 * KIB)));
}

#[test]
fn nothing_of_it_is_left_of_an_account_that_is_removed() {
    for store in [Store::Memory, Store::Sqlite] {
        let (mut world, id) = world(store, "");
        for name in ["one", "two"] {
            assert_eq!(told(&ask(&mut world, id, "set", &item(name, 100))), "ok");
        }
        let jid = "romeo@localhost".parse().expect("an address");
        let owner = world.load(&jid).expect("romeo").lock().owner;
        assert_eq!(rows(&world, owner), 4, "an element and its size for each");
        assert!(world.remove_account(&jid));
        world.settle();
        world.pass(Duration::from_secs(10));
        assert_eq!(rows(&world, owner), 0);
        assert!(world.create_account("romeo"));
        let id = world.client("romeo", "again");
        world.bind(id);
        let answer = ask(&mut world, id, "get", "<one xmlns='urn:x'/>");
        let query = answer.elements().next().cloned().expect("a query");
        assert_eq!(query.elements().map(|one| one.nodes().len()).collect::<Vec<_>>(), [0]);
    }
}

/// All rows of private storage that are stored for an owner.
fn rows(world: &World, owner: Owner) -> usize {
    let mut reader = world.reader();
    let maps = reader.maps().expect("the store can be read");
    let private: Vec<_> =
        maps.into_iter().filter(|(_, name)| name.starts_with("private")).map(|(map, _)| map).collect();
    assert_eq!(private.iter().filter(|map| map.loading() == Loading::Cold).count(), 1);
    assert_eq!(private.len(), 2);
    let rows = private.into_iter().map(|map| reader.map_range(map, owner, MapQuery::default()).expect("rows").len());
    rows.sum()
}
