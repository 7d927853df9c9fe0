//! The roster: one row per contact (RFC 6121 §2), and its versions (§2.6).
//!
//! Each change gives the row the next number of the account. A removed contact stays as a tombstone, so that a client
//! with an older version is told; when there are too many tombstones the oldest go, and whoever is older than those gets
//! the whole roster.
//!
//! A number alone does not say of which roster it is: an account may be removed and created anew, and a backup goes back to a
//! number that a client has passed already. So a version names the epoch in which its number was given: each account begins
//! one with its first change after each start of the server. What the account's epochs do not know is answered with the
//! whole roster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Stanza, Type};

use crate::rules::subscription::{State, Subscription};
use crate::store::{Owner, STORE};

/// Longest name of a contact, in bytes (RFC 6121 §2.3.3 leaves it to the server).
pub const MAX_NAME: usize = 1_023;

/// Longest name of a group, in bytes.
pub const MAX_GROUP: usize = 255;

/// Maximum number of groups of one contact. Clients that people use give a contact one or two.
pub const MAX_GROUPS: usize = 16;

/// Bytes of an `<item/>` besides its address, name and groups: the element and the attributes of the subscription.
const ITEM_BYTES: usize = 96;

/// Bytes of a `<group/>` besides its name.
const GROUP_BYTES: usize = 15;

/// Maximum number of requests of strangers kept for an account.
pub const MAX_REQUESTS: usize = 500;

/// Maximum number of these from one domain other than the account's own, so that one server cannot use up all.
pub const MAX_REQUESTS_OF_DOMAIN: usize = 100;

/// Largest request that is kept as it came, in bytes. Of a larger one only what a person reads is kept, if it fits.
pub const MAX_REQUEST: usize = 4 << 10;

/// Maximum size of all requests of an account in bytes, with their addresses. They are in memory with the account, and each
/// of its sessions is sent all of them. Beyond it a request is kept without what it says, up to twice as much in all;
/// then it is dropped.
pub const MAX_REQUEST_BYTES: usize = 256 << 10;

/// Maximum number of removed contacts remembered.
pub const MAX_TOMBSTONES: usize = 500;

/// Maximum size in bytes of the addresses of removed contacts; beyond it the older half is forgotten.
pub const MAX_TOMBSTONE_BYTES: usize = 64 << 10;

/// A contact, or a stranger who asks to be one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterItem {
    /// stands in the roster; else it is a request of a stranger, or a tombstone
    pub listed: bool,
    /// how the user calls the contact
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// the groups the user put it in
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// who sees whom
    pub subscription: Subscription,
    /// the user has asked, and there is no answer
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ask: bool,
    /// the user has approved in advance (§3.4)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// whom the user has approved: the account that had the contact's address then; [`STORE`] if none of ours had it
    #[serde(default, skip_serializing_if = "is_nobody")]
    pub approved_of: Owner,
    /// the contact's request, complete, until it is answered (§3.1.3 rule 4)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// the version that changed it last
    pub ver: u64,
}

fn is_nobody(owner: &Owner) -> bool {
    *owner == STORE
}

/// Maximum number of epochs that an account remembers. A client whose version is older gets the whole roster.
pub const MAX_EPOCHS: usize = 8;

/// What is known of the whole roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterMeta {
    /// the number of the last change
    pub ver: u64,
    /// whoever has a number below this one must be given everything
    pub complete_from: u64,
    /// where the numbers come from, oldest first
    #[serde(default)]
    pub epochs: Vec<Epoch>,
}

/// A span of numbers that one run of the server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// no other run has it, and no other account
    pub id: u64,
    /// the number of the roster when it began; it ends where the next begins
    pub from: u64,
}

impl RosterMeta {
    /// Numbers that follow are of this epoch.
    pub(crate) fn goes_on_in(&mut self, id: u64) {
        if self.epochs.last().is_some_and(|last| last.id == id) {
            return;
        }
        self.epochs.push(Epoch { id, from: self.ver });
        if self.epochs.len() > MAX_EPOCHS {
            self.epochs.remove(0);
        }
    }

    /// A number as a client sees it: an opaque version (RFC 6121 §2.6), of at most 33 bytes. The empty roster before all
    /// changes is the same in every account and has no epoch.
    pub fn version(&self, ver: u64) -> String {
        if ver == 0 {
            return "0".to_owned();
        }
        let epoch = self.epochs.iter().rev().find(|epoch| epoch.from < ver).or(self.epochs.first());
        format!("{:x}.{ver:x}", epoch.map_or(0, |epoch| epoch.id))
    }

