//! Orders that watch a running server: its state, its figures, the decisions about the stanzas of one account.

#![expect(clippy::disallowed_methods, reason = "a sample asks the operating system")]

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use vorpal_core::core::watched::Trace;
use vorpal_core::watch::trace::MAX_TRACERS;
use vorpal_runtime::{Runtime, Waker, now};

use super::{Answer, address, users};
use crate::gauges::Gauges;

/// Collects the state of the server. Counts the accounts in the store, a page at a time.
pub(crate) async fn status(gauges: Arc<Gauges>) -> Answer {
    match look(gauges).await {
        Ok(status) => Answer::Object(status),
        Err(error) => Answer::Error(format!("{error:#}")),
    }
}

async fn look(gauges: Arc<Gauges>) -> Result<Value> {
    let accounts = users::count(gauges.runtime()).await.context("the accounts cannot be counted")?;
    let looking = gauges.clone();
    let sample = tokio::task::spawn_blocking(move || looking.sample(false)).await.context("a bug in the server")?;
    let hosts: Vec<&str> = accounts.iter().map(|(host, _)| host.as_str()).collect();
    let of_hosts: serde_json::Map<String, Value> =
        accounts.iter().map(|(host, count)| (host.clone(), json!(count))).collect();
    let listeners = gauges.listeners().into_iter();
    let certificates = gauges.certificates().into_iter();
    Ok(json!({
        "version": sample.version,
        "uptime_seconds": sample.uptime_seconds,
        "trouble": sample.trouble,
        "hosts": hosts,
        "accounts": accounts.iter().map(|(_, count)| count).sum::<usize>(),
        "accounts_by_host": of_hosts,
        "accounts_loaded": sample.accounts_loaded,
        "sessions": sample.attached + sample.detached,
        "connected": sample.attached,
        "available": sample.available,
        "logging_in": sample.logging_in,
        "listeners": listeners.map(|(key, address)| json!({ "key": key, "address": address.to_string() })).collect::<Vec<_>>(),
        "certificates": certificates
            .map(|host| {
                let certificate = host.certificate();
                json!({
                "host": certificate.host(),
                "until": certificate.not_after().to_string(),
                "self_signed": certificate.is_self_signed(),
                "expired": certificate.not_after() < now(),
            })
            })
            .collect::<Vec<_>>(),
        "writes_waiting": sample.backlog_batches,
        "disk_free_bytes": sample.disk_free_bytes,
        "disk_bytes": sample.disk_bytes,
        "reserve_bytes": sample.reserve_bytes,
        "database_bytes": sample.database_bytes,
        "wal_bytes": sample.wal_bytes,
        "memory_bytes": sample.memory_bytes,
        "data": gauges.data(),
    }))
}

/// Everything that `vorpal top` shows.
pub(crate) async fn top(gauges: Arc<Gauges>) -> Answer {
    let sample = tokio::task::spawn_blocking(move || serde_json::to_value(gauges.sample(true))).await;
    match sample {
        Ok(Ok(sample)) => Answer::Rows(vec![sample]),
        _ => Answer::Error("the server could not collect its figures: this is a bug".into()),
    }
}

/// Begins to follow an account. `wake` is woken when there is something to take from the trace.
///
/// # Errors
/// There is no such account, or too many are being followed.
pub(crate) async fn follow(runtime: &Arc<Runtime>, jid: &str, wake: Arc<Waker>) -> Result<Trace> {
    let jid = address(runtime, jid)?;
    if runtime.load(jid.clone()).await?.is_none() {
        bail!("there is no account {jid}");
    }
    let trace = runtime.core.trace(jid, wake);
    trace.ok_or_else(|| anyhow!("{MAX_TRACERS} accounts are already being followed"))
}
