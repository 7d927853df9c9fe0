//! A connection, both ends of it and what is between them.
//!
//! The server's end does what the task of a real connection does (`net/c2s/task.rs`), one step at a time: it moves only when
//! it is woken, when there is something to read or when what it wrote has gone; looking up an account and reading the log
//! take as long as the world likes. Between the ends the network may hold bytes back in each direction, and takes no more
//! than fits into its window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use vorpal_core::join::Fetch;
use vorpal_core::reading::Inquiry;
use vorpal_core::server::Core;
use vorpal_core::session::Wake;
use vorpal_core::store::{Entry, LogQuery, Reader};
use vorpal_net::c2s::{Connection, Need};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

/// About so much is taken from a session's queue before it is written.
const WRITE: usize = 16 * 1024;

/// Notes that there is something to do.
#[derive(Debug, Default)]
pub struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Bell {
    /// Whether it has rung since it was asked last.
    pub fn rang(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }

    /// Whether it has rung, without forgetting it.
    pub fn rings(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the network does to the bytes of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// nothing reaches the server
    pub up_held: bool,
    /// nothing reaches the client
    pub down_held: bool,
    /// so many bytes to the client are on the way at most; then the server's writes wait
    pub window: usize,
    /// accounts and logs are read a step later than they are asked for
    pub slow: bool,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { up_held: false, down_held: false, window: usize::MAX, slow: false }
    }
}

/// What the server's end waits for.
#[derive(Debug, Default)]
enum Doing {
    #[default]
    Waiting,
    Loading(BareJid),
    /// the log is asked, and has not answered
    Asking(Fetch),
    /// the log was read as it was then
    Reading(Fetch, Option<Vec<Entry>>),
}

/// See the module's text.
pub struct Link {
    /// the server's machine
    pub connection: Connection,
    bell: Arc<Bell>,
    /// sent by the client, not yet read by the server
    pub up: BytesMut,
    /// written by the server, not yet read by the client
    pub down: Vec<u8>,
    /// what the network does
    pub weather: Weather,
    /// read, and not yet taken by the machine
    input: BytesMut,
    /// taken from the machine, and not yet written
    output: Vec<u8>,
    doing: Doing,
    /// the machine may have something to say
    unsaid: bool,
    /// whether the server would read now
    reads: bool,
    ready: bool,
    over: bool,
}

impl Link {
    /// A connection that was just accepted.
    pub fn new(connection: Connection, bell: Arc<Bell>) -> Link {
        Link {
            connection,
            bell,
            up: BytesMut::new(),
            down: Vec::new(),
            weather: Weather::default(),
            input: BytesMut::new(),
            output: Vec::new(),
            doing: Doing::Waiting,
            unsaid: false,
            reads: true,
            ready: true,
            over: false,
        }
    }

    /// Whether the server has closed it: all that comes is on the way already.
    pub fn is_over(&self) -> bool {
        self.over && self.output.is_empty()
    }

    /// Moves the server's end as far as it goes by itself. Whether it did anything.
    pub fn run(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) -> bool {
        if self.reads && !self.weather.up_held && !self.over && !self.up.is_empty() {
            self.input.extend_from_slice(&self.up.split());
            self.ready = true;
        }
        self.go(now, core, reader)
    }

    /// As [`Link::run`], but only the first bytes of what is on the way reach the server.
    pub fn run_with(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader, bytes: usize) -> bool {
        if self.reads && !self.over {
            let some = self.up.split_to(bytes.min(self.up.len()));
            self.input.extend_from_slice(&some);
            self.ready |= !some.is_empty();
        }
        self.go(now, core, reader)
    }

    fn go(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) -> bool {
        let mut busy = self.say(now);
        self.ready |= self.bell.rang();
        if self.ready && !self.over {
            self.ready = false;
            busy = true;
            self.turn(now, core, reader);
            self.say(now);
        }
        busy
    }

