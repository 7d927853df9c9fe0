//! Answers to IQs that `h` covers: kept until the client has acknowledged them, also over a crash.
//!
//! A client that is told that its IQ was handled does not send it again (XEP-0198 §4), and whoever sent a request gets an answer
//! (RFC 6120 §8.2.3). So where a row says that an IQ of this number was handled, its answer is stored with it, in the same
//! batch, unless the client has acknowledged it by then. What follows `<resumed/>` begins with the answers that the client has not
//! had. See docs/decisions/0014.
//!
//! Invariant: for each IQ that a stored `h` covers the answer is stored, or the client has acknowledged it.

use std::collections::VecDeque;

use bytes::Bytes;
use vorpal_proto::stanza::Stanza;

use crate::session::flags::SessionId;
use crate::session::out::{KEPT_BYTES, Out, Role};
use crate::session::queue::Item;
use crate::session::stream::Stream;
use crate::small::lists::push_one;
use crate::store::{MapId, Row, STORE, Write};

/// Maximum number of answers of one session that are kept and not acknowledged. More do not fit into its queue, but where its
/// client never acknowledges. Beyond it the oldest are kept no longer.
pub(crate) const MAX_KEPT: usize = 1_024;

/// Maximum size of these, in bytes.
const MAX_KEPT_BYTES: usize = crate::bounds::MAX_QUEUED_BYTES;

const _: () = assert!(size_of::<Kept>() <= KEPT_BYTES);

/// In the mark of an answer to an IQ that does not count any more: the client sends it again, under this number or another.
const VOID: u64 = 1 << 63;

/// The answers of a session. Most have none.
#[derive(Default)]
pub(crate) struct Answers {
    /// by the number of the IQ, ascending
    kept: VecDeque<Kept>,
    bytes: usize,
    /// acknowledged, and still stored
    gone: Vec<u64>,
    /// what is stored may differ from what is known here
    anew: bool,
}

struct Kept {
    /// the number of the IQ as `h` counts it
    n: u64,
    answer: Stanza,
    /// a batch has it
    written: bool,
}

impl Answers {
    /// Those that were stored, by number.
    pub fn restored(stored: impl IntoIterator<Item = (u64, Stanza)>) -> Answers {
        let mut answers = Answers::default();
        for (n, answer) in stored {
            answers.keep(n, answer);
        }
        answers.kept.iter_mut().for_each(|kept| kept.written = true);
        answers
    }

    fn at(&self, n: u64) -> Result<usize, usize> {
        self.kept.binary_search_by_key(&n, |kept| kept.n)
    }

    /// The answer to the IQ of this number, in the place of one that was kept before.
    fn keep(&mut self, n: u64, answer: Stanza) {
        self.bytes += answer.weight();
        match self.at(n) {
            Ok(at) => {
                self.bytes -= self.kept[at].answer.weight();
                self.kept[at] = Kept { n, answer, written: false };
            }
            Err(at) if at == self.kept.len() => push_one(&mut self.kept, Kept { n, answer, written: false }),
            Err(at) => self.kept.insert(at, Kept { n, answer, written: false }),
        }
        while self.kept.len() > MAX_KEPT || (self.bytes > MAX_KEPT_BYTES && self.kept.len() > 1) {
            let oldest = self.kept[0].n;
            self.forget(oldest);
        }
    }

    /// It needs to be kept no longer.
    fn forget(&mut self, n: u64) {
        let Some(kept) = self.at(n).ok().and_then(|at| self.kept.remove(at)) else { return };
        self.bytes -= kept.answer.weight();
        if kept.written {
            self.gone.push(n);
        }
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.gone.is_empty() && !self.anew
    }

    /// The rows that bring what is stored in line with what is kept of the first `upto` IQs. True if any was added.
    fn rows(&mut self, map: MapId, session: SessionId, upto: u64, writes: &mut Vec<Write>) -> bool {
        if std::mem::take(&mut self.anew) {
            self.gone.clear();
            self.kept.iter_mut().for_each(|kept| kept.written = false);
            writes.push(clear(map, session));
        }
        self.deletions(map, session, writes);
        let mut any = false;
        for kept in self.kept.iter_mut().take_while(|kept| kept.n <= upto).filter(|kept| !kept.written) {
            kept.written = true;
            any = true;
            let row = Some(Row::from(Bytes::from(kept.answer.to_xml())));
            writes.push(Write::Put { map, owner: STORE, key: key(session, kept.n), row });
        }
        any
    }

    fn deletions(&mut self, map: MapId, session: SessionId, writes: &mut Vec<Write>) {
        let rows = self.gone.drain(..);
        writes.extend(rows.map(|n| Write::Put { map, owner: STORE, key: key(session, n), row: None }));
    }
}

