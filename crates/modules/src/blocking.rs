//! XEP-0191: Blocking Command.
//!
//! A user blocks addresses: no stanzas are delivered from them, and none are sent to them.
//!
//! Hooks:  message/Gate, presence/Gate, iq/Gate, withheld, revive
//! Stores: account list `blocklist`
//! Config: none
//! Limits: 2,000 addresses, 256 KiB in total
//! Not:    privacy lists (XEP-0016)

use std::collections::HashSet;
use std::sync::Arc;

use vorpal_core::module::hook::{OpenAccount, SessionCx};
use vorpal_core::owner::judge::{Judge, Withdrawal};
use vorpal_core::session::inquiries::Answer;
use vorpal_core::small::rows::Rows;
use vorpal_proto::error::{AppCondition, ErrorType};
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::stanza::Kind;

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "blocking", xeps: &[Xep(191, "1.3")], setup };

/// Maximum number of blocked addresses, and of addresses in one request, repetitions included.
const MAX_ITEMS: usize = 2_000;

/// Maximum size of the blocked addresses in bytes: 128 for each. They are in memory with the account, and sent as a whole on request.
const MAX_BYTES: usize = 256 << 10;

type Blocklist = Map<Jid, bool>;

fn setup(m: &mut Setup<'_>) -> Result {
    let list: Blocklist = m.account_map("blocklist");
    let asked = m.session_flag("blocklist")?;
    m.feature(ns::BLOCKING);
    m.iq_get(At::OwnAccount, ns::BLOCKING, "blocklist", move |cx, _| show(cx, list, asked));
    m.iq_set(At::OwnAccount, ns::BLOCKING, "block", move |cx, block| add(cx, list, asked, block));
    m.iq_set(At::OwnAccount, ns::BLOCKING, "unblock", move |cx, unblock| remove(cx, list, asked, unblock));
    m.on_message(Phase::Gate, move |cx, stanza| gate(cx, stanza, list));
    m.on_presence(Phase::Gate, move |cx, stanza| gate(cx, stanza, list));
    m.on_iq(move |cx, stanza| gate(cx, stanza, list));
    m.withholds(list, move |account, stanza| is_blocked(account, stanza, list));
    m.on_revive(move |cx| tell_again(cx, list, asked));
    Ok(())
}

/// §3.2. A session that has requested the list gets pushes of changes (§3.3).
fn show(cx: &mut IqCx<'_>, list: Blocklist, asked: Flag) -> Answer {
    if let Some(session) = cx.session {
        session.set(asked, true);
        cx.fx.save_session();
    }
    let blocked = cx.account()?.states.newest_rows(list);
    let items = blocked.keys().map(|jid| el("item", ns::BLOCKING).attr("jid", jid));
    ok_with(el("blocklist", ns::BLOCKING).children(items))
}

/// §3.3: blocked contacts see the user become unavailable.
fn add(cx: &mut IqCx<'_>, list: Blocklist, asked: Flag, block: &Element) -> Answer {
    let jids = items(block)?;
    if jids.is_empty() {
        return Err(StanzaError::bad_request("a block names at least one address"));
    }
    let account = cx.account()?;
    let own = account.jid.clone();
    let (known, fresh) = {
        let blocked = account.states.newest_rows(list);
        let fresh: Vec<Jid> = jids.iter().filter(|jid| !blocked.contains_key(*jid)).cloned().collect();
        (blocked.len(), fresh)
    };
    let bytes = |jid: &Jid| jid.as_str().len();
    let grown = account.states.newest_sum(list, |jid, _| bytes(jid)) + fresh.iter().map(bytes).sum::<usize>();
    if !fresh.is_empty() && (known + fresh.len() > MAX_ITEMS || grown > MAX_BYTES) {
        return Err(StanzaError::resource_constraint().with_text("too many addresses are blocked"));
    }
    // Users who blocked themselves or the server would be locked out.
    if jids.iter().any(|jid| jid.bare_str() == own.as_str() || jid.as_str() == own.domain()) {
        return Err(StanzaError::not_allowed().with_text("this address cannot be blocked"));
    }
    // Newly blocked contacts see the user's sessions become unavailable.
    let insert = |rows: &mut Rows<Jid, bool>| {
        for jid in &fresh {
            rows.insert(jid.clone(), true);
        }
    };
    if !fresh.is_empty() {
        let contacts = cx.contacts_within(&fresh)?;
        if !contacts.is_empty() {
            for (contact, whom) in Change::new(cx, list, insert)?.affected(contacts) {
                cx.fx.hide_from(contact, whom);
            }
        }
        // So does everybody else to whom a session has sent presence. An unblock does not repeat it.
        let was = cx.account()?.states.newest_rows(list).into_owned();
        cx.fx.withdraw_from(withdrawal(was, &fresh));
    }
    let states = &mut cx.account()?.states;
    fresh.into_iter().for_each(|jid| states.stage(list, jid, Some(true)));
    cx.push(asked, element("block", &jids))?;
    ok()
}

