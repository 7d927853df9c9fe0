//! What an owner says when its writes are committed, and what waits for that.
//!
//! A stretch ends with a `Part` for each owner: its `Words` wait in the owner's queue behind everything submitted earlier, and
//! are said when the batch is committed (`commit/say.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::owner::account::{Account, AccountRef};
use crate::owner::cold::ColdWrites;
use crate::owner::judge::{Judge, Withdrawal};
use crate::owner::plan::Targets;
use crate::rules::promise::never_promised;
use crate::session::debt::Debt;
use crate::session::inquiries::Asked;
use crate::session::ledger::Pending;
use crate::session::{Management, Session, SessionId, Stream};
use crate::store::{BatchId, EntryId, Side};

/// What waits for an account: unwritten, or behind something unwritten.
pub(crate) struct Waiting {
    pub batch: Option<BatchId>,
    pub(crate) entry: Option<EntryId>,
    pub outcome: Option<Done>,
    pub words: Words,
}

impl Waiting {
    /// The lowest id that the batch has in this account's log.
    pub(crate) fn first_entry(&self) -> Option<EntryId> {
        self.words.debts.iter().find_map(|debt| debt.entry).or(self.entry)
    }

    pub(crate) fn in_flight(&self) -> Option<BatchId> {
        self.batch.filter(|_| self.outcome.is_none())
    }

    /// It settles a stanza: the row that says so is part of its batch, and rows behind it say no less.
    pub(crate) fn settles(&self) -> bool {
        self.words.settles.is_some()
    }

    /// What it will add to the account's archive.
    pub(crate) fn charges(&self) -> u64 {
        if self.outcome.is_none() { self.words.charged } else { 0 }
    }

    /// How much it says.
    pub(crate) fn unsaid(&self) -> usize {
        self.words.says.len()
    }

    /// It disables its account.
    pub(crate) fn disables(&self) -> bool {
        self.words.says.iter().any(|say| matches!(say, Say::Disabled { disabled: true, .. }))
    }

    /// It ends the account's sessions with a new password.
    pub(crate) fn revokes(&self) -> bool {
        self.words.says.iter().any(|say| matches!(say, Say::Revoked { .. }))
    }

    pub(crate) fn is_of(&self, session: &Session) -> bool {
        self.words.of.as_ref().is_some_and(|of| of.id == session.id)
    }

    /// What it was built on came to nothing: an answer of the account's own that has nothing to write itself, or somebody who waits
    /// to hear that all of it is stored.
    pub(crate) fn falls(&mut self, failure: Failure) {
        let bounces = matches!(self.words.or_else, OrElse::Bounce(_));
        let tells = |say: &Say| matches!(say, Say::Notice(_));
        if self.batch.is_none() && (bounces || self.words.says.iter().any(tells)) {
            self.outcome = Some(Done::Failed(failure));
        }
    }

    /// Takes out what was planned for this session, is not in the log, and should be.
    pub(crate) fn take_unlogged(&mut self, id: SessionId) -> Vec<(Stanza, Targets)> {
        let mut taken = Vec::new();
        // What has failed is not said, and its sender will send it again.
        if self.entry.is_some() || matches!(self.outcome, Some(Done::Failed(_))) {
            return taken;
        }
        for say in std::mem::take(&mut self.words.says) {
            match say {
                Say::Deliver { stanza, to } if to.contains(&id) && never_promised(&stanza).is_none() => {
                    taken.push((stanza, to));
                }
                say => self.words.says.push(say),
            }
        }
        taken
    }
}

/// What became of a batch. Without a batch it is the same as if one were committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Committed,
    Failed(Failure),
}

/// Why a batch came to nothing, as far as its sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// no room: it may be tried again later
    Full,
    Broken,
    /// a condition of the batch did not hold
    Refused {
        /// which of its writes
        write: usize,
        /// nothing was built on it: it concerns nobody else
        alone: bool,
    },
}

impl Failure {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Full => "no room",
            Failure::Broken => "the commit failed",
            Failure::Refused { .. } => "a condition did not hold",
        }
    }

    /// Why what was built on the batch comes to nothing.
    pub fn of_others(self) -> Failure {
        match self {
            Failure::Refused { .. } => Failure::Broken,
            failure => failure,
        }
    }
}

