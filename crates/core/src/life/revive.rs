//! What is stored of sessions, and how they come back after a restart (XEP-0198 §5).
//!
//! A session that can be resumed has two rows: [`SessionRow`], which changes seldom, and one that says how far it is handled,
//! which rides on the batches of its own stanzas. Directed presence has a row for each address. After a restart the session
//! is back as detached, available as it was, and nobody saw it go. When its client resumes, the session reads the log from what
//! the client is known to have, and is told what else it missed and would not ask for: presence, changes of the roster, and
//! what modules push.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::{Account, AccountRef};
use crate::owner::contacts;
use crate::owner::tables::DirectedKey;
use crate::owner::words::{Arrival, Say, Words};
use crate::session::checkpoint::{self, Checkpoint};
use crate::session::row::SessionRow;
use crate::session::{Session, SessionId, answers};
use crate::store::{self, MapQuery, Reader, STORE, Write};

impl Core {
    /// Cursors are written without promise: after a crash the last second is sent again under the same ids.
    ///
    /// Gives what is to be written besides what is staged, and what is said when it is.
    pub(crate) fn cursors(&self, at: &mut Locked<'_>) -> (Words, Vec<Write>) {
        let mut words = Words::default();
        let mut writes = Vec::new();
        let cursor = at.account.log.cursor();
        let horizon = at.account.horizon();
        for session in at.account.sessions.iter() {
            let mut stream = session.stream();
            if !stream.is_resumable() {
                continue;
            }
            if stream.is_conditional() {
                // Not before its outcome is known; then also if it says what it said before.
                stream.forget_progress();
                continue;
            }
            stream.advance_cursor(horizon);
            // Nobody waits for this row, unless it is the last word.
            let stopping = self.checkpoints.runs.is_stopping();
            let handled = match stopping {
                true => stream.ledger().handled(),
                false => stream.handled_without_answers(),
            };
            if at.account.unsaved || stream.is_row_due(handled) || (stopping && stream.has_gone_answers()) {
                stream.progress_rows(self.progress, session.id, handled, &mut writes);
                let handled = stream.ledger().submitted();
                words.says.push(Say::Noted { session: session.clone(), handled });
            }
        }
        if cursor > at.account.log.stored {
            at.account.log.stored = cursor;
            let stored = at.account.log.stored_cursor();
            at.account.states.stage(self.tables.cursor, (), Some(stored));
        }
        self.wants_trim(at);
        let unsaved = std::mem::take(&mut at.account.unsaved);
        for session in at.account.sessions.clone() {
            if unsaved || at.account.has_newer_roster(self, &session) {
                at.account.save_session(self, &session);
            }
            at.account.save_directed(self, &session, unsaved);
        }
        self.forget_gone(at.account, &mut words, &mut writes);
        (words, writes)
    }

    /// The rows of sessions that ended, and whose deletion came to nothing, go.
    pub(crate) fn forget_gone(&self, account: &mut Account, words: &mut Words, writes: &mut Vec<Write>) {
        for id in std::mem::take(&mut account.gone) {
            writes.extend(self.forget_session(account, id, words));
            writes.push(answers::clear(self.progress, id));
        }
    }
}

impl Account {
    /// Stages the row of a session that can be resumed.
    pub(crate) fn save_session(&mut self, core: &Core, session: &Session) {
        let row = {
            let mut stream = session.stream();
            let ver = contacts::committed(&core.tables, self).0.ver;
            if session.has(core.interested()) && (stream.roster_ver() == 0 || stream.is_quiet()) {
                stream.set_roster_ver(ver);
            }
            let token = stream.token().filter(|_| stream.is_resumable());
            let Some(token) = token.map(str::to_owned) else { return };
            SessionRow {
                resource: session.jid.resource().unwrap_or_default().into(),
                token,
                since: stream.since(),
                keep: stream.keep(),
                priority: session.priority(),
                presence: stream.presence().map(Stanza::to_xml),
                joined: stream.joined(),
                flags: core.names.flag_names(session.flags()),
                roster: stream.roster_ver(),
            }
        };
        self.states.stage(core.tables.sessions, session.id, Some(row));
    }

    /// Whether the client has, for all that is known, a newer roster than is stored with the session.
    fn has_newer_roster(&self, core: &Core, session: &Session) -> bool {
        let stream = session.stream();
        stream.is_resumable() && session.has(core.interested()) && {
            stream.is_quiet() && stream.roster_ver() != contacts::committed(&core.tables, self).0.ver
        }
    }

    /// Stages whom the session has sent presence to since the last time; or whatever differs from what is stored.
    fn save_directed(&mut self, core: &Core, session: &Session, all: bool) {
        let mut stream = session.stream();
        let mut changed: BTreeSet<Jid> = stream.take_directed_changes();
        if !stream.is_resumable() {
            return;
        }
        if all {
            changed.extend(self.directed_rows(core, session.id));
            changed.extend(stream.directed().iter().cloned());
        }
        for jid in changed {
            let value = stream.directed().contains(&jid).then_some(true);
            let key = DirectedKey(session.id, jid);
            if self.states.newest(core.tables.directed, &key).copied() != value {
                self.states.stage(core.tables.directed, key, value);
            }
        }
    }

    /// Whom the session has sent presence to, as far as is stored.
    pub(crate) fn directed_rows(&self, core: &Core, id: SessionId) -> Vec<Jid> {
        let rows = self.states.rows(core.tables.directed).keys();
        rows.filter(|key| key.0 == id).map(|key| key.1.clone()).collect()
    }
}

