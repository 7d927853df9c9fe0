//! Stanzas that go on by themselves, to accounts that have to be read first.

use vorpal_core::bounds::Bounds;
use vorpal_core::core::spilled::MAX_SPILLED_FOR_ONE;
use vorpal_core::module::hook::{Dir, Flow};
use vorpal_core::module::{Module, Phase, Result, Setup};
use vorpal_core::store::StoreError;
use vorpal_proto::element::{Element, el};
use vorpal_proto::jid::Jid;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};
use vorpal_testing::client::Heard;
use vorpal_testing::disk::{Medium, Store};
use vorpal_testing::world::{ClientId, World};

/// Sends on what has the subject "on" to the nurse.
static SENDS_ON: Module = Module { name: "sends_on", xeps: &[], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.on_message(Phase::Record, |cx, message| {
        if message.has(ns::CLIENT, "subject") && cx.dir == Dir::Sent {
            let nurse = Jid::parse("nurse@localhost").expect("an address");
            let mut on = Stanza::new(Kind::Message, Type::Chat).to(nurse);
            on.head.id.clone_from(&message.head.id);
            on.head.from.clone_from(&message.head.from);
            cx.fx.route(on.child(el("body", ns::CLIENT).text("on")));
        }
        Flow::Next
    });
    Ok(())
}

/// Romeo and Juliet are there; nobody has asked for the nurse.
fn world() -> (World, ClientId, ClientId) {
    let mut modules = vec![&SENDS_ON];
    modules.extend(vorpal_modules::ALL.iter().copied().filter(|module| module.name != "mam"));
    let mut world = World::new(1, Store::Memory, true, &modules);
    for name in ["romeo", "juliet", "nurse"] {
        assert!(world.create_account(name));
    }
    let [romeo, juliet] = ["romeo", "juliet"].map(|name| {
        let id = world.client(name, "r");
        world.bind(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    });
    heard(&mut world, romeo);
    heard(&mut world, juliet);
    assert!(world.core().loaded("nurse@localhost").is_none());
    (world, romeo, juliet)
}

fn heard(world: &mut World, id: ClientId) -> Vec<Element> {
    let drained = world.clients[id].inbox.drain(..);
    drained.filter_map(|heard| if let Heard::Element(element) = heard { Some(element) } else { None }).collect()
}

fn sends(world: &mut World, id: ClientId, ids: impl IntoIterator<Item = usize>) {
    for n in ids {
        let xml = format!("<message to='juliet@localhost' type='chat' id='m{n}'><subject>on</subject></message>");
        world.clients[id].send(&xml);
    }
}

fn reads_fail(world: &World, error: Option<StoreError>) {
    let Medium::Memory(disk) = world.medium() else { unreachable!("the store is in memory") };
    disk.reads_fail(error);
}

fn errors(heard: &[Element]) -> Vec<(String, String)> {
    let errors = heard.iter().filter(|element| element.get("type") == Some("error"));
    errors
        .map(|element| {
            let error = element.find(ns::CLIENT, "error").expect("it has an error");
            let condition = error.elements().next().expect("it has a condition");
            (element.get("id").unwrap_or_default().to_owned(), condition.name().to_owned())
        })
        .collect()
}

#[test]
fn a_stanza_whose_account_cannot_be_read_is_answered_with_an_error() {
    let (mut world, romeo, juliet) = world();
    reads_fail(&world, Some(StoreError::Full));
    sends(&mut world, romeo, [1]);
    world.settle();
    assert_eq!(heard(&mut world, juliet).len(), 1, "what was for her was delivered");
    let told = heard(&mut world, romeo);
    assert_eq!(errors(&told), [("m1".to_owned(), "internal-server-error".to_owned())]);
    reads_fail(&world, None);
    sends(&mut world, romeo, [2]);
    world.settle();
    assert_eq!(errors(&heard(&mut world, romeo)), []);
    let nurse = world.client("nurse", "r");
    world.bind(nurse);
    world.clients[nurse].send("<presence/>");
    world.settle();
    let ids: Vec<_> = heard(&mut world, nurse).iter().filter_map(|e| e.get("id").map(str::to_owned)).collect();
    assert!(ids.contains(&"m2".to_owned()), "it was kept for her: {ids:?}");
}

#[test]
fn more_than_may_wait_for_an_account_is_answered_with_an_error_and_the_rest_goes_on_in_order() {
    let (mut world, romeo, _) = world();
    let count = MAX_SPILLED_FOR_ONE + 20;
    world.mute_loader(true);
    for first in (0..count).step_by(50) {
        sends(&mut world, romeo, first..count.min(first + 50));
        world.settle();
    }
    assert_eq!(world.core().spilled_waiting().0, MAX_SPILLED_FOR_ONE);
    let refused: Vec<_> =
        (MAX_SPILLED_FOR_ONE..count).map(|n| (format!("m{n}"), "resource-constraint".to_owned())).collect();
    assert_eq!(errors(&heard(&mut world, romeo)), refused);
    world.mute_loader(false);
    world.settle();
    assert_eq!(world.core().spilled_waiting(), (0, 0));
    let nurse = world.client("nurse", "r");
    world.bind(nurse);
    world.clients[nurse].send("<presence/>");
    world.settle();
    let heard = heard(&mut world, nurse);
    let ids: Vec<_> = heard.iter().filter(|e| e.name() == "message").filter_map(|e| e.get("id")).collect();
    assert_eq!(ids, (0..MAX_SPILLED_FOR_ONE).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

/// Whether the store is asked when Romeo asks somebody for something.
fn is_cold(world: &World, name: &str) -> bool {
    world.core().is_cold(&format!("{name}@localhost").parse().expect("an address"))
}

fn asks(world: &mut World, id: ClientId, name: &str) -> Vec<Element> {
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    world.clients[id].send(&format!("<iq type='get' id='{name}' to='{name}@localhost'>{ping}</iq>"));
    world.settle();
    heard(world, id)
}

#[test]
fn a_name_without_an_account_is_looked_for_and_remembered_like_one_with_an_account() {
    let (mut world, romeo, _) = world();
    for _ in 0..2 {
        for name in ["nurse", "nobody"] {
            let answer = asks(&mut world, romeo, name);
            assert_eq!(errors(&answer), [(name.to_owned(), "service-unavailable".to_owned())]);
            assert!(!is_cold(&world, name));
        }
        world.tick();
    }
    // Many others, more than are remembered: none of the two is remembered for longer.
    world.core().set_bounds(Bounds { idle_accounts: 200, ..Bounds::default() });
    for some in 0..30 {
        for at in 0..20 {
            asks(&mut world, romeo, &format!("x{}", 20 * some + at));
        }
        world.tick();
    }
    assert!(is_cold(&world, "nurse") && is_cold(&world, "nobody"));
    assert!(!is_cold(&world, "x599"));
}
