//! What is written to a session is judged at that moment, whoever made it and however long it has waited: by lists that the
//! account of the session keeps, a block list for instance (XEP-0191 §3.3).
//!
//! The gates judge a stanza when it comes. Behind them it may wait: in the log for a session that is away, in the queue of one, for a
//! commit, for an inactive client. There is one place where all of it becomes bytes for a client, and there it is judged again
//! ([`crate::module::Setup::withholds`]). What is withheld counts as written and taken: it has no number on the stream, so that the
//! counts of both ends agree after a resumption too; its entry is open no more; and nobody hears an error, except who has asked
//! something and would wait for the answer.
//!
//! The list of the sender is not asked again. What was accepted from a sender before it blocked the receiver is delivered: it was
//! acknowledged to the sender, who does not get an error for it (§3.3 forbids to route what is sent *to* a blocked address, and this
//! was sent before); and the servers of others, and of senders whose accounts are not loaded, could not be asked.
//!
//! Nearly no account has such a list. A session knows by a flag whether its account has one, and only then is the account locked.

use std::sync::Arc;

use vorpal_proto::error::StanzaError;
use vorpal_proto::stanza::Kind;

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::module::hook::OpenAccount;
use crate::module::registry::{Guarded, Registry, Unguarded};
use crate::owner::account::{Account, AccountRef};
use crate::session::{Out, Pulled, Session, Wire};
use crate::store::BatchId;
use crate::watch::trace::Step;

impl Core {
    /// Writes the output of this connection of a session, up to about `limit` bytes. The caller must not hold an account's lock.
    pub fn pull(
        &self,
        lock: &AccountRef,
        session: &Arc<Session>,
        registry: &Registry,
        epoch: u32,
        out: &mut impl Wire,
        limit: usize,
    ) -> Pulled {
        if session.is_guarded() {
            return self.pull_guarded(lock, session, registry, epoch, out, limit);
        }
        session.pull(&mut Unguarded(registry), epoch, out, limit)
    }

    #[cold]
    fn pull_guarded(
        &self,
        lock: &AccountRef,
        session: &Arc<Session>,
        registry: &Registry,
        epoch: u32,
        out: &mut impl Wire,
        limit: usize,
    ) -> Pulled {
        self.turn(self.lately(), |turn| {
            let mut account = lock.lock();
            let mut withheld = Vec::new();
            let mut guard = Guarded {
                registry,
                account: OpenAccount { jid: &account.jid, states: &account.states },
                withheld: &mut withheld,
            };
            let pulled = session.pull(&mut guard, epoch, out, limit);
            turn.withheld(&mut Locked::new(lock, &mut account), session, withheld);
            pulled
        })
    }
}

impl Turn<'_> {
    /// What was withheld from a session is taken, as if its client had acknowledged it. Who asks something is told that nobody
    /// answers (RFC 6120 §8.2.3; XEP-0191 §3.3): the answer would not come.
    pub(crate) fn withheld(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, withheld: Vec<Out>) {
        if withheld.is_empty() {
            return;
        }
        for out in &withheld {
            self.step(&at.account.jid, || Step {
                entry: out.entry,
                ..Step::of("withheld", &out.stanza).in_session(session)
            });
        }
        let entries = session.stream().passed_over(&withheld);
        self.core.took(at, session, &entries);
        for out in withheld {
            if out.stanza.kind() == Kind::Iq && out.stanza.is_answerable() {
                self.todo.route(out.stanza.error(&StanzaError::service_unavailable()), 1);
            }
        }
    }
}

impl Account {
    /// A batch that holds rows of the account is committed, or came to nothing.
    pub(crate) fn rows_done(&mut self, batch: BatchId, committed: bool) {
        if self.states.complete(batch, committed) {
            self.guard_sessions();
        }
    }

    /// Tells the sessions whether the account keeps a list by which what is written to them is judged.
    pub(crate) fn guard_sessions(&self) {
        let guarded = self.states.guards();
        self.sessions.iter().for_each(|session| session.set_guarded(guarded));
    }
}
