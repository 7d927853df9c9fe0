//! RFC 6121 §2 and XEP-0237: the roster and its versions.
//!
//! Reads, adds, changes and removes contacts; each change is pushed to the sessions that asked for the roster. The state
//! of a subscription cannot be set by the client: presence changes it (`core/rules/subscription.rs`).
//!
//! Hooks:  stream features
//! Stores: the kernel's `roster`
//! Config: none
//! Limits: `limits.roster_entries`, `limits.roster_bytes`, names of 1,023 bytes, 16 groups of 255 bytes for each contact

use vorpal_core::owner::roster::{self, MAX_GROUP, MAX_GROUPS, MAX_NAME, RosterItem, RosterMeta};
use vorpal_core::rules::subscription::{Kind, Presence, Request, on_remove};
use vorpal_core::session::inquiries::Answer;
use vorpal_core::small::rows::Rows;
use vorpal_proto::jid::BareJid;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "roster", xeps: &[Xep(237, "1.3")], setup };

/// Maximum number of changes pushed one by one to a client with an older version. With more it gets the whole roster.
const MAX_PUSHES: usize = 64;

fn setup(m: &mut Setup<'_>) -> Result {
    m.stream_feature(Stage::Authenticated, || el("ver", ns::ROSTER_VERSIONING));
    m.stream_feature(Stage::Authenticated, || el("sub", ns::PRE_APPROVAL));
    m.iq_get(At::OwnAccount, ns::ROSTER, "query", read);
    m.iq_set(At::OwnAccount, ns::ROSTER, "query", change);
    Ok(())
}

/// §2.1.4, §2.6: the whole roster or, for a client that has a version, the changes since then, as pushes after an
/// empty result.
fn read(cx: &mut IqCx<'_>, query: &Element) -> Answer {
    let server = cx.server;
    if let Some(session) = cx.session {
        session.set(server.interested(), true);
        cx.fx.save_session();
    }
    let account = cx.account()?;
    // A change that waits for the disk is pushed only to sessions that had requested the roster before: so the answer comes after it.
    let (meta, rows) = server.roster(account);
    let known = query.get("ver").and_then(|ver| meta.number(ver));
    if let Some(known) = known.filter(|ver| *ver >= meta.complete_from) {
        let mut changed: Vec<_> = rows.iter().filter(|(_, item)| item.ver > known).collect();
        changed.sort_by_key(|(_, item)| item.ver);
        // §2.6.3 allows either: many pushes are longer than all items in one answer.
        if changed.len() > MAX_PUSHES {
            return Ok(vorpal_core::session::inquiries::reply(whole(&meta, &rows)));
        }
        let pushes: Vec<Element> =
            changed.iter().map(|(contact, item)| meta.query(item.ver).child(item.element(contact))).collect();
        for push in pushes {
            cx.push_here(push);
        }
        return ok();
    }
    Ok(vorpal_core::session::inquiries::reply(whole(&meta, &rows)))
}

fn whole(meta: &RosterMeta, rows: &Rows<BareJid, RosterItem>) -> Element {
    let items = rows.iter().filter(|(_, item)| item.listed).map(|(contact, item)| item.element(contact));
    meta.query(meta.ver).children(items)
}

/// §2.3, §2.4, §2.5.
fn change(cx: &mut IqCx<'_>, query: &Element) -> Answer {
    let mut items = query.elements().filter(|e| e.is(ns::ROSTER, "item"));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(StanzaError::bad_request("a change is of exactly one contact"));
    };
    let contact = item.get("jid").ok_or_else(|| StanzaError::bad_request("a contact has a jid"))?;
    let contact = BareJid::parse(contact).map_err(|_| StanzaError::jid_malformed())?;
    if item.get("subscription") == Some("remove") { remove(cx, &contact) } else { set(cx, &contact, item) }
}

fn set(cx: &mut IqCx<'_>, contact: &BareJid, item: &Element) -> Answer {
    let server = cx.server;
    let account = cx.account()?;
    if *contact == account.jid {
        return Err(StanzaError::not_allowed().with_text("an account cannot be its own contact"));
    }
    let name = item.get("name").unwrap_or_default().to_owned();
    let mut groups: Vec<String> = item.elements().filter(|e| e.is(ns::ROSTER, "group")).map(Element::content).collect();
    // §2.3.3: lengths, an empty group, a group named twice.
    if name.len() > MAX_NAME || groups.len() > MAX_GROUPS || groups.iter().any(|g| g.len() > MAX_GROUP) {
        return Err(StanzaError::not_acceptable().with_text("a name is too long, or there are too many groups"));
    }
    if groups.iter().any(String::is_empty) {
        return Err(StanzaError::not_acceptable().with_text("a group needs a name"));
    }
    let given = groups.len();
    groups.sort();
    groups.dedup();
    if groups.len() != given {
        return Err(StanzaError::bad_request("a group is named twice"));
    }
    let stored = server.contact(account, contact);
    if !stored.listed && server.contacts(account) >= server.bounds().contacts {
        return Err(roster::full());
    }
    let item = RosterItem { listed: true, name, groups, ..stored };
    if !server.has_room_for(account, contact, &item) {
        return Err(roster::full());
    }
    cx.store_contact(contact, item)?;
    ok()
}

/// §2.5.2: removal also cancels the subscriptions in both directions.
fn remove(cx: &mut IqCx<'_>, contact: &BareJid) -> Answer {
    let server = cx.server;
    let account = cx.account()?;
    let stored = server.contact(account, contact);
    if !stored.listed {
        return Err(StanzaError::not_found());
    }
    let own = account.jid.as_jid().clone();
    let removal = on_remove(stored.state());
    if removal.presence == Presence::Unavailable {
        cx.fx.hide_from(contact.clone(), None);
    }
    for kind in removal.send {
        let type_ = match kind {
            Kind::Unsubscribe => Type::Unsubscribe,
            Kind::Unsubscribed => Type::Unsubscribed,
            Kind::Subscribe | Kind::Subscribed => continue,
        };
        cx.fx.route(Stanza::presence(type_).from(own.clone()).to(contact.as_jid().clone()));
    }
    let request = if removal.request == Request::Forget { None } else { stored.request };
    cx.store_contact(contact, RosterItem { request, ..RosterItem::default() })?;
    ok()
}
