//! The listeners for clients.
//!
//! A listener never waits for one network: a connection that cannot be admitted yet waits in the waiting room, and one whose proxy
//! has not sent its header yet waits in a separate task.

#![expect(clippy::disallowed_methods, reason = "a task for each connection")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tracing::Instrument;

use vorpal_core::watch::counts::Count;

use super::task::{Shared, serve};
use crate::accept::Setbacks;
use crate::limits::{Admitted, ConnectionId, Entered, Line, Lines, Refusal, WaitId};
use crate::proxy::{self, Header};

/// How often waiting connections are checked for admission.
const AGAIN: Duration = Duration::from_millis(5);

/// Timeout for the PROXY protocol header.
const PROXY_TIME: Duration = Duration::from_secs(5);

/// Maximum number of connections, for each listener, whose proxy has not sent its header yet. Each takes a socket and a task of about
/// 3 KiB; further connections wait to be accepted, for no longer than `PROXY_TIME`.
const MAX_UNNAMED: usize = 256;

/// How connections to a listener begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Without TLS, which must be started (RFC 6120 §5). A client that begins with TLS is served as on
    /// [`Entrance::DirectTls`]: the certificates are the same.
    Starttls,
    /// With TLS from the first byte (XEP-0368).
    DirectTls,
    /// Without TLS: a proxy on this machine terminates it.
    Plain,
}

/// Connections of all listeners that have not logged in. Clones share them.
#[derive(Clone, Default)]
pub struct Hall(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The tasks of admitted connections: one may be closed for another. `None` for a task that is being started.
    tasks: Mutex<HashMap<ConnectionId, Option<AbortHandle>>>,
    /// The waiting connections. Locked before the gate.
    waiting: Mutex<WaitingRoom>,
}

#[derive(Default)]
struct WaitingRoom {
    callers: HashMap<WaitId, Caller>,
    /// A task is serving them.
    looked_after: bool,
}

/// A connection that was accepted.
struct Caller {
    socket: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
}

/// The registration of a connection that has not logged in, until it is dropped.
pub(super) struct Place {
    hall: Hall,
    id: ConnectionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hall.0.tasks.lock().remove(&self.id);
    }
}

/// Accepts connections until the task is dropped. `proxied`: each begins with a header of the PROXY protocol.
pub async fn listen(shared: Arc<Shared>, listener: TcpListener, entrance: Entrance, proxied: bool) {
    let mut setbacks = Setbacks::new("a connection");
    let unnamed = Arc::new(Semaphore::new(MAX_UNNAMED));
    let headless = Arc::new(Headless { began: Instant::now(), lines: Mutex::default() });
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                setbacks.pass(&error).await;
                continue;
            }
        };
        let caller = Caller { socket, peer, entrance };
        if proxied {
            let Ok(permit) = unnamed.clone().acquire_owned().await else { return };
            let (shared, headless) = (shared.clone(), headless.clone());
            tokio::spawn(async move {
                if let Some(caller) = named(caller, &headless).await {
                    admit(&shared, caller).await;
                }
                drop(permit);
            });
        } else {
            admit(&shared, caller).await;
        }
    }
}

/// Connections to a proxy listener that do not begin with a header: possibly all, if the proxy is misconfigured.
struct Headless {
    began: Instant,
    lines: Mutex<Lines>,
}

impl Headless {
    /// Logs a line, unless there were many: then the next line has the number of omitted ones.
    fn met(&self, proxy: SocketAddr, error: &proxy::Malformed) {
        let mut lines = self.lines.lock();
        if lines.line(self.began.elapsed(), proxy.ip()) != Line::Write {
            return;
        }
        let left_out = lines.left_out();
        let left_out = left_out.networks.values().sum::<u64>() + left_out.others;
        tracing::warn!(%proxy, %error, left_out, "a connection is closed: c2s_plain_proxy wants a header from the proxy");
    }
}

