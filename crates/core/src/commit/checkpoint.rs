//! What was sent to a session, by number: stored with every commit, so that the `h` of a resumption counts after a restart too
//! (XEP-0198 §5).
//!
//! Stanzas that were sent and not acknowledged have numbers, and those that stand in the log have entries. A row for each session
//! says which number is which entry. The writer asks for the rows of all sessions to which anything was sent since
//! ([`Core::checkpoints`]) with every group that it commits, whatever that is about: after a crash only what was sent since the
//! last commit is sent once more. An orderly stop writes the rows of all sessions: then nothing comes again that `h` covers, and
//! an `h` beyond what was sent is refused.
//!
//! A row carries no promise: if it is lost, stanzas come once more, under the same ids.

use std::sync::Arc;

use bytes::Bytes;
use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::core::checkpoints::Due;
use crate::owner::account::AccountRef;
use crate::session::Session;
use crate::session::checkpoint::key;
use crate::store::{self, Batch, Reader, Row, STORE, Write};

/// Maximum number of rows in one commit. Those of other sessions go with the next one.
const MAX_ROWS: usize = 1_024;

/// The key of the row that counts the runs of the server.
const RUN: &[u8] = b"run";

impl Core {
    /// Something was sent: the session's row goes with the next commit.
    pub(crate) fn checkpoint_is_due(&self, lock: &AccountRef, session: &Arc<Session>) {
        self.checkpoints.due.lock().push((lock.clone(), session.clone()));
    }

    /// The rows of sessions to which anything was sent since they were written last. To be called by the writer for each group of
    /// batches, just before it is committed; they go with it, behind everything else, and nobody needs to know what became of
    /// them.
    pub fn checkpoints(&self) -> Vec<Write> {
        let mut taken = self.checkpoints.taken.lock();
        self.take_due(&mut taken);
        self.rows_of(&mut taken)
    }

    fn take_due(&self, taken: &mut Due) {
        let mut due = self.checkpoints.due.lock();
        let most = if self.checkpoints.runs.is_stopping() { usize::MAX } else { MAX_ROWS };
        let first = due.len().min(most);
        taken.extend(due.drain(..first));
    }

    fn rows_of(&self, taken: &mut Due) -> Vec<Write> {
        let stopping = self.checkpoints.runs.is_stopping();
        let run = if stopping { self.checkpoints.runs.number() } else { 0 };
        let mut writes = Vec::with_capacity(taken.len());
        for (lock, session) in taken.drain(..) {
            // The writer waits for nobody. What the account is given while its session is looked at would be taken for something
            // that is not in the log.
            let Some(account) = lock.try_lock() else {
                self.checkpoints.due.lock().push((lock.clone(), session));
                continue;
            };
            let row = session.stream().checkpoint(account.horizon(), account.log.stored, run, &self.checkpoints.runs);
            drop(account);
            let Some(row) = row.map(|row| Row::from(row.encode())) else { continue };
            writes.push(Write::Put { map: self.progress, owner: STORE, key: key(session.id), row: Some(row) });
        }
        writes
    }

    /// Rows are due, and perhaps nothing else is: a commit of nothing takes them along. False if none is due. A row of an account
    /// that is in use when the writer asks for it is due again: whoever stops the server calls this until it is false.
    pub fn commit_checkpoints(&self, now: Timestamp) -> bool {
        let due = !self.checkpoints.due.lock().is_empty();
        if due {
            self.journal.submit(now, &mut |ids| Batch { id: ids.batch(), now: now.as_millis(), ..Batch::default() });
        }
        due
    }

    /// Nothing more is sent in this run: the rows of all sessions are due.
    pub(crate) fn last_checkpoints(&self, now: Timestamp) {
        self.checkpoints.runs.stop();
        for lock in self.all_loaded() {
            let sessions = lock.lock().sessions.clone();
            for session in sessions {
                // Also one that is due: the writer may be at its row, as one that is not the last.
                self.checkpoint_is_due(&lock, &session);
            }
        }
        self.commit_checkpoints(now);
    }

    /// A run begins. Its number must be stored before anything is sent.
    pub(crate) fn begin_run(&self, now: Timestamp, reader: &mut dyn Reader) -> store::Result<()> {
        let before = reader.map_get(self.progress, STORE, RUN)?;
        let before = before.and_then(|row| row.value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        self.checkpoints.runs.begin(before + 1);
        let row = Some(Row::from(Bytes::copy_from_slice(&(before + 1).to_be_bytes())));
        let write = Write::Put { map: self.progress, owner: STORE, key: Bytes::from_static(RUN), row };
        let mut writes = vec![write];
        self.journal.submit(now, &mut |ids| Batch {
            id: ids.batch(),
            now: now.as_millis(),
            writes: std::mem::take(&mut writes),
            ..Batch::default()
        });
        Ok(())
    }
}
