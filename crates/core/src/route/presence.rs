//! Presence: broadcast, probes, directed presence (RFC 6121 §4).
//!
//! A broadcast waits for its commit as one stanza. When it is said it is judged for each peer by itself, and each receiver is
//! locked alone. A probe of a contact of ours is answered at once from the contact's sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::ns;
use vorpal_proto::stanza::{Stanza, Type};

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::module::hook::Dir;
use crate::owner::account::{Account, AccountRef, lock_pair};
use crate::owner::judge::{Judge, Withdrawal};
use crate::owner::tables::LastActivity;
use crate::owner::words::{Fan, Mode, OrElse, Say, Words, Work};
use crate::route::stretch::Origin;
use crate::session::{Out, Role, Session};

/// Maximum number of addresses to which a session has sent presence directly.
pub const MAX_DIRECTED: usize = 1_000;

/// Maximum size of these addresses in bytes: of 1,000 of 128 bytes. With [`crate::bounds::MAX_SESSIONS`] that is 6.4 MiB
/// for an account that does its worst.
pub const MAX_DIRECTED_BYTES: usize = 128 << 10;

/// Largest presence that a session may send, in bytes. One that is broadcast the server keeps, in memory and with the
/// session's row, for as long as the session is available, and sends it to everybody who asks. What clients send is below
/// 2 KiB.
pub const MAX_PRESENCE: usize = 16 << 10;

/// Longest text of a last `unavailable` that is kept (XEP-0012 §4), in bytes. A longer one is cut.
pub const MAX_LAST_STATUS: usize = 1_023;

/// Number of receivers that are looked up while the account of the sender is locked.
const SLICE: usize = 64;

impl Core {
    fn available(
        &self,
        account: &mut Account,
        session: &Arc<Session>,
        stanza: Stanza,
        priority: i8,
        words: &mut Words,
    ) {
        let before = session.priority();
        session.set_priority(Some(priority));
        // It may be kept for days, and what it was read with must not be.
        session.stream().set_presence(stanza.compacted());
        if priority < 0 {
            account.leaves_unread(session);
        }
        account.save_session(self, session);
        let directed = BTreeSet::new();
        words.says.push(Say::Broadcast { session: session.clone(), stanza, everybody: true, directed });
        if before.is_none() {
            words.says.push(Say::Probes { session: session.clone() });
        }
        if before.is_none_or(|p| p < 0) && priority >= 0 {
            words.says.push(Say::Join { session: session.clone() });
        }
    }

    /// Whether an account has a subscription to the presence of somebody. Both sides know of it, unless one of them comes from a
    /// backup that is older.
    fn sees(&self, account: &Account, from: &Jid) -> bool {
        account.states.rows(self.tables.roster).get(from.bare_str()).is_some_and(|item| item.state().sees_presence())
    }
}

