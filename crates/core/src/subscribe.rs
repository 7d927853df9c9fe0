//! Subscription stanzas on their way: the table of RFC 6121 Appendix A, run for the sender, then for the recipient.
//!
//! Their home is both rosters: one batch, under both locks.

use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::stanza::{Stanza, Type};

use crate::account::{Account, AccountRef, lock_pair};
use crate::commit::{OrElse, Part, Say, Words};
use crate::hook::Dir;
use crate::ledger::Pending;
use crate::reserve::no_room;
use crate::roster::{self, MAX_REQUEST, MAX_REQUEST_BYTES, MAX_REQUESTS, MAX_REQUESTS_OF_DOMAIN};
use crate::server::{Core, Mode, Todo, Work};
use crate::session::Session;
use crate::subscription::{Direction, Forward, Kind, Presence, Push, Request, on_subscription};

impl Core {
    /// A session of ours sends one. `contact` is the recipient's account if it is ours and exists; `refusal` says why the
    /// stanza cannot go where it should.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn subscription_sent(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        session: &Arc<Session>,
        pending: Pending,
        contact: Option<&AccountRef>,
        refusal: Option<StanzaError>,
        stanza: Stanza,
        todo: &mut Todo,
    ) {
        let (Some(kind), Some(to)) = (crate::plan::subscription_kind(stanza.type_()), stanza.head.to.as_ref()) else {
            return;
        };
        let contact_jid = to.bare();
        // §3: from bare address to bare address, whichever session and resource were written.
        let mut stanza = stanza.clone().from(lock.jid.as_jid().clone()).to(contact_jid.as_jid().clone());
        let (mut a, mut b) = lock_pair(Some(lock), contact);
        let Some(account) = a.as_deref_mut() else { return };
        let mut words = Words::settling(session, pending);
        let mut contact_words = Words::default();
        let refusal = match self.gate(now, Dir::Sent, account, contact_jid.as_jid(), Some(session), &mut stanza) {
            Err(error) => Some(error),
            Ok(()) if contact_jid == account.jid => Some(None),
            // What is asked for or given needs rows; what is taken back frees them.
            Ok(()) if matches!(kind, Kind::Subscribe | Kind::Subscribed) && self.refuses_more() => {
                Some(Some(no_room()))
            }
            Ok(()) => refusal.map(Some),
        };
        if let Some(refusal) = refusal {
            if let Some(error) = refusal {
                words.says.push(Say::Send { to: session.id, stanza: stanza.error(&error).to(session.jid.clone()) });
            }
        } else if let Err(error) = self.run_outbound(account, &contact_jid, kind, &mut words) {
            words.says.push(Say::Send { to: session.id, stanza: stanza.error(&error).to(session.jid.clone()) });
        } else {
            words.or_else = OrElse::Bounce(Box::new(stanza.clone().from(session.jid.clone())));
            if let Some(contact) = b.as_deref_mut() {
                self.run_inbound(now, contact, &stanza, kind, &mut contact_words);
                // An answer that comes by itself must not be lost behind a commit that both rosters rest on.
                self.subscribe_here(now, account, &mut contact_words, &mut words);
            }
        }
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        if let Some(account) = a.as_deref_mut() {
            parts.push(Part { lock, account, words });
        }
        if let (Some(lock), Some(account)) = (contact, b.as_deref_mut()) {
            parts.push(Part { lock, account, words: contact_words });
        }
        self.finish(now, &mut parts, None, Vec::new(), todo);
    }

    /// One arrives for an account of ours from somebody whose side has been dealt with.
    pub(crate) fn subscription_received(&self, now: Timestamp, lock: &AccountRef, stanza: &Stanza, todo: &mut Todo) {
        let Some(kind) = crate::plan::subscription_kind(stanza.type_()) else { return };
        let mut account = lock.lock();
        let mut words = Words::default();
        self.run_inbound(now, &mut account, stanza, kind, &mut words);
        self.finish(now, &mut [Part { lock, account: &mut account, words }], None, Vec::new(), todo);
    }

    fn run_outbound(
        &self,
        account: &mut Account,
        contact: &BareJid,
        kind: Kind,
        words: &mut Words,
    ) -> Result<(), StanzaError> {
        let mut item = roster::newest(self, account, contact);
        let outcome = on_subscription(Direction::Outbound, item.state(), kind);
        let adds = !item.listed && outcome.push == Push::Yes;
        if adds && account.states.newest_len(self.tables.roster) >= self.bounds().contacts {
            return Err(roster::full());
        }
        if adds && !roster::has_room(self, account, contact, &roster::RosterItem { listed: true, ..item.clone() }) {
            return Err(roster::full());
        }
        self.apply(account, contact, &mut item, &outcome, None, words);
        self.follow(account, contact, outcome.presence, outcome.reply, words);
        Ok(())
    }

    /// What was to be sent to this account about its subscriptions happens to it at once, as its part of the stretch.
    pub(crate) fn subscribe_here(&self, now: Timestamp, party: &mut Account, words: &mut Words, theirs: &mut Words) {
        for say in std::mem::take(&mut words.says) {
            match say {
                Say::Route(Work { stanza, .. })
                    if stanza.head.to.as_ref().is_some_and(|to| to.as_str() == party.jid.as_str())
                        && crate::plan::subscription_kind(stanza.type_()).is_some() =>
                {
                    if let Some(kind) = crate::plan::subscription_kind(stanza.type_()) {
                        self.run_inbound(now, party, &stanza, kind, theirs);
                    }
                }
                say => words.says.push(say),
            }
        }
    }

    fn run_inbound(&self, now: Timestamp, account: &mut Account, stanza: &Stanza, kind: Kind, words: &mut Words) {
        let Some(from) = stanza.head.from.as_ref().map(|from| from.bare()) else { return };
        let mut stanza = stanza.clone();
        if self.gate(now, Dir::Received, account, from.as_jid(), None, &mut stanza).is_err() {
            return;
        }
        let mut item = roster::newest(self, account, &from);
        let outcome = on_subscription(Direction::Inbound, item.state(), kind);
        let request = match outcome.request {
            Request::Keep => match self.kept(account, &from, &stanza) {
                Some(request) => Some(request),
                None => {
                    tracing::warn!(account = %account.jid, "a subscription request is dropped: too many wait already");
                    return;
                }
            },
            Request::Leave | Request::Forget => None,
        };
        self.apply(account, &from, &mut item, &outcome, request, words);
        let interested = self.interested();
        let to = account.sessions.iter().filter(|session| match outcome.forward {
            Forward::No | Forward::Contact => false,
            Forward::Available => session.is_available(),
            Forward::Interested => session.has(interested),
        });
        for session in to {
            words.says.push(Say::Send { to: session.id, stanza: stanza.clone() });
        }
        self.follow(account, &from, outcome.presence, outcome.reply, words);
    }

    /// A request in the form in which it is kept until it is answered (§3.1.3 rule 4), if there is room for it.
    fn kept(&self, account: &Account, from: &BareJid, stanza: &Stanza) -> Option<String> {
        let (mut all, mut of_domain, mut bytes) = (0, 0, 0);
        let newest = account.states.newest_rows(self.tables.roster);
        for (contact, item) in newest.iter().filter(|(contact, _)| *contact != from) {
            let Some(request) = &item.request else { continue };
            all += 1;
            of_domain += usize::from(contact.domain() == from.domain());
            bytes += contact.as_str().len() + request.len();
        }
        let crowded = of_domain >= MAX_REQUESTS_OF_DOMAIN && from.domain() != account.jid.domain();
        if all >= MAX_REQUESTS || crowded {
            return None;
        }
        let room = |most: usize| most.saturating_sub(bytes + from.as_str().len());
        // A stanza is not written before it is known to be of about the right size.
        let fits = |stanza: &Stanza, most| {
            let near = stanza.weight() <= 2 * MAX_REQUEST;
            near.then(|| stanza.to_xml()).filter(|text| text.len() <= most)
        };
        let most = MAX_REQUEST.min(room(MAX_REQUEST_BYTES));
        let bare = reduced(stanza, &[]);
        fits(stanza, most)
            .or_else(|| fits(&reduced(stanza, READ), most))
            .or_else(|| Some(bare.to_xml()).filter(|text| text.len() <= room(2 * MAX_REQUEST_BYTES)))
    }

    fn apply(
        &self,
        account: &mut Account,
        contact: &BareJid,
        item: &mut roster::RosterItem,
        outcome: &crate::subscription::Outcome,
        request: Option<String>,
        words: &mut Words,
    ) {
        let before = item.clone();
        item.set_state(outcome.state);
        match outcome.request {
            Request::Leave => {}
            Request::Keep => item.request = request,
            Request::Forget => item.request = None,
        }
        let push = match outcome.push {
            Push::No => false,
            Push::IfListed => item.listed,
            Push::Yes => {
                item.listed = true;
                true
            }
        };
        if push || *item != before {
            words.says.extend(roster::store(self, account, contact, item.clone(), push));
        }
    }

    /// Presence and the automatic answer that the table asks for, after the commit.
    fn follow(&self, account: &Account, contact: &BareJid, presence: Presence, reply: Option<Kind>, words: &mut Words) {
        let mut says: SmallVec<[Say; 1]> = SmallVec::new();
        if presence == Presence::Unavailable {
            says.extend(gone(account, contact));
        }
        if let Some(kind) = reply {
            let type_ = match kind {
                Kind::Subscribe => Type::Subscribe,
                Kind::Subscribed => Type::Subscribed,
                Kind::Unsubscribe => Type::Unsubscribe,
                Kind::Unsubscribed => Type::Unsubscribed,
            };
            let stanza = Stanza::presence(type_).from(account.jid.as_jid().clone()).to(contact.as_jid().clone());
            says.push(Say::Route(Work { stanza, hops: 1, mode: Mode::Onward }));
        }
        if presence == Presence::Current {
            says.extend(here(account, contact));
        }
        // What the contact gets goes before the pushes to the user, but for the presence that follows an approval.
        words.says.extend(says);
    }
}

