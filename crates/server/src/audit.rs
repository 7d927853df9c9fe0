//! The audit trail of operators in the log: a line for each order that changes something or looks at what one account does, with
//! the user who sent it. The texts and the fields of these lines are part of the interface (docs/handbook/monitoring.md).

use tokio::net::UnixStream;

use crate::files;
use crate::orders::{Answer, Order};

/// The sender of an order, from the socket's peer credentials.
pub(crate) struct Caller {
    uid: Option<u32>,
    pid: Option<i32>,
}

/// The name of an order and its object.
pub(crate) struct Subject {
    order: &'static str,
    on: String,
}

impl Caller {
    /// The process at the other end of the socket.
    pub fn of(stream: &UnixStream) -> Caller {
        let peer = stream.peer_cred().ok();
        Caller { uid: peer.map(|peer| peer.uid()), pid: peer.and_then(|peer| peer.pid()) }
    }

    /// Logs the order and its result; nothing for an order that changes nothing.
    pub fn gave(&self, subject: Option<Subject>, answer: Option<&Answer>) {
        let Some(Subject { order, on }) = subject else { return };
        let (uid, pid) = (self.uid, self.pid);
        let failed = match answer {
            Some(Answer::Imported(imported)) if imported.failed > 0 => {
                Some(format!("{} accounts created, {} lines failed", imported.created, imported.failed))
            }
            _ => None,
        };
        let error = match answer {
            Some(Answer::Error(error)) => Some(error.as_str()),
            _ => failed.as_deref(),
        };
        let user = self.uid.map(files::name);
        let outcome = match answer {
            Some(Answer::Error(_)) => "refused",
            Some(_) => "done",
            None => "begun",
        };
        tracing::info!(order, on, uid, pid, outcome, user, error, "order");
    }
}

impl Subject {
    /// `None` for an order that only looks at the server as a whole.
    pub fn of(order: &Order) -> Option<Subject> {
        let (order, on) = match order {
            Order::UserAdd { jid, .. } => ("user add", jid.clone()),
            Order::UserImport { users } => ("user import", format!("{} accounts", users.len())),
            Order::UserPasswd { jid, .. } => ("user passwd", jid.clone()),
            Order::UserRm { jid, .. } => ("user rm", jid.clone()),
            Order::UserDisable { jid, disabled: true, .. } => ("user disable", jid.clone()),
            Order::UserDisable { jid, .. } => ("user enable", jid.clone()),
            Order::SessionKick { jid, .. } => ("session kick", jid.clone()),
            Order::Reload => ("config apply", String::new()),
            Order::Trace { jid } => ("trace", jid.clone()),
            Order::UserList { .. }
            | Order::UserShow { .. }
            | Order::Status
            | Order::Top
            | Order::CertList
            | Order::SessionList { .. } => return None,
        };
        Some(Subject { order, on })
    }
}
