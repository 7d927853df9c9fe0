//! Questions of a session that wait for the store, and what answers an IQ. Whoever runs them is `route/reading.rs`.

use std::collections::VecDeque;

use vorpal_proto::element::Element;
use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::Stanza;

use crate::session::ledger::Pending;
use crate::store::EntryId;
use crate::store::Reader;
use crate::store::StoreError;
use vorpal_proto::jid::BareJid;

/// The answer to an IQ.
pub type Answer = Result<Reply, StanzaError>;

/// A result, with its child if it has one.
#[derive(Debug, Default)]
pub struct Reply(pub(crate) Option<Element>);

/// An empty result.
pub fn ok() -> Answer {
    Ok(Reply(None))
}

/// A result with a child.
pub fn ok_with(payload: Element) -> Answer {
    Ok(Reply(Some(payload)))
}

/// A result with a child, where a handler has it at hand.
pub fn reply(payload: Element) -> Reply {
    Reply(Some(payload))
}

/// Maximum number of queries of one session that wait for the store, the one being read included. Any more are answered with
/// `resource-constraint` of type `wait`.
pub const MAX_INQUIRIES: u8 = 8;

/// The store, as far as what it says may be told: what is committed, and of a log what nobody waits for any more.
pub struct Committed<'a> {
    /// answers what is asked
    pub reader: &'a mut dyn Reader,
    /// only entries below this id are to be told of
    pub horizon: EntryId,
}

/// Reads, and makes the answer. Must not wait for anything but the store.
pub type Job = Box<dyn FnOnce(&mut Committed<'_>) -> Result<Found, ReadError> + Send>;

/// What a handler that may read the store says to a question: the answer, if it needs no reading after all, or a job.
pub enum Said {
    /// the answer
    Reply(Reply),
    /// the store has to be read
    Job(Job),
}

impl From<Job> for Said {
    fn from(job: Job) -> Said {
        Said::Job(job)
    }
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Said {
        Said::Reply(reply)
    }
}

/// What a job found. The messages are sent to whoever asked, in their order and before the answer; all of them, or, if
/// the session has ended, none. Their bytes are bounded by who makes them: [`MAX_FOUND`].
pub struct Found {
    /// with all their attributes
    pub messages: Vec<Stanza>,
    /// the answer
    pub reply: Reply,
}

/// Maximum number of bytes of messages that one job finds, except for a single larger message.
pub const MAX_FOUND: usize = 128 * 1024;

/// Why a job found nothing.
#[derive(Debug)]
pub enum ReadError {
    /// What whoever asked is told.
    Told(StanzaError),
    /// The store could not be read; that it is so is told, and nothing of why.
    Store(StoreError),
}

impl From<StanzaError> for ReadError {
    fn from(error: StanzaError) -> ReadError {
        ReadError::Told(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Store(error)
    }
}

/// A job that waits in a session.
pub(crate) struct Asked {
    /// whose log or rows it reads: an address, since a session refers to no account
    pub of: Option<BareJid>,
    pub pending: Pending,
    pub iq: Stanza,
    pub job: Job,
}

/// The jobs of one session.
#[derive(Default)]
pub(crate) struct Inquiries {
    pub waiting: VecDeque<Asked>,
    /// all that are not answered, also those on their way here
    pub open: u8,
    pub running: bool,
}

impl Inquiries {
    /// Makes room for one more; false at the bound.
    pub fn open(&mut self) -> bool {
        let room = self.open < MAX_INQUIRIES;
        self.open += u8::from(room);
        room
    }

    pub fn push(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    /// Whether one could begin.
    pub fn is_due(&self) -> bool {
        !self.running && !self.waiting.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Asked> {
        if self.running {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running = true;
        Some(next)
    }
}
