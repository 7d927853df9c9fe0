//! The task around one client's connection: the socket, TLS, and what the machine needs.
//!
//! A task that waits holds no buffer: bytes are read into one that belongs to the worker, and copied only when there are
//! any; what is to be said is collected in another, and copied only if the socket does not take it. Everything a connection waits for is polled in one place, so that a client that does not read is still noticed
//! when its session is taken over.

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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor};
use vorpal_core::counts::{Count, Counts};
use vorpal_core::session::Wake;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_runtime::{Runtime, now};

use super::{Connection, Entrance, Need, Settings};
use crate::limits::{Attempt, Gate, Guard, Throttle};
use crate::tls::{Entry, TlsHosts};

/// So much is read at once.
const READ: usize = 16 * 1024;

/// About so much is taken from a session's queue before it is written.
const WRITE: usize = 16 * 1024;

thread_local! {
    /// Scratch of a worker, never kept across a wait: what is read.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
    /// The same for what is written.
    static SAYING: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(2 * WRITE));
}

/// What all connections of the server share.
pub struct Shared {
    /// the kernel
    pub runtime: Arc<Runtime>,
    /// what holds for connections that come from now on
    pub terms: RwLock<Terms>,
    /// certificates
    pub tls: Arc<TlsHosts>,
    /// what one network may do
    pub gate: Gate,
    /// where the clock of the limits began
    pub began: Instant,
}

/// What a connection is accepted on. Those that are there keep what they came with.
#[derive(Clone)]
pub struct Terms {
    /// bounds of streams
    pub settings: Arc<Settings>,
    /// the same where a proxy has ended TLS
    pub settings_plain: Arc<Settings>,
    /// from accept to bind, all in all
    pub time_to_log_in: Duration,
    /// how many bytes of one client are read in a second, and at once
    pub traffic: (NonZeroU32, u32),
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

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// between the two, for a moment
    Gone,
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Gone => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Io::Plain(_) | Io::Gone => Poll::Ready(Ok(())),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}

enum Event {
    Woken,
    Read,
    /// everything is said and written, and the stream is at its end
    Over,
    /// the socket is gone
    Closed,
    TooLate,
}

struct Task {
    io: Io,
    connection: Connection,
    bell: Arc<Bell>,
    input: BytesMut,
    /// the connection may have something to say
    unsaid: bool,
    /// what the socket did not take yet
    unwritten: BytesMut,
    /// all of it was written, and TLS has it still
    unflushed: bool,
    peer: SocketAddr,
    guard: Guard,
    throttle: Throttle,
    /// so much was read since the throttle was asked
    fresh: usize,
}

/// Serves one connection until it ends.
pub async fn serve(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, entrance: Entrance, guard: Guard) {
    // Nagle would cost 40 ms wherever an answer takes two writes.
    let _ = socket.set_nodelay(true);
    let bell = Arc::new(Bell::default());
    let _here = Here::come(shared.runtime.core.counts.clone(), entrance);
    let login = Box::pin(log_in(&shared, socket, peer, entrance, bell, guard));
    let Some(mut task) = login.await else { return };
    bound(&shared, &mut task).await;
}

/// Counts a connection as long as it is there.
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

