//! Orders to a server: one line of JSON each way, over a socket that only its owner may open. The same orders run
//! without a server, on its data, while none is running.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use vorpal_config::Change;
use vorpal_core::account::AccountRef;
use vorpal_core::host::KeyPolicy;
use vorpal_core::store::Kind;
use vorpal_core::trace::MAX_TRACERS;
use vorpal_core::users::{NewUser, Sessions};
use vorpal_net::accept::Setbacks;
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::Credentials;
use vorpal_runtime::{Runtime, Waker, now};
use zeroize::Zeroizing;

use crate::audit::{Caller, Subject};
use crate::descriptors::{self, Reserve};
use crate::gauges::Gauges;
use crate::reload::{Applied, Reload};
use crate::secret::{self, Password};

/// The longest order or answer, in bytes.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// How long the descriptor of the reserve is offered to a connection that was there a moment ago.
const SECOND_ACCEPT: Duration = Duration::from_millis(10);

/// What can be ordered. Prints nothing: it may hold passwords and what is kept of them.
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
    /// Creates many accounts from what another server keeps of their passwords.
    UserImport {
        /// an address and its credentials each
        users: Vec<(String, Vec<String>)>,
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
        /// whether it may log in no more
        disabled: bool,
    },
    /// All accounts of a host, or of all hosts.
    UserList {
        /// of which host
        host: Option<String>,
    },
    /// Reads the configuration again, and puts it in force.
    Reload,
    /// The certificates that are served.
    CertList,
    /// How the server is.
    Status,
    /// Everything that `vorpal top` shows.
    Top,
    /// Follows an account: answered with what is decided about its stanzas, line by line, until who asks goes away.
    Trace {
        /// which
        jid: String,
    },
    /// All sessions.
    SessionList,
    /// Ends a session, or all of an account.
    SessionKick {
        /// its full address, or that of the account
        jid: String,
    },
}

/// What an order came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done and stored.
    Done,
    /// The same, and there is something to be said about it.
    Noted(Vec<String>),
    /// What was asked for.
    Rows(Vec<serde_json::Value>),
    /// It could not be done, in the operator's words.
    Error(String),
}

/// Nobody answers at a socket.
#[derive(Debug)]
pub struct Unreached(pub std::io::Error);

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no server answers")
    }
}

impl std::error::Error for Unreached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Takes orders at a socket until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path, runtime: Arc<Runtime>, reload: Arc<Reload>, gauges: Arc<Gauges>) -> Result<()> {
    // The store's lock is ours: a socket that is there was left behind by a server that was killed. Anything else is not ours.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).with_context(|| format!("the socket {} cannot be made", path.display()))?;
    crate::run::protect(path)?;
    let reserve = Arc::new(Mutex::new(Reserve::default()));
    reserve.lock().restore();
    tokio::spawn(async move {
        let mut setbacks = Setbacks::new("an order");
        loop {
            reserve.lock().restore();
            let stream = match accept(&listener, &reserve).await {
                Ok(stream) => stream,
                Err(error) => {
                    setbacks.pass(&error).await;
                    continue;
                }
            };
            let (runtime, reload, gauges, reserve) = (runtime.clone(), reload.clone(), gauges.clone(), reserve.clone());
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &runtime, &reload, gauges).await {
                    tracing::debug!(%error, "an order was cut short");
                }
                // It may have had the descriptor of the reserve.
                reserve.lock().restore();
            });
        }
    });
    Ok(())
}

/// The next connection. If there is no descriptor for it, it gets that of the reserve: a server whose clients have taken all of
/// them still takes orders.
async fn accept(listener: &UnixListener, reserve: &Mutex<Reserve>) -> std::io::Result<UnixStream> {
    let error = match listener.accept().await {
        Ok((stream, _)) => return Ok(stream),
        Err(error) => error,
    };
    if !descriptors::are_used_up(&error) || !reserve.lock().lend() {
        return Err(error);
    }
    match tokio::time::timeout(SECOND_ACCEPT, listener.accept()).await {
        Ok(accepted) => accepted.map(|(stream, _)| stream),
        // Whoever asked has gone.
        Err(_) => Err(error),
    }
}

