//! An account is removed: what others hold of it ends first, then it is deleted.
//!
//! In three steps, each stored before the next, so that a crash between them leaves an account that is disabled and
//! can be removed once more, and never a name whose next owner inherits something:
//!
//! 1. [`Core::begin_removal`]: nobody logs in any more, its sessions end, and from then on it is for everybody as if it
//!    did not exist.
//! 2. [`Core::leave`], for each of [`Core::contacts`], who has to be loaded: the contact's side of the subscription
//!    ends as if the account had unsubscribed and cancelled (RFC 6121 §3.2, §3.3), and in the same batch the account's own. So does an
//!    approval in advance (§3.4).
//! 3. [`Core::delete_user`]: its rows go, and with the commit what sessions remember of it.

use std::collections::BTreeSet;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::{Stanza, Type};

use crate::core::Core;
use crate::core::spilled::Cold;
use crate::core::turn::Locked;
use crate::module::hook::Dir;
use crate::owner::account::{AccountRef, lock_both};
use crate::owner::words::{Notice, Part, Say, Words};
use crate::owner::{contacts, roster};
use crate::rules::subscription::{FromHalf, Kind, ToHalf};
use crate::store::Write;

impl Core {
    /// The first step. `done` hears whether it is stored; if not, the account is there as before, but for its sessions.
    pub fn begin_removal(&self, now: Timestamp, lock: &AccountRef, done: Notice) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            lock.set_leaving(&mut account, true);
            account.revocations += 1;
            turn.end_all(&mut Locked::new(lock, &mut account), "the account is deleted");
            turn.set_disabled(&mut Locked::new(lock, &mut account), true, done);
        })
    }

    /// The addresses of whoever may hold something of the account's: a subscription or a request, in either direction. Also of
    /// whoever holds it until it is stored that they do not.
    pub fn contacts(&self, lock: &AccountRef) -> Vec<BareJid> {
        let account = lock.lock();
        let holds = |item: &roster::RosterItem| {
            let state = item.state();
            state.to != ToHalf::No || matches!(state.from, FromHalf::Yes | FromHalf::Pending)
        };
        let mut contacts = BTreeSet::new();
        account.states.newest_each(self.tables.roster, |contact, item| {
            if holds(item) {
                contacts.insert(contact.clone());
            }
        });
        let stored = account.states.rows(self.tables.roster).iter().filter(|(_, item)| holds(item));
        contacts.extend(stored.map(|(contact, _)| contact.clone()));
        contacts.into_iter().collect()
    }

    /// The second step, for one contact of ours. `done` hears whether it is stored, or is given back if the contact has to be
    /// loaded first. The third step is to come when it is stored for all of them: else a contact would keep something of an
    /// account that is no more.
    ///
    /// Both sides end at once: else an account whose removal stops here would keep what its contact does not know of any more,
    /// and would still have it when the contact's name has another owner.
    pub fn leave(&self, now: Timestamp, lock: &AccountRef, contact: &BareJid, done: Notice) -> Option<Notice> {
        let peer = self.in_memory(contact);
        if peer.is_none() && !self.is_absent(contact) {
            return Some(done);
        }
        // What the account had asked the contact for before comes before this.
        if self.spilled.waits_for(contact.as_jid()) {
            self.run(now, Cold { account: contact.clone() });
        }
        self.turn(now, |turn| {
            let end = |type_| Stanza::presence(type_).from(lock.jid.as_jid().clone()).to(contact.as_jid().clone());
            {
                // Two accounts that are being removed still hold something of each other, and one of the removals may stop here.
                let (mut account, theirs) = lock_both(Some(lock), peer.as_ref());
                let mut theirs = theirs.filter(|theirs| !theirs.deleted);
                let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
                // Behind what the contact has submitted.
                let mut notice = Some(Say::Notice(done));
                if let (Some(peer), Some(theirs)) = (&peer, theirs.as_deref_mut()) {
                    let mut words = Words::default();
                    // The other contacts who have approved it in advance are not known: see `subscribe.rs`. A block stays: it is of an
                    // address, whoever has it (XEP-0191 §3.3), and so are the preferences of an archive (XEP-0441).
                    let mut item = contacts::newest(&self.tables, theirs, &lock.jid);
                    if item.disapprove() {
                        let listed = item.listed;
                        words.says.extend(self.store_contact(theirs, &lock.jid, item, listed));
                    }
                    // To whom the account blocks nothing is said (XEP-0191 §3.3).
                    let silent = account.as_deref().is_some_and(|account| {
                        let mut stanza = end(Type::Unsubscribed);
                        turn.gate(Dir::Sent, account, contact.as_jid(), None, &mut stanza).is_err()
                    });
                    for (kind, type_) in
                        [(Kind::Unsubscribe, Type::Unsubscribe), (Kind::Unsubscribed, Type::Unsubscribed)]
                    {
                        turn.run_inbound(theirs, lock.owner, &end(type_), (kind, silent), &mut words);
                    }
                    words.says.extend(notice.take());
                    parts.push(Part { lock: peer, account: theirs, words });
                }
                if let Some(account) = account.as_deref_mut() {
                    let mut words = Words::default();
                    self.parted(account, contact, &mut words);
                    words.says.extend(notice.take());
                    parts.push(Part { lock, account, words });
                }
                turn.finish(&mut parts, None, Vec::new());
            }
            None
        })
    }

    /// The removal has stopped after its first step: the account is there again, and disabled.
    pub fn stop_removal(&self, lock: &AccountRef) {
        lock.set_leaving(&mut lock.lock(), false);
    }

    /// The third step. `done` hears whether the account is deleted; if not, it is there, and disabled.
    pub fn delete_user(&self, now: Timestamp, lock: &AccountRef, done: Notice) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            lock.set_leaving(&mut account, true);
            account.revocations += 1;
            turn.end_all(&mut Locked::new(lock, &mut account), "the account is deleted");
            account.deleted = true;
            let done = self.counting_profile(&account, None, done);
            let words = Words::of_says([Say::Deleted { done }]);
            let write = Write::Delete { owner: account.owner };
            let part = Part { lock, account: &mut account, words };
            turn.finish(&mut [part], None, vec![write]);
        })
    }

    /// What sessions remember of an account that is deleted: that they have shown themselves to it. Its contacts were told
    /// that they are gone before.
    pub fn forget_directed(&self, gone: &BareJid) {
        for lock in self.all_loaded() {
            let mut account = lock.lock();
            let mut changed = false;
            for session in &account.sessions {
                let mut stream = session.stream();
                let theirs = stream.directed().iter().filter(|to| to.bare_str() == gone.as_str());
                let theirs: Vec<_> = theirs.cloned().collect();
                for to in theirs {
                    stream.remove_directed(&to);
                    changed = true;
                }
            }
            if changed {
                self.mark_dirty(&mut Locked::new(&lock, &mut account));
            }
        }
    }
}