/// §3.4, §3.5: unblocks some addresses, or all; the contacts see the user again.
fn remove(cx: &mut IqCx<'_>, list: Blocklist, asked: Flag, unblock: &Element) -> Answer {
    let named = items(unblock)?;
    let account = cx.account()?;
    let gone: Vec<Jid> = {
        let blocked = account.states.newest_rows(list);
        let wanted: HashSet<&Jid> = named.iter().collect();
        blocked.keys().filter(|jid| named.is_empty() || wanted.contains(jid)).cloned().collect()
    };
    let remove = |rows: &mut Rows<Jid, bool>| {
        for jid in &gone {
            rows.remove(jid);
        }
    };
    let contacts = cx.contacts_within(&gone)?;
    if !contacts.is_empty() {
        for (contact, whom) in Change::new(cx, list, remove)?.affected(contacts) {
            cx.fx.show_to(contact, whom);
        }
    }
    let states = &mut cx.account()?.states;
    gone.into_iter().for_each(|jid| states.stage(list, jid, None));
    cx.push(asked, element("unblock", &named))?;
    ok()
}

/// A change of the list: as it was, and as it is to be.
struct Change {
    was: Arc<Rows<Jid, bool>>,
    is: Arc<Rows<Jid, bool>>,
}

impl Change {
    fn new(
        cx: &mut IqCx<'_>,
        list: Blocklist,
        change: impl FnOnce(&mut Rows<Jid, bool>),
    ) -> std::result::Result<Change, StanzaError> {
        let before = cx.account()?.states.newest_rows(list).into_owned();
        let mut after = before.clone();
        change(&mut after);
        Ok(Change { was: Arc::new(before), is: Arc::new(after) })
    }

    /// Names the addresses that one list matches and the other does not.
    fn judge(&self) -> Judge {
        let (was, is) = (self.was.clone(), self.is.clone());
        Judge::new(move |jid: &Jid| matches_any(&was, jid) != matches_any(&is, jid))
    }

    /// The contacts from which it hides the user, or to which it shows the user. If items have resources, only some of a contact's
    /// sessions are affected: those that one list matches and the other does not; none if another item covers them anyway.
    fn affected(&self, contacts: Vec<BareJid>) -> Vec<(BareJid, Option<Judge>)> {
        let lists = [&self.was, &self.is];
        let judge = self.judge();
        let whom = |contact: &BareJid| match lists.map(|list| matches_all_of(list, contact)) {
            [true, true] => None,
            _ if lists.iter().any(|list| names_resources_of(list, contact)) => Some(Some(judge.clone())),
            [was, is] => (was != is).then_some(None),
        };
        contacts.into_iter().filter_map(|contact| whom(&contact).map(|whom| (contact, whom))).collect()
    }
}

