//! Stanzas that go on by themselves and need an account that is not in memory.
//!
//! They wait in one line for each account, in the order they came, until somebody has read the account. What cannot wait, and
//! what waited for an account that cannot be read, is answered with an error: nobody else knows of it.

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::{BareJid, Jid};

use crate::core::Core;
use crate::core::spilled::Cold;
use crate::core::turn::Turn;
use crate::owner::words::Work;

impl Core {
    /// The next account that something waits for. Each is given to one caller only; several may be read at a time.
    pub fn spilled(&self) -> Option<Cold> {
        self.spilled.next()
    }

    /// How many stanzas wait for accounts to be read, and their bytes.
    pub fn spilled_waiting(&self) -> (usize, usize) {
        self.spilled.waiting()
    }

    /// Goes on with what waits for an account that has been read, in the order it came.
    pub fn run(&self, now: Timestamp, cold: Cold) {
        // An account that was let go of again meanwhile puts its stanzas back: they are not gone through for ever.
        let mut most = self.spilled.len(&cold.account);
        while let Some(work) = self.spilled.pop(&cold.account) {
            self.turn(now, |turn| turn.onward_in_turn(work));
            most = most.saturating_sub(1);
            if most == 0 && self.spilled.len(&cold.account) > 0 {
                self.spilled.again(cold.account);
                self.wake_loader();
                return;
            }
        }
    }

    /// An account cannot be read: who sent it something is told.
    pub fn abandon(&self, now: Timestamp, cold: Cold) {
        self.turn(now, |turn| {
            while let Some(work) = self.spilled.pop(&cold.account) {
                turn.cannot_go_on(work, &StanzaError::internal_server_error());
            }
        })
    }
}

impl Turn<'_> {
    /// A stanza goes on when its account has been read; or its sender is told that it does not.
    pub(crate) fn spill(&mut self, account: &BareJid, work: Work) {
        match self.core.spilled.push(account, work) {
            Ok(true) => self.core.wake_loader(),
            Ok(false) => {}
            Err(work) => {
                let error = StanzaError::resource_constraint().with_text("too many stanzas wait for delivery");
                self.cannot_go_on(*work, &error);
            }
        }
    }

    /// A stanza on its way ends here. Its sender hears of it, if there may be an answer.
    fn cannot_go_on(&mut self, work: Work, error: &StanzaError) {
        let (kind, to) = (work.stanza.kind().name(), work.stanza.head.to.as_ref());
        tracing::warn!(kind, to = to.map(Jid::bare_str), error = error.condition.as_str(), "stanza not delivered");
        if work.stanza.is_answerable() && work.stanza.head.from.is_some() {
            self.todo.route(work.stanza.error(error), work.hops + 1);
        }
    }
}
