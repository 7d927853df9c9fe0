//! XEP-0313: Message Archive Management; XEP-0441: its preferences; XEP-0059: its pages; XEP-0359: its ids; XEP-0334: hints.
//!
//! Archives the messages that a user sends and receives, and returns them page by page to each of the user's clients, with the
//! same ids that the messages had when they were delivered.
//!
//! Hooks:  message/Clean, message/Record, each account
//! Stores: account state `mam_prefs`; its messages are the entries of the log that have the flag
//! Config: `default`, `keep`, `max_bytes`, `full`, `max_page`
//! Limits: 128 KiB and `max_page` messages in a page; 1,000 addresses in a list of preferences, 128 KiB in both; 8 queries at once;
//!         10,000 entries and 4 MiB read for a page with a full address
//! Not:    archives of rooms (§3.3.2), messages of rooms in archives of users (§4.1.4), search (XEP-0431)

mod config;
mod expire;
mod keep;
mod prefs;
mod query;

use vorpal_config::Measure;
use vorpal_core::owner::contacts;
use vorpal_core::owner::plan::Plan;
use vorpal_core::owner::roster::RosterItem;
use vorpal_core::owner::stanza_id;
use vorpal_core::owner::state::Cell;
use vorpal_core::session::inquiries::Answer;
use vorpal_proto::archive;
use vorpal_proto::jid::BareJid;

use crate::prelude::*;
pub(crate) use config::Config;
use config::{Full, Keep};
use prefs::Stored;

/// The module.
pub static MODULE: Module = Module {
    name: "mam",
    xeps: &[Xep(59, "1.0"), Xep(313, "1.1.3"), Xep(334, "1.0.0"), Xep(359, "0.7.0"), Xep(441, "0.2.0")],
    setup,
};

fn setup(m: &mut Setup<'_>) -> Result {
    let config = m.config::<Config>()?;
    let recorder = Recorder {
        prefs: m.account_state::<Stored>("mam_prefs"),
        roster: m.account_map::<BareJid, RosterItem>("roster"),
        default: config.default.into(),
        most: config.max_bytes.get().base(),
        full: config.full,
    };
    // §7, XEP-0059 §4, XEP-0359 §5: advertised by the owner of the archive, which is the account.
    for feature in [ns::MAM, ns::MAM_EXTENDED, ns::MAM_GROUPCHAT, ns::RSM, ns::STANZA_ID] {
        m.account_feature(feature);
    }
    // COMPAT(Fluux Messenger before 2026-06, Jappix, 2026-11): they ask the server alone, and without it read no archive.
    for feature in [ns::MAM, ns::MAM_EXTENDED] {
        m.feature(feature);
    }
    m.on_message(Phase::Clean, strip_ids);
    m.on_message(Phase::Record, move |cx, msg| recorder.record(cx, msg));
    let Recorder { prefs, default, most, .. } = recorder;
    m.iq_get(At::OwnAccount, ns::MAM, "prefs", move |cx, _| prefs::show(cx, prefs, default));
    m.iq_set(At::OwnAccount, ns::MAM, "prefs", move |cx, given| prefs::change(cx, prefs, given));
    m.iq_get(At::OwnAccount, ns::MAM, "query", |_, _| ok_with(archive::fields()));
    m.iq_get_reading(At::OwnAccount, ns::MAM, "metadata", |cx, _| query::metadata(cx));
    let max_page = config.max_page.get();
    m.iq_set_reading(At::OwnAccount, ns::MAM, "query", move |cx, asked| query::ask(cx, asked, max_page));
    // §8.1. Strangers do not even learn whether the account exists.
    for name in ["query", "prefs", "metadata"] {
        m.iq_get(At::Contacts, ns::MAM, name, |_, _| forbidden());
        m.iq_set(At::Contacts, ns::MAM, name, |_, _| forbidden());
    }
    if let Keep::For(period) = config.keep {
        m.each_account(move |cx| expire::expire(cx, period.get().as_duration()));
    }
    if config.full == Full::DropOldest {
        m.each_account(move |cx| expire::shrink(cx, most));
    }
    Ok(())
}

fn forbidden() -> Answer {
    Err(StanzaError::forbidden("this is not your archive"))
}

/// XEP-0359 §3: only this server assigns the ids of its accounts, for their peers and for themselves.
fn strip_ids(cx: &mut MessageCx<'_>, msg: &mut Stanza) -> Flow {
    stanza_id::strip(msg, cx.account.jid.as_str());
    Flow::Next
}

/// The fraction by which an archive may exceed its maximum until the oldest messages are deleted.
const SLACK: u64 = 4;

#[derive(Clone, Copy)]
struct Recorder {
    prefs: Cell<Stored>,
    roster: Map<BareJid, RosterItem>,
    default: archive::Rule,
    /// maximum size of the archive, in bytes
    most: u64,
    full: Full,
}

impl Recorder {
    fn record(&self, cx: &mut MessageCx<'_>, msg: &mut Stanza) -> Flow {
        let kept = match cx.plan {
            // §6.1: messages that are refused, or not delivered, are not archived.
            Plan::Open | Plan::Bounce(_) | Plan::Ignore => Err("not delivered"),
            Plan::Deliver(_) | Plan::Keep => keep::judge(msg),
        };
        let kept = kept.and_then(|why| if self.wanted(cx) { Ok(why) } else { Err("preferences") });
        let (archived, reason) = (kept.is_ok(), kept.unwrap_or_else(|reason| reason));
        tracing::trace!(module = "mam", account = %cx.account.jid, side = cx.dir.name(), archived, reason, "judged");
        if kept.is_err() {
            return Flow::Next;
        }
        let taken = cx.account.archived_bytes();
        if taken > self.most {
            // Its size is measured again, and the excess is deleted.
            cx.fx.look_after();
        }
        let most = match self.full {
            // Beyond this it grows faster than the oldest messages are deleted.
            Full::DropOldest => self.most + self.most / SLACK,
            Full::Refuse => self.most,
        };
        if taken > most {
            cx.fx.over_quota();
            let whose = if cx.dir == Dir::Sent { "your archive is full" } else { "the receiver's archive is full" };
            return Flow::Bounce("the archive is full", StanzaError::resource_constraint().with_text(whose));
        }
        cx.fx.archive();
        Flow::Next
    }

    /// XEP-0441 §2.3: by the other side's address.
    fn wanted(&self, cx: &MessageCx<'_>) -> bool {
        let in_roster = || contacts::lists(self.roster, cx.account, cx.peer.bare_str());
        match cx.account.states.get(self.prefs) {
            Some(Stored(prefs)) => prefs.wants(cx.peer, in_roster),
            None => match self.default {
                archive::Rule::Always => true,
                archive::Rule::Never => false,
                archive::Rule::Roster => in_roster(),
            },
        }
    }
}
