//! A handler that panics: what it asked for before is dropped, whatever the phase (docs/decisions/0003, rule 10).

use vorpal_core::module::hook::{Flow, MessageCx};
use vorpal_core::module::{At, Module, Phase, Result, Setup};
use vorpal_core::session::Flag;
use vorpal_core::session::inquiries::ok;
use vorpal_proto::element::el;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Stanza, Type};
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

static BROKEN: Module = Module { name: "broken", xeps: &[], setup };

/// Breaks in the phase that the message names, after it has asked for a copy, for another message, and to have it kept.
fn setup(m: &mut Setup<'_>) -> Result {
    let wants = m.session_flag("broken")?;
    m.iq_get(At::OwnAccount, ns::PING, "ping", move |cx, _| {
        cx.session.expect("a session asks").set(wants, true);
        ok()
    });
    m.iq_get(At::OwnAccount, ns::TIME, "time", |cx, _| {
        cx.push_here(el("ping", ns::PING));
        panic!("after its effects");
    });
    for phase in Phase::ALL {
        m.on_message(phase, move |cx, msg| breaks(cx, msg, phase, wants));
    }
    Ok(())
}

fn breaks(cx: &mut MessageCx<'_>, msg: &mut Stanza, phase: Phase, wants: Flag) -> Flow {
    if msg.head.id.as_deref() == Some(format!("{phase:?}").as_str()) {
        cx.fx.copy(wants);
        cx.fx.keep();
        let own = cx.account.jid.as_jid().clone();
        cx.fx.route(
            Stanza::message(Type::Headline).from(own.clone()).to(own).child(el("body", ns::CLIENT).text("routed")),
        );
        panic!("after its effects");
    }
    Flow::Next
}

fn heard(world: &mut World, id: ClientId) -> Vec<String> {
    world.settle();
    world.clients[id].inbox.drain(..).map(|heard| format!("{heard:?}")).collect()
}

#[test]
fn what_a_handler_asked_for_before_it_panicked_does_not_happen() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut world = World::new(1, Store::Memory, true, &[&BROKEN]);
    assert!(world.create_account("romeo") && world.create_account("juliet"));
    let [orchard, home, balcony] =
        [("romeo", "orchard"), ("romeo", "home"), ("juliet", "balcony")].map(|(name, at)| {
            let id = world.client(name, at);
            world.bind(id);
            world.clients[id].send("<presence/>");
            id
        });
    world.clients[home].send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    for id in [orchard, home, balcony] {
        heard(&mut world, id);
    }
    for phase in Phase::ALL {
        world.clients[balcony]
            .send(&format!("<message to='romeo@localhost/orchard' id='{phase:?}'><body>hi</body></message>"));
        let (received, copied, answered) =
            (heard(&mut world, orchard), heard(&mut world, home), heard(&mut world, balcony));
        assert_eq!(copied, Vec::<String>::new(), "{phase:?}");
        // Nothing that was routed: neither by the sender's side nor by the receiver's.
        assert_eq!(received.len(), usize::from(phase == Phase::Copy), "{phase:?} {received:?}");
        assert_eq!(answered.len(), usize::from(phase != Phase::Copy), "{phase:?} {answered:?}");
    }
    world.clients[home].send("<iq type='get' id='t'><time xmlns='urn:xmpp:time'/></iq>");
    let answered = heard(&mut world, home);
    assert!(answered.len() == 1 && answered[0].contains("internal-server-error"), "{answered:?}");
}
