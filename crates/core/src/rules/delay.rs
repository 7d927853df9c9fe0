//! Delayed delivery (XEP-0203): what the server says of it, and what nobody else may say in its name.

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::{Element, el};
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::ns;
use vorpal_proto::stanza::Stanza;

/// XEP-0203 §2, XEP-0160 §2: adds a delay from the server that stored the stanza for the account. `time` is in milliseconds.
pub(crate) fn delayed(mut stanza: Stanza, account: &BareJid, time: u64) -> Stanza {
    strip_delay(&mut stanza, account, false);
    stanza.append(&delay(account.domain(), Timestamp::from_millis(time)));
    stanza
}

/// XEP-0203 §5: removes delays in the name of the account's server; with `own` also those in the name of the account. A sender's
/// claims about them cannot be true.
pub(crate) fn strip_delay(stanza: &mut Stanza, account: &BareJid, own: bool) {
    let by_us = |delay: &Element| match delay.get("from").and_then(|from| Jid::parse(from).ok()) {
        Some(from) if from.local().is_none() => from.domain() == account.domain(),
        Some(from) => own && from.bare_str() == account.as_str(),
        None => false,
    };
    stanza.hide(ns::DELAY, "delay", by_us);
}

/// `<delay/>` (XEP-0203 §4).
pub fn delay(from: &str, stamp: Timestamp) -> Element {
    el("delay", ns::DELAY).attr("from", from).attr("stamp", stamp)
}
