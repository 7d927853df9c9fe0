//! What handlers of modules are given: whatever they ask of it, nobody waits for a lock that is held already.

#![expect(clippy::disallowed_methods, reason = "real threads")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use vorpal_core::module::hook::SessionCx;
use vorpal_core::module::{At, Module, Result, Setup};
use vorpal_core::session::Flag;
use vorpal_core::session::guard::{OpenSession, Verdict};
use vorpal_core::session::inquiries::ok;
use vorpal_proto::ns;
use vorpal_testing::disk::Store;
use vorpal_testing::world::World;

static CURIOUS: Module = Module { name: "curious", xeps: &[], setup };

/// Calls of handlers, by what they take part in.
static CALLS: [AtomicUsize; 5] = [const { AtomicUsize::new(0) }; 5];

fn setup(m: &mut Setup<'_>) -> Result {
    let wants = m.session_flag("curious")?;
    m.on_bind(move |cx| looks(cx, wants, 0));
    m.on_resume(move |cx| looks(cx, wants, 1));
    m.on_close(move |cx| looks(cx, wants, 2));
    m.on_nonza(ns::CSI, "active", move |cx, _| looks(cx, wants, 3));
    m.on_outbound(move |outgoing, _| {
        asks(outgoing.session, wants);
        CALLS[4].fetch_add(1, Ordering::Relaxed);
        Verdict::Send
    });
    m.iq_get(At::OwnAccount, ns::PING, "ping", |_, _| ok());
    Ok(())
}

fn looks(cx: &mut SessionCx<'_>, wants: Flag, at: usize) {
    asks(cx.session, wants);
    assert_eq!(cx.account.jid, &cx.session.jid().bare());
    cx.flush();
    CALLS[at].fetch_add(1, Ordering::Relaxed);
}

/// All there is to ask.
fn asks(session: OpenSession<'_>, wants: Flag) {
    session.set(wants, !session.has(wants));
    assert!(session.jid().is_full() && session.priority().is_none_or(|priority| priority == 0));
    let _ = session.id();
}

/// In a thread of its own: whoever waits for itself waits for ever.
#[test]
fn whatever_a_handler_of_a_session_asks_it_does_not_wait_for_itself() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let mut modules = vec![&CURIOUS];
        modules.extend(vorpal_modules::ALL.iter().copied().filter(|module| !["csi", "ping"].contains(&module.name)));
        let mut world = World::new(1, Store::Memory, true, &modules);
        assert!(world.create_account("romeo"));
        let id = world.client("romeo", "r");
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/><active xmlns='urn:xmpp:csi:0'/>");
        world.settle();
        world.cut(id);
        world.resume(id).expect("the session is there");
        world.clients[id].send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq></stream:stream>");
        world.settle();
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("every handler came to its end");
    let calls: Vec<usize> = CALLS.iter().map(|calls| calls.load(Ordering::Relaxed)).collect();
    assert!(calls.iter().all(|count| *count > 0), "{calls:?}");
}
