//! A stanza on its way out of a session.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::stanza::Kind;
use vorpal_proto::stanza::Stanza;
use vorpal_proto::stanza::Type;

use crate::rules::delay::delayed;
use crate::store::EntryId;

/// What keeping an answer (`answers.rs`) takes besides its bytes, which it has in common with the stanza in the queue.
pub(super) const KEPT_BYTES: usize = size_of::<Stanza>() + 16;

/// Why a stanza is in a session's queue: what becomes of it if the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was planned for this session: it goes elsewhere, or to the log.
    Planned,
    /// It was planned for another, which is gone, or for nobody: it goes elsewhere.
    Missed,
    /// A carbon copy, a push, presence, an answer: it ends with the session.
    Extra,
}

impl Role {
    /// Whether it must reach somebody, if not this session.
    pub(crate) fn is_owed(self) -> bool {
        matches!(self, Role::Planned | Role::Missed)
    }
}

/// A stanza on its way out.
#[derive(Clone, Debug)]
pub struct Out {
    /// in the form for this session
    pub stanza: Stanza,
    /// where it stands in the account's log
    pub entry: Option<EntryId>,
    /// what becomes of it if the session ends
    pub role: Role,
    /// it has a number on the stream (XEP-0198 §4)
    pub counted: bool,
    /// the log alone has it now: only its number is left here
    pub(crate) sleeps: bool,
    /// when it was given to a session, if the log does not know
    pub(crate) since: Option<Timestamp>,
    /// what it has in common with the same message in other sessions
    pub(crate) shared: Option<Arc<Shared>>,
    /// it is the answer to the client's IQ of this number, which is kept until it is acknowledged; 0 if it is none
    pub(super) answers: u64,
    /// what it counts for in the session that holds it
    pub(super) weight: usize,
}

/// One message that several sessions hold and the log does not: it gets there at most once, and is taken for all by the
/// first that takes it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(super) taken: AtomicBool,
    /// it is on its way into the log in another way (`debt.rs`)
    owed: bool,
}

impl Shared {
    /// Of an error that is owed.
    pub(crate) fn owed() -> Shared {
        Shared { owed: true, ..Shared::default() }
    }

    /// Whether nobody needs it but whoever asks.
    pub(crate) fn is_last(self: &Arc<Shared>) -> bool {
        !self.taken.load(Ordering::Acquire) && Arc::strong_count(self) == 1
    }
}

impl Out {
    /// Counts what it takes: when it comes to a session, and when its stanza has changed.
    pub(super) fn weigh(&mut self) {
        self.weight = self.weighed();
    }

    pub(super) fn weighed(&self) -> usize {
        let kept = if self.answers > 0 { KEPT_BYTES } else { 0 };
        OUT_BYTES + self.stanza.weight() + kept
    }

    /// It was weighed before.
    pub(crate) fn weighs(&mut self, weight: usize) {
        self.weight = OUT_BYTES + weight;
    }

    /// A stanza that has not been written yet.
    pub fn new(stanza: Stanza, entry: Option<EntryId>, role: Role) -> Out {
        Out { stanza, entry, role, counted: false, sleeps: false, since: None, shared: None, answers: 0, weight: 0 }
    }

    /// The same, given to a session at this time.
    pub(crate) fn since(self, now: Timestamp) -> Out {
        let since = self.entry.is_none().then_some(now);
        Out { since, ..self }
    }

    /// The same for a session without a connection. The log has it not and its session keeps it: a chat state or a presence says
    /// then when it came (XEP-0203 §2), as a message of the log does. What was on its way when the connection broke is sent
    /// again as it was (XEP-0198 §5).
    pub(crate) fn kept_since(mut self, now: Timestamp, account: &BareJid) -> Out {
        let says_when = match self.stanza.kind() {
            Kind::Message => !self.stanza.has_any(ns::CARBONS),
            Kind::Presence => matches!(self.stanza.type_(), Type::None | Type::Unavailable),
            Kind::Iq => false,
        };
        if says_when {
            self.stanza = delayed(self.stanza, account, now.as_millis());
            self.weigh();
        }
        self
    }

    /// The same, as an answer that is kept: with the mark that was given for it.
    pub(crate) fn answering(self, mark: u64) -> Out {
        Out { answers: mark, ..self }
    }

    /// The same for several sessions at once.
    pub(crate) fn shared(self, shared: Option<&Arc<Shared>>) -> Out {
        Out { shared: shared.cloned(), ..self }
    }

    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        self.shared.as_ref().is_some_and(|own| Arc::ptr_eq(own, shared))
    }

    pub(super) fn must_be_logged(&self) -> bool {
        self.role.is_owed()
            && self.entry.is_none()
            && self.stanza.kind() == Kind::Message
            && crate::rules::promise::never_promised(&self.stanza).is_none()
            && self.shared.as_ref().is_none_or(|shared| !shared.owed && !shared.taken.load(Ordering::Acquire))
    }
}

/// About what a stanza takes in a queue besides its bytes: its place, the index of its children, the blocks of the allocator. A
/// small stanza takes much more than is written of it.
pub(crate) const OUT_BYTES: usize = 448;

/// An entry that a session took, and as what.
pub(crate) type Taken = (EntryId, Role);
