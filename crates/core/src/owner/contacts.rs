//! The roster of an account: questions about its rows (RFC 6121 §2). A row is a [`RosterItem`].

use std::borrow::Cow;

use vorpal_proto::jid::BareJid;

use crate::owner::account::Account;
use crate::owner::roster::{MAX_TOMBSTONE_BYTES, MAX_TOMBSTONES, Requests, RosterItem, RosterMeta};
use crate::owner::state::Map;
use crate::owner::tables::Tables;
use crate::small::rows::Rows;

/// What is kept of a contact that may never have been seen: a stranger's item.
pub(crate) fn newest(tables: &Tables, account: &Account, contact: &BareJid) -> RosterItem {
    account.states.newest(tables.roster, contact).cloned().unwrap_or_default()
}

/// Whether an address stands in the account's roster, or is the account's own.
pub fn lists(roster: Map<BareJid, RosterItem>, account: &Account, bare: &str) -> bool {
    account.jid.as_str() == bare || account.states.rows(roster).get(bare).is_some_and(|item| item.listed)
}

/// Size of the whole roster in bytes, with everything that is submitted.
pub(crate) fn size(tables: &Tables, account: &Account) -> usize {
    account.states.newest_sum(tables.roster, |contact, item| item.size(contact))
}

/// Whether the roster has room for an item in the place of what it has of the contact. A roster beyond its bound, from
/// before there was one, may shrink and not grow. `most`: [`crate::bounds::Bounds::roster_bytes`].
pub(crate) fn has_room(tables: &Tables, account: &Account, contact: &BareJid, item: &RosterItem, most: usize) -> bool {
    let (new, old) = (item.size(contact), newest(tables, account, contact).size(contact));
    new <= old || size(tables, account) - old + new <= most
}

/// At a bound the older half of the tombstones goes.
pub(crate) fn prune(tables: &Tables, account: &mut Account, meta: &mut RosterMeta, removes: bool) {
    let due = meta.ver.is_multiple_of(MAX_TOMBSTONES as u64 / 2);
    if !due && !removes {
        return;
    }
    let rows = account.states.rows(tables.roster);
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
        account.states.stage(tables.roster, jid, None);
    }
}

/// A roster that was written before versions had epochs begins one, so that its version can be told.
pub(crate) fn begin_epoch(tables: &Tables, account: &mut Account, epoch: u64) {
    let Some(meta) = account.states.newest(tables.roster_meta, &()) else { return };
    if meta.ver > 0 && meta.epochs.is_empty() {
        // Of the changes before nothing can be said: the one that is known is the last.
        let mut meta = RosterMeta { ver: meta.ver - 1, ..meta.clone() };
        meta.goes_on_in(epoch);
        meta.ver += 1;
        account.states.stage(tables.roster_meta, (), Some(meta));
    }
}

/// The roster as it is committed: its version and all rows, those of strangers and removed contacts among them.
pub(crate) fn committed<'a>(tables: &Tables, account: &'a Account) -> (RosterMeta, &'a Rows<BareJid, RosterItem>) {
    let meta = account.states.get(tables.roster_meta).cloned().unwrap_or_default();
    (meta, account.states.rows(tables.roster))
}

/// The roster as it was submitted, for a session that is told of every change from now on.
pub(crate) fn newest_all<'a>(
    tables: &Tables,
    account: &'a Account,
) -> (RosterMeta, Cow<'a, Rows<BareJid, RosterItem>>) {
    let meta = account.states.newest(tables.roster_meta, &()).cloned().unwrap_or_default();
    (meta, account.states.newest_rows(tables.roster))
}

/// How many rows there are at most.
pub(crate) fn count(tables: &Tables, account: &Account) -> usize {
    account.states.newest_len(tables.roster)
}

/// Whether the contact may see the account's presence, as far as is committed.
pub(crate) fn shows_presence(tables: &Tables, account: &Account, contact: &str) -> bool {
    account.states.rows(tables.roster).get(contact).is_some_and(|item| item.state().shows_presence())
}

/// Those of an account, with everything that is staged.
pub(crate) fn requests<'a>(tables: &Tables, account: &'a mut Account) -> &'a mut Requests {
    let undone = account.states.undone();
    let known = account.requests.take().filter(|requests| requests.undone == undone);
    let known = known.unwrap_or_else(|| {
        let mut requests = Box::new(Requests { undone, ..Requests::default() });
        account.states.newest_each(tables.roster, |contact, item| requests.add(contact, item));
        requests
    });
    account.requests.insert(known)
}
