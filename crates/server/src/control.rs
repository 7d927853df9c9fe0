//! The control socket: orders to a server and its answers, one line of JSON each way. Only the owner of the data may open it. The
//! orders themselves are in `orders/`.

#![expect(clippy::disallowed_methods, reason = "a task for each connection to the socket")]

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use vorpal_config::Change;
use vorpal_net::accept::Setbacks;
use vorpal_runtime::{Runtime, Waker, now};
use zeroize::Zeroizing;

use crate::audit::{Caller, Subject};
use crate::descriptors::{self, Reserve};
use crate::files;
use crate::gauges::Gauges;
use crate::orders::{Answer, Order, execute, watch};
use crate::reload::{Applied, Reload};
use crate::secret;

/// Maximum length of an order or answer, in bytes.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// How long the reserved descriptor is offered to a connection that was just reported.
const SECOND_ACCEPT: Duration = Duration::from_millis(10);

/// No server answers at a socket.
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

/// An order exceeds the maximum length. Nothing was sent.
#[derive(Debug)]
pub struct TooLong(pub usize);

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (size, most) = (self.0 >> 20, MAX_LINE >> 20);
        write!(f, "{size} MiB are too much for one command; the limit is {most} MiB: split the file")
    }
}

impl std::error::Error for TooLong {}

/// Accepts orders at a socket until the process ends.
///
/// # Errors
/// The socket cannot be created.
pub fn listen(path: &Path, runtime: Arc<Runtime>, reload: Arc<Reload>, gauges: Arc<Gauges>) -> Result<()> {
    // This process holds the store's lock: an existing socket was left behind by a server that was killed. Any other file stays.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("the socket {} cannot be created", path.display()))?;
    files::protect(path)?;
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
                    tracing::debug!(%error, "a connection to the control socket broke off");
                }
                // It may have used the reserved descriptor.
                reserve.lock().restore();
            });
        }
    });
    Ok(())
}

/// The next connection. If no descriptor is left, it gets the reserved one: a server whose clients have taken all descriptors
/// still accepts orders.
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
        // The caller has disconnected.
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
        Ok(Order::CertList) => {
            let reload = reload.clone();
            match tokio::task::spawn_blocking(move || reload.certificates()).await {
                Ok(rows) => Answer::Rows(rows),
                Err(_) => Answer::Error("the certificates cannot be read: a bug".into()),
            }
        }
        Ok(Order::Top) => watch::top(gauges).await,
        Ok(Order::Status) => watch::status(gauges).await,
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

/// The first line, or everything up to the end of the stream. It may contain a password, so no copy is kept. Nothing may follow
/// the line.
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

/// Sends the decisions, one line of JSON each, until the caller disconnects. Lines that it does not read in time are dropped and
/// counted.
async fn trace(
    jid: &str,
    runtime: &Arc<Runtime>,
    mut read: impl AsyncBufRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> Result<()> {
    let wake = Arc::new(Waker::default());
    let trace = match watch::follow(runtime, jid, wake.clone()).await {
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

/// Follows an account at the server behind a socket: calls `begun` once the server follows it, then `line` with each line, until
/// `line` returns false or the server ends.
///
/// # Errors
/// [`Unreached`] if no server answers there; or the account cannot be followed.
pub async fn follow(
    path: &Path,
    jid: &str,
    begun: impl FnOnce(),
    mut line: impl FnMut(&str) -> Result<bool>,
) -> Result<()> {
    let mut stream = UnixStream::connect(path).await.map_err(Unreached)?;
    let (read, mut write) = stream.split();
    say(&mut write, &Order::Trace { jid: jid.into() }).await?;
    let mut lines = BufReader::new(read).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    if let Answer::Error(error) = serde_json::from_str(&first).context("the server's answer")? {
        bail!("{error}");
    }
    begun();
    while let Some(next) = lines.next_line().await?
        && line(&next)?
    {}
    Ok(())
}

/// Sends an order to the server behind a socket.
///
/// # Errors
/// [`TooLong`]; [`Unreached`] if no server answers there. For any other error it is not known whether the order was carried out.
pub async fn order(path: &Path, order: &Order) -> Result<Answer> {
    let mut line = secret::to_json(order)?;
    secret::extend(&mut line, b"\n");
    if line.len() as u64 > MAX_LINE {
        bail!(TooLong(line.len()));
    }
    let mut stream = UnixStream::connect(path).await.map_err(Unreached)?;
    let (read, mut write) = stream.split();
    write.write_all(&line).await?;
    drop(line);
    let mut answer = String::new();
    BufReader::new(read.take(MAX_LINE)).read_line(&mut answer).await?;
    serde_json::from_str(&answer).context("the server's answer")
}
