//! The plan: what happens to a message on its receiver's side. `route/plan.rs` makes it.

use smallvec::SmallVec;
use vorpal_proto::error::StanzaError;

use crate::session::SessionId;

/// The sessions a message goes to.
pub type Targets = SmallVec<[SessionId; 2]>;

/// The decision of the router. Handlers of Record and Copy see it.
#[derive(Debug, Default)]
pub enum Plan {
    /// Not decided yet: Gate and Clean.
    #[default]
    Open,
    /// These sessions get it.
    Deliver(Targets),
    /// No session can take it now: it is kept, or answered with an error if no handler keeps it.
    Keep,
    /// It is answered with this error.
    Bounce(StanzaError),
    /// It is dropped silently.
    Ignore,
}

impl Plan {
    /// The sessions that get the stanza itself.
    pub fn targets(&self) -> &[SessionId] {
        match self {
            Plan::Deliver(targets) => targets,
            _ => &[],
        }
    }
}
