//! The connection is gone, and the session stays (XEP-0198 §5): what it holds and the log does not is written to the log.

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::log::LogMeta;
use crate::owner::plan::Targets;
use crate::owner::words::{Draft, Say, Words};
use crate::route::reading::LOST;
use crate::session::{Closing, Out, Session, SessionId, Shared};
use crate::store::EntryId;
use crate::watch::counts::Count;
use crate::watch::trace::Step;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};

impl Core {
    /// The connection is gone. A session that can be resumed stays; any other ends.
    pub fn detach(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, epoch: u32) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            if session.stream().epoch() != epoch || account.session(session.id).is_none() {
                return;
            }
            turn.detach_locked(&mut Locked::new(lock, &mut account), session);
        })
    }
}

impl Turn<'_> {
    pub(crate) fn detach_locked(&mut self, at: &mut Locked<'_>, session: &Arc<Session>) {
        if !session.stream().can_wait() {
            self.end(at, session, Closing::Normal);
            return;
        }
        self.refuse_inquiries(at, session, LOST);
        self.log_what_is_not(at, session);
        let horizon = at.account.horizon();
        let mut stream = session.stream();
        stream.detach(self.core.steady(), at.account.log.received);
        for entry in stream.hibernate(horizon) {
            at.account.log.release(entry);
        }
        if !stream.is_reading() {
            // What comes now is left to the log.
            stream.read_from(horizon, horizon);
        }
        session.set_attached(false);
        if let Some(end) = stream.deadline() {
            self.core.deadlines.set(&at.account.jid, session.id, end);
        }
        self.core.counts.one(Count::Detached);
        self.step(&at.account.jid, || Step::named("detached").in_session(session));
        tracing::debug!(session = %session.jid, "detached");
    }

    /// What a session holds and the log does not gets there now.
    pub(crate) fn log_what_is_not(&mut self, at: &mut Locked<'_>, session: &Arc<Session>) {
        let waiting: Vec<_> = at.account.waiting.iter_mut().flat_map(|w| w.take_unlogged(session.id)).collect();
        self.log_what_it_holds(at, session);
        // What waits behind a commit for this session goes to the end of what waits: ids ascend there.
        for (stanza, to) in waiting {
            let from = stanza.head.from.clone().unwrap_or_else(|| at.account.jid.as_jid().clone());
            let meta = LogMeta { targets: to.clone(), ..LogMeta::default() };
            let draft = Draft::new(&stanza, [Some(meta.received(at.account, &from)), None]);
            let words = Words { says: [Say::Deliver { stanza, to }].into_iter().collect(), ..Words::default() };
            self.finish_one(at, words, Some(draft), Vec::new());
        }
    }

    /// What a session was given without a place in the log gets one, in its order; what several sessions hold gets it for all of
    /// them. Each list is gone through twice, however long it is.
    fn log_what_it_holds(&mut self, at: &mut Locked<'_>, session: &Arc<Session>) {
        let given = |out: &mut Out| (out.stanza.clone(), out.shared.clone(), out.since);
        let held: Vec<_> = session.stream().unlogged().map(given).collect();
        if held.is_empty() {
            return;
        }
        let place = |shared: &Arc<Shared>| Arc::as_ptr(shared) as usize;
        let mut holders: HashMap<usize, Targets> = HashMap::new();
        if held.iter().any(|(_, shared, _)| shared.is_some()) {
            for holder in &at.account.sessions {
                for shared in holder.stream().unlogged().filter_map(|out| out.shared.as_ref()) {
                    holders.entry(place(shared)).or_default().push(holder.id);
                }
            }
        }
        let mut own: VecDeque<EntryId> = VecDeque::new();
        let mut common: HashMap<usize, EntryId> = HashMap::new();
        for (stanza, shared, since) in &held {
            let shared = shared.as_ref().map(place);
            if shared.is_some_and(|shared| common.contains_key(&shared)) {
                continue;
            }
            let targets = shared.and_then(|shared| holders.remove(&shared));
            let targets = targets.unwrap_or_else(|| [session.id].into_iter().collect());
            let from = stanza.head.from.clone().unwrap_or_else(|| at.account.jid.as_jid().clone());
            let meta = LogMeta { targets, since: *since, ..LogMeta::default() };
            let draft = Draft::new(stanza, [Some(meta.received(at.account, &from)), None]);
            self.finish_one(at, Words::default(), Some(draft), Vec::new());
            match shared {
                Some(shared) => drop(common.insert(shared, at.account.log.last)),
                None => own.push_back(at.account.log.last),
            }
        }
        for holder in at.account.sessions.clone() {
            let mut entries: Vec<EntryId> = Vec::new();
            let mut stream = holder.stream();
            for out in stream.unlogged() {
                out.entry = match &out.shared {
                    Some(shared) => common.get(&place(shared)).copied(),
                    None if holder.id == session.id => own.pop_front(),
                    None => None,
                };
                entries.extend(out.entry);
            }
            stream.note_had(&entries);
            drop(stream);
            entries.into_iter().for_each(|entry| at.account.log.hold(entry));
        }
    }

    /// A session reached its bound: its connection goes, and it is resumed later or ends.
    pub(crate) fn lagging(&mut self, lock: &AccountRef, id: SessionId) {
        let mut account = lock.lock();
        let Some(session) = account.session(id).cloned().filter(|s| s.is_attached()) else { return };
        tracing::warn!(session = %session.jid, "the client does not read: its connection is closed");
        let old = session.stream().connection();
        if session.stream().can_wait() {
            self.detach_locked(&mut Locked::new(lock, &mut account), &session);
            session.stream().let_go();
        } else {
            // Said with an error: an end without one would answer a client that closes its stream.
            let error = StreamError::from(StreamCondition::ResourceConstraint).with_text("the client does not read");
            self.end(&mut Locked::new(lock, &mut account), &session, Closing::Error(error));
        }
        if let Some(old) = old {
            old.wake();
        }
    }
}
