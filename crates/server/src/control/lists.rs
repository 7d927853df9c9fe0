//! Lists and details of accounts and sessions for operators.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use vorpal_core::core::Core;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::session::Session;
use vorpal_core::store::Kind;
use vorpal_proto::datetime::Timestamp;
use vorpal_runtime::{Runtime, now};

use super::Answer;
use super::act::{address, served};

/// Number of accounts read at once.
const PAGE: usize = 1_000;

/// The accounts of a host, or of all hosts.
pub(super) async fn users(runtime: &Arc<Runtime>, host: Option<String>) -> Result<Answer> {
    let hosts = match host {
        Some(host) => {
            served(runtime, &host)?;
            vec![host]
        }
        None => runtime.core.hosts().iter().map(|host| host.domain().to_owned()).collect(),
    };
    let mut rows = Vec::new();
    for host in hosts {
        let mut past: Option<String> = None;
        loop {
            let (of, from) = (host.clone(), past.clone());
            let page = runtime.readers().read(move |r| r.owners(Kind::Account, &of, from.as_deref(), PAGE)).await?;
            let Some(last) = page.last() else { break };
            past = Some(last.name.to_string());
            let row = |jid: String, disabled: bool| json!({ "jid": jid, "disabled": disabled });
            rows.extend(page.iter().map(|found| row(format!("{}@{}", found.name, found.host), found.disabled)));
        }
    }
    Ok(Answer::Rows(rows))
}

/// Number of accounts, by host.
pub(super) async fn count(runtime: &Arc<Runtime>) -> Result<Vec<(String, usize)>> {
    let mut counts = Vec::new();
    let mut hosts: Vec<String> = runtime.core.hosts().iter().map(|host| host.domain().to_owned()).collect();
    hosts.sort();
    for host in hosts {
        let (mut count, mut past) = (0, None::<String>);
        loop {
            let of = host.clone();
            let page = runtime.readers().read(move |r| r.owners(Kind::Account, &of, past.as_deref(), PAGE)).await?;
            let Some(last) = page.last() else { break };
            count += page.len();
            past = Some(last.name.to_string());
        }
        counts.push((host, count));
    }
    Ok(counts)
}

/// The details of an account.
pub(super) async fn user(runtime: &Arc<Runtime>, lock: &AccountRef) -> Result<Answer> {
    let (core, at) = (runtime.core.clone(), lock.clone());
    let holdings = runtime.readers().read(move |reader| core.holdings(&at, reader)).await?;
    let created = holdings.created.ok_or_else(|| anyhow!("there is no account {}", lock.jid))?;
    let account = lock.lock();
    let last = runtime.core.last_activity(&account).map(|last| Timestamp::from_millis(last.time).to_string());
    Ok(Answer::Object(json!({
        "jid": lock.jid.as_str(),
        "created": created.to_string(),
        "disabled": account.disabled,
        "last_seen": last,
        "sessions": account.sessions.iter().map(|each| session(&runtime.core, each)).collect::<Vec<_>>(),
        "roster_entries": holdings.contacts,
        "archive_bytes": holdings.archive_bytes,
        "waiting_messages": holdings.waiting,
        "waiting_bytes": holdings.waiting_bytes,
        "keys": holdings.hashes,
    })))
}

/// All sessions, or those of an account, sorted by address.
pub(super) async fn sessions(runtime: &Arc<Runtime>, jid: Option<&str>) -> Result<Answer> {
    let locks = match jid {
        Some(jid) => {
            let jid = address(runtime, jid)?;
            vec![runtime.load(jid.clone()).await?.ok_or_else(|| anyhow!("there is no account {jid}"))?]
        }
        None => runtime.core.all_loaded(),
    };
    let mut rows: Vec<Value> = Vec::new();
    for lock in locks {
        rows.extend(lock.lock().sessions.iter().map(|each| session(&runtime.core, each)));
    }
    rows.sort_by(|a, b| a["jid"].as_str().cmp(&b["jid"].as_str()));
    Ok(Answer::Rows(rows))
}

fn session(core: &Core, session: &Arc<Session>) -> Value {
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
