//! A simulated client: its behaviour, what it has sent, and what it has received.

use std::collections::{BTreeMap, BTreeSet};

use vorpal_proto::sasl::client::Client as SaslClient;

use super::book::Unacked;
use super::taste::Taste;
use crate::random::Random;
use crate::world::ClientId;

/// A player has the number of its client in the world.
pub type PlayerId = ClientId;

/// The stage of its connection.
#[derive(Default)]
pub enum Phase {
    /// no connection
    #[default]
    Away,
    /// its first stream is open
    Greeting,
    /// it has begun to authenticate
    Proving(Box<SaslClient>),
    /// it has answered the challenge
    Proven(Box<SaslClient>),
    /// its second stream is open
    Welcome,
    /// it has requested a resource
    Binding,
    /// it has requested to resume its session
    Resuming,
    /// it has a session
    In,
    /// it has closed its stream
    Closing,
}

/// How a client behaves in a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// it asks for stream management
    pub managed: bool,
    /// and for resumption
    pub resumes: bool,
    /// for this many seconds, if it requests a number
    pub keep: Option<u32>,
    /// it answers the server's `<r/>`
    pub answers: bool,
    /// it requests the roster
    pub roster: bool,
    /// and for carbons
    pub carbons: bool,
    /// stanzas that it cannot resend on a resumed stream are sent again in a new session
    pub insists: bool,
    /// on resending it drops and inserts stanzas
    pub careless: bool,
    /// it may reconnect without resuming its session
    pub forgets: bool,
}

impl Manner {
    /// The behaviour of a new session.
    pub fn new(taste: &Taste, r: &mut Random) -> Manner {
        Manner {
            managed: r.below(4) < taste.managed,
            resumes: !r.one_in(8),
            keep: (taste.short && r.one_in(2)).then(|| [1, 5, 60][r.below(3)]),
            answers: !(taste.careless && r.one_in(3)),
            roster: taste.rosters && !r.one_in(3),
            carbons: taste.carbons && r.one_in(2),
            insists: taste.careless && r.one_in(2),
            careless: taste.careless && r.one_in(3),
            forgets: taste.careless && r.one_in(6),
        }
    }
}

/// A client's view of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// the state of the subscription
    pub subscription: String,
    /// whether a request of the user waits for its answer
    pub ask: bool,
    /// the name that the user gave
    pub name: String,
}

/// What is known of a question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question {
    /// how often it was sent
    pub sent: u32,
    /// how often the server was killed since: each time its answer may come once more
    pub kills: u32,
    /// how many answers came
    pub answers: u32,
}

/// What may become of an attempt to log in, with what happens to the account meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt {
    /// with which password
    pub key: usize,
    /// at some moment it could succeed
    pub could: bool,
    /// at every moment
    pub always: bool,
    /// at some moment the account was disabled, and the password right
    pub barred: bool,
    /// the last revocation that was committed when it began
    pub revoked: u32,
    /// the last one that was submitted
    pub submitted: u32,
}

/// A session that should be over.
#[derive(Clone, Debug)]
pub struct Relic {
    /// by which it could be resumed
    pub token: String,
    /// so much was received
    pub h: u32,
    /// whose it was, counted as the owners of the name
    pub generation: u32,
    /// revocations that had been submitted when it began
    pub bound_at: u32,
}

/// See the module's text.
#[derive(Default)]
pub struct Player {
    /// whose client it is, by number
    pub account: usize,
    /// the beginning of its resource
    pub base: &'static str,
    /// the stage of its connection
    pub phase: Phase,
    /// how it behaves
    pub manner: Manner,
    /// rises with each session that is not a resumption
    pub life: u32,
    /// which owner of the account's name it belongs to, counted from 0
    pub generation: u32,
    /// the password of the owner before, or before the last change
    pub old_key: Option<usize>,
    /// a session that the operator has ended
    pub relic: Option<Relic>,
    /// it tries to resume that now
    pub digs: Option<Relic>,
    /// its login was refused: it asks somebody for the password
    pub refused: bool,
    /// its attempt to log in
    pub attempt: Attempt,
    /// revocations that had been submitted when it asked for its session
    pub bound_at: u32,
    /// it has sent `<enable/>`: its stanzas are counted
    pub counting: bool,
    /// stanzas sent and counted
    pub sent: u32,
    /// stanzas that the server has acknowledged
    pub acked: u32,
    /// sent and not acknowledged
    pub unacked: Vec<Unacked>,
    /// stanzas that an earlier session could not resend: to be sent again
    pub again: Vec<Unacked>,
    /// the priority of its presence, if it is available
    pub priority: Option<i8>,
    /// the number in its last presence
    pub status: u64,
    /// it has sent unavailable presence in this life
    pub left: bool,
    /// messages received in this life since the last crash, with counts
    pub seen: BTreeMap<u64, u32>,
    /// copies received in this life since the last crash
    pub copied: BTreeSet<(bool, bool, u64)>,
    /// by sender and the sender's life: the newest message received live
    pub live: BTreeMap<(PlayerId, u32), u64>,
    /// the same for messages that were addressed to this very session
    pub own: BTreeMap<(PlayerId, u32), u64>,
    /// crashes in this life
    pub crashes: u32,
    /// the presence of others, by full address: the number in it, or `None` if they are unavailable
    pub presences: BTreeMap<String, Option<u64>>,
    /// its view of the roster, once it has requested it
    pub roster: Option<BTreeMap<String, Contact>>,
    /// its requests to its own account in this life, by their ids
    pub questions: BTreeMap<String, Question>,
    /// names it has set, by the id of the request
    pub names: BTreeMap<String, (String, String)>,
}

impl Player {
    /// A client that was never connected.
    pub fn new(account: usize, base: &'static str) -> Player {
        Player { account, base, ..Player::default() }
    }

    /// Whether it is in a session and may send.
    pub fn is_in(&self) -> bool {
        matches!(self.phase, Phase::In)
    }

    /// Whether it has no connection, and does not try to get one.
    pub fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    /// Its session has ended. Stanzas for the next one are kept.
    pub fn end(&mut self) {
        let mut again = std::mem::take(&mut self.again);
        if self.manner.insists {
            again.extend(std::mem::take(&mut self.unacked).into_iter().filter(|unacked| unacked.message.is_some()));
        }
        *self = Player {
            account: self.account,
            base: self.base,
            life: self.life + 1,
            generation: self.generation,
            old_key: self.old_key,
            relic: self.relic.take(),
            refused: self.refused,
            attempt: self.attempt,
            again,
            ..Player::default()
        };
    }

    /// The server was stopped or killed. Unless it was an orderly stop, stanzas may be repeated from here on.
    pub fn restarted(&mut self, orderly: bool) {
        self.crashes += 1;
        if orderly {
            return;
        }
        self.questions.values_mut().for_each(|question| question.kills += 1);
        self.seen.clear();
        self.copied.clear();
        self.live.clear();
        self.own.clear();
    }
}
