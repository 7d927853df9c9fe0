//! Following one account: what is decided about its stanzas, and why, told to an operator who asks.
//!
//! While nobody asks it costs a load of one word that hardly ever changes. What is told goes into a buffer with a bound,
//! and beyond it is lost and counted: following an account slows nobody down. No bodies, no secrets; addresses are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use smallvec::SmallVec;
use vorpal_proto::jid::BareJid;
use vorpal_proto::stanza::Stanza;

use crate::owner::account::Account;
use crate::session::{Session, SessionId, Wake};
use crate::store::EntryId;

/// Maximum number of followers of accounts at once.
pub const MAX_TRACERS: usize = 8;

/// Maximum number of steps that wait for a follower; more are lost.
pub const MAX_STEPS: usize = 1_024;

/// Number of batches remembered with the time of their submission.
const MAX_BATCHES: usize = 256;

/// One decision, or one thing that happened.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(default)]
pub struct Step {
    /// when, in milliseconds since 1970; 0 where nobody knows: then it was just before it is taken
    pub at: u64,
    /// what: received, stopped, planned, home, submitted, committed, failed, settled, given, read, withheld, taken, answered,
    /// dropped; of a session: bound, detached, resumed, ended
    pub step: &'static str,
    /// the session it is about, by its full address
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// the number of the stanza among those the session sent
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// message, presence or iq
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// its type
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// its id
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// its sender
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// its receiver
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// on whose side a handler ran: Sent or Received
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
    /// the phase of the handler
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// the module of the handler
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<&'static str>,
    /// what was decided
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// why
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// the sessions that get it
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// the sessions that get a carbon copy
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
    /// its place in the log
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// the batch of writes it is in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// how long the batch took from being handed over until it was on the disk, in milliseconds
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_ms: Option<u64>,
}

impl Step {
    /// A step of this name.
    pub(crate) fn named(step: &'static str) -> Step {
        Step { step, ..Step::default() }
    }

    /// One that is about a stanza.
    pub(crate) fn of(step: &'static str, stanza: &Stanza) -> Step {
        let text = |jid: &Option<vorpal_proto::jid::Jid>| jid.as_ref().map(|jid| jid.as_str().to_owned());
        Step {
            step,
            kind: Some(stanza.kind().name()),
            type_: Some(format!("{:?}", stanza.type_()).to_lowercase()).filter(|text| text != "none"),
            id: stanza.head.id.as_deref().map(str::to_owned),
            from: text(&stanza.head.from),
            to: text(&stanza.head.to),
            ..Step::default()
        }
    }

    pub(crate) fn in_session(self, session: &Session) -> Step {
        Step { session: Some(session.jid.as_str().to_owned()), ..self }
    }

    pub(crate) fn decided(self, decision: impl Into<String>) -> Step {
        Step { decision: Some(decision.into()), ..self }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Step {
        Step { reason: Some(reason.into()), ..self }
    }
}

/// Those who follow accounts. On lines of its own: it is asked for each stanza and hardly ever changes.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Traces {
    pub on: AtomicBool,
    pub all: RwLock<SmallVec<[Arc<Tracer>; 2]>>,
}

pub(crate) struct Tracer {
    pub account: BareJid,
    pub waiting: Mutex<Steps>,
    pub wake: Arc<dyn Wake>,
}

#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) lost: u64,
    /// when batches were handed over, so that it can be told how long they took
    batches: VecDeque<(u64, u64)>,
}

impl Tracer {
    pub(crate) fn push(&self, mut step: Step) {
        let mut waiting = self.waiting.lock();
        if let Some(batch) = step.batch {
            match step.step {
                "submitted" => {
                    if waiting.batches.len() >= MAX_BATCHES {
                        waiting.batches.pop_front();
                    }
                    waiting.batches.push_back((batch, step.at));
                }
                _ => {
                    let began = waiting.batches.iter().find(|(of, _)| *of == batch).map(|(_, at)| *at);
                    step.commit_ms = began.map(|began| step.at.saturating_sub(began));
                }
            }
        }
        if waiting.steps.len() >= MAX_STEPS {
            waiting.lost += 1;
            return;
        }
        waiting.steps.push_back(step);
        drop(waiting);
        self.wake.wake();
    }
}

/// Sessions by their addresses.
pub(crate) fn names(account: Option<&Account>, ids: &[SessionId]) -> Vec<String> {
    let jid = |id: &SessionId| account?.session(*id).map(|session| session.jid.as_str().to_owned());
    ids.iter().map(|id| jid(id).unwrap_or_else(|| "a session that has gone".into())).collect()
}
