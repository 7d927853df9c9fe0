//! Carries out orders, in the running server or in the command itself.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::oneshot;
use vorpal_core::life::users::{NewUser, Sessions};
use vorpal_core::module::host::KeyPolicy;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::owner::words::Notice;
use vorpal_proto::jid::{BareJid, Jid};
use vorpal_proto::sasl::prep::PrepError;
use vorpal_proto::sasl::{Credentials, CredentialsError, MAX_INPUT_BYTES};
use vorpal_runtime::{Runtime, now};

use super::{Answer, Order, import, lists};
use crate::secret::Password;

/// A warning is given for passwords with fewer characters.
const SHORT_PASSWORD: usize = 8;

pub(super) async fn carry_out(runtime: &Arc<Runtime>, order: Order) -> Result<Answer> {
    let core = &runtime.core;
    let mut notes = Vec::new();
    match order {
        Order::UserAdd { jid, password } => {
            let user = NewUser::new(address(runtime, &jid)?)?;
            if runtime.load(user.jid().clone()).await?.is_some() {
                bail!("{0} exists already: `vorpal user passwd {0}` sets a new password", user.jid());
            }
            has_room(runtime)?;
            notes.extend(short(&password));
            let credentials = derive(password, key_policy(runtime, user.jid())).await?;
            stored(|done| core.create_user(now(), &user, &credentials, done)).await?;
            notes.extend(mixed_scripts(&user));
        }
        Order::UserImport { users } => return Ok(Answer::Imported(import::import(runtime, users).await)),
        Order::UserPasswd { jid, password, end_sessions } => {
            let lock = account(runtime, &jid).await?;
            notes.extend(short(&password));
            let credentials = derive(password, key_policy(runtime, &lock.jid)).await?;
            let sessions = if end_sessions { Sessions::End } else { Sessions::Keep };
            stored(|done| core.set_credentials(now(), &lock, &credentials, sessions, done)).await?;
            let (jid, left) = (&lock.jid, lock.lock().sessions.len());
            if left > 0 {
                notes.push(format!(
                    "sessions of {jid} that stay connected: {left}; `vorpal session kick {jid}` ends them, and so does a new \
                     password with --end-sessions"
                ));
            }
        }
        Order::UserRm { jid } => {
            let lock = account(runtime, &jid).await?;
            remove(runtime, &lock).await?;
        }
        Order::UserDisable { jid, disabled } => {
            let lock = account(runtime, &jid).await?;
            stored(|done| core.disable_user(now(), &lock, disabled, done)).await?;
        }
        Order::UserList { host } => return lists::users(runtime, host).await,
        Order::UserShow { jid } => return lists::user(runtime, &account(runtime, &jid).await?).await,
        Order::SessionList { jid } => return lists::sessions(runtime, jid.as_deref()).await,
        Order::Reload => bail!("only a running server can be told to reload"),
        Order::Status | Order::Top | Order::Trace { .. } => bail!("only a running server can be watched"),
        Order::CertList => bail!("only a running server shows certificates"),
        Order::SessionKick { jid } => {
            let full = Jid::parse(&jid).with_context(|| format!("{jid} is not an address"))?;
            // If the host is not served or the account does not exist, the answer says so.
            let lock = account(runtime, full.bare_str()).await?;
            let ended = match full.resource() {
                Some(resource) => usize::from(core.kick(now(), &lock, resource, "ended by the operator")),
                None => core.kick_all(now(), &lock, "ended by the operator"),
            };
            match (ended, full.resource()) {
                (0, Some(_)) => {
                    bail!("there is no session {jid}: `vorpal session list {}` shows those there are", lock.jid)
                }
                (0, None) => bail!("there is no session of {jid}"),
                (ended, None) => notes.push(format!("sessions ended: {ended}")),
                _ => {}
            }
        }
    }
    Ok(if notes.is_empty() { Answer::Done } else { Answer::Noted(notes) })
}

/// Removes an account, after its subscriptions at its contacts. If this fails midway, the account is left disabled.
async fn remove(runtime: &Arc<Runtime>, lock: &AccountRef) -> Result<()> {
    let core = &runtime.core;
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
    Ok(())
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

/// Parses the address of an account on one of the hosts.
pub(super) fn address(runtime: &Runtime, jid: &str) -> Result<BareJid> {
    let jid = BareJid::parse(jid).with_context(|| format!("{jid} is not the address of an account (NAME@HOST)"))?;
    if jid.local().is_none() {
        bail!("{jid} has no name before the @: the address of an account is NAME@HOST");
    }
    served(runtime, jid.domain())?;
    Ok(jid)
}

/// Fails for a host that is not served, and lists those that are.
pub(super) fn served(runtime: &Runtime, host: &str) -> Result<()> {
    if runtime.core.host(host).is_none() {
        let mut hosts: Vec<String> = runtime.core.hosts().iter().map(|host| host.domain().to_owned()).collect();
        hosts.sort();
        bail!("{host} is not a host of this server; it serves {}", hosts.join(", "));
    }
    Ok(())
}

async fn account(runtime: &Arc<Runtime>, jid: &str) -> Result<AccountRef> {
    let jid = address(runtime, jid)?;
    runtime.load(jid.clone()).await?.ok_or_else(|| anyhow!("there is no account {jid}"))
}

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

async fn stored(write: impl FnOnce(Notice)) -> Result<()> {
    let (done, hears) = notice();
    write(done);
    heard(hears).await
}

/// What hears whether something is stored, and what waits for that.
fn notice() -> (Notice, oneshot::Receiver<bool>) {
    let (told, hears) = oneshot::channel();
    let done = Box::new(move |stored| {
        let _ = told.send(stored);
    });
    (done, hears)
}

async fn heard(hears: oneshot::Receiver<bool>) -> Result<()> {
    match hears.await {
        Ok(true) => Ok(()),
        _ => bail!("it could not be stored: see the server's log for the reason"),
    }
}
