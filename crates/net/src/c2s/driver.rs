//! The driver of one connection, without sockets and without waiting: what is to be done next, and in which order.
//!
//! Whoever owns the socket, a task or the simulator, keeps to this protocol:
//!
//! 1. *Hear*: pass the client's bytes to [`Driver::receive`], as long as the last [`Turn::Rest`] said so.
//! 2. *Need, do*: call [`Driver::turn`] until it returns [`Turn::Rest`] or [`Turn::Close`]. Every other turn asks for one thing; do it,
//!    and answer with the method that the turn names. Doing it may take any time, and the answer may come late.
//! 3. *Say*: while [`Driver::speaks`], take bytes with [`Driver::output`] and write them; when all of them are on their way, call
//!    [`Driver::written`]. If [`Driver::is_over`] then, close the socket.
//! 4. Wait for input, for a wake-up, or for what is left of the output to be written; then begin again. Wake-ups are never lost if
//!    the owner takes them before it calls [`Driver::turn`].
//!
//! At the end, whatever the reason, the owner calls [`Driver::gone`].

use bytes::BytesMut;
use vorpal_core::life::join::Fetch;
use vorpal_core::route::reading::Inquiry;
use vorpal_core::store::Entry;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::{ChannelBindings, PasswordCheck, Verdict};

use super::{Connection, Need};

/// What is to be done next.
pub enum Turn {
    /// Decide whether the client may try to log in to this account now: [`Driver::admitted`] or [`Driver::put_off`].
    Admit(String),
    /// Decide whether the client may have a new session now: [`Driver::may_bind`].
    Bind,
    /// Load this account: [`Driver::loaded`].
    Load(BareJid),
    /// Check this password on a thread that may block: [`Driver::derived`].
    Derive(Box<PasswordCheck>),
    /// Write the output, discard the input, and start TLS: [`Driver::secured`].
    Tls,
    /// The client has a session from here on. Needs no answer.
    Session,
    /// Read this part of the session's log: [`Driver::fetched`].
    Fetch(Fetch),
    /// Run this query of the session on the store, and pass the result to [`Core::answered`]. The next turn does not wait for it.
    ///
    /// [`Core::answered`]: vorpal_core::core::Core::answered
    Ask(Inquiry),
    /// Write the output and wait.
    Rest {
        /// whether the client's input may be read
        reads: bool,
        /// whether the turn was cut short: begin again without waiting, after others had their turn
        more: bool,
    },
    /// Write the output and close the connection.
    Close,
}

/// Where the next turn begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnPhase {
    /// with the client's input
    Input,
    /// with what the session wants to read of its log
    Log,
    /// with its queries
    Queries,
}

/// See the module's text.
pub struct Driver {
    /// the state machine
    pub connection: Connection,
    /// received, and not processed yet; a reader appends to it
    pub(super) input: BytesMut,
    phase: TurnPhase,
    /// for the end of this turn
    reads: bool,
    /// for the end of this turn
    more: bool,
    /// [`Turn::Session`] is past
    in_session: bool,
    /// there may be output
    speaks: bool,
}

impl Driver {
    /// The driver of a connection that has just been accepted.
    pub fn new(connection: Connection) -> Driver {
        Driver {
            connection,
            input: BytesMut::new(),
            phase: TurnPhase::Input,
            reads: true,
            more: false,
            in_session: false,
            speaks: false,
        }
    }

    /// Bytes of the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Number of bytes of input that are not processed yet.
    pub fn unprocessed(&self) -> usize {
        self.input.len()
    }

    /// The next turn leaves the input alone, as if there were none.
    pub fn skip_input(&mut self) {
        if self.phase == TurnPhase::Input {
            (self.phase, self.reads, self.more) = (TurnPhase::Log, true, false);
        }
    }

