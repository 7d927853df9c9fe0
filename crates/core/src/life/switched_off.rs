//! Modules that a reload switches off while sessions are there.
//!
//! A client knows the features of its stream from when it began. What it sends because of them is no error after the reload (RFC 6120
//! §4.9.3.24 would end the stream): stream management (XEP-0198) goes on until the session ends, and what other modules took is
//! ignored. What a module kept from the client goes out ([`crate::module::Setup::on_switched_off`]).

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::{Element, el};
use vorpal_proto::ns;

use crate::core::Core;
use crate::core::turn::Locked;
use crate::module::hook::SessionCx;
use crate::module::host::Host;
use crate::module::registry::Registry;

impl Core {
    /// Swaps the modules of a host, as a reload does: for the next stanza. Sessions are told of modules that are gone.
    pub fn set_registry(&self, now: Timestamp, host: &Arc<Host>, registry: Registry) {
        let before = host.set_registry(registry);
        let after = host.registry();
        let farewells = before.farewells(&after);
        if farewells.clone().next().is_none() {
            return;
        }
        for lock in self.all_loaded() {
            self.turn(now, |turn| {
                let mut account = lock.lock();
                if !Arc::ptr_eq(&account.host, host) {
                    return;
                }
                for session in account.sessions.clone() {
                    turn.in_session(&mut Locked::new(&lock, &mut account), &session, |cx| {
                        farewells.clone().for_each(|told| Registry::session_event(std::slice::from_ref(told), cx));
                    });
                }
            });
        }
    }
}

/// Handles an element that no module handles. False if the client has no reason to send it.
pub(crate) fn nonza(cx: &mut SessionCx<'_>, registry: &Registry, nonza: &Element) -> bool {
    match nonza.ns_id() == ns::SM.id() {
        true => stream_management(cx, nonza),
        false => registry.took_formerly(nonza.ns_id(), nonza.name()),
    }
}

/// Sessions that have stream management keep it until they end: their clients go on to ask for acknowledgements and to give them. No
/// other session gets it.
fn stream_management(cx: &mut SessionCx<'_>, nonza: &Element) -> bool {
    let condition = match (nonza.name(), cx.stream.is_managed()) {
        ("r", true) => {
            cx.fx.say_ack();
            return true;
        }
        ("a", true) => {
            cx.fx.acked(nonza);
            return true;
        }
        // §3: its client may have read the features before the reload.
        ("enable", false) => "feature-not-implemented",
        ("enable", true) | ("resume", _) => "unexpected-request",
        _ => return false,
    };
    cx.say(&el("failed", ns::SM).child(el(condition, ns::STANZA_ERROR)));
    true
}
