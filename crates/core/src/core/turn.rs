//! A turn: one call into the kernel, at a time, and what it leaves to do when no lock is held any more.
//!
//! What happens under the locks of owners says what is to follow (stanzas on their way, sessions to close) in [`Todo`]; it follows
//! when the locks are released. [`Core::turn`] sees to that: nobody else makes a [`Turn`].

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use crate::core::Core;
use crate::owner::account::{Account, AccountRef};
use crate::owner::words::{Draft, Part, Todo, Words};
use crate::store::Write;
use crate::watch::trace::Step;

/// See the module's text.
pub(crate) struct Turn<'a> {
    pub core: &'a Core,
    /// the time of day
    pub now: Timestamp,
    pub todo: Todo,
}

/// An owner that is locked.
pub(crate) struct Locked<'a> {
    pub lock: &'a AccountRef,
    pub account: &'a mut Account,
}

impl<'a> Locked<'a> {
    /// `account` is what `lock` holds.
    pub fn new(lock: &'a AccountRef, account: &'a mut Account) -> Locked<'a> {
        Locked { lock, account }
    }
}

impl Core {
    /// Does something that takes locks, and then what it has left to do. No lock may be held by the caller.
    pub(crate) fn turn<T>(&self, now: Timestamp, run: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let mut turn = Turn { core: self, now, todo: Todo::default() };
        let result = run(&mut turn);
        turn.run_todo();
        result
    }
}

impl Turn<'_> {
    /// Tells those who follow the account. `make` runs only if there is somebody.
    #[inline]
    pub fn step(&self, account: &BareJid, make: impl FnOnce() -> Step) {
        self.core.step(self.now, account, make);
    }

    /// Ends a stretch of one owner: see [`Turn::finish`].
    pub fn finish_one(&mut self, at: &mut Locked<'_>, words: Words, draft: Option<Draft>, writes: Vec<Write>) {
        self.finish(&mut [Part { lock: at.lock, account: at.account, words }], draft, writes);
    }
}
