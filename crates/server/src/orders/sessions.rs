//! Orders about sessions: list them, end them.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vorpal_core::core::Core;
use vorpal_core::session::Session;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;
use vorpal_runtime::{Runtime, now};

use super::{Answer, account};

/// Ends a session, or all of an account. Returns notes for the operator.
pub(super) async fn kick(runtime: &Arc<Runtime>, jid: &str) -> Result<Vec<String>> {
    let full = Jid::parse(jid).with_context(|| format!("{jid} is not an address"))?;
    // If the host is not served or the account does not exist, the answer says so.
    let lock = account(runtime, full.bare_str()).await?;
    let ended = match full.resource() {
        Some(resource) => usize::from(runtime.core.kick(now(), &lock, resource, "ended by the operator")),
        None => runtime.core.kick_all(now(), &lock, "ended by the operator"),
    };
    match (ended, full.resource()) {
        (0, Some(_)) => bail!("there is no session {jid}: `vorpal session list {}` shows those there are", lock.jid),
        (0, None) => bail!("there is no session of {jid}"),
        (ended, None) => Ok(vec![format!("sessions ended: {ended}")]),
        _ => Ok(Vec::new()),
    }
}

/// All sessions, or those of an account, sorted by address.
pub(super) async fn list(runtime: &Arc<Runtime>, jid: Option<&str>) -> Result<Answer> {
    let locks = match jid {
        Some(jid) => vec![account(runtime, jid).await?],
        None => runtime.core.all_loaded(),
    };
    let mut rows: Vec<Value> = Vec::new();
    for lock in locks {
        rows.extend(lock.lock().sessions.iter().map(|each| row(&runtime.core, each)));
    }
    rows.sort_by(|a, b| a["jid"].as_str().cmp(&b["jid"].as_str()));
    Ok(Answer::Rows(rows))
}

/// What is told of a session.
pub(super) fn row(core: &Core, session: &Arc<Session>) -> Value {
    let facts = core.stream(session).facts();
    let away = facts.detached.map(|at| core.steady().saturating_sub(at).as_millis() as u64);
    let (priority, tls) = (session.priority(), facts.peer.tls);
    let address = IpAddr::from(facts.peer.address);
    json!({
        "jid": session.jid.as_str(),
        "connected": session.is_attached(),
        "priority": priority,
        "show": facts.show.unwrap_or_else(|| if priority.is_some() { "available" } else { "unavailable" }.into()),
        "resumable": facts.resumable,
        "since": facts.since.to_string(),
        "detached_since": away.map(|away| Timestamp::from_millis(now().as_millis().saturating_sub(away)).to_string()),
        "address": (!address.is_unspecified()).then(|| address.to_canonical().to_string()),
        "client": facts.client,
        "tls": tls.version(),
        "cipher": tls.cipher().map(|cipher| cipher.to_string()),
        "mechanism": facts.peer.mechanism.map(|mechanism| mechanism.name()),
    })
}
