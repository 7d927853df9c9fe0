//! Subscription stanzas on their way: the table of RFC 6121 Appendix A, run for the sender, then for the recipient.
//!
//! Their home is both rosters: one batch, under both locks.

use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::stanza::{self, Stanza, Type};

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::module::hook::Dir;
use crate::owner::account::{Account, AccountRef, lock_both};
use crate::owner::contacts;
use crate::owner::roster::{self, MAX_REQUEST, MAX_REQUEST_BYTES, MAX_REQUESTS, MAX_REQUESTS_OF_DOMAIN, RosterItem};
use crate::owner::words::{Mode, OrElse, Part, Say, Words, Work};
use crate::route::destination::Destination;
use crate::route::plan::subscription_kind;
use crate::route::stretch::Origin;
use crate::rules::subscription::{
    Direction, Forward, FromHalf, Kind, Outcome, Presence, Push, Request, on_subscription,
};
use crate::session::Session;
use crate::store::{Owner, STORE};
use crate::watch::reserve::no_room;

/// The number of a sender's account that is ours and not in memory: no account has it.
const UNKNOWN: Owner = Owner::MAX;

/// What an account keeps of a contact.
struct Known {
    /// the number of the account that has the contact's address now; [`STORE`] if none of ours has it
    owner: Owner,
    /// what counts
    item: RosterItem,
    /// what is stored
    stored: RosterItem,
}

impl Core {
    /// What the user refuses of a contact to whom nothing is routed because it is blocked (XEP-0191 §3.3): that is known to the user
    /// alone, an approval in advance (RFC 6121 §3.4.2) or a request that waits for an answer. Otherwise the request would come again
    /// once the contact is blocked no more, though the user has answered it.
    fn refuse_quietly(&self, account: &mut Account, contact: &BareJid, owner: Owner, kind: Kind, words: &mut Words) {
        let known = self.known(account, contact, owner, kind);
        let state = known.stored.state();
        if kind == Kind::Unsubscribed && matches!(state.from, FromHalf::Pending | FromHalf::PreApproved) {
            let outcome = on_subscription(Direction::Outbound, state, kind);
            self.apply(account, contact, known, &outcome, None, words);
        }
    }

    /// What is kept of a contact who is to be sent a stanza, or has sent it.
    ///
    /// §3.4: an approval in advance is one of the account that had the address when it was given. The account's own roster does not
    /// say who has approved it, so its removal cannot end the approval everywhere: it ends here, when somebody else has the address.
    /// A request that was maybe not meant is for the user to answer.
    fn known(&self, account: &Account, contact: &BareJid, owner: Owner, kind: Kind) -> Known {
        let stored = contacts::newest(&self.tables, account, contact);
        let mut item = stored.clone();
        if item.approved_of != owner && (owner != UNKNOWN || kind == Kind::Subscribe) {
            item.disapprove();
        }
        Known { owner, item, stored }
    }

    /// Ends the account's side of its subscription, as if it had unsubscribed and cancelled (RFC 6121 §3.2, §3.3). The contact is
    /// not told of it here.
    pub(crate) fn parted(&self, account: &mut Account, contact: &BareJid, words: &mut Words) {
        for kind in [Kind::Unsubscribe, Kind::Unsubscribed] {
            let stored = contacts::newest(&self.tables, account, contact);
            let outcome = on_subscription(Direction::Outbound, stored.state(), kind);
            let known = Known { owner: stored.approved_of, item: stored.clone(), stored };
            self.apply(account, contact, known, &outcome, None, words);
        }
    }

