//! Handlers of the life of a session, and what they ask for: stream management begins, the stream ends (XEP-0198 §3, §4).

use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::life::switched_off;
use crate::module::effects::{Effects, Manage};
use crate::module::facade::Server;
use crate::module::hook::{OpenAccount, SessionCx};
use crate::module::registry::Registry;
use crate::owner::account::AccountRef;
use crate::owner::words::{Say, Words};
use crate::session::guard::OpenSession;
use crate::session::nonzas;
use crate::session::{Closing, Management, Session};
use std::sync::Arc;
use vorpal_proto::datetime::Timestamp;

impl Core {
    /// An element that is no stanza, from a session's connection. False if nobody knows it.
    pub fn nonza(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        session: &Arc<Session>,
        epoch: u32,
        nonza: &vorpal_proto::element::Element,
    ) -> bool {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            // The counts of a connection that was replaced mean nothing on the next one, and a session that is over has none.
            let over = session.stream().is_over();
            if over || session.epoch() != epoch {
                return true;
            }
            let registry = account.host.registry();
            let handler = registry.nonza(nonza.ns_id(), nonza.name());
            let mut known = handler.is_some();
            turn.in_session(&mut Locked::new(lock, &mut account), session, |cx| match handler {
                Some((_, handler)) => handler(cx, nonza),
                None => known = switched_off::nonza(cx, &registry, nonza),
            });
            known
        })
    }
}

impl Turn<'_> {
    pub(crate) fn session_event(
        &mut self,
        at: &mut Locked<'_>,
        session: &Arc<Session>,
        list: &[(&'static str, crate::module::hook::SessionHandler)],
    ) {
        if !list.is_empty() {
            self.in_session(at, session, |cx| Registry::session_event(list, cx));
        }
    }

    pub(crate) fn in_session(
        &mut self,
        at: &mut Locked<'_>,
        session: &Arc<Session>,
        run: impl FnOnce(&mut SessionCx<'_>),
    ) {
        let host = at.account.host.clone();
        let mut fx = Effects::default();
        let panicked = {
            let mut stream = session.stream();
            let mut cx = SessionCx {
                account: OpenAccount { jid: &at.account.jid, states: &at.account.states },
                session: OpenSession(session),
                stream: &mut stream,
                fx: &mut fx,
                host: &host,
                server: Server(self.core),
                now: self.now,
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut cx))).is_err()
        };
        if panicked {
            tracing::error!(session = %session.jid, "a session handler panicked");
            return;
        }
        match fx.manage.take() {
            Some(Manage::Enable { keep, resumable }) => self.enable(at, session, keep, resumable),
            Some(Manage::Acked(h)) => self.acked(at, session, h),
            Some(Manage::End(error)) => self.end(at, session, Closing::Error(*error)),
            Some(Manage::SayAck) => {
                session.stream().owe_ack();
                self.answer_ack(at, session);
            }
            None => {}
        }
        if fx.save {
            at.account.save_session(self.core, session);
        }
        let says = fx.take_further().sends.into_iter().map(|(to, stanza)| Say::Send { to, stanza });
        let words = Words::of_says(says);
        if fx.save || !words.says.is_empty() {
            self.finish_one(at, words, None, Vec::new());
        }
    }

    /// XEP-0198 §3. `<enabled/>` waits for the session's row.
    fn enable(&mut self, at: &mut Locked<'_>, session: &Arc<Session>, keep: u64, resumable: bool) {
        // It began with a password that ends when the new one is stored, and the session with it. A row of it would outlive a
        // crash between that commit and the end.
        let resumable = resumable && !at.account.is_being_revoked();
        let token = resumable.then(|| self.core.random_id());
        let mut progress = Vec::new();
        {
            let mut stream = session.stream();
            let entered = stream.manage(token.clone(), keep, at.account.log.written);
            if resumable {
                stream.progress_rows(self.core.progress, session.id, entered, &mut progress);
            }
        }
        let keep = if resumable { keep } else { 0 };
        let management = Box::new(Management { sent: 0, acked: 0, asked: false, unasked: 0 });
        let bytes = nonzas::enabled(token.as_deref(), keep / 1000);
        at.account.save_session(self.core, session);
        self.core.company_changes(at, session, false);
        let says = [Say::Enabled { session: session.clone(), bytes, management }];
        let words = Words { says: says.into_iter().collect(), ..Words::default() };
        self.finish_one(at, words, None, progress);
    }
}
