//! The roster: one row per contact (RFC 6121 §2), and its versions (§2.6).
//!
//! Each change gives the row the next number of the account. A removed contact stays as a tombstone, so that a client
//! with an older version is told; when there are too many tombstones the oldest go, and whoever is older than those gets
//! the whole roster.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::account::Account;
use crate::commit::Say;
use crate::rows::Rows;
use crate::server::Core;
use crate::session::Session;
use crate::state::Map;
use crate::subscription::{State, Subscription};

/// So many contacts an account may have, unless the operator says otherwise.
pub const MAX_CONTACTS: usize = 5_000;

/// Maximum size of a roster in bytes, unless the operator says otherwise: that of all its items as they are written to a
/// client. This is what one short question makes the server answer, and about what it keeps in memory.
pub const MAX_ROSTER_BYTES: usize = 1 << 20;

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

/// So many requests of strangers are kept for an account.
pub const MAX_REQUESTS: usize = 500;

/// So many of them may come from one domain other than the account's own, so that one server cannot use up all.
pub const MAX_REQUESTS_OF_DOMAIN: usize = 100;

/// Largest request that is kept as it came, in bytes. Of a larger one only what a person reads is kept, if it fits.
pub const MAX_REQUEST: usize = 4 << 10;

/// Maximum size of all requests of an account in bytes, with their addresses. They are in memory with the account, and each
/// of its sessions is sent all of them. Beyond it a request is kept without what it says, up to twice as much in all;
/// then it is dropped.
pub const MAX_REQUEST_BYTES: usize = 256 << 10;

/// So many removed contacts are remembered.
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
    /// `none`, `to`, `from` or `both`
    pub subscription: String,
    /// the user has asked, and there is no answer
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ask: bool,
    /// the user has approved in advance (§3.4)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// the contact's request, complete, until it is answered (§3.1.3 rule 4)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// the version that changed it last
    pub ver: u64,
}

/// What is known of the whole roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterMeta {
    /// the version of the last change
    pub ver: u64,
    /// whoever has a version below this one must be given everything
    pub complete_from: u64,
}

impl RosterItem {
    /// The state of the subscription.
    pub fn state(&self) -> State {
        let subscription = Subscription::from_name(&self.subscription).unwrap_or(Subscription::None);
        State::new(subscription, self.ask, self.request.is_some(), self.approved)
    }

    /// Takes over a state; the request itself is set by the caller.
    pub fn set_state(&mut self, state: State) {
        self.subscription = state.subscription().as_str().into();
        self.ask = state.ask();
        self.approved = state.approved();
    }

    /// Whether there is nothing to remember but that it is gone.
    pub fn is_tombstone(&self) -> bool {
        !self.listed && self.request.is_none() && self.state() == State::default()
    }

