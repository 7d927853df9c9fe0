//! Which stanzas carry no promise, whoever sends them.

use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

/// Why a stanza carries no promise, regardless of the sender's stream and the archive. This is the only such list. (An error for
/// an offline account is also dropped if its quota is used up: nobody can be notified. See `quota.rs`.)
pub fn never_promised(stanza: &Stanza) -> Option<&'static str> {
    match (stanza.kind(), stanza.type_()) {
        (Kind::Presence, Type::None | Type::Unavailable | Type::Probe | Type::Error) => Some("presence"),
        (Kind::Iq, _) => Some("iq"),
        (Kind::Message, Type::Headline) => Some("headline"),
        (Kind::Message, _) if stanza.has(ns::HINTS, "no-store") => Some("no-store"),
        (Kind::Message, _) if only_chat_states(stanza) => Some("chat state alone"),
        _ => None,
    }
}

/// XEP-0085 §5.1: a standalone notification, except for a thread, hints and a delay.
pub fn only_chat_states(stanza: &Stanza) -> bool {
    stanza.has_any(ns::CHAT_STATES)
        && !stanza.has(ns::CLIENT, "body")
        && !stanza.has(ns::CLIENT, "subject")
        && stanza.only_has(&[ns::CHAT_STATES, ns::CLIENT, ns::HINTS, ns::DELAY])
}
