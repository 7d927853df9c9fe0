//! From a login to a session: what an authenticated client asks for, as one value.
//!
//! A client resumes a session (XEP-0198 §5) or binds a resource (RFC 6120 §7). With SASL these are separate requests. With SASL2
//! and Bind 2 both come inside the login, and the resource is bound only if the session cannot be resumed (XEP-0386 §3.2).

use std::sync::Arc;

use vorpal_proto::datetime::Timestamp;

use crate::core::Core;
use crate::life::bind::BindError;
use crate::life::resume::NoSuchSession;
use crate::owner::account::AccountRef;
use crate::session::{Carrier, Session};

/// What a client that has logged in asks for. Both may be given: then it is bound only if there is nothing to resume.
pub struct Establish {
    /// the account it has logged in to
    pub account: AccountRef,
    /// the session it wants to continue
    pub resume: Option<Resume>,
    /// the session it wants to begin
    pub bind: Option<Bind>,
}

/// XEP-0198 §5: a session to be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// its secret, from `<enabled/>`
    pub token: String,
    /// how many stanzas the client has handled
    pub h: u32,
}

/// RFC 6120 §7: a resource to be bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// what the client wants to be called; `None`: the server decides
    pub resource: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub enum Established {
    /// An old session has this connection from here on. `<resumed/>` is sent by [`Core::resumed`] as soon as [`Core::level`] allows
    /// it; until then nothing else is written.
    Resuming(Attached, Resume),
    /// There is a new session. `NoSuchSession` if another was to be resumed.
    Bound(Attached, Option<NoSuchSession>),
    /// There is no session. The client may ask again, unless the login was revoked.
    Failed {
        /// why none was resumed, if that was asked for
        resume: Option<NoSuchSession>,
        /// why none was bound, if that was asked for
        bind: Option<BindError>,
    },
}

/// A session and the connection that carries it.
pub struct Attached {
    /// its account
    pub account: AccountRef,
    /// the session
    pub session: Arc<Session>,
    /// the number of the connection within the session: [`Session::epoch`]
    pub epoch: u32,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").field("session", &self.session.jid).field("epoch", &self.epoch).finish()
    }
}

impl Core {
    /// Gives an authenticated client its session: the one it resumes, else a new one. A login that was revoked since its password was
    /// looked up ([`Core::revocations`]), as it is when the account is disabled or removed, gets none.
    pub fn establish(&self, now: Timestamp, establish: Establish, carrier: Carrier) -> Established {
        let Establish { account, resume, bind } = establish;
        let mut not_resumed = None;
        if let Some(resume) = resume {
            match self.resume(now, &account, &resume.token, resume.h, carrier.clone()) {
                Ok((session, epoch)) => return Established::Resuming(Attached { account, session, epoch }, resume),
                Err(error) => not_resumed = Some(error),
            }
        }
        let Some(bind) = bind else { return Established::Failed { resume: not_resumed, bind: None } };
        match self.bind(now, &account, bind.resource.as_deref(), carrier) {
            Ok((session, epoch)) => Established::Bound(Attached { account, session, epoch }, not_resumed),
            Err(error) => Established::Failed { resume: not_resumed, bind: Some(error) },
        }
    }
}
