//! Submission: the parts of a stretch become one batch of the writer.

use crate::commit::refusal;
use crate::core::flights::Flight;
use crate::core::turn::Turn;
use crate::owner::account::{Account, AccountRef};
use crate::owner::words::{Draft, Part};
use crate::session::ledger::Pending;
use crate::store::load::Load;
use crate::store::{Batch, BatchId, EntryId, NewEntry, Row, Write, flags};
use bytes::Bytes;
use smallvec::SmallVec;

impl Turn<'_> {
    pub(crate) fn submit(
        &self,
        parts: &mut [Part<'_>],
        mut draft: Option<Draft>,
        writes: &mut Vec<Write>,
    ) -> (BatchId, Option<EntryId>) {
        // A batch that comes from a session says how far the session is handled once it is committed: all that the
        // session sent before is settled, or stands in the queue before this batch, or is owed and rides on it.
        let conditional = refusal::gather(parts, writes);
        for part in parts.iter_mut() {
            let Some(session) = part.words.of.clone() else { continue };
            if !conditional {
                part.take_debts(self.core, &session);
            }
            let Some(Pending(n)) = part.words.settles else { continue };
            let mut stream = session.stream();
            if stream.is_resumable() {
                stream.progress_rows(self.core.progress, session.id, n, writes);
                stream.set_conditional(conditional);
            }
        }
        let load = |owner| {
            let draft = draft.as_ref()?;
            let side = draft.sides.iter().flatten().find(|side| side.owner == owner)?;
            Some(Load::of(side, draft.body.len()))
        };
        let loads: SmallVec<[Option<Load>; 2]> = parts.iter().map(|p| load(p.account.owner)).collect();
        let mut owners: SmallVec<[_; 2]> = parts.iter().map(|p| p.account.owner).collect();
        let mut accounts: SmallVec<[AccountRef; 2]> = parts.iter().map(|p| p.lock.clone()).collect();
        let updates = parts.iter().any(|p| p.account.states.is_staged());
        for side in draft.iter().flat_map(|draft| draft.sides.iter().flatten()) {
            if let Some(part) = parts.iter_mut().find(|part| part.account.owner == side.owner) {
                part.account.log.loose |= side.flags & flags::ARCHIVED == 0;
            }
        }
        let mut given = (BatchId(0), None);
        let open = self.core.journal.submit(self.now, &mut |ids| {
            let id = ids.batch();
            parts.iter_mut().for_each(|part| put_rows(part.account, id, writes));
            for part in parts.iter_mut() {
                part.log_debts(self.now, ids, writes);
            }
            let entry = draft.take().map(|draft| {
                let entry_id = ids.entry();
                writes.push(Write::Log(Box::new(NewEntry {
                    id: entry_id,
                    time: self.now.as_millis(),
                    sides: draft.sides,
                    body: draft.body,
                })));
                entry_id
            });
            given = (id, entry);
            self.core.flights.lock().insert(id, Flight::Accounts(std::mem::take(&mut accounts)));
            let (owners, writes) = (std::mem::take(&mut owners), std::mem::take(writes));
            Batch { id, now: self.now.as_millis(), owners, updates, writes }
        });
        if !open {
            // The server is stopping: nothing is promised any more, and nothing is said of it.
            parts.iter_mut().for_each(|part| part.account.states.discard());
        }
        for (part, load) in parts.iter_mut().zip(loads) {
            for (entry, load) in part.words.debts.iter().filter_map(|debt| Some((debt.entry?, debt.load))) {
                part.account.log.submitted(entry, load);
            }
            if let Some(entry) = given.1 {
                let load = load.unwrap_or_default();
                part.words.charged = load.archived();
                part.account.log.submitted(entry, load);
            }
        }
        given
    }
}

/// What is staged in an account becomes writes of a batch.
pub(crate) fn put_rows(account: &mut Account, batch: BatchId, writes: &mut Vec<Write>) {
    let (owner, mut rows) = (account.owner, Vec::new());
    account.states.submit(batch, &mut rows);
    writes.extend(rows.into_iter().map(|row| Write::Put {
        map: row.map,
        owner,
        key: row.key.into(),
        row: row.value.map(|value| Row {
            value: value.into(),
            reverse: row.reverse.map(|key| Bytes::from_static(key.as_bytes())),
            expires: None,
        }),
    }));
}