    /// A request in the form in which it is kept until it is answered (§3.1.3 rule 4), if there is room for it.
    fn kept(&self, account: &mut Account, from: &BareJid, stanza: &Stanza) -> Option<String> {
        let before = contacts::newest(&self.tables, account, from)
            .request
            .map_or(0, |request| from.as_str().len() + request.len());
        let again = usize::from(before > 0);
        let requests = contacts::requests(&self.tables, account);
        let (all, bytes) = (requests.all - again, requests.bytes - before);
        let of_domain = requests.of_domain(from.domain()) - again;
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
        known: Known,
        outcome: &Outcome,
        request: Option<String>,
        words: &mut Words,
    ) {
        let Known { owner, mut item, stored } = known;
        item.set_state(outcome.state, owner);
        match outcome.request {
            Request::Leave => {}
            Request::Keep => item.request = request,
            Request::Forget => item.request = None,
        }
        let push = match outcome.push {
            // An approval that was of somebody else is over.
            Push::No => item.listed && item.approved != stored.approved,
            Push::IfListed => item.listed,
            Push::Yes => {
                item.listed = true;
                true
            }
        };
        if push || item != stored {
            words.says.extend(self.store_contact(account, contact, item, push));
        }
    }
}

impl Turn<'_> {
    /// A session of ours sends one. `contact` is the recipient's account if it is ours and exists; `refusal` says why the
    /// stanza cannot go where it should.
    pub(crate) fn subscription_sent(
        &mut self,
        origin: Origin<'_>,
        contact: Option<&AccountRef>,
        refusal: Option<StanzaError>,
        stanza: Stanza,
    ) {
        let Origin { lock, session, pending } = origin;
        let (Some(kind), Some(to)) = (subscription_kind(stanza.type_()), stanza.head.to.as_ref()) else {
            return;
        };
        let contact_jid = to.bare();
        // §3: from bare address to bare address, whichever session and resource were written.
        let mut stanza = stanza.clone().from(lock.jid.as_jid().clone()).to(contact_jid.as_jid().clone());
        let (mut a, b) = lock_both(Some(lock), contact);
        let mut b = b.filter(|b| !b.deleted);
        let contact = contact.filter(|_| b.is_some());
        let Some(account) = a.as_deref_mut() else { return };
        let mut words = Words::settling(session, pending);
        let mut contact_words = Words::default();
        let owner = b.as_deref().map_or(STORE, |contact| contact.owner);
        let refusal = match self.gate(Dir::Sent, account, contact_jid.as_jid(), Some(session), &mut stanza) {
            Err(error) => {
                self.core.refuse_quietly(account, &contact_jid, owner, kind, &mut words);
                Some(error)
            }
            Ok(()) if contact_jid == account.jid => Some(None),
            // What is asked for or given needs rows; what is taken back frees them.
            Ok(()) if matches!(kind, Kind::Subscribe | Kind::Subscribed) && self.core.refuses_more() => {
                Some(Some(no_room()))
            }
            Ok(()) => refusal.map(Some),
        };
        if let Some(refusal) = refusal {
            if let Some(error) = refusal {
                let answer = stanza.error(&error).to(session.jid.clone());
                if account.states.is_staged() {
                    words.or_else = OrElse::Answer(Box::new(answer.clone()));
                }
                words.says.push(Say::Send { to: session.id, stanza: answer });
            }
        } else if let Err(error) = self.run_outbound(account, &contact_jid, owner, kind, &stanza, &mut words) {
            words.says.push(Say::Send { to: session.id, stanza: stanza.error(&error).to(session.jid.clone()) });
        } else {
            words.or_else = OrElse::Bounce(Box::new(stanza.from(session.jid.clone())));
            if let Some(contact) = b.as_deref_mut() {
                self.presence_here(account, contact, &mut words, &mut contact_words);
                // An answer that comes by itself must not be lost behind a commit that both rosters rest on.
                self.presence_here(contact, account, &mut contact_words, &mut words);
            }
        }
        let mut parts: SmallVec<[Part<'_>; 2]> = SmallVec::new();
        if let Some(account) = a.as_deref_mut() {
            parts.push(Part { lock, account, words });
        }
        if let (Some(lock), Some(account)) = (contact, b.as_deref_mut()) {
            parts.push(Part { lock, account, words: contact_words });
        }
        self.finish(&mut parts, None, Vec::new());
    }

    /// One arrives for an account of ours from somebody whose side has been dealt with.
    pub(crate) fn subscription_received(&mut self, lock: &AccountRef, stanza: &Stanza, silent: bool) {
        let Some(kind) = subscription_kind(stanza.type_()) else { return };
        let owner = stanza.head.from.as_ref().map_or(STORE, |from| match self.core.destination(from) {
            Destination::Account => self.core.loaded(from.bare_str()).map_or(UNKNOWN, |sender| sender.owner),
            _ => STORE,
        });
        let mut account = lock.lock();
        if account.leaving {
            return;
        }
        let mut words = Words::default();
        self.run_inbound(&mut account, owner, stanza, (kind, silent), &mut words);
        self.finish_one(&mut Locked::new(lock, &mut account), words, None, Vec::new());
    }

    fn run_outbound(
        &self,
        account: &mut Account,
        contact: &BareJid,
        owner: Owner,
        kind: Kind,
        stanza: &Stanza,
        words: &mut Words,
    ) -> Result<(), StanzaError> {
        let known = self.core.known(account, contact, owner, kind);
        let item = &known.item;
        let outcome = on_subscription(Direction::Outbound, item.state(), kind);
        let adds = !item.listed && outcome.push == Push::Yes;
        if adds && account.states.newest_len(self.core.tables.roster) >= self.core.bounds().contacts {
            return Err(roster::full());
        }
        if adds
            && !contacts::has_room(
                &self.core.tables,
                account,
                contact,
                &RosterItem { listed: true, ..item.clone() },
                self.core.bounds().roster_bytes,
            )
        {
            return Err(roster::full());
        }
        self.core.apply(account, contact, known, &outcome, None, words);
        // What changes nothing for the contact, such as an approval before the request, is not for the contact (§3.4.2).
        let routed = Some(stanza).filter(|_| outcome.forward == Forward::Contact);
        self.follow(account, contact, &outcome, routed, words);
        Ok(())
    }

    /// What one account says to this one by presence happens to it at once, in the order in which it is said, as its part of
    /// the stretch. To one that is being removed, only what is taken back: it may stay after all.
    pub(crate) fn presence_here(&self, account: &Account, party: &mut Account, words: &mut Words, theirs: &mut Words) {
        for say in std::mem::take(&mut words.says) {
            let here = |stanza: &Stanza| {
                let to = stanza.head.to.as_ref().map(|to| to.as_str());
                let heard = !party.leaving || takes_back(stanza.type_());
                stanza.kind() == stanza::Kind::Presence && to == Some(party.jid.as_str()) && heard
            };
            match say {
                Say::Route(Work { stanza, mode, .. }) if here(&stanza) => match subscription_kind(stanza.type_()) {
                    Some(kind) => {
                        let silent = matches!(mode, Mode::Silent);
                        self.run_inbound(party, account.owner, &stanza, (kind, silent), theirs);
                    }
                    None => self.presence_for(Some(account), party, stanza, &mode, theirs),
                },
                say => words.says.push(say),
            }
        }
    }

    /// `owner`: the number of the sender's account; [`STORE`] if it is not known, or not ours. A `silent` one changes the state, and is
    /// not delivered: its sender blocks the account.
    pub(crate) fn run_inbound(
        &self,
        account: &mut Account,
        owner: Owner,
        stanza: &Stanza,
        (kind, silent): (Kind, bool),
        words: &mut Words,
    ) {
        let Some(from) = stanza.head.from.as_ref().map(|from| from.bare()) else { return };
        let mut stanza = stanza.clone();
        // Of somebody who is blocked nothing is delivered (XEP-0191 §3). But what ends or grants a subscription changes the
        // state: else the two rosters would no longer fit each other.
        let blocked = self.gate(Dir::Received, account, from.as_jid(), None, &mut stanza).is_err();
        if blocked && kind == Kind::Subscribe {
            return;
        }
        let known = self.core.known(account, &from, owner, kind);
        let outcome = on_subscription(Direction::Inbound, known.item.state(), kind);
        let request = match outcome.request {
            Request::Keep => match self.core.kept(account, &from, &stanza) {
                Some(request) => Some(request),
                None => {
                    if let Some(requests) = self.core.conditions.requests.met(self.now, 1) {
                        tracing::warn!(
                            requests,
                            account = %account.jid,
                            "subscription requests dropped: too many are pending"
                        );
                    }
                    return;
                }
            },
            Request::Leave | Request::Forget => None,
        };
        // §3.1.6, §3.2.3, §3.3.3: before the push.
        let interested = self.core.interested();
        let to = account.sessions.iter().filter(|session| match outcome.forward {
            Forward::No | Forward::Contact => false,
            Forward::Available => session.is_available(),
            Forward::Interested => session.has(interested),
        });
        for session in to.filter(|_| !blocked && !silent) {
            words.says.push(Say::Send { to: session.id, stanza: stanza.clone() });
        }
        self.core.apply(account, &from, known, &outcome, request, words);
        if !account.leaving {
            self.follow(account, &from, &outcome, None, words);
        }
    }

    /// What the contact is told after the commit: presence, the stanza itself, and the automatic answer, as the table asks
    /// for them, each in its place.
    fn follow(
        &self,
        account: &Account,
        contact: &BareJid,
        outcome: &Outcome,
        stanza: Option<&Stanza>,
        words: &mut Words,
    ) {
        // §3.2.2: while the contact is still subscribed.
        if outcome.presence == Presence::Unavailable {
            words.says.extend(self.passing(account, contact, gone(account, contact)).map(Say::Route));
        }
        let reply = outcome.reply.map(|kind| {
            let type_ = match kind {
                Kind::Subscribe => Type::Subscribe,
                Kind::Subscribed => Type::Subscribed,
                Kind::Unsubscribe => Type::Unsubscribe,
                Kind::Unsubscribed => Type::Unsubscribed,
            };
            Stanza::presence(type_).from(account.jid.as_jid().clone()).to(contact.as_jid().clone())
        });
        words.says.extend(stanza.cloned().into_iter().chain(reply).map(onward));
        if outcome.presence == Presence::Current {
            words.says.extend(self.passing(account, contact, here(account, contact)).map(Say::Route));
        }
    }

    /// Of these presences of the account's sessions those that may go to the contact.
    pub(crate) fn passing(
        &self,
        account: &Account,
        contact: &BareJid,
        each: Vec<(Arc<Session>, Stanza)>,
    ) -> impl Iterator<Item = Work> {
        each.into_iter().filter_map(move |(session, mut stanza)| {
            let mode = self.gated(Dir::Sent, account, contact.as_jid(), Some(&session), &mut stanza).ok()?;
            Some(Work { stanza, hops: 1, mode })
        })
    }
}