    /// Whether somebody forgot to wake it: it sleeps, and would have something to do. Only to be asked when the world is at
    /// rest.
    pub fn overslept(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) -> bool {
        if self.over || self.ready || self.bell.rings() || !self.output.is_empty() {
            return false;
        }
        let unread = self.input.len();
        self.turn(now, core, reader);
        self.unsaid = self.connection.output(&mut self.output, WRITE);
        !self.output.is_empty() || self.input.len() != unread || self.over || !matches!(self.doing, Doing::Waiting)
    }

    /// One turn of the loop of the real task.
    fn turn(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) {
        let mut fed = false;
        let mut need = match std::mem::take(&mut self.doing) {
            Doing::Waiting => Some(self.connection.input(now, &mut self.input)),
            Doing::Loading(jid) => Some(self.load(now, core, reader, &jid)),
            Doing::Asking(fetch) => {
                self.doing = Doing::Reading(fetch, read(reader, fetch));
                self.ready = true;
                return;
            }
            Doing::Reading(fetch, entries) => {
                self.connection.fetched(fetch, entries.as_deref());
                fed = true;
                None
            }
        };
        if !fed {
            self.reads = true;
        }
        while let Some(next) = need.take() {
            match next {
                Need::Input => {}
                Need::Wait => self.reads = false,
                Need::Admit(_) => need = Some(self.connection.admitted(now, true).unwrap_or_else(|| self.input(now))),
                Need::Bind => need = Some(self.connection.may_bind(now, true).unwrap_or_else(|| self.input(now))),
                Need::Load(jid) if self.weather.slow => {
                    self.doing = Doing::Loading(jid);
                    self.ready = true;
                    return;
                }
                Need::Load(jid) => need = Some(self.load(now, core, reader, &jid)),
                Need::Derive(check) => {
                    let verdict = check.run();
                    need = Some(self.connection.derived(now, verdict).unwrap_or_else(|| self.input(now)));
                }
                Need::Tls => panic!("a client of the world asked for TLS"),
                Need::Close => return self.finish(now),
            }
        }
        if !fed && let Some(fetch) = self.connection.hungry(now) {
            if self.weather.slow {
                self.doing = Doing::Asking(fetch);
                self.ready = true;
                return;
            }
            self.connection.fetched(fetch, read(reader, fetch).as_deref());
        }
        while let Some(Inquiry { asker, job }) = self.connection.inquiry() {
            core.answered(now, asker, job(reader));
        }
        self.unsaid = true;
    }

    fn input(&mut self, now: Timestamp) -> Need {
        self.connection.input(now, &mut self.input)
    }

    fn load(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader, jid: &BareJid) -> Need {
        let found = core.load(reader, jid).map(|_| ()).map_err(|_| ());
        self.connection.loaded(now, found).unwrap_or_else(|| self.connection.input(now, &mut self.input))
    }

    /// Writes until there is nothing to say, or the socket takes no more. Whether anything was written.
    fn say(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        loop {
            let fits = self.output.len().min(self.weather.window.saturating_sub(self.down.len()));
            self.down.extend(self.output.drain(..fits));
            any |= fits > 0;
            if !self.output.is_empty() || self.over {
                return any;
            }
            if fits > 0 {
                self.connection.written();
            }
            if self.connection.is_over() {
                self.finish(now);
                return true;
            }
            if !self.unsaid {
                return any;
            }
            self.unsaid = self.connection.output(&mut self.output, WRITE);
        }
    }

    /// What is left is written, and the socket closed.
    fn finish(&mut self, now: Timestamp) {
        while self.connection.output(&mut self.output, WRITE) {}
        self.over = true;
        self.connection.gone(now);
    }
}

/// What the log has there now.
pub(crate) fn read(reader: &mut dyn Reader, fetch: Fetch) -> Option<Vec<Entry>> {
    let query = LogQuery { after: fetch.from.saturating_sub(1), limit: fetch.limit, ..LogQuery::default() };
    reader.log_range(fetch.owner, query).ok()
}
