//! The listeners of clients.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tracing::Instrument;

use vorpal_core::counts::Count;

use super::task::{Shared, serve};
use crate::limits::{ConnectionId, Refusal};

/// How soon a connection asks again that could not come in yet.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(5);

/// How a connection begins that comes to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Without TLS, which must be turned on (RFC 6120 §5).
    Starttls,
    /// With TLS from the first byte (XEP-0368).
    DirectTls,
    /// Without TLS, and so it stays: a proxy on this machine has ended it.
    Plain,
}

/// Connections that have not logged in: one may be closed for another.
type Waiting = Arc<Mutex<HashMap<ConnectionId, AbortHandle>>>;

/// The place of a connection among those that have not logged in, until it is dropped.
pub(super) struct Place {
    waiting: Waiting,
    id: ConnectionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// Accepts connections until the task is dropped.
pub async fn listen(shared: Arc<Shared>, listener: TcpListener, entrance: Entrance) {
    let waiting = Waiting::default();
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files: somebody has to close one first.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        // While too many log in who have just come, others wait in the queue of the system.
        let admitted = loop {
            match shared.gate.admit(shared.began.elapsed(), peer.ip()) {
                Ok(Some(entered)) => break Ok(entered),
                Ok(None) => tokio::time::sleep(AGAIN).await,
                Err(refusal) => break Err(refusal),
            }
        };
        let entered = match admitted {
            Ok(entered) => entered,
            Err(refusal) => {
                shared.runtime.core.counts.one(match refusal {
                    Refusal::Full => Count::RefusedFull,
                    Refusal::NetworkFull => Count::RefusedNetworkFull,
                    Refusal::TooFast => Count::RefusedTooFast,
                });
                tracing::debug!(%peer, ?refusal, "connection refused");
                continue;
            }
        };
        if entered.dropped.is_some() {
            shared.runtime.core.counts.one(Count::RefusedForOther);
        }
        if let Some(dropped) = entered.dropped
            && let Some(task) = waiting.lock().remove(&dropped)
        {
            task.abort();
        }
        let id = entered.guard.id();
        let place = Place { waiting: waiting.clone(), id };
        let mut table = waiting.lock();
        let span = tracing::debug_span!("c2s", conn = ?id, %peer);
        let serving = serve(shared.clone(), socket, peer, entrance, entered.guard, place);
        let task = tokio::spawn(serving.instrument(span));
        table.insert(id, task.abort_handle());
    }
}