/// From whom new items take back what sessions have sent directly: from those whom they match, and the list as it was does not.
fn withdrawal(was: Rows<Jid, bool>, fresh: &[Jid]) -> Withdrawal {
    let fresh: Rows<Jid, bool> = fresh.iter().map(|jid| (jid.clone(), true)).collect();
    let (was, fresh) = (Arc::new(was), Arc::new(fresh));
    let (was_some_of, some_of) = (was.clone(), fresh.clone());
    Withdrawal {
        from: Judge::new(move |jid: &Jid| matches_any(&fresh, jid) && !matches_any(&was, jid)),
        from_some_of: Judge::new(move |jid: &Jid| {
            names_resources_of(&some_of, &jid.bare()) && !matches_any(&was_some_of, jid)
        }),
    }
}

/// Pushes may have been lost with the process: unblocks everything at the client, then blocks the current list again.
fn tell_again(cx: &mut SessionCx<'_>, list: Blocklist, asked: Flag) {
    if !cx.session.has(asked) {
        return;
    }
    let blocked: Vec<Jid> = cx.account.states.rows(list).keys().cloned().collect();
    cx.push(element("unblock", &[]));
    if !blocked.is_empty() {
        cx.push(element("block", &blocked));
    }
}

/// The addresses in a request, without duplicates, in order.
///
/// §10.1: a request has items and nothing else. Whatever else it has is not ignored: an `<unblock/>` in which no item is recognised
/// would unblock everybody (§3.5).
fn items(parent: &Element) -> std::result::Result<Vec<Jid>, StanzaError> {
    if !parent.content().trim().is_empty() || parent.get("jid").is_some() {
        return Err(StanzaError::bad_request("addresses are given by items"));
    }
    let (mut jids, mut seen) = (Vec::new(), HashSet::new());
    for (at, item) in parent.elements().enumerate() {
        if at >= MAX_ITEMS {
            return Err(StanzaError::resource_constraint().with_text("too many addresses at once"));
        }
        if !item.is(ns::BLOCKING, "item") {
            return Err(StanzaError::bad_request("addresses are given by items"));
        }
        let jid = item.get("jid").ok_or_else(|| StanzaError::bad_request("an item has a jid"))?;
        let jid = Jid::parse(jid).map_err(|_| StanzaError::jid_malformed())?;
        if seen.insert(jid.clone()) {
            jids.push(jid);
        }
    }
    Ok(jids)
}

fn element(name: &'static str, jids: &[Jid]) -> Element {
    el(name, ns::BLOCKING).children(jids.iter().map(|jid| el("item", ns::BLOCKING).attr("jid", jid)))
}

/// §3.3: nothing from a blocked address, nothing to one.
fn gate(cx: &mut MessageCx<'_>, stanza: &mut Stanza, list: Blocklist) -> Flow {
    let blocked = cx.account.states.rows(list);
    if blocked.is_empty() || cx.peer.bare_str() == cx.account.jid.as_str() {
        return Flow::Next;
    }
    if !matches_any(blocked, cx.peer) {
        let to_all = cx.dir == Dir::Sent && stanza.kind() == Kind::Presence && cx.peer.is_bare();
        if to_all && names_resources_of(blocked, &cx.peer.bare()) {
            cx.fx.judge_each_session();
        }
        return Flow::Next;
    }
    match (cx.dir, stanza.kind()) {
        // §3.3: any stanza, including probes and presence. For stanzas that the server sends itself, as in a broadcast, there is no
        // error; contacts who saw the user when the block began were told then that the user is unavailable.
        (Dir::Sent, _) => {
            let blocked = AppCondition::new(ns::BLOCKING_ERRORS, "blocked");
            let error = StanzaError::not_acceptable().with_kind(ErrorType::Cancel).with_app(blocked);
            Flow::Bounce("to a blocked address", error)
        }
        (Dir::Received, Kind::Presence) => Flow::Drop("from a blocked address"),
        // §3.3: the answer does not reveal whether the user exists: it is the same as for an offline user. So it is for `groupchat`
        // (RFC 6121 §8.5.2.2.1, §8.5.3.2.1): silence would tell a user of the block. Rooms hear nothing: the core sees to that.
        (Dir::Received, _) => Flow::Bounce("from a blocked address", StanzaError::service_unavailable()),
    }
}

