//! Stream management (XEP-0198) on a host where a reload has switched it off.
//!
//! Sessions that have it keep it until they end: their clients go on to ask for acknowledgements and to give them, and an
//! element that nobody knows would end the stream. No other session gets it.

use vorpal_proto::element::{Element, el};
use vorpal_proto::ns;

use crate::hook::SessionCx;

/// Handles a word of stream management that no module handles. False if it is none.
pub(crate) fn stream_management(cx: &mut SessionCx<'_>, nonza: &Element) -> bool {
    if nonza.ns_id() != ns::SM.id() {
        return false;
    }
    let condition = match (nonza.name(), cx.stream.managed) {
        ("r", true) => {
            cx.fx.say_ack();
            return true;
        }
        ("a", true) => {
            if let Some(h) = nonza.get("h").and_then(|h| h.parse().ok()) {
                cx.fx.acked(h);
            }
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
