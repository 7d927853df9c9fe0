//! A client that asks and does not read: whatever it asks, in whatever state its connection is, what the server holds for it is
//! bounded, and given back when it goes.
//!
//! What is asked is generated: every element that a module has registered, every element of the protocols before a session, all
//! kinds and types of stanza with addresses of all kinds. Each is tried once in each state; what is answered there without ending
//! the stream is sent again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use vorpal::Program;
use vorpal_core::core::core_names;
use vorpal_core::module::registry::Registry;
use vorpal_testing::disk::{Medium, Store};
use vorpal_testing::link::Weather;
use vorpal_testing::world::{ClientId, HOST, Secrets, Setup, World, configuration};

/// This much is sent of each element at most, unless the server stops reading before.
const FLOOD: usize = 768 * 1024;

/// What the server may hold for a connection without a session, whatever it is asked: `login_bytes` of input, 16 KiB of answers
/// in the machine and as many in the driver's hands, and room of buffers that grow by doubling.
const BEFORE_SESSION: i64 = 160 * 1024;

/// What it may hold for one with a session: half of its queue of 512 KiB, 64 stanzas that are not settled, the largest answer on
/// top, and room of lists that grow by doubling.
const IN_SESSION: i64 = 512 * 1024;

/// What is left when the client is gone.
const LEFT: i64 = 64 * 1024;

/// The same of a session that waits for its client: answers that are stanzas are owed to it, and nothing else is.
const OWED: i64 = 384 * 1024;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// connected, nothing said
    Connected,
    /// the stream is open, TLS or SASL is offered
    Opened,
    /// in the middle of SASL
    Challenged,
    /// logged in, no resource
    Authenticated,
    /// a session without stream management, unavailable
    Bound,
    /// the same, available
    Available,
    /// with stream management
    Managed,
    /// the same, inactive (XEP-0352)
    Inactive,
}

/// Everything a client could think of saying, by what it is.
fn elements() -> BTreeMap<String, String> {
    let registry = Registry::build(vorpal_modules::ALL.iter().copied(), core_names(), |_| None).expect("the modules");
    let mut all = BTreeMap::new();
    let mut add = |what: &str, text: String| {
        all.insert(what.to_owned(), text);
    };
    let own = format!("romeo@{HOST}");
    let receivers = [
        ("no one", None),
        ("oneself", Some(own.clone())),
        ("the host", Some(HOST.to_owned())),
        ("a contact", Some(format!("juliet@{HOST}"))),
        ("a stranger", Some(format!("tybalt@{HOST}"))),
        ("nobody", Some(format!("nobody@{HOST}"))),
        ("a resource", Some(format!("juliet@{HOST}/gone"))),
        ("another server", Some("a@elsewhere.example".to_owned())),
        ("no address", Some("@".to_owned())),
    ];
    let to = |to: &Option<String>| to.as_ref().map_or(String::new(), |to| format!(" to='{to}'"));
    // What modules have registered, asked of everybody.
    for (hook, _) in registry.flow() {
        if let Some(element) = hook.strip_prefix("nonza ").and_then(|rest| rest.split(" when ").next()) {
            add(&hook, element.to_owned());
        }
        let Some(rest) = hook.strip_prefix("iq ") else { continue };
        let (kind, rest) = rest.split_once(' ').expect("a kind");
        let child = rest.split(" at ").next().expect("a child");
        for (name, receiver) in &receivers {
            add(
                &format!("iq {kind} {child} to {name}"),
                format!("<iq type='{kind}' id='1'{}>{child}</iq>", to(receiver)),
            );
        }
    }
    // Stanzas of every kind and type, with nothing anybody knows in them.
    for (name, receiver) in &receivers {
        for (kind, types) in [
            ("message", &["", "normal", "chat", "groupchat", "headline", "error"][..]),
            ("iq", &["get", "set", "result", "error", "odd"]),
            (
                "presence",
                &["", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error", "odd"],
            ),
        ] {
            for type_ in types {
                let type_attr = if type_.is_empty() { String::new() } else { format!(" type='{type_}'") };
                add(
                    &format!("{kind} {type_} to {name}"),
                    format!("<{kind}{type_attr} id='1'{}><x xmlns='urn:unheard-of'/></{kind}>", to(receiver)),
                );
            }
        }
    }
    // Before there is a session: what belongs to one step, at all of them.
    for (ns, names) in [
        ("urn:ietf:params:xml:ns:xmpp-tls", &["starttls", "proceed", "failure"][..]),
        ("urn:ietf:params:xml:ns:xmpp-sasl", &["auth", "response", "abort", "challenge", "success", "failure"]),
        ("urn:xmpp:sm:3", &["enable", "resume", "r", "a", "enabled", "resumed", "failed"]),
        ("urn:xmpp:sasl:2", &["authenticate", "response", "abort"]),
        ("http://etherx.jabber.org/streams", &["features", "error", "stream"]),
    ] {
        for name in names {
            add(&format!("<{name} xmlns='{ns}'/>"), format!("<{name} xmlns='{ns}'/>"));
            for mechanism in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "UNHEARD-OF"] {
                add(
                    &format!("<{name} xmlns='{ns}' mechanism='{mechanism}'/>"),
                    format!("<{name} xmlns='{ns}' mechanism='{mechanism}' h='0' previd='x'>bix4LHI9eA==</{name}>"),
                );
            }
        }
    }
    for resource in ["", "<resource>x</resource>", "<resource>\u{7f}</resource>"] {
        let bind = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind>");
        add(&format!("bind {resource}"), format!("<iq type='set' id='1'>{bind}</iq>"));
    }
    add("a stream header", format!("<stream:stream xmlns:stream='http://etherx.jabber.org/streams' to='{HOST}'>"));
    add("white space", " \n".to_owned());
    add("the end", "</stream:stream>".to_owned());
    all
}