impl Core {
    /// The server stops: every session that can be resumed lets go of its connection, without an end of its stream, and what
    /// it holds gets into the log. To be called when nothing is read any more; then [`Core::tick`] when all is written.
    pub fn suspend(&self, now: Timestamp) {
        self.turn(now, |turn| {
            for lock in self.all_loaded() {
                let mut account = lock.lock();
                for session in account.sessions.clone() {
                    let wake = {
                        let stream = session.stream();
                        stream.connection().filter(|_| stream.is_resumable())
                    };
                    let Some(wake) = wake else { continue };
                    turn.detach_locked(&mut Locked::new(&lock, &mut account), &session);
                    session.stream().let_go();
                    wake.wake();
                }
                self.mark_dirty(&mut Locked::new(&lock, &mut account));
            }
        });
        self.last_checkpoints(now);
    }
}

impl Turn<'_> {
    /// A client is back after a restart: what it missed and will not ask for (XEP-0198 §5). Presence and requests are those of a
    /// session that just became available; besides, contacts that are not here any more, and changes of the roster.
    pub(crate) fn catch_up(&mut self, account: &Account, lock: &AccountRef, session: &Arc<Session>) {
        if session.has(self.core.interested()) {
            let (meta, rows) = contacts::committed(&self.core.tables, account);
            let known = session.stream().roster_ver();
            // Of one that is too old the removed contacts are not known; the client has them until it asks.
            let mut changed: Vec<_> =
                rows.iter().filter(|(_, item)| item.ver > known && item.ver <= meta.ver).collect();
            changed.sort_by_key(|(_, item)| item.ver);
            self.core.missed_changes(session, changed.into_iter().map(|(contact, _)| contact.clone()));
        }
        if session.is_available() {
            self.todo.arrivals.push(Arrival { lock: lock.clone(), session: session.clone(), back: true });
        }
    }
}

/// What is stored of how far a session is.
#[derive(Default)]
pub(crate) struct Progress {
    /// whose
    id: SessionId,
    /// what was handled
    handled: Option<Bytes>,
    /// what was sent
    checkpoint: Option<Bytes>,
    /// the answers to what was handled, by number
    answers: Vec<(u64, Stanza)>,
}

impl Core {
    /// Reads how far a session is.
    pub(crate) fn read_progress(&self, id: SessionId, reader: &mut dyn Reader) -> store::Result<Progress> {
        let mut row = |key: &[u8]| Ok(reader.map_get(self.progress, STORE, key)?.map(|row| row.value));
        let handled = row(&id.to_be_bytes())?;
        let checkpoint = row(&checkpoint::key(id))?;
        let mut answers = Vec::new();
        if handled.as_ref().is_some_and(|row| row.get(16).is_some()) {
            let prefix = answers::prefix(id);
            let query = MapQuery { prefix: &prefix, limit: 2 * answers::MAX_KEPT, ..MapQuery::default() };
            let rows = reader.map_range(self.progress, STORE, query)?;
            answers.extend(rows.iter().filter_map(|row| answers::read(&row.key, &row.row.value)));
        }
        Ok(Progress { id, handled, checkpoint, answers })
    }
}

/// Brings the stored sessions of an account back as detached. `progress`: their rows of that name, as far as there are any.
pub(crate) fn restore(core: &Core, account: &mut Account, mut progress: Vec<Progress>) {
    let steady = core.steady();
    let mut rows: Vec<(SessionId, SessionRow)> =
        account.states.rows(core.tables.sessions).iter().map(|(id, row)| (*id, row.clone())).collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.since));
    for (id, row) in rows {
        // One that was replaced or gave way, and whose rows could not be deleted any more.
        if account.by_resource(&row.resource).is_some() || account.sessions.len() >= core.bounds().sessions {
            account.gone.push(id);
            continue;
        }
        let number = |bytes: Option<&[u8]>| bytes.and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let stored = progress.iter_mut().find(|stored| stored.id == id).map(std::mem::take).unwrap_or_default();
        let checkpoint = stored.checkpoint.as_deref().and_then(Checkpoint::decode);
        let progress = stored.handled.as_deref();
        let handled = progress.and_then(|value| number(value.get(..8))).unwrap_or(0);
        let cursor = progress.and_then(|value| number(value.get(8..16))).unwrap_or(account.log.cursor());
        let cursor = checkpoint.as_ref().map_or(cursor, |checkpoint| checkpoint.cursor.max(cursor));
        let Ok(jid) = account.jid.as_jid().with_resource(&row.resource) else { continue };
        let session = Session::new(id, jid, &core.bounds());
        session.restore_flags(core.names.flag_bits(&row.flags));
        session.set_priority(row.priority);
        {
            let mut stream = session.stream();
            stream.restore(&row, handled, cursor, steady);
            // As when they were taken: see `took`.
            let for_all = row.priority.is_some_and(|p| p >= 0);
            for (id, owed) in checkpoint.iter().flat_map(|known| &known.taken) {
                if *owed || for_all {
                    account.log.take(*id);
                }
            }
            stream.restore_checkpoint(checkpoint);
            stream.restore_answers(stored.answers.into_iter().filter(|(n, _)| *n <= handled));
            session.set_counted();
            stream.restore_directed(account.directed_rows(core, id));
            let from = account.log.cursor().min(cursor) + 1;
            stream.read_from(from, cursor + 1);
            stream.leave_to_log(account.log.last);
        }
        account.log.missed &= session.priority().is_none_or(|p| p < 0);
        account.sessions.push(Arc::new(session));
    }
    account.guard_sessions();
}