/// Reads the client's address from the proxy's header. `None` without a header, which is logged at a limited rate.
async fn named(mut caller: Caller, headless: &Headless) -> Option<Caller> {
    let proxy = caller.peer;
    let read = async {
        let mut bytes = [0; proxy::MAX_HEADER];
        let (mut have, mut wanted) = (0, 1);
        loop {
            // Reads no byte beyond the header: what follows belongs to the client.
            let room = bytes.get_mut(have..wanted)?;
            let more = caller.socket.read(room).await.ok().filter(|more| *more > 0)?;
            have += more;
            match proxy::read(bytes.get(..have)?) {
                Ok(Header::Part(length)) => wanted = length,
                Ok(Header::Whole { client, .. }) => return Some(client),
                Err(error) => {
                    headless.met(proxy, &error);
                    return None;
                }
            }
        }
    };
    let client = tokio::time::timeout(PROXY_TIME, read).await.ok()??;
    caller.peer = client.unwrap_or(proxy);
    Some(caller)
}

/// Admits a connection, puts it into the waiting room, or closes it. Waits only if the room is full of connections from different
/// networks.
async fn admit(shared: &Arc<Shared>, caller: Caller) {
    let (caller, refusal) = loop {
        let mut waiting = shared.hall.0.waiting.lock();
        match shared.gate.admit(shared.began.elapsed(), caller.peer.ip()) {
            Ok(Admitted::In(entered)) => {
                drop(waiting);
                return come_in(shared, caller, entered);
            }
            Ok(Admitted::Waits(id, gone)) => {
                if let Some(gone) = gone.and_then(|id| waiting.callers.remove(&id)) {
                    refused(shared, &gone, Refusal::Crowded);
                }
                waiting.callers.insert(id, caller);
                if !std::mem::replace(&mut waiting.looked_after, true) {
                    tokio::spawn(look_after(shared.clone()));
                }
                return;
            }
            Ok(Admitted::Later) => drop(waiting),
            Err(refusal) => break (caller, refusal),
        }
        tokio::time::sleep(AGAIN).await;
    };
    refused(shared, &caller, refusal);
}

/// Admits waiting connections as soon as allowed, until none waits.
async fn look_after(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let mut waiting = shared.hall.0.waiting.lock();
        let now = shared.began.elapsed();
        while let Some((id, entered)) = shared.gate.let_in(now) {
            if let Some(caller) = waiting.callers.remove(&id) {
                come_in(&shared, caller, entered);
            }
        }
        for id in shared.gate.tired(now) {
            if let Some(caller) = waiting.callers.remove(&id) {
                refused(&shared, &caller, Refusal::Crowded);
            }
        }
        if waiting.callers.is_empty() {
            waiting.looked_after = false;
            return;
        }
    }
}

fn refused(shared: &Shared, caller: &Caller, refusal: Refusal) {
    shared.runtime.core.counts.one(match refusal {
        Refusal::Full => Count::RefusedFull,
        Refusal::NetworkFull => Count::RefusedNetworkFull,
        Refusal::TooFast => Count::RefusedTooFast,
        Refusal::Crowded => Count::RefusedCrowded,
    });
    shared.audit.refused(caller.peer, &refusal.to_string());
}

/// Serves a connection in a separate task, and closes the one that it replaces.
fn come_in(shared: &Arc<Shared>, caller: Caller, entered: Entered) {
    let hall = &shared.hall;
    if let Some(dropped) = entered.dropped {
        shared.runtime.core.counts.one(Count::RefusedForOther);
        let task = hall.0.tasks.lock().remove(&dropped);
        if let Some(Some(task)) = task {
            task.abort();
        }
    }
    let Caller { socket, peer, entrance } = caller;
    let id = entered.guard.id();
    let place = Place { hall: hall.clone(), id };
    hall.0.tasks.lock().insert(id, None);
    let span = tracing::debug_span!("c2s", conn = id.number(), %peer);
    let serving = serve(shared.clone(), socket, peer, entrance, entered.guard, place);
    // Not locked: if the runtime is shutting down, the task is dropped at once, together with its registration.
    let task = tokio::spawn(serving.instrument(span)).abort_handle();
    match hall.0.tasks.lock().get_mut(&id) {
        Some(listed) => *listed = Some(task),
        // It has already ended, or has already been replaced.
        None => task.abort(),
    }
}