fn world() -> World {
    let world = World::with(Setup {
        seed: 1,
        medium: Medium::new(Store::Sqlite),
        program: Program::VORPAL,
        config: configuration(Program::VORPAL, "").expect("a configuration"),
        bounds: None,
        secrets: Arc::new(Secrets::derive()),
    });
    prepare(world)
}

/// Romeo and Juliet are contacts of each other, and Tybalt is none.
fn prepare(mut world: World) -> World {
    for name in ["romeo", "juliet", "tybalt"] {
        assert!(world.create_account(name));
    }
    let [romeo, juliet] = ["romeo", "juliet"].map(|name| world.client(name, "first"));
    world.bind(romeo);
    world.bind(juliet);
    for (from, to) in [(romeo, "juliet"), (juliet, "romeo")] {
        world.clients[from].send(&format!("<presence to='{to}@{HOST}' type='subscribe'/>"));
        world.settle();
        let other = if from == romeo { juliet } else { romeo };
        let name = world.clients[from].account.clone();
        world.clients[other].send(&format!("<presence to='{name}@{HOST}' type='subscribed'/>"));
        world.settle();
    }
    for id in [romeo, juliet] {
        world.cut(id);
        world.clients[id].inbox.clear();
    }
    world
}

/// A new client of Romeo's that has come so far.
fn come(world: &mut World, state: State, resource: &str) -> ClientId {
    let id = world.client("romeo", resource);
    match state {
        State::Connected => world.connect(id),
        State::Opened => world.open(id),
        State::Challenged => {
            world.open(id);
            let (_, auth) = world.sasl(id);
            world.clients[id].send(&auth);
            world.settle();
        }
        State::Authenticated => world.authenticate(id),
        _ => world.bind(id),
    }
    match state {
        State::Available => world.clients[id].send("<presence/>"),
        State::Managed | State::Inactive => {
            world.enable(id);
            world.clients[id].send("<presence/>");
        }
        _ => {}
    }
    if state == State::Inactive {
        world.clients[id].send("<inactive xmlns='urn:xmpp:csi:0'/>");
    }
    world.settle();
    world.clients[id].inbox.clear();
    id
}

/// It goes for good.
fn go(world: &mut World, id: ClientId) {
    world.cut(id);
    let account = format!("romeo@{HOST}");
    if let Some(lock) = world.core().loaded(&account) {
        let sessions = lock.lock().sessions.clone();
        for session in sessions {
            world.core().close(world.now, &lock, &session, None);
        }
    }
    world.settle();
    world.clients[id].inbox.clear();
}

