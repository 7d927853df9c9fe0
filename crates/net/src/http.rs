//! HTTP for those who ask now and then: monitoring. One request for a connection, with bounds on everything.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// So many connections at once; the next ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 16;

/// From the first byte of a request to the last of its headers.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// For a whole connection.
const TIME: Duration = Duration::from_secs(20);

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// The most bytes of a request line and its headers.
const MAX_HEAD: usize = 16 * 1024;

/// Serves until the task is dropped.
pub async fn listen(listener: TcpListener, router: Router) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection for HTTP cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), service);
            match tokio::time::timeout(TIME, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a request over HTTP was cut short"),
                Err(_) => tracing::debug!("a request over HTTP took too long"),
            }
        });
    }
}
