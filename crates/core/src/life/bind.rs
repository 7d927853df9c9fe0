//! Resource binding (RFC 6120 §7): a login becomes a session.

use crate::core::Core;
use crate::core::turn::Locked;
use crate::owner::account::{Account, AccountRef};
use crate::session::{Carrier, Closing, Session};
use crate::watch::counts::Count;
use crate::watch::trace::Step;
use std::sync::Arc;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};

/// What a connection asks for when it is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindError {
    /// Too many sessions (RFC 6120 §7.7.2.1).
    TooMany,
    /// The resource cannot be one (§7.7.2.2).
    BadResource,
    /// The login was revoked before it came to a session.
    Revoked,
}

impl Core {
    /// Binds a resource: the client's, or a random one (RFC 6120 §7.6, §7.7). A session of the same resource is replaced:
    /// its stream is closed with `conflict`. Gives the session and the number of the connection that carries it.
    pub(crate) fn bind(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        resource: Option<&str>,
        carrier: Carrier,
    ) -> Result<(Arc<Session>, u32), BindError> {
        let random;
        let resource = match resource.filter(|r| !r.is_empty()) {
            Some(resource) => resource,
            None => {
                random = self.random_id();
                &random
            }
        };
        let jid = lock.jid.as_jid().with_resource(resource).map_err(|_| BindError::BadResource)?;
        self.turn(now, |turn| {
            let mut account = lock.lock();
            if account.revocations != carrier.revocations {
                return Err(BindError::Revoked);
            }
            let old = jid.resource().and_then(|resource| account.by_resource(resource)).cloned();
            if let Some(old) = &old {
                let error = StreamError::from(StreamCondition::Conflict).with_text("replaced by a new connection");
                turn.end(&mut Locked::new(lock, &mut account), old, Closing::Error(error));
            }
            if account.sessions.len() >= self.bounds().sessions {
                let Some(old) = longest_away(&account) else { return Err(BindError::TooMany) };
                tracing::debug!(session = %old.jid, "a detached session was ended to make room for a new one");
                turn.end(&mut Locked::new(lock, &mut account), &old, Closing::Normal);
            }
            let mut id = [0; 8];
            self.fill_random(&mut id);
            // Never 0, and never the sign bit of a signed column.
            let id = (u64::from_be_bytes(id) >> 1).max(1);
            let session = Arc::new(Session::new(id, jid, &self.bounds()));
            session.stream().bound_at(now.as_millis());
            let epoch = session.attach(carrier);
            account.sessions.push(session.clone());
            account.guard_sessions();
            self.counts.one(Count::Bound);
            self.step(now, &account.jid, || Step::named("bound").in_session(&session));
            tracing::debug!(session = %session.jid, "bound");
            let registry = account.host.registry();
            turn.session_event(&mut Locked::new(lock, &mut account), &session, &registry.on_bind);
            Ok((session, epoch))
        })
    }
}

/// The session that has been without a connection for the longest time: it gives way to a new one.
fn longest_away(account: &Account) -> Option<Arc<Session>> {
    let away = account.sessions.iter().filter_map(|session| Some((session.stream().detached_since()?, session)));
    away.min_by_key(|(since, _)| *since).map(|(_, session)| session.clone())
}
