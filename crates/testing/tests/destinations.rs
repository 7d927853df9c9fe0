//! Where a stanza may go that nothing serves yet: domains of rooms and of components.

use std::sync::Arc;

use vorpal_core::module::host::{Host, Serves};
use vorpal_core::module::registry::Registry;
use vorpal_proto::jid::BareJid;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

/// A world with a domain of each kind, and somebody in it.
fn world() -> (World, ClientId) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let core = world.core();
    let served = [("muc.localhost", Serves::Rooms), ("gate.localhost", Serves::Component)];
    let more = served.map(|(domain, serves)| {
        let domain = BareJid::of_domain(domain).expect("a domain");
        let registry = Registry::build([], core.names.clone(), |_| None).expect("no modules");
        Arc::new(Host::serving(serves, &domain, registry))
    });
    core.set_hosts(core.hosts().into_iter().chain(more));
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "orchard");
    world.bind(id);
    (world, id)
}

/// The condition of the error that answers a stanza; nothing if it is not answered.
fn answer(world: &mut World, id: ClientId, stanza: &str) -> Option<String> {
    world.clients[id].inbox.clear();
    world.clients[id].send(stanza);
    world.settle();
    let heard = world.clients[id].inbox.pop_front()?;
    let Heard::Element(element) = heard else { panic!("{heard:?}") };
    assert_eq!(element.get("type"), Some("error"), "{element:?}");
    let error = element.elements().find(|child| child.name() == "error").expect("an error");
    error.elements().next().map(|condition| condition.name().to_owned())
}

#[test]
fn each_kind_of_destination_answers_its_own_error() {
    let (mut world, id) = world();
    let stanzas = |to: &str| {
        [
            format!("<message to='{to}' type='chat' id='a'><body>hi</body></message>"),
            format!("<iq to='{to}' type='get' id='b'><ping xmlns='urn:xmpp:ping'/></iq>"),
            format!("<presence to='{to}' id='c'/>"),
            format!("<presence to='{to}' type='subscribe' id='d'/>"),
        ]
    };
    for (to, condition) in [
        ("room@muc.localhost", "item-not-found"),
        ("room@muc.localhost/nick", "item-not-found"),
        ("gate.localhost", "service-unavailable"),
        ("somebody@gate.localhost/there", "service-unavailable"),
        ("somebody@elsewhere.example", "remote-server-not-found"),
        ("elsewhere.example", "remote-server-not-found"),
    ] {
        for stanza in stanzas(to) {
            assert_eq!(answer(&mut world, id, &stanza).as_deref(), Some(condition), "{stanza}");
        }
        // What goes, and what answers, is not answered.
        for kind in ["unavailable", "error"] {
            let stanza = format!("<presence to='{to}' type='{kind}'/>");
            assert_eq!(answer(&mut world, id, &stanza), None, "{stanza}");
        }
        let result = format!("<iq to='{to}' type='result' id='e'/>");
        assert_eq!(answer(&mut world, id, &result), None);
    }
    // The service of rooms is a host of ours, with the modules that it has: none.
    let ping = "<iq to='muc.localhost' type='get' id='f'><ping xmlns='urn:xmpp:ping'/></iq>";
    assert_eq!(answer(&mut world, id, ping).as_deref(), Some("service-unavailable"));
}

#[test]
fn nobody_logs_in_where_there_are_no_accounts() {
    let (mut world, id) = world();
    for domain in ["muc.localhost", "gate.localhost"] {
        world.connect(id);
        world.clients[id].inbox.clear();
        world.clients[id].open_stream(domain);
        world.settle();
        let heard = format!("{:?}", world.clients[id].inbox);
        assert!(heard.contains("host-unknown"), "{heard}");
    }
}
