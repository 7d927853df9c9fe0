//! HTTP for monitoring. One request for each connection, with limits on everything.

#![expect(clippy::disallowed_methods, reason = "a task for each connection")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::accept::Setbacks;

/// Maximum number of simultaneous connections. For one more, the oldest that waits for its client is closed.
pub const MAX_CONNECTIONS: usize = 16;

/// Timeout from the first byte of a request to the last of its headers.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Timeout for a whole connection.
const TIME: Duration = Duration::from_secs(20);

/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;

/// Maximum size of a request line and its headers, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves until the task is dropped.
///
/// When all slots are in use, the connection that has waited longest for its client is closed: clients that send half a request, or do
/// not read the answer, do not keep others out.
pub async fn listen(listener: TcpListener, router: Router) {
    let mut setbacks = Setbacks::new("a connection for HTTP");
    let places = Places::default();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                setbacks.pass(&error).await;
                continue;
            }
        };
        let place = places.take().await;
        let answering = place.answering.clone();
        let pages = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (answering, answer) = (Answering::begin(&answering), pages.call(request));
            async move {
                let answer = answer.await;
                drop(answering);
                answer
            }
        });
        let id = place.id;
        let serving = async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), service);
            match tokio::time::timeout(TIME, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an HTTP request broke off"),
                Err(_) => tracing::debug!("an HTTP request timed out"),
            }
        };
        let task = tokio::spawn(serving).abort_handle();
        // Its slot is released when it ends.
        if let Some(place) = places.0.taken.lock().get_mut(&id) {
            place.task = Some(task);
        }
    }
}

/// The slots of connections.
#[derive(Clone)]
struct Places(Arc<Inner>);

struct Inner {
    free: Arc<Semaphore>,
    /// In order of arrival.
    taken: Mutex<BTreeMap<u64, Taken>>,
}

struct Taken {
    /// its request is being answered now
    answering: Arc<AtomicBool>,
    /// `None` while it is being started
    task: Option<AbortHandle>,
}

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Inner { free: Arc::new(Semaphore::new(MAX_CONNECTIONS)), taken: Mutex::default() }))
    }
}

/// The slot of one connection, until it is dropped.
struct Place {
    of: Places,
    id: u64,
    answering: Arc<AtomicBool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.0.taken.lock().remove(&self.id);
    }
}

impl Places {
    /// A slot, if necessary that of the oldest connection that waits for its client. Waits only while all are being answered.
    async fn take(&self) -> Place {
        let permit = match self.0.free.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let waits = |taken: &Taken| {
                    let answering = taken.answering.load(Ordering::Relaxed);
                    taken.task.clone().filter(|task| !answering && !task.is_finished())
                };
                let oldest = self.0.taken.lock().values().find_map(waits);
                if let Some(task) = oldest {
                    task.abort();
                    tracing::debug!("an HTTP request was dropped for another one");
                }
                self.0.free.clone().acquire_owned().await.ok()
            }
        };
        let (answering, mut taken) = (Arc::new(AtomicBool::new(false)), self.0.taken.lock());
        let id = taken.last_key_value().map_or(0, |(last, _)| last + 1);
        taken.insert(id, Taken { answering: answering.clone(), task: None });
        Place { of: self.clone(), id, answering, _permit: permit }
    }
}

/// A request is being answered, until this is dropped.
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn begin(flag: &Arc<AtomicBool>) -> Answering {
        flag.store(true, Ordering::Relaxed);
        Answering(flag.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