impl Turn<'_> {
    /// Presence without `to`, from a session of ours (§4.2, §4.4, §4.5).
    pub(crate) fn broadcast(&mut self, origin: Origin<'_>, stanza: Stanza) {
        let Origin { lock, session, pending } = origin;
        let mut account = lock.lock();
        // Presence carries no promise; the session's row is written when it can be.
        let mut words = Words { or_else: OrElse::Same, ..Words::settling(session, pending) };
        match stanza.type_() {
            Type::None => match priority(&stanza).and_then(|priority| fits(&stanza).map(|()| priority)) {
                Ok(priority) => {
                    let comes = !session.is_available();
                    self.core.available(&mut account, session, stanza, priority, &mut words);
                    if comes {
                        self.core.company_changes(&mut Locked::new(lock, &mut account), session, false);
                    }
                }
                Err(error) => {
                    let answer = stanza.error(&error).from(lock.jid.as_jid().clone()).to(session.jid.clone());
                    words.says.push(Say::Send { to: session.id, stanza: answer });
                }
            },
            Type::Unavailable => {
                let was_here = session.is_available();
                self.unavailable(&mut account, session, stanza, &mut words);
                self.core.company_changes(&mut Locked::new(lock, &mut account), session, was_here);
                self.core.mark_dirty(&mut Locked::new(lock, &mut account));
            }
            // An error or a probe to nobody in particular says nothing.
            _ => {}
        }
        words.fan_out();
        self.say_alone(&mut Locked::new(lock, &mut account), words);
    }

    /// §4.5.2: to everybody who saw the session, and to those it spoke to directly (§4.6.3).
    pub(crate) fn unavailable(&self, account: &mut Account, session: &Arc<Session>, stanza: Stanza, words: &mut Words) {
        let directed = session.stream().take_directed();
        let everybody = session.is_available();
        if everybody || !directed.is_empty() {
            let (session, stanza) = (session.clone(), stanza.clone());
            words.says.push(Say::Broadcast { session, stanza, everybody, directed });
        }
        session.set_priority(None);
        session.stream().becomes_unavailable();
        account.leaves_unread(session);
        account.save_session(self.core, session);
        if account.available().next().is_none() {
            let mut status = stanza.get(ns::CLIENT, "status").map(|s| s.content()).unwrap_or_default();
            status.truncate(status.floor_char_boundary(MAX_LAST_STATUS));
            let last = LastActivity { time: self.now.as_millis(), status };
            account.states.stage(self.core.tables.last_activity, (), Some(last));
        }
    }

    /// A broadcast is said: to the account's own sessions at once, to all others when no lock is held any more.
    pub(crate) fn broadcast_said(&mut self, account: &mut Account, fan: Fan, stanza: Stanza) {
        if fan.everybody {
            // §4.2.2: the user's own available sessions, the one that speaks among them.
            let hears = |own: &&Arc<Session>| own.is_available() || own.id == fan.session.id;
            let own: SmallVec<[Arc<Session>; 4]> = account.sessions.iter().filter(hears).cloned().collect();
            for own in own {
                let out = Out::new(stanza.clone().to(account.jid.as_jid().clone()), None, Role::Extra);
                self.give(&mut Locked::new(&fan.lock, account), &own, out);
            }
        }
        self.todo.fans = true;
        self.todo.work.push_back(Work { stanza, hops: 1, mode: Mode::Fan(Arc::new(fan)) });
    }

    /// One presence for each peer that may see it, through the gate of each; some at a time, so that what is on its way is little
    /// however many there are.
    pub(crate) fn fan(&mut self, fan: &Fan, stanza: &Stanza) {
        let mut some: Vec<Work> = Vec::new();
        let mut after: Option<BareJid> = None;
        let mut more = fan.everybody;
        while more {
            {
                let account = fan.lock.lock();
                let rows = account.states.rows(self.core.tables.roster);
                some.reserve(rows.len().min(SLICE));
                let see = rows.after(after.as_ref()).filter(|(_, item)| item.state().shows_presence());
                let (mut last, mut seen) = (None, 0);
                for (contact, _) in see.take(SLICE) {
                    (last, seen) = (Some(contact), seen + 1);
                    let mut one = stanza.clone().to(contact.as_jid().clone());
                    if let Ok(mode) = self.gated(Dir::Sent, &account, contact.as_jid(), Some(&fan.session), &mut one) {
                        let mode = Mode::Subscriber { each: matches!(mode, Mode::EachSession) };
                        some.push(Work { stanza: one, hops: 1, mode });
                    }
                }
                more = seen == SLICE;
                after = last.filter(|_| more).cloned();
            }
            some.drain(..).for_each(|work| self.onward(work));
        }
        let mut directed = fan.directed.iter().peekable();
        while directed.peek().is_some() {
            {
                let account = fan.lock.lock();
                let roster = account.states.rows(self.core.tables.roster);
                for to in directed.by_ref().take(SLICE) {
                    let told_as_contact =
                        fan.everybody && roster.get(to.bare_str()).is_some_and(|item| item.state().shows_presence());
                    if told_as_contact && to.is_bare() {
                        continue;
                    }
                    let mut one = stanza.clone().to(to.clone());
                    if let Ok(mode) = self.gated(Dir::Sent, &account, to, Some(&fan.session), &mut one) {
                        // A session that is bound and not available does not hear what its bare address is told.
                        let mode = if told_as_contact { Mode::Unreached } else { mode };
                        some.push(Work { stanza: one, hops: 1, mode });
                    }
                }
            }
            some.drain(..).for_each(|work| self.onward(work));
        }
    }

    /// Presence with `to` that changes no subscription (§4.6). `refusal` is what is answered if it cannot get there: whoever
    /// enters a room, and what else is available, waits for an answer.
    pub(crate) fn directed(&mut self, origin: Origin<'_>, to: Jid, refusal: Option<StanzaError>, mut stanza: Stanza) {
        let Origin { lock, session, pending } = origin;
        let mut account = lock.lock();
        let mut words = Words::settling(session, pending);
        match self.gated(Dir::Sent, &account, &to, Some(session), &mut stanza) {
            Ok(mode) => {
                let error = match (stanza.type_(), refusal) {
                    (Type::None, Some(error)) => Some(error),
                    (Type::None | Type::Unavailable, None) => {
                        fits(&stanza).err().or_else(|| note_directed(session, &to, &stanza))
                    }
                    // §4.3: that a client probes is no reason for an error.
                    (Type::Probe, _) => None,
                    _ => note_directed(session, &to, &stanza),
                };
                words.says.push(match error {
                    Some(error) => Say::Send { to: session.id, stanza: stanza.error(&error) },
                    None => Say::Route(Work { stanza, hops: 1, mode }),
                });
            }
            Err(Some(error)) if stanza.is_answerable() => {
                words.says.push(Say::Send { to: session.id, stanza: stanza.error(&error) });
            }
            Err(_) => {}
        }
        self.core.mark_dirty(&mut Locked::new(lock, &mut account));
        words.fan_out();
        self.say_alone(&mut Locked::new(lock, &mut account), words);
    }

    /// Takes back what was sent directly. It was judged by the lists as they are to be: the gate is not asked again.
    pub(crate) fn withdraw(&mut self, at: &mut Locked<'_>, whom: &Withdrawal) {
        let Withdrawal { from: Judge(from), from_some_of: Judge(from_some_of) } = whom;
        let roster = at.account.states.rows(self.core.tables.roster);
        let mut changed = false;
        for session in &at.account.sessions {
            let mut stream = session.stream();
            let stream = &mut *stream;
            let named = |to: &&Jid| from(to) || (to.is_bare() && from_some_of(to));
            let all: Vec<Jid> = stream.directed().iter().filter(named).cloned().collect();
            for to in all {
                let told_as_contact = session.is_available()
                    && roster.get(to.bare_str()).is_some_and(|item| item.state().shows_presence());
                if from(&to) {
                    changed |= stream.remove_directed(&to);
                }
                let mode = match (to.is_bare(), told_as_contact) {
                    (true, true) => continue,
                    // Of the sessions there some may have been told before.
                    (true, false) => Mode::To(whom.from.clone()),
                    (false, true) => Mode::Unreached,
                    (false, false) => Mode::Onward,
                };
                let stanza = Stanza::presence(Type::Unavailable).from(session.jid.clone()).to(to);
                self.todo.work.push_back(Work { stanza, hops: 1, mode });
            }
        }
        if changed {
            self.core.mark_dirty(at);
        }
    }

    /// Presence arrives for a local account (§8.5.2.1.2, §8.5.3.1). An account that is not loaded has no session.
    pub(crate) fn presence_received(&mut self, lock: &AccountRef, stanza: Stanza, mode: &Mode) {
        let from = stanza.head.from.as_ref();
        let each = matches!(mode, Mode::EachSession | Mode::Subscriber { each: true });
        let sender = from.filter(|_| each).and_then(|from| self.core.loaded(from.bare_str()));
        let (sender, mut account) = match &sender {
            Some(sender) => lock_pair(Some(sender), Some(lock)),
            None => (None, Some(lock.lock())),
        };
        let Some(account) = account.as_deref_mut().filter(|account| !account.leaving) else { return };
        if matches!(mode, Mode::Subscriber { .. }) && !from.is_some_and(|from| self.core.sees(account, from)) {
            return;
        }
        // Behind what waits for its commit: presence must not overtake the subscription it follows from.
        let mut words = Words::default();
        self.presence_for(sender.as_deref(), account, stanza, mode, &mut words);
        self.say_alone(&mut Locked::new(lock, account), words);
    }

    /// Presence for the sessions that get it. `sender` is the account that it is from, where its gate is asked again.
    pub(crate) fn presence_for(
        &self,
        sender: Option<&Account>,
        account: &Account,
        mut stanza: Stanza,
        mode: &Mode,
        words: &mut Words,
    ) {
        let (Some(from), Some(to)) = (stanza.head.from.clone(), stanza.head.to.clone()) else { return };
        if self.gate(Dir::Received, account, &from, None, &mut stanza).is_err() {
            return;
        }
        let is_for = |session: &&Arc<Session>| match (mode, sender) {
            (Mode::EachSession | Mode::Subscriber { each: true }, Some(sender)) => {
                self.gate(Dir::Sent, sender, &session.jid, None, &mut stanza.clone()).is_ok()
            }
            (Mode::To(Judge(judge)), _) => judge(&session.jid),
            (Mode::Unreached, _) => !session.is_available(),
            _ => true,
        };
        let send = |session: &Arc<Session>| Say::Send { to: session.id, stanza: stanza.clone() };
        match to.resource() {
            Some(resource) => words.says.extend(account.by_resource(resource).filter(is_for).map(send)),
            None => words.says.extend(account.available().filter(is_for).map(send)),
        }
    }
}