/// What a person reads of a request: who asks, by which name (XEP-0172), and why.
const READ: &[(Ns, &str)] = &[(ns::CLIENT, "status"), (ns::NICK, "nick")];

/// A request with some of its children, and its addresses and id.
fn reduced(stanza: &Stanza, children: &[(Ns, &str)]) -> Stanza {
    let mut request = Stanza::presence(stanza.type_());
    request.head = stanza.head.clone();
    children.iter().filter_map(|(ns, name)| stanza.get(*ns, name)).fold(request, Stanza::child)
}

/// `unavailable` from each available session (§3.2.2).
pub(crate) fn gone(account: &Account, contact: &BareJid) -> Vec<Say> {
    let each = account.available();
    each.map(|session| {
        let stanza = Stanza::presence(Type::Unavailable).from(session.jid.clone()).to(contact.as_jid().clone());
        Say::Route(Work { stanza, hops: 1, mode: Mode::Onward })
    })
    .collect()
}

/// The last presence of each available session (§3.1.5).
pub(crate) fn here(account: &Account, contact: &BareJid) -> Vec<Say> {
    let each = account.available();
    each.filter_map(|session| session.stream().presence.clone())
        .map(|stanza| {
            let stanza = stanza.to(contact.as_jid().clone());
            Say::Route(Work { stanza, hops: 1, mode: Mode::Onward })
        })
        .collect()
}