/// From the first byte to a session. Its state is freed when the session is bound.
async fn log_in(
    shared: &Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
    bell: Arc<Bell>,
    guard: Guard,
) -> Option<Box<Task>> {
    let core = shared.runtime.core.clone();
    let Terms { settings, settings_plain, time_to_log_in, traffic } = shared.terms.read().clone();
    let settings = if entrance == Entrance::Plain { settings_plain } else { settings };
    let deadline = tokio::time::Instant::now() + time_to_log_in;
    let mut task = Box::new(Task {
        io: Io::Plain(socket),
        connection: Connection::new(core.clone(), settings.clone(), None, bell.clone()),
        bell: bell.clone(),
        input: BytesMut::new(),
        unsaid: false,
        unwritten: BytesMut::new(),
        unflushed: false,
        peer,
        guard,
        throttle: Throttle::new(traffic.0, traffic.1),
        fresh: 0,
    });
    if entrance == Entrance::DirectTls {
        let bindings = tokio::time::timeout_at(deadline, task.handshake(shared, Entry::Direct)).await.ok()??;
        task.connection = Connection::new(core, settings, Some(bindings), bell);
    }
    let mut attempt = None;
    loop {
        let mut need = Some(task.connection.input(now(), &mut task.input));
        while let Some(next) = need.take() {
            match next {
                Need::Input | Need::Wait => {}
                Need::Admit(name) => {
                    let may = match shared.gate.attempt(shared.began.elapsed(), peer.ip(), &name) {
                        Attempt::After(delay, pending) => {
                            attempt = Some(pending);
                            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + delay)).await;
                            true
                        }
                        Attempt::Refused(_) => {
                            shared.runtime.core.counts.one(Count::Throttled);
                            tracing::info!(%peer, "a login is refused: too many failed before");
                            false
                        }
                    };
                    let next = task.connection.admitted(now(), may);
                    need = Some(task.go_on(next));
                }
                Need::Load(jid) => {
                    let found = shared.runtime.load(jid).await.map(|_| ()).map_err(log_store_error);
                    let next = task.connection.loaded(now(), found);
                    need = Some(task.go_on(next));
                }
                Need::Derive(check) => {
                    let verdict = shared.runtime.derive(*check).await?;
                    let next = task.connection.derived(now(), verdict);
                    need = Some(task.go_on(next));
                }
                Need::Tls => {
                    tokio::time::timeout_at(deadline, task.say_all()).await.ok()?;
                    // RFC 6120 §5.4.3.3: what came before TLS is not to be trusted.
                    task.input = BytesMut::new();
                    let bindings =
                        tokio::time::timeout_at(deadline, task.handshake(shared, Entry::Starttls)).await.ok()??;
                    task.connection.secured(bindings);
                }
                Need::Close => {
                    task.finish().await;
                    return None;
                }
            }
        }
        if task.connection.is_authenticated()
            && let Some(pending) = attempt.take()
        {
            shared.gate.succeeded(pending);
        }
        if task.connection.is_bound() {
            if !task.guard.logged_in() {
                return None;
            }
            return Some(task);
        }
        match task.event(true, Some(deadline)).await {
            Event::Closed => return None,
            Event::Over => {
                task.finish().await;
                return None;
            }
            Event::TooLate => {
                let error = StreamError::from(StreamCondition::ConnectionTimeout).with_text("logging in took too long");
                task.connection.fail(now(), error);
                task.finish().await;
                return None;
            }
            Event::Woken | Event::Read => {}
        }
    }
}

/// In a session, until the connection ends.
async fn bound(shared: &Arc<Shared>, task: &mut Task) {
    let mut resting = None;
    loop {
        let mut reads = true;
        match task.connection.input(now(), &mut task.input) {
            Need::Input => {
                if task.input.is_empty() {
                    task.input = BytesMut::new();
                }
            }
            Need::Wait => reads = false,
            Need::Load(jid) => {
                let found = shared.runtime.load(jid).await.map(|_| ()).map_err(log_store_error);
                task.connection.loaded(now(), found);
                continue;
            }
            Need::Close => return task.finish().await,
            // Nothing else is needed in a session.
            Need::Tls | Need::Admit(_) | Need::Derive(_) => return,
        }
        if let Some(fetch) = task.connection.hungry() {
            let entries = shared.runtime.fetch(fetch).await;
            task.connection.fetched(fetch, entries.as_deref().ok());
        }
        while let Some(inquiry) = task.connection.inquiry() {
            shared.runtime.inquire(inquiry);
        }
        let until = resting.filter(|_| reads);
        match task.event(reads && until.is_none(), until).await {
            Event::Closed => return,
            Event::Over => return task.finish().await,
            // It has rested long enough.
            Event::TooLate => resting = None,
            Event::Read => {
                let fresh = std::mem::take(&mut task.fresh);
                let rest = task.throttle.take(shared.began.elapsed(), fresh);
                resting = (!rest.is_zero()).then(|| tokio::time::Instant::now() + rest);
            }
            Event::Woken => {}
        }
    }
}

fn log_store_error(error: vorpal_core::store::StoreError) {
    tracing::error!(%error, "an account cannot be read");
}

impl Drop for Task {
    /// However the task ends, also by a panic: the session learns that its connection is gone.
    fn drop(&mut self) {
        self.connection.gone(now());
    }
}

