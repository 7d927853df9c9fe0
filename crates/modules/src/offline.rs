//! XEP-0160: Best Practices for Handling Offline Messages.
//!
//! A message that no session can take is kept in the account's log until a session becomes available. It is then delivered with
//! the time at which it was sent (XEP-0203). There is no separate store of offline messages.
//!
//! Hooks:  message/Record
//! Stores: nothing of its own: the log
//! Config: none
//! Not:    XEP-0013, flexible retrieval

use vorpal_core::owner::plan::Plan;
use vorpal_core::rules::promise::only_chat_states;
use vorpal_proto::ns::Ns;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "offline", xeps: &[Xep(160, "1.0.1"), Xep(203, "2.0")], setup };

/// The name of the feature (§4), which is no URI.
const FEATURE: Ns = Ns::private("msgoffline");

fn setup(m: &mut Setup<'_>) -> Result {
    m.feature(FEATURE);
    m.on_received_message(Phase::Record, keep);
    Ok(())
}

fn keep(cx: &mut MessageCx<'_>, msg: &mut Stanza) -> Flow {
    if !matches!(cx.plan, Plan::Keep) {
        return Flow::Next;
    }
    // §3: a notification that somebody was typing is of no use later, and not worth an error.
    if only_chat_states(msg) {
        return Flow::Drop("a chat state for nobody");
    }
    // XEP-0334 §4.2: the sender wants it kept nowhere; then it is told that nobody got it.
    if msg.has(ns::HINTS, "no-store") {
        return Flow::Bounce("no-store for nobody", StanzaError::service_unavailable());
    }
    cx.fx.keep();
    Flow::Next
}
