//! A connection: both ends, and the network between them.
//!
//! The server's end is the driver that the task of a real connection uses (`net/c2s/driver.rs`), one step at a time: it runs only when
//! it is woken, when there is input, or when its output has been written. The world decides how long looking up an account and reading
//! the log take. The network may delay bytes in each direction, and accepts no more than fits into its window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use vorpal_core::core::Core;
use vorpal_core::life::join::Fetch;
use vorpal_core::route::reading::Inquiry;
use vorpal_core::session::Wake;
use vorpal_core::store::{Entry, LogQuery, Reader};
use vorpal_net::c2s::{Connection, Driver, Turn};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

/// About how many bytes are taken from a session's queue before they are written.
const WRITE: usize = 16 * 1024;

/// Records wake-ups.
#[derive(Debug, Default)]
pub struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Bell {
    /// Whether there was a wake-up since the last call.
    pub fn rang(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }

    /// Whether there was a wake-up, without clearing it.
    pub fn rings(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The network faults of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// nothing reaches the server
    pub up_held: bool,
    /// nothing reaches the client
    pub down_held: bool,
    /// maximum number of bytes in transit to the client; then the server's writes wait
    pub window: usize,
    /// accounts and logs are read a step later than requested
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
    /// the log is being read
    Asking(Fetch),
    /// the log was read, in its state at that time
    Reading(Fetch, Option<Vec<Entry>>),
}

/// See the module's text.
pub struct Link {
    /// the server's end
    pub driver: Driver,
    bell: Arc<Bell>,
    /// sent by the client, not yet read by the server
    pub up: BytesMut,
    /// written by the server, not yet read by the client
    pub down: Vec<u8>,
    /// the network faults
    pub weather: Weather,
    /// taken from the server's end, and not yet written
    output: Vec<u8>,
    doing: Doing,
    /// whether the server would read now
    reads: bool,
    ready: bool,
    over: bool,
}

impl Link {
    /// A newly accepted connection.
    pub fn new(connection: Connection, bell: Arc<Bell>) -> Link {
        Link {
            driver: Driver::new(connection),
            bell,
            up: BytesMut::new(),
            down: Vec::new(),
            weather: Weather::default(),
            output: Vec::new(),
            doing: Doing::Waiting,
            reads: true,
            ready: true,
            over: false,
        }
    }

    /// Whether the server has closed it: all its output is already in transit.
    pub fn is_over(&self) -> bool {
        self.over && self.output.is_empty()
    }

    /// Runs the server's end as far as it can. Returns whether it did anything.
    pub fn run(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) -> bool {
        if self.reads && !self.weather.up_held && !self.over && !self.up.is_empty() {
            self.driver.receive(&self.up.split());
            self.ready = true;
        }
        self.go(now, core, reader)
    }

    /// As [`Link::run`], but only the first bytes in transit reach the server.
    pub fn run_with(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader, bytes: usize) -> bool {
        if self.reads && !self.over {
            let some = self.up.split_to(bytes.min(self.up.len()));
            self.driver.receive(&some);
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

    /// Whether a wake-up is missing: it sleeps, and would have something to do. Only valid when the world is settled.
    pub fn overslept(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) -> bool {
        if self.over || self.ready || self.bell.rings() || !self.output.is_empty() {
            return false;
        }
        let unread = self.driver.unprocessed();
        self.turn(now, core, reader);
        self.driver.output(&mut self.output, WRITE);
        !self.output.is_empty()
            || self.driver.unprocessed() != unread
            || self.over
            || !matches!(self.doing, Doing::Waiting)
    }

    /// Does what the server's end asks for, until it rests or something takes time.
    fn turn(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader) {
        match std::mem::take(&mut self.doing) {
            Doing::Waiting => {}
            Doing::Loading(jid) => self.load(now, core, reader, &jid),
            Doing::Asking(fetch) => return self.takes_time(Doing::Reading(fetch, read(reader, fetch))),
            Doing::Reading(fetch, entries) => self.driver.fetched(fetch, entries.as_deref()),
        }
        loop {
            match self.driver.turn(now, || true) {
                Turn::Rest { reads, .. } => {
                    self.reads = reads;
                    return;
                }
                Turn::Session => {}
                Turn::Admit(_) => self.driver.admitted(true),
                Turn::Bind => self.driver.may_bind(now, true),
                Turn::Load(jid) if self.weather.slow => return self.takes_time(Doing::Loading(jid)),
                Turn::Load(jid) => self.load(now, core, reader, &jid),
                Turn::Derive(check) => self.driver.derived(now, check.run()),
                Turn::Fetch(fetch) if self.weather.slow => return self.takes_time(Doing::Asking(fetch)),
                Turn::Fetch(fetch) => self.driver.fetched(fetch, read(reader, fetch).as_deref()),
                Turn::Ask(Inquiry { asker, job }) => core.answered(now, asker, job(reader)),
                Turn::Tls => panic!("a client of the world asked for TLS"),
                Turn::Close => return self.finish(now),
            }
        }
    }

    fn takes_time(&mut self, doing: Doing) {
        self.doing = doing;
        self.ready = true;
    }

    fn load(&mut self, now: Timestamp, core: &Core, reader: &mut dyn Reader, jid: &BareJid) {
        self.driver.loaded(now, core.load(reader, jid).map(|_| ()).map_err(|_| ()));
    }

    /// Writes until there is no output left, or the socket accepts no more. Returns whether anything was written.
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
                self.driver.written();
            }
            if self.driver.is_over() {
                self.finish(now);
                return true;
            }
            if !self.driver.speaks() {
                return any;
            }
            self.driver.output(&mut self.output, WRITE);
        }
    }

    /// Writes the rest, and closes the socket.
    fn finish(&mut self, now: Timestamp) {
        self.driver.output(&mut self.output, WRITE);
        while self.driver.speaks() {
            self.driver.output(&mut self.output, WRITE);
        }
        self.over = true;
        self.driver.gone(now);
    }
}

/// The entries of the log there now.
pub(crate) fn read(reader: &mut dyn Reader, fetch: Fetch) -> Option<Vec<Entry>> {
    let query = LogQuery { after: fetch.from.saturating_sub(1), limit: fetch.limit, ..LogQuery::default() };
    reader.log_range(fetch.owner, query).ok()
}