/// Whether it gets an answer, and the stream goes on.
fn is_answered(world: &mut World, state: State, element: &str) -> bool {
    let id = come(world, state, "probe");
    let link = |world: &World| world.clients[id].link.as_ref().map(|link| (link.is_over(), link.down.len()));
    if let Some(link) = &mut world.clients[id].link {
        link.weather.down_held = true;
    }
    world.clients[id].send(element);
    world.settle();
    let answered = link(world).is_some_and(|(over, down)| !over && down > 0);
    go(world, id);
    answered
}

/// What came of a flood: bytes sent, and what the server held at the end.
struct Flooded {
    sent: usize,
    /// it has a session now
    bound: bool,
    held: i64,
    left: i64,
}

fn flood(world: &mut World, state: State, element: &str) -> Flooded {
    let id = come(world, state, "flood");
    if let Some(link) = &mut world.clients[id].link {
        // The socket takes nothing more.
        link.weather = Weather { down_held: true, window: 0, ..Weather::default() };
    }
    let chunk = element.repeat((8 * 1024 / element.len()).max(1));
    let mut sent = 0;
    let during = measure(|| {
        while sent < FLOOD {
            let Some(link) = &mut world.clients[id].link else { break };
            if link.is_over() || !link.up.is_empty() {
                break;
            }
            world.clients[id].send(&chunk);
            sent += chunk.len();
            world.settle();
        }
    });
    let unread = world.clients[id].link.as_ref().map_or(0, |link| link.up.capacity());
    let bound = world.clients[id].link.as_ref().is_some_and(|link| link.driver.connection.is_bound());
    let after = measure(|| {
        world.cut(id);
        world.pass(Duration::from_secs(2));
    });
    let held = during.bytes_current - unread as i64;
    let left = during.bytes_current + after.bytes_current;
    go(world, id);
    Flooded { sent, bound, held, left }
}

fn flooded(state: State, at_least: usize) {
    let mut world = world();
    let (mut answered, mut worst) = (0, (0, String::new()));
    for (what, element) in &elements() {
        if !is_answered(&mut world, state, element) {
            continue;
        }
        answered += 1;
        let is_stanza = ["<message", "<presence", "<iq"].iter().any(|kind| element.starts_with(kind));
        let waits = matches!(state, State::Managed | State::Inactive);
        let rest = if is_stanza && waits { OWED } else { LEFT };
        let mut flooded = flood(&mut world, state, element);
        // Lists that all accounts share may have grown once; they do not grow again.
        if flooded.left > rest {
            flooded = flood(&mut world, state, element);
        }
        let Flooded { sent, bound, held, left } = flooded;
        let bound = if bound { IN_SESSION } else { BEFORE_SESSION };
        assert!(held <= bound, "{state:?}: {held} bytes are held after {sent} of {what}");
        assert!(left <= rest, "{state:?}: {left} bytes are left after {sent} of {what} when the client is gone");
        if held > worst.0 {
            worst = (held, format!("{what}, after {sent} bytes, {left} left"));
        }
    }
    println!("{state:?}: {answered} elements are answered; at most {} bytes are held: {}", worst.0, worst.1);
    assert!(answered >= at_least, "{state:?}: {answered}");
}

#[test]
fn a_stranger_that_does_not_read_is_not_read_from() {
    flooded(State::Connected, 0);
    flooded(State::Opened, 20);
    flooded(State::Challenged, 20);
}

#[test]
fn a_client_without_a_session_that_does_not_read_is_not_read_from() {
    flooded(State::Authenticated, 10);
}

#[test]
fn a_session_that_does_not_read_is_not_read_from() {
    flooded(State::Bound, 200);
}

#[test]
fn an_available_session_that_does_not_read_is_not_read_from() {
    flooded(State::Available, 200);
}

#[test]
fn a_managed_session_that_does_not_read_is_not_read_from() {
    flooded(State::Managed, 200);
}

#[test]
fn an_inactive_session_that_does_not_read_is_not_read_from() {
    flooded(State::Inactive, 200);
}