    /// Size of the item in bytes as it is written to a client; never less. What is not in the roster has none.
    pub fn size(&self, contact: &BareJid) -> usize {
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
            .attr("subscription", &self.subscription)
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

/// What is kept of a contact that may never have been seen: a stranger's item.
pub fn newest(core: &Core, account: &Account, contact: &BareJid) -> RosterItem {
    account.states.newest(core.tables.roster, contact).cloned().unwrap_or_default()
}

/// Whether an address stands in the account's roster, or is the account's own.
pub fn lists(roster: Map<BareJid, RosterItem>, account: &Account, bare: &str) -> bool {
    account.jid.as_str() == bare || account.states.rows(roster).get(bare).is_some_and(|item| item.listed)
}

/// Length of a text that is written as an attribute or as text; never less than it will be.
fn written_len(text: &str) -> usize {
    let longer = |byte: &&u8| matches!(byte, b'&' | b'<' | b'>' | b'\'' | b'"' | b'\t' | b'\n' | b'\r');
    // `&quot;` and `&apos;` are the longest.
    text.len() + 5 * text.as_bytes().iter().filter(longer).count()
}

/// Size of the whole roster in bytes, with everything that is submitted.
pub fn size(core: &Core, account: &Account) -> usize {
    account.states.newest_sum(core.tables.roster, |contact, item| item.size(contact))
}

/// Whether the roster has room for an item in the place of what it has of the contact. A roster beyond its bound, from
/// before there was one, may shrink and not grow.
pub fn has_room(core: &Core, account: &Account, contact: &BareJid, item: &RosterItem) -> bool {
    let (new, old) = (item.size(contact), newest(core, account, contact).size(contact));
    new <= old || size(core, account) - old + new <= core.bounds().roster_bytes
}

/// What is answered if it has not.
pub fn full() -> StanzaError {
    StanzaError::resource_constraint().with_text("the roster is full")
}

/// What an account keeps of requests: counted once, and moved on with each change.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// [`crate::state::States::undone`] when they were counted
    undone: u32,
    /// how many there are
    pub all: usize,
    /// what they take in bytes, with their addresses
    pub bytes: usize,
    by_domain: BTreeMap<Box<str>, usize>,
}

impl Requests {
    /// Those of an account, with everything that is staged.
    pub fn of<'a>(core: &Core, account: &'a mut Account) -> &'a mut Requests {
        let undone = account.states.undone();
        let known = account.requests.take().filter(|requests| requests.undone == undone);
        let known = known.unwrap_or_else(|| {
            let mut requests = Box::new(Requests { undone, ..Requests::default() });
            account.states.newest_each(core.tables.roster, |contact, item| requests.add(contact, item));
            requests
        });
        account.requests.insert(known)
    }

    /// How many are of one domain.
    pub fn of_domain(&self, domain: &str) -> usize {
        self.by_domain.get(domain).copied().unwrap_or_default()
    }

    fn add(&mut self, contact: &BareJid, item: &RosterItem) {
        let Some(request) = &item.request else { return };
        self.all += 1;
        self.bytes += contact.as_str().len() + request.len();
        *self.by_domain.entry(contact.domain().into()).or_default() += 1;
    }

    fn subtract(&mut self, contact: &BareJid, item: &RosterItem) {
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

/// Stages a changed item with the next version, and gives the pushes to the sessions that asked for the roster (§2.1.6).
/// An item that is neither listed nor remembered for another reason becomes a tombstone.
pub(crate) fn store(
    core: &Core,
    account: &mut Account,
    contact: &BareJid,
    mut item: RosterItem,
    push: bool,
) -> Vec<Say> {
    let tables = core.tables;
    let before = newest(core, account, contact);
    let was_listed = before.listed;
    if before.request != item.request {
        let requests = Requests::of(core, account);
        requests.subtract(contact, &before);
        requests.add(contact, &item);
    }
    let mut meta = account.states.newest(tables.roster_meta, &()).copied().unwrap_or_default();
    if item.is_tombstone() && !was_listed {
        account.states.stage(tables.roster, contact.clone(), None);
        return Vec::new();
    }
    if item.listed || was_listed {
        meta.ver += 1;
        item.ver = meta.ver;
        prune(core, account, &mut meta, !item.listed);
        account.states.stage(tables.roster_meta, (), Some(meta));
    }
    let says = if push { pushes(core, account, contact, &item) } else { Vec::new() };
    account.states.stage(tables.roster, contact.clone(), Some(item));
    says
}

/// At a bound the older half of the tombstones goes.
fn prune(core: &Core, account: &mut Account, meta: &mut RosterMeta, removes: bool) {
    let due = meta.ver.is_multiple_of(MAX_TOMBSTONES as u64 / 2);
    if !due && !removes {
        return;
    }
    let rows = account.states.rows(core.tables.roster);
    let tombstones = || rows.iter().filter(|(_, item)| item.is_tombstone());
    let bytes: usize = tombstones().map(|(jid, _)| jid.as_str().len()).sum();
    if bytes <= MAX_TOMBSTONE_BYTES && !(due && tombstones().count() >= MAX_TOMBSTONES / 2) {
        return;
    }
    let mut gone: Vec<(u64, BareJid)> = tombstones().map(|(jid, item)| (item.ver, jid.clone())).collect();
    gone.sort();
    gone.truncate(gone.len() / 2);
    if let Some((newest, _)) = gone.last() {
        meta.complete_from = meta.complete_from.max(*newest);
    }
    for (_, jid) in gone {
        account.states.stage(core.tables.roster, jid, None);
    }
}

/// A push to each interested session.
fn pushes(core: &Core, account: &Account, contact: &BareJid, item: &RosterItem) -> Vec<Say> {
    let interested = core.interested();
    let to_each = account.sessions.iter().filter(|s| s.has(interested));
    to_each.map(|session| Say::Send { to: session.id, stanza: push_to(core, session, contact, item) }).collect()
}

/// The push of an item to one session (§2.1.6).
pub(crate) fn push_to(core: &Core, session: &Session, contact: &BareJid, item: &RosterItem) -> Stanza {
    let push = Stanza::new(Kind::Iq, Type::Set).id(core.random_id()).to(session.jid.clone());
    push.child(query(item.ver).child(item.element(contact)))
}

/// `<query/>` with a version.
pub fn query(ver: u64) -> Element {
    el("query", ns::ROSTER).attr("ver", version(ver))
}

/// A version as a client sees it: opaque (§2.6.1).
pub fn version(ver: u64) -> String {
    format!("{ver:x}")
}

/// The version that a client says it has; one that is none of ours is older than everything.
pub fn parse_version(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The roster as it is committed: its version and all rows, those of strangers and removed contacts among them.
pub fn committed<'a>(core: &Core, account: &'a Account) -> (RosterMeta, &'a Rows<BareJid, RosterItem>) {
    let meta = account.states.get(core.tables.roster_meta).copied().unwrap_or_default();
    (meta, account.states.rows(core.tables.roster))
}

/// The roster as it was submitted, for a session that is told of every change from now on.
pub fn newest_all<'a>(core: &Core, account: &'a Account) -> (RosterMeta, Cow<'a, Rows<BareJid, RosterItem>>) {
    let meta = account.states.newest(core.tables.roster_meta, &()).copied().unwrap_or_default();
    (meta, account.states.newest_rows(core.tables.roster))
}

/// How many rows there are at most.
pub fn count(core: &Core, account: &Account) -> usize {
    account.states.newest_len(core.tables.roster)
}

/// Whether the contact may see the account's presence, as far as is committed.
pub fn shows_presence(core: &Core, account: &Account, contact: &str) -> bool {
    account.states.rows(core.tables.roster).get(contact).is_some_and(|item| item.state().shows_presence())
}
