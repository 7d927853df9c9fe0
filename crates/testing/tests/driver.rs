//! What a connection's driver asks its owner for, and in which order.

use std::collections::HashMap;
use std::sync::Arc;

use vorpal_core::core::Core;
use vorpal_core::route::reading::Inquiry;
use vorpal_net::c2s::{Connection, Driver, Settings, Turn};
use vorpal_proto::parse::Limits;
use vorpal_proto::sasl::encode_payload;
use vorpal_testing::disk::Store;
use vorpal_testing::link::Bell;
use vorpal_testing::world::{PASSWORD, World};

const OPEN: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
const PING: &str = "<iq type='get' to='localhost' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";

fn world() -> World {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo"));
    world.restart();
    world
}

fn driver(world: &World) -> Driver {
    let settings = Settings {
        max_attempts: 2,
        max_before_login: 16 * 1024,
        max_stanza: 256 * 1024,
        without_tls: true,
        plain_without_tls: true,
        mechanisms: HashMap::new(),
        passthrough: true,
        limits: Limits::default(),
    };
    Driver::new(Connection::new(world.core().clone(), Arc::new(settings), None, Arc::new(Bell::default())))
}

fn auth(password: &str) -> String {
    let payload = encode_payload(Some(format!("\0romeo\0{password}").as_bytes()));
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{payload}</auth>")
}

/// Does all that the driver asks for until it rests or ends; the names of what that was.
fn serve(driver: &mut Driver, world: &World) -> Vec<&'static str> {
    let (core, now): (&Core, _) = (world.core(), world.now);
    let mut asked = Vec::new();
    loop {
        asked.push(match driver.turn(now, || true) {
            Turn::Rest { reads: true, more: false } => return [asked, vec!["rest"]].concat(),
            Turn::Rest { .. } => return [asked, vec!["wait"]].concat(),
            Turn::Close => return [asked, vec!["close"]].concat(),
            Turn::Admit(name) => {
                assert_eq!(name, "romeo@localhost");
                driver.admitted(true);
                "admit"
            }
            Turn::Load(jid) => {
                driver.loaded(now, core.load(world.reader().as_mut(), &jid).map(|_| ()).map_err(|_| ()));
                "load"
            }
            Turn::Derive(check) => {
                driver.derived(now, check.run());
                "derive"
            }
            Turn::Bind => {
                driver.may_bind(now, true);
                "bind"
            }
            Turn::Session => "session",
            Turn::Fetch(fetch) => {
                driver.fetched(fetch, Some(&[]));
                "fetch"
            }
            Turn::Ask(Inquiry { asker, job }) => {
                core.answered(now, asker, job(world.reader().as_mut()));
                "ask"
            }
            Turn::Tls => "tls",
        });
    }
}

fn said(driver: &mut Driver) -> String {
    let mut out = Vec::new();
    while driver.speaks() {
        driver.output(&mut out, usize::MAX);
    }
    driver.written();
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_login_in_one_write_asks_for_one_thing_after_the_other() {
    let mut world = world();
    let mut driver = driver(&world);
    driver.receive([OPEN, &auth("wrong"), &auth(PASSWORD), OPEN, BIND, "<presence/>", PING].concat().as_bytes());
    // The account is read once; the second attempt finds it.
    let asked = serve(&mut driver, &world);
    assert_eq!(asked[..7], ["admit", "load", "derive", "admit", "derive", "bind", "session"], "{asked:?}");
    assert!(said(&mut driver).contains("<jid>romeo@localhost/"));
    world.settle();
    while driver.unprocessed() > 0 {
        world.settle();
        serve(&mut driver, &world);
    }
    assert!(said(&mut driver).contains(" id='p'"));
    // Silence: nothing is to be done, and nothing to be said.
    world.settle();
    assert_eq!(serve(&mut driver, &world), ["rest"]);
    assert_eq!(said(&mut driver), "");
}

#[test]
fn a_turn_that_is_cut_short_says_so_and_the_next_goes_on() {
    let mut world = world();
    let mut driver = driver(&world);
    driver.receive([OPEN, &auth(PASSWORD), OPEN, BIND].concat().as_bytes());
    serve(&mut driver, &world);
    world.settle();
    said(&mut driver);
    driver.receive(PING.repeat(3).as_bytes());
    for left in [2, 1] {
        assert!(matches!(driver.turn(world.now, || false), Turn::Rest { reads: false, more: true }));
        assert_eq!((driver.unprocessed(), said(&mut driver).matches("<iq").count()), (left * PING.len(), 1));
    }
    // Nothing is left after the last one, so nobody is asked.
    assert!(matches!(driver.turn(world.now, || false), Turn::Rest { reads: true, more: false }));
    assert_eq!((driver.unprocessed(), said(&mut driver).matches("<iq").count()), (0, 1));

    // While the input rests, the output goes on.
    driver.receive(PING.as_bytes());
    driver.skip_input();
    assert!(matches!(driver.turn(world.now, || true), Turn::Rest { reads: true, more: false }));
    assert_eq!((driver.unprocessed(), driver.speaks()), (PING.len(), true));
    assert_eq!(serve(&mut driver, &world), ["rest"]);
    assert_eq!(driver.unprocessed(), 0);
}

#[test]
fn a_login_that_takes_too_long_is_told_so() {
    let world = world();
    let mut driver = driver(&world);
    driver.receive(OPEN.as_bytes());
    assert_eq!(serve(&mut driver, &world), ["rest"]);
    driver.login_timed_out(world.now);
    let text = said(&mut driver);
    assert!(text.contains("<connection-timeout") && text.ends_with("</stream:stream>"), "{text}");
    assert!(driver.is_over());
    assert_eq!(serve(&mut driver, &world), ["close"]);
}
