//! Who judges what is about to be written to a session.

use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::session::Session;
use crate::session::flags::Flag;
use crate::session::flags::SessionId;
use crate::session::out::Out;

/// Who judges what is about to be written to a session.
pub(crate) trait Guard {
    /// Whether a stanza may be written to the session now.
    fn judge(&mut self, to: &Outgoing<'_>, stanza: &mut Stanza) -> Verdict;
    /// Whether the stanza is not to be written.
    fn withholds(&mut self, stanza: &Stanza) -> bool;
    /// A stanza that is not written.
    fn keep(&mut self, out: Out);
}

/// What a handler says of a stanza that is about to be written to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes out now, and everything that was held goes before it.
    Send,
    /// Waits until something goes out.
    Hold,
    /// Waits, and replaces what waits of the same sender by the same verdict.
    HoldLatest,
    /// Is left out.
    Drop,
}

/// What a handler may ask of a session, and tell it: nothing that locks what is on its stream. That may be locked already, and the
/// call would wait for ever.
#[derive(Clone, Copy)]
pub struct OpenSession<'a>(pub(crate) &'a Session);

impl<'a> OpenSession<'a> {
    /// Its number.
    pub fn id(self) -> SessionId {
        self.0.id
    }

    /// Its full address.
    pub fn jid(self) -> &'a Jid {
        &self.0.jid
    }

    /// Whether it has a flag.
    pub fn has(self, flag: Flag) -> bool {
        self.0.has(flag)
    }

    /// Sets a flag, or takes it away.
    pub fn set(self, flag: Flag, on: bool) {
        self.0.set(flag, on);
    }

    /// Its priority, if it is available.
    pub fn priority(self) -> Option<i8> {
        self.0.priority()
    }
}

/// What is about to be written, and to whom.
pub struct Outgoing<'a> {
    /// the receiver
    pub session: OpenSession<'a>,
}
