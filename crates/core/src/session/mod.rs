//! A session: what outlives the connection (RFC 6120 §7, XEP-0198 §5).
//!
//! The face of a session (its address, priority and flags) may be read by everybody. What is on its stream is behind a
//! short lock of its own. Lock order: account, then session. A detached session has no connection and loses nothing.

mod acks;
pub(crate) mod answers;
pub(crate) mod capacity;
mod carrier;
pub mod checkpoint;
pub(crate) mod deadlines;
pub(crate) mod debt;
mod deferred;
mod directed;
mod flags;
pub mod guard;
pub mod inquiries;
pub mod inspect;
pub mod ledger;
mod managed;
pub(crate) mod nonzas;
mod out;
mod peer;
mod queue;
mod reading;
pub mod row;
mod stale;
mod stream;
mod telling;
pub(crate) mod untold;
pub mod wire;

pub use carrier::{Carrier, Wake};
pub use flags::{Flag, SessionId, Slot};
pub use guard::{OpenSession, Outgoing, Verdict};
pub use managed::Vitals;
pub use out::{Out, Role};
pub(crate) use out::{Shared, Taken};
pub use peer::{Cipher, Facts, Peer, Tls};
pub(crate) use stream::{Closing, Pushed, Remains, UNCHARGED};
pub use stream::{Management, Pulled, Stream};
pub use wire::Wire;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use vorpal_proto::jid::Jid;

use crate::bounds::Bounds;
use crate::session::guard::Guard;

/// A session. See the module's text.
pub struct Session {
    /// its number
    pub id: SessionId,
    /// its full address
    pub jid: Jid,
    flags: AtomicU64,
    priority: AtomicI32,
    /// set with the stream's state; read without its lock
    attached: AtomicBool,
    /// what it is sent is counted: set with the stream's state, read without its lock
    counted: AtomicBool,
    /// its account keeps a list by which what is written is judged
    guarded: AtomicBool,
    stream: Mutex<Stream>,
}

const UNAVAILABLE: i32 = i32::MIN;

impl Session {
    /// A session that just came to be: attached by nobody, unavailable.
    pub fn new(id: SessionId, jid: Jid, bounds: &Bounds) -> Session {
        Session {
            id,
            jid,
            flags: AtomicU64::new(0),
            priority: AtomicI32::new(UNAVAILABLE),
            attached: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
            stream: Mutex::new(Stream::new(bounds)),
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & (1 << flag.0) != 0
    }

    /// Sets or clears a flag.
    pub fn set(&self, flag: Flag, on: bool) {
        if on {
            self.flags.fetch_or(1 << flag.0, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!(1 << flag.0), Ordering::AcqRel);
        }
    }

    pub(crate) fn flags(&self) -> u64 {
        self.flags.load(Ordering::Acquire)
    }

    pub(crate) fn restore_flags(&self, flags: u64) {
        self.flags.store(flags, Ordering::Release);
    }

    /// The priority of its presence, if it is available (RFC 6121 §4.7.2.3).
    pub fn priority(&self) -> Option<i8> {
        match self.priority.load(Ordering::Acquire) {
            UNAVAILABLE => None,
            priority => i8::try_from(priority).ok(),
        }
    }

    pub(crate) fn set_priority(&self, priority: Option<i8>) {
        self.priority.store(priority.map_or(UNAVAILABLE, i32::from), Ordering::Release);
    }

    /// Whether it has sent presence and not taken it back.
    pub fn is_available(&self) -> bool {
        self.priority().is_some()
    }

    /// Whether a connection carries it now.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Whether the client acknowledges what it is sent (XEP-0198).
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    pub(crate) fn set_counted(&self) {
        self.counted.store(true, Ordering::Release);
    }

    pub(crate) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::Release);
    }

    /// Whether its account keeps a list by which what is written to it is judged.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Acquire)
    }

    pub(crate) fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Release);
    }

    /// Writes this connection's output, up to about `limit` bytes, except what the guard withholds.
    pub(crate) fn pull(&self, guard: &mut impl Guard, epoch: u32, out: &mut impl Wire, limit: usize) -> Pulled {
        let mut stream = self.stream();
        match stream.end_of(epoch) {
            Some(end @ Pulled::Closed(_)) => {
                // What was said before the end is still written.
                stream.pull(self, guard, out, usize::MAX);
                end
            }
            Some(end) => end,
            None if stream.pull(self, guard, out, limit) => Pulled::More,
            None => Pulled::Empty,
        }
    }

    /// How the stream of this connection ends, if it does: for one that has not said yet that it carries the session.
    pub fn end_of(&self, epoch: u32) -> Option<Pulled> {
        self.stream().end_of(epoch)
    }

    /// The number of the connection that carries it now.
    pub fn epoch(&self) -> u32 {
        self.stream().epoch
    }

    /// A connection carries it from here on. Gives the number of the connection.
    pub(crate) fn attach(&self, carrier: Carrier) -> u32 {
        let mut stream = self.stream();
        stream.epoch += 1;
        stream.carrying = stream.epoch;
        stream.carried_by = carrier.order;
        stream.peer = carrier.peer;
        stream.wake = Some(carrier.wake);
        // A page that another connection was fetching may never come.
        if let Some(reading) = &mut stream.reading {
            reading.fetching = false;
        }
        stream.detached = None;
        stream.closing = None;
        self.attached.store(true, Ordering::Release);
        stream.epoch
    }

    /// What is on its stream, locked for a moment. Outside of the kernel this is [`Core::stream`].
    ///
    /// [`Core::stream`]: crate::core::Core::stream
    pub(crate) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock()
    }

    /// Gives it a stanza.
    pub(crate) fn push(&self, out: Out) -> Pushed {
        let mut stream = self.stream();
        let pushed = stream.push(out);
        if pushed != Pushed::Full {
            stream.wake();
        }
        pushed
    }
}
