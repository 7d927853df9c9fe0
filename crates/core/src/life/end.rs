//! A session ends for good: what it held goes elsewhere, contacts see it go, its rows are deleted.

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::{Account, AccountRef};
use crate::owner::tables::{DirectedKey, Ended};
use crate::owner::words::{Mode, OrElse, Say, Words, Work};
use crate::session::Remains;
use crate::session::{Closing, Role, Session, SessionId, checkpoint};
use crate::store::{STORE, Write};
use crate::watch::counts::Count;
use crate::watch::trace::Step;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StanzaError, StreamCondition, StreamError};
use vorpal_proto::stanza::{Kind, Stanza, Type};

/// Number of ended sessions remembered for an account: the newest.
const MAX_ENDED: usize = 16;

impl Core {
    /// The client closed its stream. Not if the connection has been replaced: then the session is no longer its own to end. A
    /// clean end says that everything was handled; where something was not, it is an error.
    pub fn hang_up(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, epoch: u32) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            if session.epoch() != epoch {
                return;
            }
            let owes = session.stream().debts() > 0;
            let closing = match owes {
                true => Closing::Error(StreamCondition::ResourceConstraint.into()),
                false => Closing::Normal,
            };
            turn.end(&mut Locked::new(lock, &mut account), session, closing);
        })
    }

    /// The stream was closed by its client, or by us: the session ends (RFC 6120 §4.4).
    pub fn close(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, error: Option<StreamError>) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            let closing = error.map_or(Closing::Normal, Closing::Error);
            turn.end(&mut Locked::new(lock, &mut account), session, closing);
        })
    }

    /// The rows of a session that ended go.
    pub(crate) fn forget_session(&self, account: &mut Account, id: SessionId, words: &mut Words) -> Vec<Write> {
        account.states.stage(self.tables.sessions, id, None);
        for jid in account.directed_rows(self, id) {
            account.states.stage(self.tables.directed, DirectedKey(id, jid), None);
        }
        words.says.push(Say::Forgotten { id });
        let keys = [Bytes::copy_from_slice(&id.to_be_bytes()), checkpoint::key(id)];
        keys.map(|key| Write::Put { map: self.progress, owner: STORE, key, row: None }).into()
    }
}

impl Turn<'_> {
    /// Ends a session for good: what it held and nobody took goes elsewhere, contacts see it go.
    pub(crate) fn end(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, closing: Closing) {
        if at.account.session(session.id).is_none() {
            return;
        }
        let registry = at.account.host.registry();
        self.session_event(at, session, &registry.on_close);
        let mut words = Words { or_else: OrElse::Same, ..Words::default() };
        let gone = Stanza::presence(Type::Unavailable).from(session.jid.clone());
        let was_here = session.is_available();
        self.unavailable(at.account, session, gone, &mut words);
        self.core.company_changes(at, session, was_here);
        at.account.sessions.retain(|s| s.id != session.id);
        self.core.deadlines.forget(session.id);
        self.remember_ended(at.account, session, &closing);
        let Remains { held, was_reading, resumable } = session.stream().end(closing);
        session.set_attached(false);
        let mut orphans = was_reading && at.account.log.has_open();
        for out in held {
            match (out.entry, out.role, out.stanza.kind()) {
                (Some(entry), Role::Planned | Role::Missed, _) => orphans |= at.account.log.release(entry),
                // Another session holds it, or has taken it.
                (None, Role::Planned | Role::Missed, Kind::Message)
                    if out.shared.as_ref().is_some_and(|s| !s.is_last()) => {}
                (None, Role::Planned | Role::Missed, Kind::Message) => {
                    words.says.push(Say::Route(Work { stanza: out.stanza, hops: 1, mode: Mode::Again(out.since) }));
                }
                // RFC 6121 §8.5.3.2.3: whoever waits for an answer is told that none will come.
                (None, Role::Extra, Kind::Iq) if out.stanza.is_answerable() && out.stanza.head.from.is_some() => {
                    let stanza = out.stanza.error(&StanzaError::service_unavailable());
                    words.says.push(Say::Route(Work { stanza, hops: 1, mode: Mode::Onward }));
                }
                _ => {}
            }
        }
        if orphans {
            at.account.log.missed = true;
        }
        at.account.advance();
        let mut writes = Vec::new();
        if resumable {
            writes = self.core.forget_session(at.account, session.id, &mut words);
            session.stream().drop_answers(self.core.progress, session.id, &mut writes);
        }
        self.finish_one(at, words, None, writes);
        self.core.counts.one(Count::Ended);
        self.step(&at.account.jid, || Step::named("ended").in_session(session));
        tracing::debug!(session = %session.jid, "ended");
    }

    /// A session without a connection keeps in the log what its account receives, also where others have taken it: but no more
    /// than may wait for the account. One that is further behind ends.
    pub(crate) fn end_far_behind(&mut self, at: &mut Locked<'_>) {
        let (received, most) = (at.account.log.received, self.core.offline_bytes());
        let behind = |session: &&Arc<Session>| session.stream().is_behind(received, most);
        let far: SmallVec<[Arc<Session>; 2]> = at.account.sessions.iter().filter(behind).cloned().collect();
        for session in far {
            tracing::info!(session = %session.jid, "the client missed too many messages: its session has ended");
            self.end(at, &session, Closing::Normal);
        }
    }

    /// Unless the client itself closed the stream, it may come back and ask.
    fn remember_ended(&self, account: &mut Account, session: &Session, closing: &Closing) {
        let (token, h) = {
            let stream = session.stream();
            let closed = stream.connection().is_some() && matches!(closing, Closing::Normal);
            let token = stream.token().filter(|_| stream.is_resumable() && !closed);
            let Some(token) = token.map(str::to_owned) else { return };
            (token, stream.h_at_end())
        };
        let ended = self.core.tables.ended;
        let known = account.states.newest_keys(ended);
        if known.len() >= MAX_ENDED {
            let at = |key: &String| account.states.newest(ended, key).map_or(0, |ended| ended.at);
            if let Some(oldest) = known.iter().min_by_key(|key| at(key)).cloned() {
                account.states.stage(ended, oldest, None);
            }
        }
        account.states.stage(ended, token, Some(Ended { h, at: self.now.as_millis() }));
    }
}
