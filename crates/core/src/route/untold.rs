//! What a session is told when it becomes available, or is back after a restart: who else is there (RFC 6121 §4.3), which
//! requests wait (§3.1.3 rule 4), and how the roster has changed.
//!
//! All of it together may be more than a session's queue takes: one contact may have 50 sessions with 16 KiB of presence
//! each. So the session has a list of what it has not been told yet, by name, and is told the next of it whenever little
//! waits to be written. Each item is looked up when its turn comes, and is what holds then.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::stanza::{Stanza, Type};

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::module::hook::Dir;
use crate::owner::account::AccountRef;
use crate::owner::contacts;
use crate::owner::words::{Arrival, Mode, Say, Words, Work};
use crate::rules::subscription::ToHalf;
use crate::session::untold::Untold;
use crate::session::{Out, Pushed, Role, Session, SessionId};

impl Core {
    /// Changes of the roster that the client of a session missed, in their order.
    pub(crate) fn missed_changes(&self, session: &Session, contacts: impl IntoIterator<Item = BareJid>) {
        session.stream().set_changes(contacts);
    }

    /// Tells the session what it has not been told, as long as little waits to be written to it. To be called when it is
    /// woken.
    pub fn tell_on(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>) {
        if !session.stream().may_be_told() {
            return;
        }
        self.turn(now, |turn| {
            turn.tell_next(lock, session);
        })
    }

    /// The sessions of a contact of ours that may be seen by who asks; and if it is `back` after a restart, the addresses of
    /// those that are not.
    fn sessions_shown(&self, contact: &BareJid, asker: &Jid, back: bool) -> (Vec<SessionId>, Vec<Jid>) {
        let Some(contact) = self.loaded(contact.as_str()) else { return Default::default() };
        let contact = contact.lock();
        if !contacts::shows_presence(&self.tables, &contact, asker.bare_str()) {
            return Default::default();
        }
        let gone = if back { contact.gone_company(self) } else { Vec::new() };
        (contact.available().map(|session| session.id).collect(), gone)
    }
}