/// How the keys of a session's answers begin.
pub(crate) fn prefix(session: SessionId) -> Bytes {
    let mut key = [b'a'; 9];
    key[..8].copy_from_slice(&session.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

fn key(session: SessionId, n: u64) -> Bytes {
    Bytes::from([&prefix(session)[..], &n.to_be_bytes()].concat())
}

/// The answer in a stored row, and its number.
pub(crate) fn read(key: &[u8], row: &[u8]) -> Option<(u64, Stanza)> {
    let n = u64::from_be_bytes(*key.last_chunk::<8>()?);
    Some((n, Stanza::parse(std::str::from_utf8(row).ok()?).ok()?))
}

/// All answers of a session go.
pub(crate) fn clear(map: MapId, session: SessionId) -> Write {
    // As many as were kept may have gone and still be stored.
    let limit = u32::try_from(2 * MAX_KEPT).unwrap_or(u32::MAX);
    Write::Clear { map, owner: STORE, prefix: prefix(session), limit }
}

impl Stream {
    /// Keeps the answer to the IQ of this number until the client has acknowledged it. Gives what the stanza is to be marked
    /// with ([`Out::answering`]); 0 if no `h` that outlives the connection will ever cover the IQ.
    pub(crate) fn keep_answer(&mut self, n: u64, answer: Stanza) -> u64 {
        let n = self.ledger.counted(n);
        if n > 0 && self.is_resumable() {
            self.answers.get_or_insert_default().keep(n, answer);
            return n;
        }
        0
    }

    /// The mark of an answer that is kept ([`Stream::keep_answer`]); 0 if there is none.
    pub(crate) fn kept_answer(&self, n: u64) -> u64 {
        let n = self.ledger.counted(n);
        let kept = self.answers.as_ref().is_some_and(|answers| answers.at(n).is_ok());
        if kept { n } else { 0 }
    }

    /// The client has the answer of this mark, or is never to have it.
    pub(super) fn answer_is_gone(&mut self, mark: u64) {
        if let Some(answers) = self.answers.as_mut().filter(|_| mark > 0) {
            answers.forget(mark);
            if answers.is_empty() {
                self.answers = None;
            }
        }
    }

    /// Whether the answer of this mark is stored, or on its way there.
    pub(super) fn is_answer_written(&self, mark: u64) -> bool {
        mark > 0
            && self.answers.as_ref().is_some_and(|answers| answers.at(mark).is_ok_and(|at| answers.kept[at].written))
    }

    /// What goes with a row that says that `upto` stanzas are handled, as `h` counts them.
    pub(super) fn answer_rows(&mut self, map: MapId, session: SessionId, upto: u64, writes: &mut Vec<Write>) {
        let Some(answers) = &mut self.answers else { return };
        // What was sent of them is to be known, or it comes twice after a crash.
        self.unlisted |= answers.rows(map, session, upto, writes);
        if answers.is_empty() {
            self.answers = None;
        }
    }

    /// Whether answers are stored that were acknowledged.
    pub(crate) fn has_gone_answers(&self) -> bool {
        self.answers.as_ref().is_some_and(|answers| !answers.gone.is_empty())
    }

    /// The session ends: its rows go.
    pub(crate) fn drop_answers(&mut self, map: MapId, session: SessionId, writes: &mut Vec<Write>) {
        let Some(mut answers) = self.answers.take() else { return };
        if answers.anew {
            writes.push(clear(map, session));
            return;
        }
        let Answers { kept, gone, .. } = &mut *answers;
        gone.extend(kept.iter().filter(|kept| kept.written).map(|kept| kept.n));
        answers.deletions(map, session, writes);
    }

    /// A batch with rows of this session came to nothing, and with it whatever was on its way behind it.
    pub(crate) fn rows_failed(&mut self) {
        self.ledger.rows_failed();
        self.answers_failed();
    }

    /// A batch with rows of answers came to nothing.
    pub(crate) fn answers_failed(&mut self) {
        if let Some(answers) = &mut self.answers {
            answers.anew = true;
        }
    }

    /// How many stanzas a row may say are handled which nobody waits for: not those from the first on whose answer would have to be
    /// stored for it. It is acknowledged soon.
    pub(crate) fn handled_without_answers(&self) -> u64 {
        let handled = self.ledger.handled();
        let unwritten = |answers: &Answers| answers.kept.iter().find(|kept| !kept.written).map(|kept| kept.n);
        match self.answers.as_deref().and_then(unwritten) {
            Some(n) => handled.min(self.ledger.uncounted(n - 1)),
            None => handled,
        }
    }

    /// What was stored before a restart.
    pub(crate) fn restore_answers(&mut self, stored: impl Iterator<Item = (u64, Stanza)>) {
        let answers = Answers::restored(stored);
        self.answers = (!answers.is_empty()).then(|| Box::new(answers));
    }

    /// What came after `handled` is sent again by the client, and answered again.
    pub(super) fn unkeep_answers(&mut self) {
        let handled = self.ledger.counted(self.ledger.handled());
        let last = |stream: &Stream| stream.answers.as_ref().and_then(|answers| answers.kept.back()).map(|kept| kept.n);
        while let Some(n) = last(self).filter(|n| *n > handled) {
            self.answer_is_gone(n);
        }
        self.outs().filter(|out| out.answers > handled).for_each(|out| out.answers |= VOID);
    }

    /// After `<resumed/>`: the answers that the client has not had, and of which nothing else is left. After a restart they go first.
    pub(crate) fn answer_again(&mut self, restarted: bool) {
        let Some(answers) = self.answers.take() else { return };
        let held: Vec<u64> = self.outs().map(|out| out.answers).filter(|mark| *mark > 0).collect();
        for kept in answers.kept.iter().filter(|kept| !held.contains(&kept.n)) {
            let mut out = Out::new(kept.answer.clone(), None, Role::Extra).answering(kept.n);
            out.weigh();
            match self.reading.filter(|_| !restarted) {
                None => self.enqueue(Item::Stanza(out)),
                // Behind what was sent before: the stored checkpoint knows that by its numbers.
                Some(reading) => {
                    self.weight += out.weight;
                    self.deferred.push(reading.left, out);
                }
            }
        }
        self.answers = Some(answers);
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::stanza::Type;

    use super::*;

    const MAP: MapId = MapId(9);

    fn answer(id: &str) -> Stanza {
        Stanza::parse(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='x' to='a@x/b'/>"))
            .expect("an iq")
    }

    /// Numbers put, numbers deleted, and whether all were cleared before.
    fn rows(answers: &mut Answers, upto: u64) -> (Vec<u64>, Vec<u64>, bool) {
        let mut writes = Vec::new();
        answers.rows(MAP, 7, upto, &mut writes);
        let (mut put, mut deleted, mut cleared) = (Vec::new(), Vec::new(), false);
        for write in writes {
            match write {
                Write::Put { key, row: Some(row), .. } => {
                    let (n, stanza) = read(&key, &row.value).expect("a row");
                    assert_eq!((stanza.type_(), stanza.head.id.as_deref()), (Type::Result, Some(&*n.to_string())));
                    put.push(n);
                }
                Write::Put { key, row: None, .. } => {
                    deleted.push(u64::from_be_bytes(*key.last_chunk().expect("a number")));
                }
                Write::Clear { .. } => cleared = true,
                other => panic!("{other:?}"),
            }
        }
        (put, deleted, cleared)
    }

    #[test]
    fn an_answer_is_written_with_the_row_that_covers_its_iq_and_deleted_when_it_is_acknowledged() {
        let mut answers = Answers::default();
        for n in [3, 5, 4, 9] {
            answers.keep(n, answer(&n.to_string()));
        }
        assert_eq!(rows(&mut answers, 2), (vec![], vec![], false));
        answers.forget(3);
        assert_eq!(rows(&mut answers, 5), (vec![4, 5], vec![], false), "3 was acknowledged before anybody stored it");
        answers.forget(4);
        assert_eq!(rows(&mut answers, 8), (vec![], vec![4], false));
        assert_eq!(rows(&mut answers, 9), (vec![9], vec![], false));
        [5, 9].into_iter().for_each(|n| answers.forget(n));
        assert!(!answers.is_empty());
        assert_eq!(rows(&mut answers, 9), (vec![], vec![5, 9], false));
        assert!(answers.is_empty());
    }

    #[test]
    fn after_a_failure_all_are_written_anew() {
        let mut answers = Answers::default();
        (1..=3).for_each(|n| answers.keep(n, answer(&n.to_string())));
        rows(&mut answers, 3);
        answers.forget(1);
        answers.anew = true;
        assert_eq!(rows(&mut answers, 3), (vec![2, 3], vec![], true));
        assert_eq!(rows(&mut answers, 3), (vec![], vec![], false));
    }

    #[test]
    fn there_are_only_so_many_and_the_oldest_go() {
        let mut answers = Answers::default();
        for n in 1..=MAX_KEPT as u64 + 2 {
            answers.keep(n, answer(&n.to_string()));
        }
        assert_eq!((answers.kept.len(), answers.kept[0].n), (MAX_KEPT, 3));
        let large = Stanza::parse(&format!(
            "<iq xmlns='jabber:client' type='result' id='l'><x xmlns='urn:x'>{}</x></iq>",
            "x".repeat(MAX_KEPT_BYTES)
        ));
        answers.keep(9_999, large.expect("an iq"));
        assert_eq!(answers.kept.iter().map(|kept| kept.n).collect::<Vec<_>>(), [9_999]);
        answers.forget(9_999);
        assert_eq!(answers.bytes, 0);
    }
}
