//! The task of one client connection: the socket, TLS, and whatever the state machine needs.
//!
//! An idle task holds no buffer: bytes are read into one that belongs to the worker, and copied only if there are any; output is
//! collected in another, and copied only if the socket does not accept it. Everything that a connection waits for is polled in one
//! place, so a client that does not read still notices when its session is taken over.

#![expect(clippy::disallowed_methods, reason = "the length of a turn, and timeouts of writes")]

mod log_in;

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use vorpal_core::life::join::Fetch;
use vorpal_core::session::Wake;
use vorpal_core::watch::counts::{Count, Counts};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::ChannelBindings;
use vorpal_runtime::{Runtime, now};
use zeroize::Zeroize;

use super::audit::Audit;
use super::io::Io;
use super::listen::Place;
use super::rush::CountedLogin;
use super::{Driver, Entrance, Hall, Rush, Settings, Turn};
use crate::limits::{Gate, Guard, Meter, Traffic};
use crate::tls::{Entry, TlsHosts};

/// Size of a read: a whole TLS record.
const READ: usize = 17 * 1024;

/// Time after which a task that processes one client's input yields to others. A few bytes may cause much work: presence goes to
/// all contacts.
const TURN: Duration = Duration::from_micros(500);

/// One byte in this many of a large answer is charged to the traffic budget, as if the client had sent it.
const ANSWER_PART: usize = 16;

/// About how many bytes are taken from a session's queue before they are written.
const WRITE: usize = 16 * 1024;

/// Timeout for closing a connection: writing the rest, and waiting until the client closes as well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of bytes that are read and discarded after the end of the stream, before the socket is closed.
const MAX_DISCARDED: usize = 4 * 1024 * 1024;

thread_local! {
    /// Scratch buffer of a worker, never kept across an await: input.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
    /// The same for output.
    static SAYING: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2 * WRITE));
}

/// State shared by all connections of the server.
pub struct Shared {
    /// the kernel
    pub runtime: Arc<Runtime>,
    /// the settings for new connections
    pub terms: RwLock<Terms>,
    /// certificates
    pub tls: Arc<TlsHosts>,
    /// the limits of one network
    pub gate: Gate,
    /// connections of all listeners that have not logged in, or wait to be accepted
    pub hall: Hall,
    /// the log of logins
    pub audit: Audit,
    /// the queues for login storms
    pub rush: Rush,
    /// the traffic budgets of accounts
    pub traffic: Traffic,
    /// the start of the clock of the limits
    pub began: Instant,
}

/// The settings under which a connection is accepted. Existing connections keep theirs.
#[derive(Clone)]
pub struct Terms {
    /// limits of streams
    pub settings: Arc<Settings>,
    /// the same behind a proxy that terminates TLS
    pub settings_plain: Arc<Settings>,
    /// timeout from accept to bind
    pub time_to_log_in: Duration,
    /// traffic budget of one account's clients in bytes: per second, and burst; the same for a connection that is not logged in
    pub traffic: (NonZeroU32, u32),
    /// write timeout: how long a client may accept no data
    pub write_timeout: Duration,
}

/// Wakes the task of a connection.
#[derive(Default)]
struct Bell(Mutex<(bool, Option<Waker>)>);

