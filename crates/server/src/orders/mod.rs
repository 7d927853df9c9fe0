//! Orders of operators: what they are, and how they are carried out, in the running server or in the command itself while no server
//! is running. How they get to the server is in `control.rs`.

mod import;
mod sessions;
mod users;
pub(crate) mod watch;

pub use import::{Imported, Line, Problem};

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::owner::words::Notice;
use vorpal_proto::jid::BareJid;
use vorpal_runtime::Runtime;

use crate::secret::Password;

/// An order. It has no `Debug` output: it may contain passwords and keys.
#[derive(Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Creates an account.
    UserAdd {
        /// its address
        jid: String,
        /// its password
        password: Password,
    },
    /// Creates many accounts from another server's SCRAM keys.
    UserImport {
        /// the accounts
        users: Vec<Line>,
    },
    /// Sets another password.
    UserPasswd {
        /// whose
        jid: String,
        /// the password
        password: Password,
        /// whether the account's sessions end
        #[serde(default)]
        end_sessions: bool,
    },
    /// Deletes an account with everything it has.
    UserRm {
        /// which
        jid: String,
    },
    /// Disables or enables an account.
    UserDisable {
        /// which
        jid: String,
        /// whether it is disabled
        disabled: bool,
    },
    /// All accounts of a host, or of all hosts.
    UserList {
        /// of which host
        host: Option<String>,
    },
    /// Shows one account.
    UserShow {
        /// which
        jid: String,
    },
    /// Reads the configuration again and applies it.
    Reload,
    /// The certificates that are served.
    CertList,
    /// The state of the server.
    Status,
    /// Everything that `vorpal top` shows.
    Top,
    /// Follows an account: answered with the decisions about its stanzas, line by line, until the caller disconnects.
    Trace {
        /// which
        jid: String,
    },
    /// All sessions, or those of one account.
    SessionList {
        /// whose
        #[serde(default)]
        jid: Option<String>,
    },
    /// Ends a session, or all of an account.
    SessionKick {
        /// its full address, or that of the account
        jid: String,
    },
}

/// The result of an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done and stored.
    Done,
    /// The same, with notes for the operator.
    Noted(Vec<String>),
    /// The requested list.
    Rows(Vec<serde_json::Value>),
    /// The requested object.
    Object(serde_json::Value),
    /// The result of an import.
    Imported(Imported),
    /// It failed; an error message for the operator.
    Error(String),
}

/// Carries out an order.
pub async fn execute(runtime: &Arc<Runtime>, order: Order) -> Answer {
    match carry_out(runtime, order).await {
        Ok(answer) => answer,
        Err(error) => Answer::Error(format!("{error:#}")),
    }
}

async fn carry_out(runtime: &Arc<Runtime>, order: Order) -> Result<Answer> {
    let notes = match order {
        Order::UserAdd { jid, password } => users::add(runtime, &jid, password).await?,
        Order::UserImport { users } => return Ok(Answer::Imported(import::import(runtime, users).await)),
        Order::UserPasswd { jid, password, end_sessions } => {
            users::set_password(runtime, &jid, password, end_sessions).await?
        }
        Order::UserRm { jid } => users::remove(runtime, &jid).await?,
        Order::UserDisable { jid, disabled } => users::disable(runtime, &jid, disabled).await?,
        Order::UserList { host } => return users::list(runtime, host).await,
        Order::UserShow { jid } => return users::show(runtime, &jid).await,
        Order::SessionList { jid } => return sessions::list(runtime, jid.as_deref()).await,
        Order::SessionKick { jid } => sessions::kick(runtime, &jid).await?,
        Order::Reload => bail!("only a running server can be told to reload"),
        Order::Status | Order::Top | Order::Trace { .. } => bail!("only a running server can be watched"),
        Order::CertList => bail!("only a running server shows certificates"),
    };
    Ok(if notes.is_empty() { Answer::Done } else { Answer::Noted(notes) })
}

/// Parses the address of an account on one of the hosts.
fn address(runtime: &Runtime, jid: &str) -> Result<BareJid> {
    let jid = BareJid::parse(jid).with_context(|| format!("{jid} is not the address of an account (NAME@HOST)"))?;
    if jid.local().is_none() {
        bail!("{jid} has no name before the @: the address of an account is NAME@HOST");
    }
    served(runtime, jid.domain())?;
    Ok(jid)
}

/// Fails for a host that is not served, and lists those that are.
fn served(runtime: &Runtime, host: &str) -> Result<()> {
    if runtime.core.host(host).is_none() {
        let mut hosts: Vec<String> = runtime.core.hosts().iter().map(|host| host.domain().to_owned()).collect();
        hosts.sort();
        bail!("{host} is not a host of this server; it serves {}", hosts.join(", "));
    }
    Ok(())
}

/// Loads an account; fails if there is none.
async fn account(runtime: &Arc<Runtime>, jid: &str) -> Result<AccountRef> {
    let jid = address(runtime, jid)?;
    runtime.load(jid.clone()).await?.ok_or_else(|| anyhow!("there is no account {jid}"))
}

/// Waits until a change is stored; fails if it cannot be.
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
