//! From the first byte of a connection to its session: TLS, and the waiting that a login may need.

#![expect(clippy::disallowed_methods, reason = "the time a login takes")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use vorpal_runtime::now;

use super::{Bell, Event, Here, Shared, Task, Terms};
use crate::c2s::audit::Trail;
use crate::c2s::io::Io;
use crate::c2s::listen::Place;
use crate::c2s::trying::{Admission, Trying};
use crate::c2s::{Connection, Driver, Entrance, Turn};
use crate::limits::{Guard, Meter, Throttle};
use crate::tls::Entry;

/// Serves a connection until it has a session. `None`: it ended before. The state of the login is freed then.
pub(super) async fn log_in(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
    (guard, here): (Guard, Here),
    _place: Place,
) -> Option<Box<Task>> {
    let mut login = Login::begin(shared, socket, peer, entrance, (guard, here)).await?;
    loop {
        match login.turn().await? {
            Served::Asked => {}
            Served::Rests { reads } => {
                login.counts()?;
                login.wait(reads).await?;
            }
            Served::Session => {
                login.counts()?;
                return Some(login.into_session());
            }
        }
    }
}

/// A connection without a session.
struct Login {
    shared: Arc<Shared>,
    peer: SocketAddr,
    task: Box<Task>,
    trying: Trying,
    /// the login timeout: by then there is a session
    deadline: Instant,
    /// the traffic budget of an account: see [`Terms::traffic`]
    traffic: (NonZeroU32, u32),
}

/// What came of a turn.
enum Served {
    /// What the driver asked for is done.
    Asked,
    /// The driver waits for an event; whether that may be input.
    Rests { reads: bool },
    /// There is a session.
    Session,
}