async fn answer(
    mut stream: UnixStream,
    runtime: &Arc<Runtime>,
    reload: &Arc<Reload>,
    gauges: Arc<Gauges>,
) -> Result<()> {
    let caller = Caller::of(&stream);
    let (read, mut write) = stream.split();
    let mut read = read.take(MAX_LINE);
    let line = line(&mut read).await?;
    let read = BufReader::new(read);
    let order = serde_json::from_slice(&line);
    drop(line);
    let subject = order.as_ref().ok().and_then(Subject::of);
    let answer = match order {
        Ok(Order::Reload) => reloaded(reload.apply().await),
        Ok(Order::CertList) => Answer::Rows(reload.certificates()),
        Ok(Order::Top) => top(gauges).await,
        Ok(Order::Trace { jid }) => {
            caller.gave(subject, None);
            return trace(&jid, runtime, read, write).await;
        }
        Ok(order) => execute(runtime, order).await,
        Err(error) => Answer::Error(format!("not an order: {error}")),
    };
    caller.gave(subject, Some(&answer));
    say(&mut write, &answer).await
}

/// The first line, or what there is without an end. It may hold a password, so nothing keeps a copy. Nothing is to come
/// behind it.
async fn line(read: &mut (impl AsyncRead + Unpin)) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; 4096]);
    loop {
        let n = read.read(piece.as_mut_slice()).await?;
        let read = piece.get(..n).unwrap_or_default();
        secret::extend(&mut line, read);
        if n == 0 || read.ends_with(b"\n") {
            return Ok(line);
        }
    }
}

fn reloaded(outcome: Result<Applied, Vec<String>>) -> Answer {
    let row = |change: Change| {
        serde_json::json!({
            "change": format!("{}: {} -> {}", change.key, value(&change.from), value(&change.to)),
            "needs_restart": change.needs_restart,
        })
    };
    match outcome {
        Ok(Applied { changes, certificates }) => {
            let certificate = |change: String| serde_json::json!({ "change": change, "needs_restart": false });
            Answer::Rows(changes.into_iter().map(row).chain(certificates.into_iter().map(certificate)).collect())
        }
        Err(errors) => Answer::Error(format!("nothing was reloaded:\n{}", errors.join("\n"))),
    }
}

fn value(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("nothing")
}

async fn top(gauges: Arc<Gauges>) -> Answer {
    let sample = tokio::task::spawn_blocking(move || serde_json::to_value(gauges.sample(true))).await;
    match sample {
        Ok(Ok(sample)) => Answer::Rows(vec![sample]),
        _ => Answer::Error("the server could not look at itself: a bug".into()),
    }
}