    /// The number behind a version that a client says it has; nothing if it is not known to be one of this roster.
    pub fn number(&self, version: &str) -> Option<u64> {
        if version == "0" {
            return Some(0);
        }
        let (id, ver) = version.split_once('.')?;
        let (id, ver) = (hex(id)?, hex(ver)?);
        let at = self.epochs.iter().position(|epoch| epoch.id == id)?;
        let end = self.epochs.get(at + 1).map_or(self.ver, |next| next.from);
        (self.epochs[at].from <= ver && ver <= end).then_some(ver)
    }

    /// `<query/>` with a version.
    pub fn query(&self, ver: u64) -> Element {
        el("query", ns::ROSTER).attr("ver", self.version(ver))
    }
}

/// 16 digits at most, and nothing but digits.
fn hex(text: &str) -> Option<u64> {
    let digits = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(text).filter(|_| digits).and_then(|text| u64::from_str_radix(text, 16).ok())
}

impl RosterItem {
    /// The state of the subscription.
    pub fn state(&self) -> State {
        State::new(self.subscription, self.ask, self.request.is_some(), self.approved)
    }

    /// Takes over a state; the request itself is set by the caller. `contact`: whose address it is now, see
    /// [`RosterItem::approved_of`].
    pub(crate) fn set_state(&mut self, state: State, contact: Owner) {
        self.subscription = state.subscription();
        self.ask = state.ask();
        self.approved = state.approved();
        self.approved_of = if self.approved { contact } else { STORE };
    }

    /// Ends an approval in advance. True if there was one.
    pub(crate) fn disapprove(&mut self) -> bool {
        self.approved_of = STORE;
        std::mem::take(&mut self.approved)
    }

    /// Whether there is nothing to remember but that it is gone.
    pub fn is_tombstone(&self) -> bool {
        !self.listed && self.request.is_none() && self.state() == State::default()
    }

    /// Size of the item in bytes as it is written to a client; never less. What is not in the roster has none.
    pub(crate) fn size(&self, contact: &BareJid) -> usize {
        if !self.listed {
            return 0;
        }
        let groups = self.groups.iter().map(|group| GROUP_BYTES + written_len(group)).sum::<usize>();
        ITEM_BYTES + written_len(contact.as_str()) + written_len(&self.name) + groups
    }

    /// `<item/>` (§2.1.2); of what is not listed it says `remove`.
    pub fn element(&self, contact: &BareJid) -> Element {
        let item = el("item", ns::ROSTER).attr("jid", contact);
        if !self.listed {
            return item.attr("subscription", "remove");
        }
        item.attr_opt("name", Some(&self.name).filter(|name| !name.is_empty()))
            .attr("subscription", self.subscription.as_str())
            .attr_opt("ask", self.ask.then_some("subscribe"))
            .attr_opt("approved", self.approved.then_some("true"))
            .children(self.groups.iter().map(|group| el("group", ns::ROSTER).text(group)))
    }
}

/// Whom a change of a roster removes, if that is what the IQ asks for (RFC 6121 §2.5).
pub(crate) fn removed(iq: &Stanza) -> Option<BareJid> {
    if iq.type_() != Type::Set || !iq.has(ns::ROSTER, "query") {
        return None;
    }
    let query = iq.get(ns::ROSTER, "query")?;
    let item = query.find(ns::ROSTER, "item").filter(|item| item.get("subscription") == Some("remove"))?;
    BareJid::parse(item.get("jid")?).ok()
}

/// Length of a text that is written as an attribute or as text; never less than it will be.
fn written_len(text: &str) -> usize {
    let longer = |byte: &&u8| matches!(byte, b'&' | b'<' | b'>' | b'\'' | b'"' | b'\t' | b'\n' | b'\r');
    // `&quot;` and `&apos;` are the longest.
    text.len() + 5 * text.as_bytes().iter().filter(longer).count()
}

/// What is answered if it has not.
pub fn full() -> StanzaError {
    StanzaError::resource_constraint().with_text("the roster is full")
}