impl Task {
    async fn handshake(&mut self, shared: &Shared, entry: Entry) -> Option<vorpal_proto::sasl::ChannelBindings> {
        let done = self.shake_hands(shared, entry).await;
        shared.runtime.core.counts.one(if done.is_some() { Count::TlsDone } else { Count::TlsFailed });
        done
    }

    async fn shake_hands(&mut self, shared: &Shared, entry: Entry) -> Option<vorpal_proto::sasl::ChannelBindings> {
        let Io::Plain(socket) = std::mem::replace(&mut self.io, Io::Gone) else { return None };
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await;
        let hello = hello.inspect_err(|error| tracing::debug!(peer = %self.peer, %error, "no TLS")).ok()?;
        let name = hello.client_hello().server_name().map(str::to_owned);
        let host = shared.tls.select(name.as_deref(), self.connection.host_domain());
        let stream = hello.into_stream(host.config(entry)).await;
        let stream = stream.inspect_err(|error| tracing::debug!(peer = %self.peer, %error, "TLS failed")).ok()?;
        let bindings = host.channel_bindings(stream.get_ref().1);
        self.io = Io::Tls(Box::new(stream));
        Some(bindings)
    }

    /// What the connection needs next. What the client sent ahead of an answer is in the buffer already: no event will
    /// announce it.
    fn go_on(&mut self, next: Option<Need>) -> Need {
        next.unwrap_or_else(|| self.connection.input(now(), &mut self.input))
    }

    /// Says what there is to say and waits for the next thing to happen. Cancel-safe.
    async fn event(&mut self, reads: bool, deadline: Option<tokio::time::Instant>) -> Event {
        self.unsaid = true;
        let next = poll_fn(|cx| self.poll(cx, reads));
        match deadline {
            None => next.await,
            Some(deadline) => tokio::time::timeout_at(deadline, next).await.unwrap_or(Event::TooLate),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<Event> {
        let over = match self.poll_say(cx) {
            Poll::Ready(Ok(())) if self.connection.is_over() => return Poll::Ready(Event::Over),
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
            Poll::Pending => self.connection.is_over(),
        };
        if self.bell.poll(cx).is_ready() {
            return Poll::Ready(Event::Woken);
        }
        if !reads || over {
            return Poll::Pending;
        }
        let (io, input, fresh) = (&mut self.io, &mut self.input, &mut self.fresh);
        let counts = &self.connection.core.counts;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match io.poll_read(cx, &mut buf) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(_)) => Poll::Ready(Event::Closed),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Event::Closed),
                Poll::Ready(Ok(())) => {
                    input.extend_from_slice(buf.filled());
                    *fresh += buf.filled().len();
                    counts.add(Count::BytesIn, buf.filled().len() as u64);
                    Poll::Ready(Event::Read)
                }
            }
        })
    }

    /// Writes until there is nothing to say, or the socket takes no more.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.unsaid || self.unflushed || !self.unwritten.is_empty() {
            ready!(self.poll_rest(cx))?;
            if self.unsaid {
                SAYING.with_borrow_mut(|saying| {
                    saying.clear();
                    self.unsaid = self.connection.output(saying, WRITE);
                    self.write(cx, saying)
                })?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes bytes; what the socket does not take is kept.
    fn write(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.io.poll_write(cx, bytes)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    bytes = &bytes[n..];
                    self.connection.core.counts.add(Count::BytesOut, n as u64);
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

    /// Writes what was kept.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.unwritten.is_empty() {
            match ready!(self.io.poll_write(cx, &self.unwritten))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                n => {
                    self.unwritten.advance(n);
                    self.connection.core.counts.add(Count::BytesOut, n as u64);
                }
            }
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(self.io.poll_flush(cx))?;
            self.unflushed = false;
            self.unwritten = BytesMut::new();
            self.connection.written();
        }
        Poll::Ready(Ok(()))
    }

    async fn say_all(&mut self) {
        self.unsaid = true;
        let _ = poll_fn(|cx| self.poll_say(cx)).await;
    }

    /// Writes what is left and closes, within a bound.
    async fn finish(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let rest = async {
            self.say_all().await;
            let _ = poll_fn(|cx| self.io.poll_shutdown(cx)).await;
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }
}