/// Tells what is decided, a line of JSON each, until who asks goes away. What it does not read in time is lost and counted.
async fn trace(
    jid: &str,
    runtime: &Arc<Runtime>,
    mut read: impl AsyncBufRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> Result<()> {
    let wake = Arc::new(Waker::default());
    let following = async {
        let jid = address(runtime, jid)?;
        if runtime.load(jid.clone()).await?.is_none() {
            bail!("there is no account {jid}");
        }
        let trace = runtime.core.trace(jid, wake.clone());
        trace.ok_or_else(|| anyhow!("{MAX_TRACERS} accounts are followed already"))
    };
    let trace = match following.await {
        Ok(trace) => trace,
        Err(error) => return say(&mut write, &Answer::Error(format!("{error:#}"))).await,
    };
    say(&mut write, &Answer::Done).await?;
    let mut told = 0;
    loop {
        let mut end = [0];
        tokio::select! {
            () = wake.0.notified() => {}
            _ = read.read(&mut end) => return Ok(()),
        }
        let (steps, lost) = trace.take();
        for mut step in steps {
            if step.at == 0 {
                step.at = now().as_millis();
            }
            say(&mut write, &step).await?;
        }
        if lost > told {
            say(&mut write, &serde_json::json!({ "step": "lost", "n": lost - told })).await?;
            told = lost;
        }
    }
}

async fn say(write: &mut (impl AsyncWrite + Unpin), what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(())
}

/// Follows an account at the server behind a socket: each line is given to `line`, until the server ends.
///
/// # Errors
/// [`Unreached`] if nobody answers there; or the account cannot be followed.
pub async fn follow(path: &Path, jid: &str, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut stream = UnixStream::connect(path).await.map_err(Unreached)?;
    let (read, mut write) = stream.split();
    say(&mut write, &Order::Trace { jid: jid.into() }).await?;
    let mut lines = BufReader::new(read).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    if let Answer::Error(error) = serde_json::from_str(&first).context("the server's answer")? {
        bail!("{error}");
    }
    while let Some(next) = lines.next_line().await? {
        line(&next)?;
    }
    Ok(())
}

/// Gives an order to the server behind a socket.
///
/// # Errors
/// [`Unreached`] if nobody answers there. Otherwise it is not known whether the order was carried out.
pub async fn order(path: &Path, order: &Order) -> Result<Answer> {
    let mut stream = UnixStream::connect(path).await.map_err(Unreached)?;
    let (read, mut write) = stream.split();
    let mut line = secret::to_json(order)?;
    secret::extend(&mut line, b"\n");
    write.write_all(&line).await?;
    drop(line);
    let mut answer = String::new();
    BufReader::new(read.take(MAX_LINE)).read_line(&mut answer).await?;
    serde_json::from_str(&answer).context("the server's answer")
}

/// Carries an order out.
pub async fn execute(runtime: &Arc<Runtime>, order: Order) -> Answer {
    match carry_out(runtime, order).await {
        Ok(answer) => answer,
        Err(error) => Answer::Error(format!("{error:#}")),
    }
}

async fn carry_out(runtime: &Arc<Runtime>, order: Order) -> Result<Answer> {
    let core = &runtime.core;
    match order {
        Order::UserAdd { jid, password } => {
            let user = NewUser::new(address(runtime, &jid)?)?;
            if runtime.load(user.jid().clone()).await?.is_some() {
                bail!("{} exists already", user.jid());
            }
            has_room(runtime)?;
            let credentials = derive(password, key_policy(runtime, user.jid())).await?;
            stored(|done| core.create_user(now(), &user, &credentials, done)).await?;
            if let Some(warning) = warning(&user) {
                return Ok(Answer::Noted(vec![warning]));
            }
        }
        Order::UserImport { users } => return import(runtime, users).await,
        Order::UserPasswd { jid, password, end_sessions } => {
            let lock = account(runtime, &jid).await?;
            let credentials = derive(password, key_policy(runtime, &lock.jid)).await?;
            let sessions = if end_sessions { Sessions::End } else { Sessions::Keep };
            stored(|done| core.set_credentials(now(), &lock, &credentials, sessions, done)).await?;
            let left = lock.lock().sessions.len();
            if left > 0 {
                let jid = &lock.jid;
                return Ok(Answer::Noted(vec![format!(
                    "sessions of {jid} that go on: {left}; `vorpal session kick {jid}` ends them, and so does a new password \
                     with --end-sessions"
                )]));
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
        Order::UserList { host } => return users(runtime, host).await,
        Order::Reload => bail!("only a server that runs can be told to reload"),
        Order::CertList => bail!("only a server that runs serves certificates"),
        Order::Top | Order::Trace { .. } => bail!("only a server that runs can be watched"),
        Order::Status => {
            let accounts = core.all_loaded();
            let sessions: usize = accounts.iter().map(|a| a.lock().sessions.len()).sum();
            let attached: usize =
                accounts.iter().map(|a| a.lock().sessions.iter().filter(|s| s.is_attached()).count()).sum();
            let backlog = runtime.queue.backlog();
            return Ok(Answer::Rows(vec![serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_seconds": now().since(core.started).as_secs(),
                "hosts": core.hosts().iter().map(|h| h.domain().to_owned()).collect::<Vec<_>>(),
                "sessions": sessions,
                "connected": attached,
                "accounts_loaded": accounts.len(),
                "writes_waiting": backlog.batches,
            })]));
        }
        Order::SessionList => {
            let mut rows = Vec::new();
            for lock in core.all_loaded() {
                for session in &lock.lock().sessions {
                    rows.push(serde_json::json!({
                        "jid": session.jid.as_str(),
                        "connected": session.is_attached(),
                        "priority": session.priority(),
                    }));
                }
            }
            rows.sort_by(|a, b| a["jid"].as_str().cmp(&b["jid"].as_str()));
            return Ok(Answer::Rows(rows));
        }
        Order::SessionKick { jid } => {
            let full = vorpal_proto::jid::Jid::parse(&jid)?;
            let lock = core.loaded(full.bare_str()).ok_or_else(|| anyhow!("there is no session {jid}"))?;
            let ended = match full.resource() {
                Some(resource) => usize::from(core.kick(now(), &lock, resource, "ended by the operator")),
                None => core.kick_all(now(), &lock, "ended by the operator"),
            };
            if ended == 0 {
                bail!("there is no session {jid}");
            }
        }
    }
    Ok(Answer::Done)
}

/// Removes an account, and before that what its contacts hold of it. Where it stops, the account is left disabled.
async fn remove(runtime: &Arc<Runtime>, lock: &AccountRef) -> Result<()> {
    let core = &runtime.core;
    stored(|done| core.begin_removal(now(), lock, done)).await?;
    let done = async {
        for contact in core.contacts(lock) {
            while !core.leave(now(), lock, &contact) {
                runtime.load(contact.clone()).await?;
            }
        }
        stored(|done| core.delete_user(now(), lock, done)).await
    };
    done.await.with_context(|| format!("{} is disabled and not deleted: say it once more", lock.jid))?;
    core.forget_directed(&lock.jid);
    Ok(())
}

/// What an operator should know of a name that was created.
fn warning(user: &NewUser) -> Option<String> {
    let scripts = user.mixed_scripts()?.join(" and ");
    let jid = user.jid();
    Some(format!(
        "{jid} mixes letters of {scripts}: it may be taken for another name. `vorpal user rm {jid}` deletes it"
    ))
}

/// All that can be: for each that cannot, a row says why.
async fn import(runtime: &Arc<Runtime>, users: Vec<(String, Vec<String>)>) -> Result<Answer> {
    let mut rows = Vec::new();
    for (jid, credentials) in users {
        let add = async {
            has_room(runtime)?;
            let user = NewUser::new(address(runtime, &jid)?)?;
            let credentials = credentials.iter().map(|text| Credentials::from_text(text));
            let credentials: Vec<Credentials> = credentials.collect::<Result<_, _>>().context("the credentials")?;
            let credentials = key_policy(runtime, user.jid()).of_import(credentials);
            stored(|done| runtime.core.create_user(now(), &user, &credentials, done)).await?;
            anyhow::Ok(warning(&user))
        };
        match add.await {
            Ok(None) => {}
            Ok(Some(warning)) => rows.push(serde_json::json!({ "jid": jid, "warning": warning })),
            Err(error) => rows.push(serde_json::json!({ "jid": jid, "error": format!("{error:#}") })),
        }
    }
    Ok(Answer::Rows(rows))
}

async fn users(runtime: &Arc<Runtime>, host: Option<String>) -> Result<Answer> {
    const PAGE: usize = 1_000;
    let hosts = match host {
        Some(host) => vec![host],
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
            rows.extend(page.iter().map(
                |row| serde_json::json!({ "jid": format!("{}@{}", row.name, row.host), "disabled": row.disabled }),
            ));
        }
    }
    Ok(Answer::Rows(rows))
}