/// What one account says when its writes are committed.
#[derive(Default)]
pub(crate) struct Words {
    pub says: SmallVec<[Say; 1]>,
    /// the account's archive keeps the entry: its messages say so (XEP-0359)
    pub archived: bool,
    /// what the entry adds to the account's archive, in bytes
    pub charged: u64,
    /// the session whose stanza it is
    pub of: Option<Arc<Session>>,
    /// the stanza that this settles
    pub settles: Option<Pending>,
    /// what the session owes from before, and pays with this batch
    pub debts: Vec<Debt>,
    /// what is said if the batch fails
    pub or_else: OrElse,
    /// what is written besides the states of the owner, and, when that is submitted, what is answered if it is refused
    pub cold: Option<Box<ColdWrites>>,
}

impl Words {
    /// Those that settle a stanza.
    pub(crate) fn settling(session: &Arc<Session>, pending: Pending) -> Words {
        Words { of: Some(session.clone()), settles: Some(pending), ..Words::default() }
    }

    /// RFC 6120 §10.1: what is said to many is with all of them before the session's next stanza is looked at. Without this it
    /// would fall behind a message that comes after it.
    pub(crate) fn fan_out(&self) {
        if let (Some(session), Some(pending)) = (&self.of, &self.settles)
            && self.says.iter().any(|say| matches!(say, Say::Route(_) | Say::Broadcast { .. }))
        {
            session.stream().wait_for_fan(*pending);
        }
    }

    /// Those of nobody's stanza.
    pub(crate) fn of_says(says: impl IntoIterator<Item = Say>) -> Words {
        Words { says: says.into_iter().collect(), ..Words::default() }
    }
}

/// What is said if a batch fails.
#[derive(Default)]
pub(crate) enum OrElse {
    #[default]
    Nothing,
    /// the sender of this stanza gets an error
    Bounce(Box<Stanza>),
    /// the session gets this answer all the same
    Answer(Box<Stanza>),
    /// everything: it carries no promise, and the row it speaks of is written anew later
    Same,
}

/// One thing to be said.
pub(crate) enum Say {
    /// A message to the sessions that were planned for it. If none of them is left it is planned once more.
    Deliver { stanza: Stanza, to: Targets },
    /// A copy to each of these sessions, wrapped as `received` or `sent` (XEP-0280).
    Copies { stanza: Stanza, name: &'static str, to: Targets },
    /// To one session.
    Send { to: SessionId, stanza: Stanza },
    /// The answer to the session's own IQ, and the mark under which it is kept ([`crate::session::answers`]).
    Answer { to: SessionId, stanza: Stanza, mark: u64 },
    /// An IQ of somebody else to one session: what it cannot take comes back.
    Forward { to: SessionId, stanza: Stanza },
    /// What was read for one session: messages and the answer behind them, all or none; and the mark of the answer.
    Found { to: SessionId, stanzas: Vec<Stanza>, mark: u64 },
    /// A question of a session may be read for now.
    Inquire { session: Arc<Session>, asked: Box<Asked> },
    /// On its way through the server, from here.
    Route(Work),
    /// Presence of a session to everybody who may see it, if `everybody`, and to these addresses. Who that is is found when it is
    /// said: until then it is one stanza, however many there are.
    Broadcast { session: Arc<Session>, stanza: Stanza, everybody: bool, directed: BTreeSet<Jid> },
    /// Presence that was sent directly is taken back.
    Withdraw(Box<Withdrawal>),
    /// What contacts and strangers have to say to a session that became available.
    Probes { session: Arc<Session> },
    /// The session takes what was missed, and from here on what comes.
    Join { session: Arc<Session> },
    /// Somebody outside waits for the commit.
    Notice(Notice),
    /// The same, and the account is stored as disabled, or as enabled from here on.
    Disabled { disabled: bool, done: Notice },
    /// The same, and logins of before count no more: not even those that came while it was being stored.
    Revoked { done: Notice },
    /// The same, and the account is no more.
    Deleted { done: Notice },
    /// The session can be resumed from here on.
    Enabled { session: Arc<Session>, bytes: Vec<u8>, management: Box<Management> },
    /// The row of how much of a session is handled is committed.
    Stored { session: Arc<Session>, handled: u64 },
    /// The row is committed, and nobody waits for it.
    Noted { session: Arc<Session>, handled: u64 },
    /// The rows of a session that ended are deleted.
    Forgotten { id: SessionId },
    /// The log was trimmed from here on.
    Trimmed { from: EntryId },
}

/// Called once with whether a write is stored.
pub type Notice = Box<dyn FnOnce(bool) + Send>;

/// One account's part of a stretch.
pub(crate) struct Part<'a> {
    pub lock: &'a AccountRef,
    pub account: &'a mut Account,
    pub words: Words,
}