/// §3.3, of what is about to be written to the user: nothing from a blocked address, also what came before the block and waited. So
/// is a copy of what was received from there (XEP-0280 §7). Not withheld is
///
/// - an error: it says what became of something that the user sent, and nearly always it is this server that made it. §3.3 itself asks
///   for one from a blocked address. The errors of a blocked user's client end at the gate.
/// - a copy of what the user sent to a blocked address before: the user's own words.
/// - a page of the archive (XEP-0313): what the user had, and asks for.
///
/// What is withheld stays so: it is delivered no more if the user unblocks the sender later.
fn is_blocked(account: OpenAccount<'_>, stanza: &Stanza, list: Blocklist) -> bool {
    let blocked = account.states.rows(list);
    let Some(from) = stanza.head.from.as_ref() else { return false };
    if blocked.is_empty() || stanza.type_() == Type::Error {
        return false;
    }
    if from.bare_str() != account.jid.as_str() {
        return matches_any(blocked, from);
    }
    let Some(copy) = stanza.get(ns::CARBONS, "received") else { return false };
    let message = copy.find(ns::FORWARD, "forwarded").and_then(|forwarded| forwarded.find(ns::CLIENT, "message"));
    let from = message.and_then(|message| message.get("from")).and_then(|from| Jid::parse(from).ok());
    from.is_some_and(|from| from.bare_str() != account.jid.as_str() && matches_any(blocked, &from))
}

/// §3.1: the four forms that an item can have, from the narrowest.
fn matches_any(list: &Rows<Jid, bool>, jid: &Jid) -> bool {
    let domain = jid.domain();
    list.contains_key(jid.as_str())
        || list.contains_key(jid.bare_str())
        || list.contains_key(domain)
        || jid.resource().is_some_and(|resource| list.contains_key(format!("{domain}/{resource}").as_str()))
}

/// Whether all sessions of an account are matched, whatever their resources.
fn matches_all_of(list: &Rows<Jid, bool>, contact: &BareJid) -> bool {
    list.contains_key(contact.as_str()) || list.contains_key(contact.domain())
}

/// Whether there are items that match single sessions of an account: they stand together, in the order of addresses.
fn names_resources_of(list: &Rows<Jid, bool>, contact: &BareJid) -> bool {
    [contact.as_str(), contact.domain()].iter().any(|of| {
        let prefix = format!("{of}/");
        list.at_or_after(prefix.as_str()).is_some_and(|(jid, _)| jid.as_str().starts_with(&prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_name_resources_are_found_among_others() {
        let list = |jids: &[&str]| Rows::from_iter(jids.iter().map(|jid| (Jid::parse(jid).expect("an address"), true)));
        let names = |jids: &[&str]| names_resources_of(&list(jids), &BareJid::parse("a@b").expect("an address"));
        assert!(names(&["a@b/c"]) && names(&["b/c"]) && names(&["a@b", "a@b-c/d", "a@b/z", "a@bb"]));
        assert!(!names(&["a@b", "b", "a@bb/c", "aa@b/c", "bb/c", "a@b-c/d"]));
    }

    #[test]
    fn an_item_matches_by_each_of_its_four_forms() {
        let list = |jid: &str| Rows::from_iter([(Jid::parse(jid).expect("an address"), true)]);
        let matches = |item: &str, jid: &str| matches_any(&list(item), &Jid::parse(jid).expect("an address"));
        assert!(matches("a@b/c", "a@b/c") && !matches("a@b/c", "a@b/d") && !matches("a@b/c", "a@b"));
        assert!(matches("a@b", "a@b/c") && matches("a@b", "a@b") && !matches("a@b", "x@b"));
        assert!(matches("b/c", "a@b/c") && matches("b/c", "b/c") && !matches("b/c", "a@b/d"));
        assert!(matches("b", "a@b/c") && matches("b", "b") && matches("b", "a@b") && !matches("b", "a@bb"));
    }
}