impl Login {
    /// Starts TLS, if the client begins with it.
    async fn begin(
        shared: Arc<Shared>,
        socket: TcpStream,
        peer: SocketAddr,
        entrance: Entrance,
        (guard, here): (Guard, Here),
    ) -> Option<Login> {
        let bell = Arc::new(Bell::default());
        let core = shared.runtime.core.clone();
        let Terms { settings, settings_plain, time_to_log_in, traffic, write_timeout } = shared.terms.read().clone();
        let settings = if entrance == Entrance::Plain { settings_plain } else { settings };
        let deadline = Instant::now() + time_to_log_in;
        let mut task = Box::new(Task {
            io: Io::Plain(socket),
            driver: Driver::new(Connection::new(core.clone(), settings.clone(), None, bell.clone())),
            bell: bell.clone(),
            unwritten: BytesMut::new(),
            unflushed: false,
            guard,
            throttle: Meter::new(Mutex::new(Throttle::new(traffic.0, traffic.1))),
            resting: None,
            arriving: None,
            waits: None,
            yields: false,
            stuck: None,
            write_timeout: u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX),
            _here: here,
        });
        let mut direct = entrance == Entrance::DirectTls;
        if !direct && let Io::Plain(socket) = &task.io {
            let begins = timeout_at(deadline, begins_with_tls(socket)).await;
            direct = begins.is_ok_and(|begins| begins.unwrap_or(false));
        }
        if direct && entrance == Entrance::Plain {
            shared.audit.misdirected(peer);
            return None;
        }
        if direct {
            let bindings = timeout_at(deadline, task.handshake(&shared, peer, Entry::Direct)).await.ok()??;
            task.driver.connection = Connection::new(core, settings, Some(bindings), bell);
        }
        let mut login = Login { shared, peer, task, trying: Trying::default(), deadline, traffic };
        login.leave_trail();
        Some(login)
    }

    /// Logins are logged with the address and the protection of the connection.
    fn leave_trail(&mut self) {
        let trail = Trail::new(self.shared.audit.clone(), self.peer, self.task.io.encryption());
        self.task.driver.connection.leave_trail(trail);
    }

    /// Does what the driver asks for next. `None`: the connection has ended.
    async fn turn(&mut self) -> Option<Served> {
        let turn = self.task.driver.turn(now(), || true);
        if self.task.driver.connection.take_proven() {
            self.trying.was_no_guess();
        }
        match turn {
            Turn::Admit(name) => self.admit(&name).await?,
            Turn::Bind => self.bind().await,
            Turn::Load(jid) => self.task.load(&self.shared, jid).await,
            Turn::Derive(check) => {
                let verdict = self.trying.derive(&self.shared, *check).await?;
                self.task.driver.derived(now(), verdict);
            }
            Turn::Tls => self.start_tls().await?,
            Turn::Fetch(fetch) => self.task.fetch(&self.shared, fetch).await,
            Turn::Ask(inquiry) => self.shared.runtime.inquire(inquiry),
            Turn::Session => return Some(Served::Session),
            Turn::Rest { reads, .. } => return Some(Served::Rests { reads }),
            Turn::Close => {
                self.task.finish().await;
                return None;
            }
        }
        Some(Served::Asked)
    }

    /// Waits until a password may be tried.
    async fn admit(&mut self, name: &str) -> Option<()> {
        let began = Instant::now();
        let (class, costs) = self.task.driver.connection.prospect();
        let guard = &mut self.task.guard;
        let admission = self.trying.admit(&self.shared, guard, self.peer, name, class, costs).await;
        // The time that it waited for the server does not count.
        self.deadline += began.elapsed();
        self.trying.serve(self.deadline).await;
        let driver = &mut self.task.driver;
        match admission {
            Admission::Dropped => return None,
            Admission::Busy => driver.put_off(),
            Admission::Refused => driver.admitted(false),
            Admission::Yes => driver.admitted(true),
        }
        Some(())
    }

    /// Waits until there may be a new session.
    async fn bind(&mut self) {
        let began = Instant::now();
        let may = match &mut self.trying.login {
            Some(login) => self.shared.rush.session(login).await.is_ok(),
            None => true,
        };
        self.deadline += began.elapsed();
        self.task.driver.may_bind(now(), may);
    }

    async fn start_tls(&mut self) -> Option<()> {
        timeout_at(self.deadline, self.task.say_all()).await.ok()?;
        // RFC 6120 §5.4.3.3: input from before TLS must not be trusted. New input may arrive with the end of the handshake.
        self.task.driver.input = BytesMut::new();
        let handshake = self.task.handshake(&self.shared, self.peer, Entry::Starttls);
        let bindings = timeout_at(self.deadline, handshake).await.ok()??;
        self.task.driver.secured(bindings);
        self.leave_trail();
        Some(())
    }

    /// From here on the login deadline runs. An attempt that succeeded counts as that, however long it takes until there is a
    /// session. `None`: the connection was dropped for another one meanwhile.
    fn counts(&mut self) -> Option<()> {
        let Login { shared, task, trying, traffic, .. } = self;
        trying.slot = None;
        if task.driver.connection.is_authenticated() && trying.succeeded() {
            if !task.guard.logged_in() {
                return None;
            }
            if let Some(account) = task.driver.connection.account() {
                task.throttle = shared.traffic.of(shared.began.elapsed(), account.as_str(), traffic.0, traffic.1);
            }
        }
        Some(())
    }

    /// Waits for the next event. `None`: the connection has ended.
    async fn wait(&mut self, reads: bool) -> Option<()> {
        match self.task.event(&self.shared, self.deadline, reads).await {
            Event::Woken | Event::Read => return Some(()),
            Event::Closed => {}
            Event::Over => self.task.finish().await,
            Event::TooLate => {
                self.task.driver.login_timed_out(now());
                self.task.finish().await;
            }
        }
        None
    }

    fn into_session(self) -> Box<Task> {
        let Login { mut task, mut trying, .. } = self;
        let resumes = task.driver.connection.is_resuming();
        task.arriving = trying.login.take().filter(|_| resumes).map(Box::new);
        task
    }
}

/// Whether a client begins with a ClientHello, as on a port for direct TLS (XEP-0368): a stream never begins with this byte.
/// Only peeks at the input. Cancel-safe.
async fn begins_with_tls(socket: &TcpStream) -> std::io::Result<bool> {
    /// RFC 8446 §5.1: the type of a record with a message of the handshake.
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    Ok(socket.peek(&mut first).await? > 0 && first == [HANDSHAKE])
}