/// Whether it ends a subscription or a request.
pub(crate) fn takes_back(type_: Type) -> bool {
    matches!(type_, Type::Unsubscribe | Type::Unsubscribed)
}

fn onward(stanza: Stanza) -> Say {
    Say::Route(Work { stanza, hops: 1, mode: Mode::Onward })
}

/// What a person reads of a request: who asks, by which name (XEP-0172), and why.
const READ: &[(Ns, &str)] = &[(ns::CLIENT, "status"), (ns::NICK, "nick")];

/// A request with some of its children, and its addresses and id.
fn reduced(stanza: &Stanza, children: &[(Ns, &str)]) -> Stanza {
    let mut request = Stanza::presence(stanza.type_());
    request.head = stanza.head.clone();
    children.iter().filter_map(|(ns, name)| stanza.get(*ns, name)).fold(request, Stanza::child)
}

/// `unavailable` from each available session (§3.2.2), with the session.
pub(crate) fn gone(account: &Account, contact: &BareJid) -> Vec<(Arc<Session>, Stanza)> {
    let each = account.available();
    each.map(|session| {
        let stanza = Stanza::presence(Type::Unavailable).from(session.jid.clone()).to(contact.as_jid().clone());
        (session.clone(), stanza)
    })
    .collect()
}

/// The last presence of each available session (§3.1.5), with the session.
pub(crate) fn here(account: &Account, contact: &BareJid) -> Vec<(Arc<Session>, Stanza)> {
    let each = account.available();
    each.filter_map(|session| {
        Some((session.clone(), session.stream().presence().cloned()?.to(contact.as_jid().clone())))
    })
    .collect()
}