    /// What is to be done next. While input is processed, `goes_on` is asked after each element whether to continue now.
    pub fn turn(&mut self, now: Timestamp, goes_on: impl FnMut() -> bool) -> Turn {
        if self.phase == TurnPhase::Input
            && let Some(turn) = self.take_input(now, goes_on)
        {
            return turn;
        }
        if self.phase == TurnPhase::Log {
            if let Some(fetch) = self.connection.hungry(now) {
                return Turn::Fetch(fetch);
            }
            self.phase = TurnPhase::Queries;
        }
        if let Some(inquiry) = self.connection.inquiry() {
            return Turn::Ask(inquiry);
        }
        self.phase = TurnPhase::Input;
        self.speaks = true;
        Turn::Rest { reads: self.reads, more: self.more }
    }

    fn take_input(&mut self, now: Timestamp, goes_on: impl FnMut() -> bool) -> Option<Turn> {
        let need = self.connection.input_while(now, &mut self.input, goes_on);
        self.more = need.is_none();
        self.reads = match need {
            Some(Need::Input) => true,
            Some(Need::Wait) | None => false,
            Some(Need::Admit(name)) => return Some(Turn::Admit(name)),
            Some(Need::Bind) => return Some(Turn::Bind),
            Some(Need::Load(jid)) => return Some(Turn::Load(jid)),
            Some(Need::Derive(check)) => return Some(Turn::Derive(check)),
            Some(Need::Tls) => {
                self.speaks = true;
                return Some(Turn::Tls);
            }
            Some(Need::Close) => {
                self.speaks = true;
                return Some(Turn::Close);
            }
        };
        if self.reads && self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
        self.phase = TurnPhase::Log;
        if self.in_session || !self.connection.is_bound() {
            return None;
        }
        self.in_session = true;
        Some(Turn::Session)
    }

    // === answers ===

    /// Whether the login attempt may continue.
    pub fn admitted(&mut self, may: bool) {
        let need = self.connection.admitted(may);
        self.connection.then(need);
    }

    /// Too many clients are logging in. The client may try again, and this attempt does not count.
    pub fn put_off(&mut self) {
        let need = self.connection.put_off();
        self.connection.then(need);
    }

    /// The new session may be created, or too many clients wait for one.
    pub fn may_bind(&mut self, now: Timestamp, may: bool) {
        let need = self.connection.may_bind(now, may);
        self.connection.then(need);
    }

    /// The account was looked up, or the store failed.
    pub fn loaded(&mut self, now: Timestamp, found: Result<(), ()>) {
        let need = self.connection.loaded(now, found);
        self.connection.then(need);
    }

    /// The password was checked.
    pub fn derived(&mut self, now: Timestamp, verdict: Verdict) {
        let need = self.connection.derived(now, verdict);
        self.connection.then(need);
    }

    /// TLS is established. Input from before it must have been discarded (RFC 6120 §5.4.3.3).
    pub fn secured(&mut self, bindings: ChannelBindings) {
        self.connection.secured(bindings);
    }

    /// The part of the log that was read; `None` if reading failed.
    pub fn fetched(&mut self, fetch: Fetch, entries: Option<&[Entry]>) {
        self.connection.fetched(fetch, entries);
        self.phase = TurnPhase::Queries;
    }

    // === output ===

    /// Whether there may be output.
    pub fn speaks(&self) -> bool {
        self.speaks
    }

    /// Takes output, up to about `limit` bytes.
    pub fn output(&mut self, out: &mut Vec<u8>, limit: usize) {
        self.speaks = self.connection.output(out, limit);
    }

    /// All output that was taken is written to the socket.
    pub fn written(&mut self) {
        self.connection.written();
    }

    /// Whether the stream has ended: when all output is written the socket may be closed.
    pub fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    // === the end ===

    /// The client has had its time to log in.
    pub fn login_timed_out(&mut self, now: Timestamp) {
        let error = StreamError::from(StreamCondition::ConnectionTimeout).with_text("logging in took too long");
        self.connection.fail(now, error);
        self.speaks = true;
    }

    /// The socket is closed, for whatever reason.
    pub fn gone(&mut self, now: Timestamp) {
        self.connection.gone(now);
    }
}