impl Turn<'_> {
    /// A session became available, or is back.
    pub(crate) fn arrives(&mut self, arrival: &Arrival) {
        let Arrival { lock, session, back } = arrival;
        {
            let account = lock.lock();
            let rows = account.states.rows(self.core.tables.roster);
            let own = account.available().filter(|other| other.id != session.id).map(|other| Untold::Own(other.id));
            let contacts = rows.iter().filter(|(_, item)| item.state().to == ToHalf::Yes);
            let contacts = contacts.map(|(jid, _)| Untold::Contact { jid: jid.clone(), back: *back });
            let requests = rows.iter().filter(|(_, item)| item.request.is_some());
            let requests = requests.map(|(jid, _)| Untold::Request(jid.clone()));
            // What of its own account's sessions did not come back.
            let gone = if *back { account.gone_company(self.core) } else { Vec::new() };
            let gone = gone.into_iter().map(Untold::Stale);
            session.stream().set_untold(gone.chain(own).chain(contacts).chain(requests));
        }
        self.tell_next(lock, session);
    }

    fn tell_next(&mut self, lock: &AccountRef, session: &Arc<Session>) {
        loop {
            let next = session.stream().next_untold();
            let Some(next) = next else { return };
            let stanza = match next {
                Untold::Change(contact) => {
                    let account = lock.lock();
                    let (meta, rows) = contacts::committed(&self.core.tables, &account);
                    rows.get(contact.as_str()).map(|item| self.core.roster_push(session, &meta, &contact, item))
                }
                Untold::Own(id) => {
                    let account = lock.lock();
                    let other = account.session(id).filter(|other| other.is_available());
                    let presence = other.and_then(|other| other.stream().presence().cloned());
                    presence.map(|presence| presence.to(session.jid.clone()))
                }
                Untold::Contact { jid, back } => {
                    let (sessions, gone) = self.core.sessions_shown(&jid, lock.jid.as_jid(), back);
                    if !sessions.is_empty() {
                        let each = sessions.into_iter().map(|id| Untold::Session(jid.clone(), id));
                        let gone = gone.into_iter().rev().map(Untold::Stale);
                        session.stream().tell_first(gone.chain(each));
                        continue;
                    }
                    let gone = back.then(|| unavailable(jid.as_jid(), &session.jid));
                    match self.core.loaded(jid.as_str()) {
                        Some(contact) => {
                            gone.and_then(|gone| self.went(&mut Locked::new(&contact, &mut contact.lock()), gone))
                        }
                        None => gone,
                    }
                }
                Untold::Session(contact, id) => self.presence_of(&contact, id, lock.jid.as_jid(), &session.jid),
                Untold::Stale(from) => self.presence_now(&from, lock.jid.as_jid(), &session.jid),
                Untold::Request(contact) => {
                    let account = lock.lock();
                    let item = account.states.rows(self.core.tables.roster).get(contact.as_str());
                    item.and_then(|item| Stanza::parse(item.request.as_ref()?).ok())
                }
            };
            let Some(mut stanza) = stanza else { continue };
            let account = lock.lock();
            if let (Some(from), false) = (stanza.head.from.clone(), subscribes(&stanza))
                && from.bare_str() != lock.jid.as_str()
                && self.gate(Dir::Received, &account, &from, None, &mut stanza).is_err()
            {
                continue;
            }
            let from = stanza.head.from.clone();
            match session.push(Out::new(stanza, None, Role::Extra)) {
                Pushed::Queued => {}
                // Little waits, and it does not fit: it is not tried again and again.
                Pushed::Left => from.iter().for_each(|from| session.stream().forget_stale(from)),
                Pushed::Full => {
                    self.todo.lagging.push((lock.clone(), session.id));
                    return;
                }
            }
        }
    }

    /// §4.3.2: the presence of one of the contact's sessions, if the one who asks may know it.
    fn presence_of(&self, contact: &BareJid, id: SessionId, asker: &Jid, to: &Jid) -> Option<Stanza> {
        let contact = self.core.loaded(contact.as_str())?;
        let contact = contact.lock();
        if !contacts::shows_presence(&self.core.tables, &contact, asker.bare_str()) {
            return None;
        }
        let session = contact.session(id).filter(|session| session.is_available())?;
        let presence = session.stream().presence().cloned()?;
        let mut stanza = presence.to(to.clone());
        self.gate(Dir::Sent, &contact, to, Some(session), &mut stanza).ok()?;
        Some(stanza)
    }
}

impl Turn<'_> {
    /// The presence of a session of ours as it is now: its own, or that it went. Nothing if it may not be known, or if it was
    /// sent to nobody else.
    fn presence_now(&mut self, from: &Jid, asker: &Jid, to: &Jid) -> Option<Stanza> {
        let lock = self.core.loaded(from.bare_str())?;
        let mut account = lock.lock();
        if from.bare_str() != asker.bare_str()
            && !contacts::shows_presence(&self.core.tables, &account, asker.bare_str())
        {
            return None;
        }
        let session = from.resource().and_then(|resource| account.by_resource(resource));
        let Some(session) = session.filter(|session| session.is_available()) else {
            return self.went(&mut Locked::new(&lock, &mut account), unavailable(from, to));
        };
        let presence = session.stream().presence().cloned()?;
        let mut stanza = presence.to(to.clone());
        self.gate(Dir::Sent, &account, to, Some(session), &mut stanza).ok()?;
        Some(stanza)
    }

    /// That somebody of this account went. While that may be on its way to the disk it is said behind it: if the server is killed
    /// before, the session is back.
    fn went(&mut self, at: &mut Locked<'_>, gone: Stanza) -> Option<Stanza> {
        if at.account.waiting.is_empty() {
            return Some(gone);
        }
        let gone = Work { stanza: gone, hops: 1, mode: Mode::Onward };
        self.say_alone(at, Words::of_says([Say::Route(gone)]));
        None
    }
}

fn unavailable(from: &Jid, to: &Jid) -> Stanza {
    Stanza::presence(Type::Unavailable).from(from.clone()).to(to.clone())
}

fn subscribes(stanza: &Stanza) -> bool {
    crate::route::plan::subscription_kind(stanza.type_()).is_some()
}
