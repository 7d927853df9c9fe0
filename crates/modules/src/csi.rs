//! XEP-0352: Client State Indication.
//!
//! While a client says that it is inactive, stanzas that can wait are held back: of presence, only the newest of each sender is
//! kept; chat states are dropped. An important stanza flushes everything that was held before it, in order.
//!
//! Hooks:  outbound, resume, switched off, stream features, nonza
//! Stores: nothing; one flag for each session
//! Config: none
//! Limits: 256 held stanzas; beyond that all are sent

use vorpal_core::module::hook::SessionCx;
use vorpal_core::rules::promise::only_chat_states;
use vorpal_core::session::guard::{Outgoing, Verdict};
use vorpal_proto::stanza::Kind;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "csi", xeps: &[Xep(352, "1.0.0")], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    let inactive = m.session_flag("inactive")?;
    m.stream_feature(Stage::Authenticated, || el("csi", ns::CSI));
    m.on_nonza(ns::CSI, "inactive", move |cx, _| cx.session.set(inactive, true));
    m.on_nonza(ns::CSI, "active", move |cx, _| wake_up(cx, inactive));
    // §5.2: a resumed stream begins as active.
    m.on_resume(move |cx| wake_up(cx, inactive));
    m.on_switched_off(move |cx| wake_up(cx, inactive));
    m.on_outbound(move |cx, stanza| judge(cx, stanza, inactive));
    Ok(())
}

fn wake_up(cx: &mut SessionCx<'_>, inactive: Flag) {
    cx.session.set(inactive, false);
    cx.flush();
}

fn judge(cx: &Outgoing<'_>, stanza: &mut Stanza, inactive: Flag) -> Verdict {
    if !cx.session.has(inactive) { Verdict::Send } else { importance(stanza) }
}

/// What an inactive client is told at once, later, or never.
fn importance(stanza: &Stanza) -> Verdict {
    match (stanza.kind(), stanza.type_()) {
        // throttle_presence: the last of each sender is enough, but not what a room says of its users, which it says once.
        (Kind::Presence, Type::None | Type::Unavailable) if !stanza.has(ns::MUC_USER, "x") => Verdict::HoldLatest,
        (Kind::Message, Type::Error) => Verdict::Send,
        // filter_chatstates: who typed is of no use later.
        (Kind::Message, _) if only_chat_states(stanza) => Verdict::Drop,
        (Kind::Message, Type::Headline) => Verdict::Hold,
        _ => Verdict::Send,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_waits_and_nothing_else() {
        let cases = [
            ("<presence from='a@b/c'/>", Verdict::HoldLatest),
            ("<presence from='a@b/c' type='unavailable'/>", Verdict::HoldLatest),
            ("<presence from='a@b' type='subscribe'/>", Verdict::Send),
            ("<presence from='a@b/c'><x xmlns='http://jabber.org/protocol/muc#user'/></presence>", Verdict::Send),
            (
                "<message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
                Verdict::Drop,
            ),
            (
                "<message type='chat'><body>a</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
                Verdict::Send,
            ),
            (
                "<message><active xmlns='http://jabber.org/protocol/chatstates'/><received xmlns='urn:xmpp:receipts' \
                 id='1'/></message>",
                Verdict::Send,
            ),
            ("<message type='headline'><body>news</body></message>", Verdict::Hold),
            ("<message type='error'><body>a</body></message>", Verdict::Send),
            ("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", Verdict::Send),
        ];
        for (xml, verdict) in cases {
            assert_eq!(importance(&Stanza::parse(xml).expect("a stanza")), verdict, "{xml}");
        }
    }
}
