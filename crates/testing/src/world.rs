//! A server and its clients in one thread: [`World::settle`] runs until nothing is left to do, and the clock moves only when told to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vorpal::{Program, assemble};
use vorpal_config::Config;
use vorpal_core::bounds::Bounds;
use vorpal_core::core::Core;
use vorpal_core::life::beat::BEATS;
use vorpal_core::life::join::Fetch;
use vorpal_core::life::users::NewUser;
use vorpal_core::module::Module;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::owner::words::Notice;
use vorpal_core::session::Wake;
use vorpal_core::store::{Batch, Entry, Ids, Journal, Reader, Write};
use vorpal_net::c2s::{Connection, Settings};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::sasl::client::{Client as SaslClient, Keys, Secret};
use vorpal_proto::sasl::{Credentials, Hash, Iterations, Mechanism, Nonce, decode_payload, encode_payload};
use vorpal_runtime::boot::{Kernel, Surroundings, boot};
use vorpal_runtime::drive::{self, BEAT, RoomWatch, TICK};
use vorpal_store::writer::{Queue, Step, Writer};

use crate::client::{Client, Heard, Smacks};
use crate::disk::{Medium, Mood, Store};
use crate::link::{Bell, Link, read};
use crate::random::Random;

/// The first host, and the only one by default.
pub const HOST: &str = "localhost";

/// The password of all accounts.
pub const PASSWORD: &str = "wherefore";

/// The start time of a world: 2026-01-01T00:00:00Z.
pub const BEGINNING: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// The number of iterations of derived keys: the minimum, because a scene waits for them.
pub const ITERATIONS: Iterations = Iterations::MIN;

/// Maximum number of rounds before [`World::settle`] reports an endless loop.
const ROUNDS: usize = 10_000;

/// A client, by its number.
pub type ClientId = usize;

struct Running {
    core: Arc<Core>,
    queue: Queue,
    writer: Writer,
    reader: Box<dyn Reader>,
    /// the check of the free disk space
    room: RoomWatch,
    /// woken when an account is to be loaded that no session waits for
    loader: Arc<Bell>,
    /// loading of such accounts is paused
    mute: bool,
}

/// The passwords, in the required forms: derived once, because that takes long. The first is everybody's until an account gets another.
pub struct Secrets {
    all: Vec<(Vec<Credentials>, Keys)>,
}

impl Secrets {
    /// Derives the one that everybody has.
    pub fn derive() -> Secrets {
        Secrets::several(1)
    }