/// Remembers to whom a session has shown itself (§4.6.3). An error if they are too many.
fn note_directed(session: &Session, to: &Jid, stanza: &Stanza) -> Option<StanzaError> {
    let mut stream = session.stream();
    match stanza.type_() {
        Type::None if stream.directed().contains(to) => {}
        Type::None => {
            let directed = stream.directed();
            let bytes = to.as_str().len() + directed.iter().map(|jid| jid.as_str().len()).sum::<usize>();
            if directed.len() >= MAX_DIRECTED || bytes > MAX_DIRECTED_BYTES {
                return Some(StanzaError::resource_constraint().with_text("too many recipients of directed presence"));
            }
            stream.add_directed(to);
        }
        _ => {
            stream.remove_directed(to);
        }
    }
    None
}

/// Whether a presence may be kept.
fn fits(stanza: &Stanza) -> Result<(), StanzaError> {
    if stanza.weight() <= MAX_PRESENCE {
        return Ok(());
    }
    Err(StanzaError::policy_violation("a presence is at most 16 KiB"))
}

impl Session {
    /// Whether it has sent presence to this address directly, or to the account of it.
    pub(crate) fn has_shown_itself_to(&self, jid: &Jid) -> bool {
        let stream = self.stream();
        stream.directed().contains(jid) || stream.directed().contains(&jid.bare().into_jid())
    }
}

impl Account {
    /// Whether a session has sent presence to somebody within this address, as it does to be in a room (XEP-0045 §7.2).
    pub fn has_joined(&self, room: &Jid) -> bool {
        let within = |to: &Jid| to.is_full() && to.bare_str() == room.bare_str();
        self.sessions.iter().any(|session| session.stream().directed().iter().any(within))
    }
}

/// §4.7.2.3: −128 to 127, 0 if none is provided: an element without text provides none.
fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    let text = stanza.get(ns::CLIENT, "priority").map(|element| element.content()).unwrap_or_default();
    match text.trim() {
        "" => Ok(0),
        number => number.parse().map_err(|_| StanzaError::bad_request("priority is a number from -128 to 127")),
    }
}
