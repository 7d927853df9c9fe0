//! Orders about accounts: create, delete, disable, new passwords, lists.

#![expect(clippy::disallowed_methods, reason = "a key derivation takes a thread for itself")]

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use vorpal_core::life::users::{NewUser, Sessions};
use vorpal_core::module::host::KeyPolicy;
use vorpal_core::store::Kind;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::prep::PrepError;
use vorpal_proto::sasl::{Credentials, CredentialsError, MAX_INPUT_BYTES};
use vorpal_runtime::{Runtime, now};

use super::{Answer, account, address, heard, notice, served, sessions, stored};
use crate::secret::Password;

/// A warning is given for passwords with fewer characters.
const SHORT_PASSWORD: usize = 8;

/// Number of accounts read at once.
const PAGE: usize = 1_000;

/// Creates an account. Returns notes for the operator.
pub(super) async fn add(runtime: &Arc<Runtime>, jid: &str, password: Password) -> Result<Vec<String>> {
    let user = NewUser::new(address(runtime, jid)?)?;
    if runtime.load(user.jid().clone()).await?.is_some() {
        bail!("{0} exists already: `vorpal user passwd {0}` sets a new password", user.jid());
    }
    has_room(runtime)?;
    let mut notes = Vec::from_iter(short(&password));
    let credentials = derive(password, key_policy(runtime, user.jid())).await?;
    stored(|done| runtime.core.create_user(now(), &user, &credentials, done)).await?;
    notes.extend(mixed_scripts(&user));
    Ok(notes)
}

/// Sets another password. Returns notes for the operator.
pub(super) async fn set_password(
    runtime: &Arc<Runtime>,
    jid: &str,
    password: Password,
    end_sessions: bool,
) -> Result<Vec<String>> {
    let lock = account(runtime, jid).await?;
    let mut notes = Vec::from_iter(short(&password));
    let credentials = derive(password, key_policy(runtime, &lock.jid)).await?;
    let sessions = if end_sessions { Sessions::End } else { Sessions::Keep };
    stored(|done| runtime.core.set_credentials(now(), &lock, &credentials, sessions, done)).await?;
    let (jid, left) = (&lock.jid, lock.lock().sessions.len());
    if left > 0 {
        notes.push(format!(
            "sessions of {jid} that stay connected: {left}; `vorpal session kick {jid}` ends them, and so does a new \
             password with --end-sessions"
        ));
    }
    Ok(notes)
}

/// Disables or enables an account.
pub(super) async fn disable(runtime: &Arc<Runtime>, jid: &str, disabled: bool) -> Result<Vec<String>> {
    let lock = account(runtime, jid).await?;
    stored(|done| runtime.core.disable_user(now(), &lock, disabled, done)).await?;
    Ok(Vec::new())
}

/// Removes an account, after its subscriptions at its contacts. If this fails midway, the account is left disabled.
pub(super) async fn remove(runtime: &Arc<Runtime>, jid: &str) -> Result<Vec<String>> {
    let (core, lock) = (&runtime.core, &account(runtime, jid).await?);
    stored(|done| core.begin_removal(now(), lock, done)).await?;
    let done = async {
        let mut all = Vec::new();
        for contact in core.contacts(lock) {
            let (mut done, hears) = notice();
            while let Some(again) = core.leave(now(), lock, &contact, done) {
                done = again;
                runtime.load(contact.clone()).await?;
            }
            all.push(hears);
        }
        for hears in all {
            heard(hears).await?;
        }
        stored(|done| core.delete_user(now(), lock, done)).await
    };
    let done = done.await;
    if done.is_err() {
        core.stop_removal(lock);
    }
    done.with_context(|| format!("{} is disabled and not deleted: run the command again", lock.jid))?;
    core.forget_directed(&lock.jid);
    Ok(Vec::new())
}

/// The accounts of a host, or of all hosts.
pub(super) async fn list(runtime: &Arc<Runtime>, host: Option<String>) -> Result<Answer> {
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
pub(super) async fn show(runtime: &Arc<Runtime>, jid: &str) -> Result<Answer> {
    let lock = account(runtime, jid).await?;
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
        "sessions": account.sessions.iter().map(|each| sessions::row(&runtime.core, each)).collect::<Vec<_>>(),
        "roster_entries": holdings.contacts,
        "archive_bytes": holdings.archive_bytes,
        "waiting_messages": holdings.waiting,
        "waiting_bytes": holdings.waiting_bytes,
        "keys": holdings.hashes,
    })))
}

/// A note for the operator about the name of a new account.
pub(super) fn mixed_scripts(user: &NewUser) -> Option<String> {
    let scripts = user.mixed_scripts()?.join(" and ");
    let jid = user.jid();
    Some(format!(
        "{jid} mixes letters of {scripts}: it may be taken for another name. `vorpal user rm {jid}` deletes it"
    ))
}

/// A note for the operator about a weak password.
fn short(password: &Password) -> Option<String> {
    let length = password.as_str().chars().count();
    (length < SHORT_PASSWORD).then(|| {
        let s = if length == 1 { "" } else { "s" };
        format!("the password has only {length} character{s}: it is easily guessed; use {SHORT_PASSWORD} or more")
    })
}

/// Fails if free space is below the reserve: then no account is created.
pub(super) fn has_room(runtime: &Runtime) -> Result<()> {
    if runtime.core.reserve.is_short() {
        bail!(
            "the disk is nearly full: the free space is below storage.reserve; free some space on the disk of the data directory"
        );
    }
    Ok(())
}

/// The keys that the host of an account stores for passwords.
pub(super) fn key_policy(runtime: &Runtime, jid: &BareJid) -> Arc<KeyPolicy> {
    runtime.core.host(jid.domain()).map(|host| host.key_policy()).unwrap_or_default()
}

/// The keys that are stored for a password: enough to check it with any mechanism that its host offers, but not the password.
async fn derive(password: Password, policy: Arc<KeyPolicy>) -> Result<Vec<Credentials>> {
    tokio::task::spawn_blocking(move || {
        policy
            .hashes
            .iter()
            .map(|hash| {
                let mut salt = [0; vorpal_proto::sasl::SALT_BYTES];
                getrandom::fill(&mut salt).map_err(|e| anyhow!("{e}"))?;
                Credentials::derive(*hash, password.as_str(), &salt, policy.iterations).map_err(unusable)
            })
            .collect()
    })
    .await?
}

/// Why a password is not accepted, as an error message for the operator.
fn unusable(error: CredentialsError) -> anyhow::Error {
    match error {
        CredentialsError::Password(PrepError::Empty) => anyhow!(
            "the password is empty, and nothing was changed: type one, or pass it on standard input, \
             `printf '%s' \"$PASSWORD\" | vorpal user …`"
        ),
        CredentialsError::Password(PrepError::Prohibited) => {
            anyhow!(
                "the password contains a control character, or another character that no client can type; choose another password"
            )
        }
        CredentialsError::Password(PrepError::Bidirectional) => {
            anyhow!(
                "the password mixes left-to-right and right-to-left letters, which clients refuse; choose another password"
            )
        }
        CredentialsError::Password(PrepError::Unassigned) => anyhow!(
            "the password contains a character that is newer than Unicode 3.2, such as an emoji, which clients refuse \
             (RFC 4013); choose another password"
        ),
        CredentialsError::PasswordLength => anyhow!("the password is longer than {MAX_INPUT_BYTES} bytes"),
        error => anyhow!(error).context("this password cannot be used"),
    }
}
