//! Presence as a state: only the newest of each sender counts.

use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

/// Presence that a newer one of the same sender takes the place of.
pub(crate) fn is_state(stanza: &Stanza) -> bool {
    stanza.kind() == Kind::Presence
        && matches!(stanza.type_(), Type::None | Type::Unavailable)
        && !stanza.has_any(ns::MUC_USER)
}