/// Nothing is created below the reserve.
fn has_room(runtime: &Runtime) -> Result<()> {
    if runtime.core.reserve.is_short() {
        bail!("the disk is nearly full: there is less room than storage.reserve; make room on the disk of the data");
    }
    Ok(())
}

/// An address of one of our hosts that an account can have.
fn address(runtime: &Runtime, jid: &str) -> Result<BareJid> {
    let jid = BareJid::parse(jid).with_context(|| format!("{jid} is no address of an account"))?;
    if jid.local().is_none() {
        bail!("{jid} has no name in front of the @");
    }
    if runtime.core.host(jid.domain()).is_none() {
        bail!("{} is not a host of this server", jid.domain());
    }
    Ok(jid)
}

async fn account(runtime: &Arc<Runtime>, jid: &str) -> Result<AccountRef> {
    let jid = address(runtime, jid)?;
    runtime.load(jid.clone()).await?.ok_or_else(|| anyhow!("there is no account {jid}"))
}

fn key_policy(runtime: &Runtime, jid: &BareJid) -> Arc<KeyPolicy> {
    runtime.core.host(jid.domain()).map(|host| host.key_policy()).unwrap_or_default()
}

/// What is stored of a password: enough to check it by any mechanism that its host offers, and not to know it.
async fn derive(password: Password, policy: Arc<KeyPolicy>) -> Result<Vec<Credentials>> {
    tokio::task::spawn_blocking(move || {
        policy
            .hashes
            .iter()
            .map(|hash| {
                let mut salt = [0; vorpal_proto::sasl::SALT_BYTES];
                getrandom::fill(&mut salt).map_err(|e| anyhow!("{e}"))?;
                Credentials::derive(*hash, password.as_str(), &salt, policy.iterations)
                    .context("this password cannot be used")
            })
            .collect()
    })
    .await?
}

async fn stored(write: impl FnOnce(Box<dyn FnOnce(bool) + Send>)) -> Result<()> {
    let (told, hears) = tokio::sync::oneshot::channel();
    write(Box::new(move |stored| {
        let _ = told.send(stored);
    }));
    match hears.await {
        Ok(true) => Ok(()),
        _ => bail!("it could not be stored: the log of the server says why"),
    }
}
