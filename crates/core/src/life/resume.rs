//! A connection takes over a session (XEP-0198 §5): whether it may (`Core::resume`), and what it is sent.
//!
//! A session that can be resumed outlives its connection (`detach.rs`); how it outlives the process is in `revive.rs`.

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::AccountRef;
use crate::owner::words::{Say, Words};
use crate::route::reading::LOST;
use crate::session::nonzas;
use crate::session::{Carrier, Session, checkpoint};
use crate::store::{Row, STORE, Write};
use crate::watch::counts::Count;
use crate::watch::trace::Step;

/// Why a session cannot be resumed, with the count to tell the client if it is known (XEP-0198 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchSession {
    /// how many of its stanzas were handled
    pub h: Option<u32>,
}

impl Core {
    /// XEP-0198 §5: a connection takes a session over. The old connection, if there is one, is closed; `<resumed/>` is
    /// said by [`Core::resumed`] when [`Core::level`] says so. Gives the session and the number of the connection that
    /// carries it.
    ///
    /// # Errors
    /// There is no such session of this account.
    pub(crate) fn resume(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        token: &str,
        h: u32,
        carrier: Carrier,
    ) -> Result<(Arc<Session>, u32), NoSuchSession> {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            let found = account.sessions.iter().find(|s| s.stream().token().is_some_and(|t| same(t, token)));
            // Checked before anything is taken over: an old connection may have had this in its buffers.
            let found = found.filter(|s| s.stream().can_have(h, &self.checkpoints.runs));
            // What its client wrote on a connection that it has given up since: it counts on the newer one by now.
            let found = found.filter(|s| s.stream().is_older_than(carrier.order));
            let found = found.filter(|_| account.revocations == carrier.revocations);
            let Some(session) = found.cloned() else {
                // Committed, as everything that is said; and what is being deleted is not told any more.
                let ended = account.states.rows(self.tables.ended).get(token);
                let ended = ended.filter(|_| account.states.newest(self.tables.ended, &token.to_owned()).is_some());
                self.counts.one(Count::NotResumed);
                return Err(NoSuchSession { h: ended.map(|ended| ended.h) });
            };
            session.stream().replace();
            turn.refuse_inquiries(&mut Locked::new(lock, &mut account), &session, LOST);
            turn.log_what_is_not(&mut Locked::new(lock, &mut account), &session);
            turn.renumber(&mut Locked::new(lock, &mut account), &session, h);
            let epoch = session.attach(carrier);
            self.deadlines.forget(session.id);
            Ok((session, epoch))
        })
    }

    /// The client says it has handled `h`: what it has not is sent again, behind `<resumed/>`. An error if it claims more
    /// than was sent.
    pub fn resumed(&self, now: Timestamp, lock: &AccountRef, session: &Arc<Session>, h: u32) -> bool {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            if account.session(session.id).is_none() {
                // It has ended meanwhile, and its stream says so.
                return true;
            }
            let back = session.stream().is_restored();
            let taken = session.stream().acked_at_resumption(h);
            match taken {
                Err(_) => false,
                Ok(entries) => {
                    self.counts.one(if back { Count::Revived } else { Count::Resumed });
                    self.step(now, &account.jid, || Step::named("resumed").in_session(session));
                    tracing::debug!(session = %session.jid, "resumed");
                    self.took(&mut Locked::new(lock, &mut account), session, &entries);
                    {
                        let mut stream = session.stream();
                        stream.rewind();
                        stream.answer_again(back);
                        let answer = nonzas::resumed(stream.token().unwrap_or_default(), stream.ledger().h());
                        stream.push_first(answer);
                    }
                    let registry = account.host.registry();
                    turn.session_event(&mut Locked::new(lock, &mut account), session, &registry.on_resume);
                    if back {
                        turn.catch_up(&account, lock, session);
                        turn.session_event(&mut Locked::new(lock, &mut account), session, &registry.on_revive);
                    }
                    true
                }
            }
        })
    }
}

impl Turn<'_> {
    /// Somebody resumes a session for the first time after a restart: see [`Stream::renumber`]. [`Core::level`] waits for the row.
    ///
    /// [`Stream::renumber`]: crate::session::Stream::renumber
    fn renumber(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, h: u32) {
        let (taken, row) = session.stream().renumber(h);
        self.core.took(at, session, &taken);
        let Some(row) = row else { return };
        let mut rows = Vec::with_capacity(2);
        let handled = {
            let mut stream = session.stream();
            stream.row_begun();
            let handled = stream.ledger().handled();
            stream.progress_rows(self.core.progress, session.id, handled, &mut rows);
            handled
        };
        let row = Some(Row::from(row.encode()));
        rows.push(Write::Put { map: self.core.progress, owner: STORE, key: checkpoint::key(session.id), row });
        let words = Words::of_says([Say::Stored { session: session.clone(), handled }]);
        self.finish_one(at, words, None, rows);
    }
}

/// Equal, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}