    /// Derives so many.
    pub fn several(count: usize) -> Secrets {
        let one = |at: usize| {
            let password = if at == 0 { PASSWORD.to_owned() } else { format!("{PASSWORD} {at}") };
            let salt = [7 + at as u8; 16];
            let derive = |hash| Credentials::derive(hash, &password, &salt, ITERATIONS).expect("a good password");
            let keys = Keys::derive(Hash::Sha1, &password, &salt, ITERATIONS).expect("a good password");
            ([Hash::Sha1, Hash::Sha256].map(derive).to_vec(), keys)
        };
        Secrets { all: (0..count).map(one).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// What the server checks a password against.
    pub fn credentials(&self, key: usize) -> &[Credentials] {
        &self.all[key % self.all.len()].0
    }

    /// Which password belongs to what the server has stored of it, if any does.
    pub fn key_of(&self, stored: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(stored).ok()?.trim_matches('"');
        self.all.iter().position(|(credentials, _)| credentials.iter().any(|c| c.to_text() == text))
    }
}

/// The configuration of a world: what a program has without a file, and then this text of a configuration file. Keys of passwords
/// have the minimum number of iterations.
///
/// # Errors
/// Those of the text, in the operator's words.
pub fn configuration(program: Program, text: &str) -> Result<Config, String> {
    let text = format!("login.iterations = {}\n{text}", ITERATIONS.count());
    Config::read(Path::new(""), text, [], &program.known()).map_err(|errors| errors.to_string())
}

/// The parts of a world.
pub struct Setup {
    /// the seed of the server's randomness
    pub seed: u64,
    /// where the server stores
    pub medium: Medium,
    /// the modules, and the sections of the configuration that they read
    pub program: Program,
    /// the configuration; see [`configuration`]
    pub config: Config,
    /// the limits of an account, if they are not those of the configuration
    pub bounds: Option<Bounds>,
    /// the password of all accounts
    pub secrets: Arc<Secrets>,
}

/// See the module's text.
pub struct World {
    /// the time of day
    pub now: Timestamp,
    /// how long the server has run since its last start
    steady: Duration,
    /// the randomness of the server, and of logins
    random: Arc<Mutex<Random>>,
    medium: Medium,
    /// the faults of the disk
    pub mood: Arc<Mood>,
    settings: Arc<Settings>,
    program: Program,
    config: Config,
    bounds: Option<Bounds>,
    secrets: Arc<Secrets>,
    running: Option<Running>,
    /// all clients ever created
    pub clients: Vec<Client>,
    /// connections whose client has vanished: the server does not know yet
    pub ghosts: Vec<Link>,
}

impl World {
    /// A world with a server that just started on an empty store, without clients. It has the configuration of a server without a
    /// configuration file.
    pub fn new(seed: u64, store: Store, passthrough: bool, modules: &[&'static Module]) -> World {
        World::configured(seed, store, passthrough, modules, "")
    }

    /// The same, with this text of a configuration file.
    ///
    /// # Panics
    /// The text is no configuration.
    pub fn configured(
        seed: u64,
        store: Store,
        passthrough: bool,
        modules: &[&'static Module],
        settings: &str,
    ) -> World {
        let program = Program { modules: modules.to_vec().leak(), sections: vorpal_modules::SECTIONS };
        let settings = format!("xml.passthrough = {passthrough}\n{settings}");
        let config = configuration(program, &settings).expect("a configuration");
        let (medium, secrets) = (Medium::new(store), Arc::new(Secrets::derive()));
        World::with(Setup { seed, medium, program, config, bounds: None, secrets })
    }

    /// As [`World::new`], with all parts given.
    pub fn with(setup: Setup) -> World {
        let mut world = World {
            now: BEGINNING,
            steady: Duration::ZERO,
            random: Arc::new(Mutex::new(Random::new(setup.seed))),
            medium: setup.medium,
            mood: Arc::default(),
            // Behind a proxy that terminates TLS.
            settings: vorpal::terms(&setup.config).settings_plain,
            program: setup.program,
            config: setup.config,
            bounds: setup.bounds,
            secrets: setup.secrets,
            running: None,
            clients: Vec::new(),
            ghosts: Vec::new(),
        };
        world.start();
        world
    }

    /// Starts the server. One that dies while it starts is started again.
    fn start(&mut self) {
        let mut setup = assemble::kernel(&self.config, self.program.modules, None).expect("the modules");
        setup.bounds = self.bounds.unwrap_or(setup.bounds);
        let random = self.random.clone();
        let random = Box::new(move |bytes: &mut [u8]| random.lock().fill(bytes));
        let loader = Arc::new(Bell::default());
        let surroundings = Surroundings { now: self.now, random, loader: loader.clone() };
        self.steady = Duration::ZERO;
        match boot(self.medium.open(self.mood.clone()), setup, surroundings) {
            Ok(Kernel { core, queue, writer, reader, .. }) => {
                let room = RoomWatch::default();
                self.running = Some(Running { core, queue, writer, reader, room, loader, mute: false });
            }
            Err(error) if error.is_crash() => {
                self.medium.crash(0);
                self.start();
            }
            Err(error) => panic!("the server does not start: {error}: {:?}", std::error::Error::source(&error)),
        }
    }

    /// The kernel.
    pub fn core(&self) -> &Arc<Core> {
        &self.running().core
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    /// The store's faults, if it is in memory.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Kills the process and starts a new one on the stored data. All clients lose their connections.
    pub fn crash(&mut self) {
        self.lose_power(0);
    }

    /// As [`World::crash`], and the latest commits are lost as well, as many as the disk may lose.
    pub fn lose_power(&mut self, forget: usize) {
        self.medium.crash(forget);
        for client in &mut self.clients {
            client.link = None;
        }
        self.ghosts.clear();
        self.running = None;
        self.start();
    }

    /// Stops the server when everything is written, and starts it again.
    pub fn restart(&mut self) {
        self.settle();
        self.core().suspend(self.now);
        self.settle();
        self.tick();
        self.settle();
        self.crash();
    }

    /// Moves the clock, and does what is due as the runtime does: [`BEATS`] times a second.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            let second = end.since(self.now).min(Duration::from_secs(1));
            self.beats(second, true);
            self.look_after();
            self.settle();
        }
    }

    /// Calls [`Core::beat`] for this time. Between the calls the world settles, or nobody does anything.
    fn beats(&mut self, time: Duration, settles: bool) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(BEAT);
            left -= step;
            self.advance(step);
            self.beat();
            if settles {
                self.settle();
            }
        }
    }

    /// Moves the clock only.
    pub fn advance(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.steady += time;
    }

    /// Sets the time of day.
    pub fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Everything that is due within a second, at once: as when the server stops.
    pub fn tick(&mut self) {
        let now = self.now;
        if let Some(running) = &mut self.running {
            running.core.tell_time(now, self.steady);
            running.core.tick(now);
        }
        self.look_after();
    }

    /// As [`World::pass`], while nothing else happens. Of a long time only the last second is played like this, and a beat more,
    /// so that what was put off before is written; for the rest of it the machine was asleep.
    pub fn beat_for(&mut self, time: Duration) {
        let played = (BEAT * (BEATS + 1)).min(time);
        self.advance(time - played);
        self.beats(played, false);
        self.look_after();
    }

    /// What is done [`BEATS`] times a second.
    pub fn beat(&mut self) {
        if let Some(running) = &mut self.running {
            drive::beat(&running.core, self.now, self.steady);
        }
    }

    /// What is done about once a second, beside what is due: the check of the free disk space, as many steps of the sweep as fit into
    /// a second, and background work of the store.
    fn look_after(&mut self) {
        let now = self.now;
        let Some(running) = &mut self.running else { return };
        if let Some(probe) = running.writer.probe() {
            running.room.saw(&running.core, probe());
        }
        let mut left = TICK;
        while left > Duration::ZERO && drive::may_sweep(&running.queue) {
            left = left.saturating_sub(drive::sweep(&running.core, now, running.reader.as_mut()));
        }
        running.writer.idle(now.as_millis(), false).expect("the store tidies up");
    }

    /// The passwords.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// The queue in front of the store.
    pub fn queue(&self) -> &Queue {
        &self.running().queue
    }

    /// Writes to the store directly: the kernel sees it after a restart.
    pub fn write(&mut self, mut make: impl FnMut(&mut dyn Ids) -> Vec<Write>) {
        let now = self.now;
        let queue = &self.running().queue;
        Journal::submit(queue, now, &mut |ids| Batch {
            now: now.as_millis(),
            writes: make(ids),
            id: ids.batch(),
            ..Batch::default()
        });
    }

    /// A reader of the store.
    pub fn reader(&self) -> Box<dyn Reader> {
        self.running().writer.reader().expect("the store can be read")
    }

    fn first_host(&self) -> String {
        self.config.hosts.first().map_or(HOST, |host| host.name.as_str()).to_owned()
    }

    /// Creates an account of the first host. False if the name is taken.
    pub fn create_account(&mut self, name: &str) -> bool {
        self.create_account_at(name, &self.first_host())
    }

    /// Creates an account. False if the name is taken.
    pub fn create_account_at(&mut self, name: &str, host: &str) -> bool {
        let jid = BareJid::new(name, host).expect("a name");
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        let notice = Box::new(move |stored| told.store(stored, Ordering::Release));
        let user = NewUser::new(jid).expect("a name that can log in");
        self.core().create_user(self.now, &user, self.secrets.credentials(0), notice);
        self.settle();
        done.load(Ordering::Acquire)
    }

    /// Removes an account, as an operator does. False if there is none, or it could not be stored.
    pub fn remove_account(&mut self, jid: &BareJid) -> bool {
        let Some(lock) = self.load(jid) else { return false };
        self.stored(|core, now, done| core.begin_removal(now, &lock, done)) && self.finish_removal(&lock)
    }

    /// What follows when the first step of a removal is stored.
    pub fn finish_removal(&mut self, lock: &AccountRef) -> bool {
        let left = Arc::new(AtomicBool::new(true));
        for contact in self.core().contacts(lock) {
            let told = left.clone();
            let mut done: Notice = Box::new(move |stored| {
                told.fetch_and(stored, Ordering::AcqRel);
            });
            while let Some(again) = self.core().leave(self.now, lock, &contact, done) {
                done = again;
                self.load(&contact);
            }
        }
        self.settle();
        if !left.load(Ordering::Acquire) {
            self.core().stop_removal(lock);
            return false;
        }
        let deleted = self.stored(|core, now, done| core.delete_user(now, lock, done));
        if deleted {
            self.core().forget_directed(&lock.jid);
        }
        deleted
    }

    /// Disables or enables an account. False if there is none, or it could not be stored.
    pub fn disable_account(&mut self, jid: &BareJid, disabled: bool) -> bool {
        let Some(lock) = self.load(jid) else { return false };
        self.stored(|core, now, done| core.disable_user(now, &lock, disabled, done))
    }

    /// Settles, and returns whether a change is stored.
    pub fn stored(&mut self, change: impl FnOnce(&Core, Timestamp, Box<dyn FnOnce(bool) + Send>)) -> bool {
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        change(self.core(), self.now, Box::new(move |stored| told.store(stored, Ordering::Release)));
        self.settle();
        done.load(Ordering::Acquire)
    }

    /// An account, loaded if necessary.
    pub fn load(&mut self, jid: &BareJid) -> Option<AccountRef> {
        let core = self.core().clone();
        let reader = self.running.as_mut()?.reader.as_mut();
        core.load(reader, jid).expect("the store can be read")
    }

    /// A new client of an account, without a connection.
    pub fn client(&mut self, account: &str, resource: &str) -> ClientId {
        self.client_at(account, &self.first_host(), resource)
    }

    /// As [`World::client`], on any host.
    pub fn client_at(&mut self, account: &str, host: &str, resource: &str) -> ClientId {
        self.clients.push(Client::new(account, host, resource));
        self.clients.len() - 1
    }

    /// Connects a client.
    pub fn connect(&mut self, id: ClientId) {
        self.cut(id);
        let bell = Arc::new(Bell::default());
        let connection = Connection::new(self.core().clone(), self.settings.clone(), None, bell.clone());
        self.clients[id].attach(Link::new(connection, bell));
    }

    /// Connects and opens a stream; the features have been received.
    pub fn open(&mut self, id: ClientId) {
        self.connect(id);
        let host = self.clients[id].host.clone();
        self.clients[id].open_stream(&host);
        self.settle();
        self.expect(id, ns::STREAM, "features");
    }

    /// Connects and authenticates; the features of the new stream have been received.
    pub fn authenticate(&mut self, id: ClientId) {
        self.open(id);
        let (mut sasl, auth) = self.sasl(id);
        self.clients[id].send(&auth);
        self.settle();
        let challenge = self.expect(id, ns::SASL, "challenge");
        let challenge = decode_payload(&challenge.content()).expect("base64").unwrap_or_default();
        let response = encode_payload(Some(&sasl.respond(&challenge).expect("a challenge")));
        self.clients[id].send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"));
        self.settle();
        let success = self.expect(id, ns::SASL, "success");
        let data = decode_payload(&success.content()).expect("base64");
        sasl.finish(data.as_deref().map(Vec::as_slice)).expect("the server proves itself");
        let host = self.clients[id].host.clone();
        self.clients[id].open_stream(&host);
        self.settle();
        self.expect(id, ns::STREAM, "features");
    }

    /// Starts a SASL exchange of a client, and returns its first message.
    pub fn sasl(&self, id: ClientId) -> (SaslClient, String) {
        let mut random = [0; 24];
        self.random.lock().fill(&mut random);
        let mechanism = Mechanism::from_name("SCRAM-SHA-1").expect("a mechanism");
        let keys = Secret::Keys(self.secrets.all[self.clients[id].key % self.secrets.count()].1.clone());
        let mut sasl = SaslClient::new(mechanism, &self.clients[id].account, keys, Nonce::from_random(random));
        let first = encode_payload(Some(&sasl.first().expect("a first message")));
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>{first}</auth>");
        (sasl, auth)
    }

    /// Logs in and binds the resource, without stream management.
    pub fn bind(&mut self, id: ClientId) {
        self.authenticate(id);
        self.clients[id].smacks = None;
        let resource = self.clients[id].resource.clone();
        self.clients[id].send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        ));
        self.settle();
        let answer = self.expect(id, ns::CLIENT, "iq");
        assert_eq!(answer.get("type"), Some("result"), "binding failed: {answer:?}");
    }

    /// Enables stream management with resumption.
    pub fn enable(&mut self, id: ClientId) {
        self.clients[id].smacks = Some(Smacks::default());
        self.clients[id].send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.settle();
        self.expect(id, ns::SM, "enabled");
    }

    /// Resumes the session. Returns the server's count, or `<failed/>`.
    pub fn resume(&mut self, id: ClientId) -> Result<u32, Element> {
        self.authenticate(id);
        let smacks = self.clients[id].smacks.clone().expect("stream management was enabled");
        let token = smacks.token.expect("the session can be resumed");
        let h = smacks.received;
        self.clients[id].send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{token}' h='{h}'/>"));
        self.settle();
        let at = self.clients[id]
            .inbox
            .iter()
            .position(|heard| matches!(heard, Heard::Element(e) if e.is(ns::SM, "resumed") || e.is(ns::SM, "failed")));
        match at.and_then(|at| self.clients[id].inbox.remove(at)) {
            Some(Heard::Element(answer)) if answer.is(ns::SM, "resumed") => {
                Ok(answer.get("h").and_then(|h| h.parse().ok()).expect("a count"))
            }
            Some(Heard::Element(answer)) => Err(answer),
            _ => panic!("{} was not answered: {:?}", self.name(id), self.clients[id].inbox),
        }
    }

    /// Breaks the connection.
    pub fn cut(&mut self, id: ClientId) {
        if let Some(mut link) = self.clients[id].link.take() {
            link.driver.gone(self.now);
            self.settle();
        }
    }

    /// `account/resource`
    pub fn name(&self, id: ClientId) -> String {
        format!("{}/{}", self.clients[id].account, self.clients[id].resource)
    }

    /// The newest element of this name that it received, which must exist.
    fn expect(&mut self, id: ClientId, ns: ns::Ns, name: &str) -> Element {
        let at = self.clients[id].inbox.iter().rposition(|h| matches!(h, Heard::Element(e) if e.is(ns, name)));
        match at.and_then(|at| self.clients[id].inbox.remove(at)) {
            Some(Heard::Element(element)) => element,
            _ => panic!("{} expected <{name}/> and heard {:?}", self.name(id), self.clients[id].inbox),
        }
    }

    /// Runs until nothing is left to do. A server that dies at a commit is started again.
    ///
    /// # Panics
    /// If that never happens.
    pub fn settle(&mut self) {
        while !self.settle_or_die() {
            self.crash();
        }
    }

    /// As [`World::settle`]; false if the server died at a commit. Then [`World::crash`] must be called.
    ///
    /// # Panics
    /// If that never happens.
    pub fn settle_or_die(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let mut busy = false;
            for id in 0..self.clients.len() {
                busy |= self.pump(id);
            }
            for at in 0..self.ghosts.len() {
                busy |= self.haunt(at);
            }
            match self.write_or_die() {
                Some(wrote) => busy |= wrote,
                None => return false,
            }
            busy |= self.spilled();
            if !busy {
                return true;
            }
        }
        panic!("the world runs in circles");
    }

    /// Makes one commit. Returns whether there was one; `None` if the server died at it.
    pub fn write_or_die(&mut self) -> Option<bool> {
        let Some(running) = &mut self.running else { return Some(false) };
        match running.writer.step() {
            Step::Committed(done) => {
                drive::report(&running.core, self.now, done);
                Some(true)
            }
            Step::Empty | Step::Stalled => Some(false),
            Step::Crashed => None,
        }
    }

    /// The part of the log that a client's session wants to read, and the entries there: for
    /// [`vorpal_net::c2s::Connection::fetched`].
    pub fn read_log(&mut self, id: ClientId) -> Option<(Fetch, Vec<Entry>)> {
        let fetch = self.clients[id].link.as_ref()?.driver.connection.hungry(self.now)?;
        let reader = self.running.as_mut()?.reader.as_mut();
        Some((fetch, read(reader, fetch)?))
    }

    /// Pauses or resumes the loading of accounts that no session waits for.
    pub fn mute_loader(&mut self, mute: bool) {
        let running = self.running.as_mut().expect("the server runs");
        running.mute = mute;
        Wake::wake(&*running.loader);
    }

    fn spilled(&mut self) -> bool {
        let now = self.now;
        let Some(running) = &mut self.running else { return false };
        if running.mute || !running.loader.rang() {
            return false;
        }
        let mut any = false;
        while let Some(cold) = running.core.spilled() {
            any = true;
            let loaded = running.core.load(running.reader.as_mut(), &cold.account);
            drive::run_cold(&running.core, now, cold, loaded);
        }
        any
    }

    /// Moves bytes on a client's connection, as far as the network faults allow. Returns whether anything happened.
    pub fn pump(&mut self, id: ClientId) -> bool {
        let now = self.now;
        let Some(running) = &mut self.running else { return false };
        let client = &mut self.clients[id];
        let Some(link) = &mut client.link else { return false };
        let mut busy = link.run(now, &running.core, running.reader.as_mut());
        if !link.weather.down_held {
            busy |= self.hear(id, usize::MAX);
        }
        busy
    }

    /// Lets only the first bytes of a client's output reach the server, whatever the network faults.
    pub fn trickle(&mut self, id: ClientId, bytes: usize) {
        let Some(running) = &mut self.running else { return };
        let Some(link) = &mut self.clients[id].link else { return };
        link.run_with(self.now, &running.core, running.reader.as_mut(), bytes);
    }

    /// The client reads up to this many of the bytes in transit to it. Returns whether there were any.
    pub fn hear(&mut self, id: ClientId, bytes: usize) -> bool {
        let client = &mut self.clients[id];
        let Some(link) = &mut client.link else { return false };
        let some: Vec<u8> = link.down.drain(..bytes.min(link.down.len())).collect();
        let over = link.is_over() && link.down.is_empty();
        client.hear(&some);
        if over {
            client.closed();
        }
        over || !some.is_empty()
    }

    /// A client vanishes: the server does not know until [`World::notice`].
    pub fn vanish(&mut self, id: ClientId) {
        if let Some(link) = self.clients[id].link.take() {
            self.ghosts.push(link);
        }
    }

    /// Moves the server's end of a connection whose client has vanished: bytes sent before are read, bytes written are lost.
    pub fn haunt(&mut self, at: usize) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(ghost) = self.ghosts.get_mut(at) else { return false };
        ghost.run(self.now, &running.core, running.reader.as_mut())
    }

    /// The server notices that a client has vanished.
    pub fn notice(&mut self, at: usize) {
        if at < self.ghosts.len() {
            let mut ghost = self.ghosts.swap_remove(at);
            ghost.driver.gone(self.now);
        }
    }

    /// Whether a sleeping connection would have something to do. Only valid when the world is settled.
    pub fn overslept(&mut self) -> Option<ClientId> {
        let now = self.now;
        let Some(running) = &mut self.running else { return None };
        let mut late = None;
        for (id, client) in self.clients.iter_mut().enumerate() {
            if let Some(link) = &mut client.link
                && link.overslept(now, &running.core, running.reader.as_mut())
            {
                late = late.or(Some(id));
            }
        }
        late
    }
}