/// What an account keeps of requests: counted once, and moved on with each change.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// [`crate::owner::state::States::undone`] when they were counted
    pub(crate) undone: u32,
    /// how many there are
    pub all: usize,
    /// what they take in bytes, with their addresses
    pub bytes: usize,
    pub(crate) by_domain: BTreeMap<Box<str>, usize>,
}

impl Requests {
    /// How many are of one domain.
    pub fn of_domain(&self, domain: &str) -> usize {
        self.by_domain.get(domain).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, contact: &BareJid, item: &RosterItem) {
        let Some(request) = &item.request else { return };
        self.all += 1;
        self.bytes += contact.as_str().len() + request.len();
        *self.by_domain.entry(contact.domain().into()).or_default() += 1;
    }

    pub(crate) fn subtract(&mut self, contact: &BareJid, item: &RosterItem) {
        let Some(request) = &item.request else { return };
        self.all -= 1;
        self.bytes -= contact.as_str().len() + request.len();
        if let Some(count) = self.by_domain.get_mut(contact.domain()) {
            *count -= 1;
            if *count == 0 {
                self.by_domain.remove(contact.domain());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_in_the_epoch_that_gave_it() {
        let mut meta = RosterMeta::default();
        assert_eq!((meta.version(0).as_str(), meta.number("0")), ("0", Some(0)));
        let change = |meta: &mut RosterMeta, epoch| {
            meta.goes_on_in(epoch);
            meta.ver += 1;
            meta.version(meta.ver)
        };
        let first: Vec<String> = (0..3).map(|_| change(&mut meta, 0xa)).collect();
        assert_eq!(first, ["a.1", "a.2", "a.3"]);
        let backup = meta.clone();
        let lost: Vec<String> = [change(&mut meta, 0xa), change(&mut meta, 0xb)].into();
        assert_eq!(lost, ["a.4", "b.5"]);
        assert_eq!(lost.iter().map(|ver| meta.number(ver)).collect::<Vec<_>>(), [Some(4), Some(5)]);
        // What was told after the backup was made is not known when it is back, whatever number it has come to again.
        let mut meta = backup;
        assert_eq!(lost.iter().find_map(|ver| meta.number(ver)), None);
        let told: Vec<String> = (0..2).map(|_| change(&mut meta, 0xc)).collect();
        assert_eq!(told, ["c.4", "c.5"]);
        assert_eq!(lost.iter().find_map(|ver| meta.number(ver)), None);
        assert_eq!(first.iter().map(|ver| meta.number(ver)).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        // A push of an older item is known as well.
        assert_eq!((meta.version(2).as_str(), meta.version(4).as_str()), ("a.2", "c.4"));
    }

    #[test]
    fn as_many_epochs_are_remembered_as_have_room() {
        let mut meta = RosterMeta::default();
        for epoch in 1..=MAX_EPOCHS as u64 + 1 {
            meta.goes_on_in(epoch);
            meta.ver += 1;
        }
        assert_eq!(meta.epochs.len(), MAX_EPOCHS);
        assert_eq!((meta.number("1.1"), meta.number("2.2")), (None, Some(2)));
    }

    #[test]
    fn what_is_no_version_is_not_known() {
        let meta = RosterMeta { ver: 5, complete_from: 0, epochs: vec![Epoch { id: 7, from: 0 }] };
        for text in ["", "5", "7.6", "7.", ".5", "7.+5", "7.5.1", "8.5", "7.00000000000000005", "7.x"] {
            assert_eq!(meta.number(text), None, "{text}");
        }
        assert_eq!(meta.number("7.5"), Some(5));
    }

    #[test]
    fn a_subscription_is_stored_by_its_name() {
        for (stored, subscription) in
            [("both", Subscription::Both), ("", Subscription::None), ("odd", Subscription::None)]
        {
            let item: RosterItem =
                serde_json::from_str(&format!(r#"{{"listed":true,"subscription":"{stored}","ver":1}}"#))
                    .expect("a row");
            assert_eq!(item.subscription, subscription);
        }
        let text = serde_json::to_string(&RosterItem::default()).expect("it is written");
        assert_eq!(text, r#"{"listed":false,"subscription":"none","ver":0}"#);
    }

    #[test]
    fn a_roster_of_before_there_were_epochs_is_read() {
        let meta: RosterMeta = serde_json::from_str(r#"{"ver":3,"complete_from":1}"#).expect("a row");
        assert_eq!(meta, RosterMeta { ver: 3, complete_from: 1, epochs: Vec::new() });
    }
}