/// A log entry that a stretch wants written.
pub(crate) struct Draft {
    pub sides: [Option<Side>; 2],
    pub body: Bytes,
}

/// A stanza that goes on by itself: no session waits for it.
#[derive(Debug)]
pub(crate) struct Work {
    pub stanza: Stanza,
    pub hops: u8,
    pub mode: Mode,
}

/// How much of a stanza's way is behind it.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// the sender's side is dealt with: only the receiver's follows
    Onward,
    /// it was planned for a session that ended: it goes to another, or into the log, and no phase runs twice. With the
    /// time at which that session was given it: XEP-0198 §4 wants what a client did not acknowledge to arrive with a
    /// delay of then, also where it arrives at once at another session. Without a time no session has had it: it was
    /// planned for one that had gone when it came, and moves on as live delivery.
    Again(Option<Timestamp>),
    /// the end of a subscription, to a contact that its sender blocks: the state changes there, and nothing is delivered
    Silent,
    /// `unsubscribed` answers a probe
    ProbeRefused,
    /// presence to a bare address: the sender's gate judges each session there
    EachSession,
    /// presence that a contact gets as its subscriber: nobody gets it whose roster knows nothing of that. With `each` the sender's
    /// gate judges each session
    Subscriber { each: bool },
    /// presence to a bare address, for the sessions there that this one names
    To(Judge),
    /// presence to a session whose bare address is told as well: for one that this does not reach
    Unreached,
    /// presence to whoever is to have it, by what holds when their turn comes
    Fan(Arc<Fan>),
}

/// What is to be done when no lock is held any more.
#[derive(Default)]
pub(crate) struct Todo {
    pub work: VecDeque<Work>,
    /// sessions that reached their bound
    pub lagging: Vec<(AccountRef, SessionId)>,
    /// sessions whose next stanza waits until all of this is done, and the number of the stanza it waits for
    pub said: Vec<(Arc<Session>, u64)>,
    /// sessions that just became available
    pub arrivals: Vec<Arrival>,
    /// some of the work is for many: it goes on before anything else is committed
    pub fans: bool,
}

/// A session that wants to know who is there.
pub(crate) struct Arrival {
    pub lock: AccountRef,
    pub session: Arc<Session>,
    /// it was there before the server was: it may believe somebody here who is not
    pub back: bool,
}

impl Todo {
    /// Whether nothing is to be done: so it is after most stanzas.
    pub fn is_empty(&self) -> bool {
        let Todo { work, lagging, said, arrivals, fans } = self;
        work.is_empty() && lagging.is_empty() && said.is_empty() && arrivals.is_empty() && !fans
    }

    /// The stanza of this number is settled: the session goes on, at once or when what it says to many is said.
    pub fn deal_with(&mut self, session: &Arc<Session>, stream: &mut Stream, n: u64) {
        if stream.waits_for_fan(n) {
            self.said.push((session.clone(), n));
        } else {
            stream.dealt_with(n);
        }
    }

    pub(crate) fn route(&mut self, stanza: Stanza, hops: u8) {
        self.work.push_back(Work { stanza, hops, mode: Mode::Onward });
    }
}

/// To whom a presence goes that is said to many.
pub(crate) struct Fan {
    /// the account that it is from
    pub lock: AccountRef,
    /// the session that it is from
    pub session: Arc<Session>,
    /// to all contacts who may see it, and the account's own sessions
    pub everybody: bool,
    /// and to these addresses
    pub directed: BTreeSet<Jid>,
}

impl fmt::Debug for Fan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fan of {}", self.session.jid)
    }
}

/// What a session is told that ends with a new password.
pub(crate) const PASSWORD_CHANGED: &str = "the password was changed";
