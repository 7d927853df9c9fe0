//! Changes of a roster, and who is told of them (RFC 6121 §2.1.6). What a roster is stands in `owner/roster.rs`.

use crate::owner::contacts;
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::{Kind, Stanza, Type};

use crate::core::Core;
use crate::owner::account::Account;
use crate::owner::roster::{RosterItem, RosterMeta};
use crate::owner::words::Say;
use crate::session::Session;
use crate::small::rows::Rows;

impl Core {
    /// Stages a changed item with the next version, and gives the pushes to the sessions that asked for the roster (§2.1.6).
    /// An item that is neither listed nor remembered for another reason becomes a tombstone.
    pub(crate) fn store_contact(
        &self,
        account: &mut Account,
        contact: &BareJid,
        mut item: RosterItem,
        push: bool,
    ) -> Vec<Say> {
        let tables = self.tables;
        let before = contacts::newest(&self.tables, account, contact);
        let was_listed = before.listed;
        if before.request != item.request {
            let requests = contacts::requests(&self.tables, account);
            requests.subtract(contact, &before);
            requests.add(contact, &item);
        }
        let mut meta = account.states.newest(tables.roster_meta, &()).cloned().unwrap_or_default();
        if item.is_tombstone() && !was_listed {
            account.states.stage(tables.roster, contact.clone(), None);
            return Vec::new();
        }
        if item.listed || was_listed {
            meta.goes_on_in(self.epoch_of(account.owner));
            meta.ver += 1;
            item.ver = meta.ver;
            contacts::prune(&tables, account, &mut meta, !item.listed);
            account.states.stage(tables.roster_meta, (), Some(meta.clone()));
        }
        let says = if push { self.roster_pushes(account, &meta, contact, &item) } else { Vec::new() };
        account.states.stage(tables.roster, contact.clone(), Some(item));
        says
    }

    /// A push to each interested session.
    fn roster_pushes(&self, account: &Account, meta: &RosterMeta, contact: &BareJid, item: &RosterItem) -> Vec<Say> {
        let interested = self.interested();
        let to_each = account.sessions.iter().filter(|s| s.has(interested));
        to_each
            .map(|session| Say::Send { to: session.id, stanza: self.roster_push(session, meta, contact, item) })
            .collect()
    }

    /// The push of an item to one session (§2.1.6).
    pub(crate) fn roster_push(
        &self,
        session: &Session,
        meta: &RosterMeta,
        contact: &BareJid,
        item: &RosterItem,
    ) -> Stanza {
        let push = Stanza::new(Kind::Iq, Type::Set).id(self.random_id()).to(session.jid.clone());
        push.child(meta.query(item.ver).child(item.element(contact)))
    }

    /// The roster as it is committed: its version and all rows, those of strangers and removed contacts among them.
    pub fn roster<'a>(&self, account: &'a Account) -> (RosterMeta, &'a Rows<BareJid, RosterItem>) {
        contacts::committed(&self.tables, account)
    }
}