impl Wake for Bell {
    fn wake(&self) {
        let waker = {
            let mut bell = self.0.lock();
            bell.0 = true;
            bell.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Bell {
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut bell = self.0.lock();
        if std::mem::take(&mut bell.0) {
            return Poll::Ready(());
        }
        if bell.1.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            bell.1 = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

enum Event {
    Woken,
    Read,
    /// everything is written, and the stream has ended
    Over,
    /// the socket is gone
    Closed,
    TooLate,
}

/// What a connection in a session does next.
enum Next {
    Rare(Box<Rare>),
    /// the socket is gone
    Closed,
}

/// What a connection in a session occasionally has to wait for.
enum Rare {
    /// an account
    Load(BareJid),
    /// a part of the log
    Fetch(Fetch),
    /// the end
    Finish,
}

impl From<Rare> for Next {
    fn from(rare: Rare) -> Next {
        Next::Rare(Box::new(rare))
    }
}

struct Task {
    io: Io,
    driver: Driver,
    bell: Arc<Bell>,
    /// output that the socket has not accepted yet
    unwritten: BytesMut,
    /// all output was written to TLS, which has not flushed it yet
    unflushed: bool,
    guard: Guard,
    /// the account's, once the client is logged in
    throttle: Meter,
    /// nothing is read until then: the traffic budget is used up
    resting: Option<Pin<Box<Sleep>>>,
    /// a session is being resumed: new sessions wait until it is
    arriving: Option<Box<CountedLogin>>,
    /// in a session: waits for an event; whether that may be input
    waits: Option<bool>,
    /// its turn is over, and it has more to do
    yields: bool,
    /// the socket accepts no data
    stuck: Option<Box<Stuck>>,
    /// in milliseconds
    write_timeout: u32,
    _here: Here,
}

/// A client that does not read.
struct Stuck {
    /// how much was left to be written when it last accepted data
    left: usize,
    /// the time by which it has to accept more
    until: Pin<Box<Sleep>>,
}

/// Serves one connection until it ends. `place` is dropped when it is logged in, or ends before.
///
/// The arguments and the login state are boxed at once, and rarely awaited futures are boxed when they are created, so that the future of
/// an idle connection in a session stays small (tested below).
pub fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
    guard: Guard,
    place: Place,
) -> impl Future<Output = ()> + Send {
    // Nagle's algorithm would delay every answer that takes two writes by 40 ms.
    let _ = socket.set_nodelay(true);
    if let Err(error) = super::vanished::notice(&socket, shared.terms.read().write_timeout) {
        tracing::debug!(%peer, %error, "TCP keepalive cannot be set: a vanished client is noticed late");
    }
    let here = Here::come(shared.runtime.core.counts.clone(), entrance);
    let login = Box::pin(log_in::log_in(shared.clone(), socket, peer, entrance, (guard, here), place));
    async move {
        let Some(mut task) = login.await else { return };
        loop {
            let next = poll_fn(|cx| task.poll_session(cx, &shared)).await;
            match next {
                Next::Closed => return,
                Next::Rare(rare) => {
                    if !Box::pin(task.go_through(&shared, *rare)).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Counts a connection until it is dropped.
struct Here(Arc<Counts>, Count);

impl Here {
    fn come(counts: Arc<Counts>, entrance: Entrance) -> Here {
        let (came, here) = match entrance {
            Entrance::Starttls => (Count::CameStarttls, Count::HereStarttls),
            Entrance::DirectTls => (Count::CameDirectTls, Count::HereDirectTls),
            Entrance::Plain => (Count::CamePlain, Count::HerePlain),
        };
        counts.one(came);
        counts.one(here);
        Here(counts, here)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.one_less(self.1);
    }
}

fn log_store_error(shared: &Shared, error: vorpal_core::store::StoreError) {
    if let Some(times) = shared.runtime.core.conditions.accounts.met(now(), 1) {
        tracing::error!(%error, times, "accounts cannot be read");
    }
}

impl Drop for Task {
    /// However the task ends, even by a panic, the session is notified that its connection is gone.
    fn drop(&mut self) {
        self.driver.gone(now());
    }
}

impl Task {
    async fn handshake(&mut self, shared: &Shared, peer: SocketAddr, entry: Entry) -> Option<ChannelBindings> {
        let done = self.shake_hands(shared, peer, entry).await;
        shared.runtime.core.counts.one(if done.is_some() { Count::TlsDone } else { Count::TlsFailed });
        done
    }

    async fn shake_hands(&mut self, shared: &Shared, peer: SocketAddr, entry: Entry) -> Option<ChannelBindings> {
        let Io::Plain(socket) = std::mem::replace(&mut self.io, Io::Gone) else { return None };
        let accepted =
            shared.tls.accept(socket, self.driver.connection.host_domain(), entry, &mut self.driver.input).await;
        let (stream, bindings) =
            accepted.inspect_err(|error| tracing::debug!(%peer, %error, "the TLS handshake failed")).ok()?;
        self.io = Io::Tls(Box::new(stream));
        Some(bindings)
    }

    /// Loads the account that the connection needs.
    async fn load(&mut self, shared: &Shared, jid: BareJid) {
        let found = shared.runtime.load(jid).await.map(|_| ());
        self.driver.loaded(now(), found.map_err(|error| log_store_error(shared, error)));
    }

    /// Reads the part of the log that the session wants.
    async fn fetch(&mut self, shared: &Shared, fetch: Fetch) {
        let entries = shared.runtime.fetch(fetch).await;
        self.driver.fetched(fetch, entries.as_deref().ok());
    }

    /// Runs a session until it needs something other than an event.
    fn poll_session(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>) -> Poll<Next> {
        loop {
            let reads = match self.waits {
                Some(reads) => reads,
                None => match self.prepare(shared) {
                    Ok(reads) => *self.waits.insert(reads),
                    Err(next) => return Poll::Ready(next),
                },
            };
            if std::mem::take(&mut self.yields) {
                self.waits = None;
                if let Poll::Ready(Err(_)) = self.poll_say(cx) {
                    return Poll::Ready(Next::Closed);
                }
                // Behind all tasks that are ready now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let event = ready!(self.poll(cx, reads, shared.began));
            self.waits = None;
            match event {
                Event::Closed => return Poll::Ready(Next::Closed),
                Event::Over => return Poll::Ready(Rare::Finish.into()),
                Event::Woken | Event::Read | Event::TooLate => {}
            }
        }
    }

    /// Does everything that needs no waiting, until its turn is over. Returns whether more may be read.
    fn prepare(&mut self, shared: &Arc<Shared>) -> Result<bool, Next> {
        // While its input is paused, nothing is read from it, but output continues.
        let rests = self.resting.is_some();
        if rests {
            self.driver.skip_input();
        }
        let now = now();
        // The clock is looked at from the second stanza on: mostly there is one.
        let mut began = None;
        loop {
            let turn = self.driver.turn(now, || began.get_or_insert_with(Instant::now).elapsed() < TURN);
            if !rests {
                self.charge(shared.began, self.driver.connection.take_answered() / ANSWER_PART);
            }
            if self.arriving.is_some() && !self.driver.connection.is_resuming() {
                self.arriving = None;
            }
            match turn {
                Turn::Rest { reads, more } => {
                    self.yields = more;
                    return Ok(reads);
                }
                Turn::Ask(inquiry) => shared.runtime.inquire(inquiry),
                Turn::Session => {}
                Turn::Load(jid) => return Err(Rare::Load(jid).into()),
                Turn::Fetch(fetch) => return Err(Rare::Fetch(fetch).into()),
                // A session needs nothing else.
                Turn::Close | Turn::Tls | Turn::Admit(_) | Turn::Bind | Turn::Derive(_) => {
                    return Err(Rare::Finish.into());
                }
            }
        }
    }

    /// Does what has to be awaited. False at the end.
    async fn go_through(&mut self, shared: &Arc<Shared>, rare: Rare) -> bool {
        match rare {
            Rare::Load(jid) => self.load(shared, jid).await,
            Rare::Fetch(fetch) => self.fetch(shared, fetch).await,
            Rare::Finish => {
                self.finish().await;
                return false;
            }
        }
        true
    }

    /// Writes the output and waits for the next event, or until the given time; with `reads`, also for input of the client.
    /// Cancel-safe.
    async fn event(&mut self, shared: &Shared, deadline: tokio::time::Instant, reads: bool) -> Event {
        let next = poll_fn(|cx| self.poll(cx, reads, shared.began));
        tokio::time::timeout_at(deadline, next).await.unwrap_or(Event::TooLate)
    }

    fn poll(&mut self, cx: &mut Context<'_>, reads: bool, began: Instant) -> Poll<Event> {
        let said = match self.poll_say(cx) {
            Poll::Ready(Ok(())) if self.driver.is_over() => return Poll::Ready(Event::Over),
            Poll::Ready(Ok(())) => {
                self.stuck = None;
                true
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
            Poll::Pending if self.poll_stuck(cx).is_ready() => {
                tracing::debug!("write timeout: the client does not read");
                return Poll::Ready(Event::Closed);
            }
            Poll::Pending => false,
        };
        if self.bell.poll(cx).is_ready() {
            return Poll::Ready(Event::Woken);
        }
        // Before a session, nothing is read from a client that does not read; in a session, its queue decides.
        if !reads || !said && (self.driver.is_over() || !self.driver.connection.is_bound()) {
            return Poll::Pending;
        }
        if let Some(resting) = &mut self.resting {
            ready!(resting.as_mut().poll(cx));
            self.resting = None;
            if self.driver.unprocessed() > 0 {
                return Poll::Ready(Event::Woken);
            }
        }
        let read = match ready!(self.poll_read(cx)) {
            Err(_) | Ok(0) => return Poll::Ready(Event::Closed),
            Ok(read) => read,
        };
        self.charge(began, read);
        Poll::Ready(Event::Read)
    }

    /// Charges bytes to the traffic budget. If that is used up, nothing more is read from the client for a while.
    fn charge(&mut self, began: Instant, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let rest = self.throttle.lock().take(began.elapsed(), bytes);
        if !rest.is_zero() {
            self.resting = Some(Box::pin(tokio::time::sleep(rest)));
        }
    }

    /// Reads once. Returns the number of bytes read from the socket.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let before = self.driver.unprocessed();
        let is_bound = self.driver.connection.is_bound();
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let read = self.io.poll_read(cx, scratch, &mut self.driver.input);
            // It may be a password, and the worker may not overwrite the buffer soon.
            if !is_bound && read.is_ready() {
                scratch.zeroize();
            }
            read
        });
        let plain = self.driver.unprocessed().saturating_sub(before);
        self.driver.connection.core.counts.add(Count::BytesIn, plain as u64);
        read
    }

    /// Ready when the write timeout has passed without the socket accepting data.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.unwritten.len() + self.io.unsent();
        match &mut self.stuck {
            Some(stuck) if stuck.left == left => stuck.until.as_mut().poll(cx),
            stuck => {
                let mut until = Box::pin(tokio::time::sleep(Duration::from_millis(self.write_timeout.into())));
                let pending = until.as_mut().poll(cx);
                *stuck = Some(Box::new(Stuck { left, until }));
                pending
            }
        }
    }

    /// Writes until there is no output left, or the socket accepts no more.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.driver.speaks() || self.unflushed || !self.unwritten.is_empty() {
            ready!(self.poll_rest(cx))?;
            if self.driver.speaks() {
                SAYING.with_borrow_mut(|saying| {
                    saying.clear();
                    self.driver.output(saying, WRITE);
                    self.write(cx, saying)
                })?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes bytes; the rest that the socket does not accept is kept.
    fn write(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.io.poll_write(cx, bytes)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    bytes = &bytes[n..];
                    self.driver.connection.core.counts.add(Count::BytesOut, n as u64);
                    self.unflushed = true;
                }
                Poll::Pending => {
                    self.unwritten.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes the bytes that were kept.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.unwritten.is_empty() {
            match ready!(self.io.poll_write(cx, &self.unwritten))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                n => {
                    self.unwritten.advance(n);
                    self.driver.connection.core.counts.add(Count::BytesOut, n as u64);
                }
            }
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(self.io.poll_flush(cx))?;
            self.unflushed = false;
            self.unwritten = BytesMut::new();
            self.driver.written();
        }
        Poll::Ready(Ok(()))
    }

    async fn say_all(&mut self) {
        let _ = poll_fn(|cx| self.poll_say(cx)).await;
    }

    /// Writes the rest, closes, and continues reading until the client closes as well, within limits. A socket that is closed
    /// with unread input is reset, and then the client may never see why its stream ended (RFC 6120 §4.4).
    async fn finish(&mut self) {
        let rest = async {
            self.say_all().await;
            if poll_fn(|cx| self.io.poll_shutdown(cx)).await.is_err() {
                return;
            }
            let mut left = MAX_DISCARDED;
            while let Ok(read @ 1..) = poll_fn(|cx| self.poll_discard(cx)).await
                && left > 0
            {
                left = left.saturating_sub(read);
            }
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let read = self.io.poll_discard(cx, scratch);
            // Without TLS the bytes may contain a password.
            if read.is_ready() {
                scratch.zeroize();
            }
            read
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F, G>(_: impl Fn(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }

    #[test]
    fn a_connection_that_waits_is_small() {
        // With its span and what tokio adds this is a block of 256 bytes; one more would be of 384.
        assert!(size_of_future(serve) <= 112, "{}", size_of_future(serve));
        assert!(size_of::<Task>() <= 480, "{}", size_of::<Task>());
        assert!(size_of::<crate::tls::Stream<TcpStream>>() <= 1_216);
    }
}
