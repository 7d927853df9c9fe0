//! A server and its clients in one thread: [`World::settle`] goes on until nobody has anything to do, and the clock moves
//! only when it is told to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use vorpal_core::host::Host;
use vorpal_core::join::Fetch;
use vorpal_core::module::Module;
use vorpal_core::registry::Registry;
use vorpal_core::server::{Core, core_names};
use vorpal_core::store::{Entry, Loading, LogQuery, Reader};
use vorpal_net::c2s::{Connection, Need, Settings};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::parse::Limits;
use vorpal_proto::sasl::client::{Client as SaslClient, Keys, Secret};
use vorpal_proto::sasl::{Credentials, Hash, Iterations, Mechanism, Nonce, decode_payload, encode_payload};
use vorpal_store::writer::{Step, Writer};

use crate::client::{Bell, Client, Heard, Link, Smacks};
use crate::disk::{Medium, Mood, Store};
use crate::random::Random;

/// The one host.
pub const HOST: &str = "localhost";

/// Everybody's password.
pub const PASSWORD: &str = "wherefore";

/// When the world begins: 2026-01-01T00:00:00Z.
pub const BEGINNING: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What the disk keeps free, in bytes.
const RESERVE: u64 = 100 << 20;

/// So often everything is asked whether there is something to do, before the world is said to run in circles.
const ROUNDS: usize = 10_000;

/// A client, by its number.
pub type ClientId = usize;

struct Running {
    core: Arc<Core>,
    writer: Writer,
    reader: Box<dyn Reader>,
}

/// See the module's text.
pub struct World {
    /// the time of day
    pub now: Timestamp,
    /// what is random in the server, and in logging in
    random: Arc<Mutex<Random>>,
    medium: Medium,
    /// what the disk is told to do wrong
    pub mood: Arc<Mood>,
    settings: Arc<Settings>,
    modules: &'static [&'static Module],
    credentials: Vec<Credentials>,
    keys: Keys,
    running: Option<Running>,
    /// the clients, for ever
    pub clients: Vec<Client>,
}

impl World {
    /// A world with a server that just started on an empty store, and nobody in it.
    pub fn new(seed: u64, store: Store, passthrough: bool, modules: &'static [&'static Module]) -> World {
        let salt = [7; 16];
        let derive = |hash| Credentials::derive(hash, PASSWORD, &salt, Iterations::MIN).expect("a good password");
        let credentials = [Hash::Sha1, Hash::Sha256].map(derive).to_vec();
        let settings = Settings {
            max_attempts: 5,
            max_before_login: 16 * 1024,
            max_stanza: 256 * 1024,
            without_tls: true,
            plain_without_tls: true,
            mechanisms: HashMap::new(),
            passthrough,
            limits: Limits::default(),
        };
        let mut world = World {
            now: BEGINNING,
            random: Arc::new(Mutex::new(Random::new(seed))),
            medium: Medium::new(store),
            mood: Arc::default(),
            settings: Arc::new(settings),
            modules,
            keys: Keys::derive(Hash::Sha1, PASSWORD, &salt, Iterations::MIN).expect("a good password"),
            credentials,
            running: None,
            clients: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let (queue, mut writer) = Writer::new(self.medium.open(self.mood.clone()));
        let names = core_names();
        let registry = Registry::build(self.modules.iter().copied(), names.clone(), |_| None).expect("the modules");
        let domain = BareJid::of_domain(HOST).expect("a host");
        names.bind(|name| writer.map(name, Loading::WithOwner)).expect("the store's tables");
        let progress = writer.map("progress", Loading::WithOwner).expect("the store's tables");
        let random = self.random.clone();
        let random = Box::new(move |bytes: &mut [u8]| random.lock().fill(bytes));
        let core = Core::new(Arc::new(queue), names, progress, [7; 32], random, self.now);
        core.reserve.set_least(RESERVE);
        core.set_hosts([Arc::new(Host::new(&domain, registry))]);
        let mut reader = writer.reader().expect("the store can be read");
        core.load_sessions(self.now, reader.as_mut()).expect("sessions come back");
        self.running = Some(Running { core: Arc::new(core), writer, reader });
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

    /// The process is killed, and a new one starts on what is stored. Everybody loses the connection.
    pub fn crash(&mut self) {
        self.medium.crash();
        for client in &mut self.clients {
            client.link = None;
        }
        self.running = None;
        self.start();
    }

    /// The server stops when everything is written, and starts again.
    pub fn restart(&mut self) {
        self.settle();
        self.core().suspend(self.now);
        self.settle();
        self.tick();
        self.settle();
        self.crash();
    }

    /// Moves the clock, second by second.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = end.min(self.now.plus(Duration::from_secs(1)));
            self.tick();
            self.settle();
        }
    }

    /// What is done about once a second.
    pub fn tick(&mut self) {
        let now = self.now;
        if let Some(running) = &mut self.running {
            if let Some(probe) = running.writer.probe() {
                running.core.observe_room(probe().expect("the disk tells its room"));
            }
            running.core.tick(now);
            running.writer.idle(now.as_millis(), false).expect("the store tidies up");
        }
    }

    /// Creates an account. False if the name is taken.
    pub fn create_account(&mut self, name: &str) -> bool {
        let jid = BareJid::new(name, HOST).expect("a name");
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        let notice = Box::new(move |stored| told.store(stored, Ordering::Release));
        self.core().create_user(self.now, &jid, &self.credentials, notice);
        self.settle();
        let created = done.load(Ordering::Acquire);
        if created {
            self.core().forget(&jid);
        }
        created
    }

    /// A new client of an account, without a connection.
    pub fn client(&mut self, account: &str, resource: &str) -> ClientId {
        self.clients.push(Client { account: account.into(), resource: resource.into(), ..Client::default() });
        self.clients.len() - 1
    }

    /// It connects, and nothing else.
    pub fn connect(&mut self, id: ClientId) {
        self.cut(id);
        let bell = Arc::new(Bell::default());
        let connection = Connection::new(self.core().clone(), self.settings.clone(), None, bell.clone());
        let client = &mut self.clients[id];
        client.deaf = false;
        client.link = Some(Link::new(connection, bell));
    }

    /// It connects and opens a stream; the features are heard.
    pub fn open(&mut self, id: ClientId) {
        self.connect(id);
        self.clients[id].open_stream(HOST);
        self.settle();
        self.expect(id, ns::STREAM, "features");
    }

    /// It connects and authenticates; the features of the new stream are heard.
    pub fn authenticate(&mut self, id: ClientId) {
        self.open(id);
        let mut random = [0; 24];
        self.random.lock().fill(&mut random);
        let mechanism = Mechanism::from_name("SCRAM-SHA-1").expect("a mechanism");
        let name = self.clients[id].account.clone();
        let mut sasl = SaslClient::new(mechanism, &name, Secret::Keys(self.keys.clone()), Nonce::from_random(random));
        let first = encode_payload(Some(&sasl.first().expect("a first message")));
        self.clients[id]
            .send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>{first}</auth>"));
        self.settle();
        let challenge = self.expect(id, ns::SASL, "challenge");
        let challenge = decode_payload(&challenge.content()).expect("base64").unwrap_or_default();
        let response = encode_payload(Some(&sasl.respond(&challenge).expect("a challenge")));
        self.clients[id].send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"));
        self.settle();
        let success = self.expect(id, ns::SASL, "success");
        let data = decode_payload(&success.content()).expect("base64");
        sasl.finish(data.as_deref()).expect("the server proves itself");
        self.clients[id].open_stream(HOST);
        self.settle();
        self.expect(id, ns::STREAM, "features");
    }

    /// It logs in and binds its resource, without stream management.
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

    /// It asks for stream management with resumption.
    pub fn enable(&mut self, id: ClientId) {
        self.clients[id].smacks = Some(Smacks::default());
        self.clients[id].send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.settle();
        self.expect(id, ns::SM, "enabled");
    }

    /// It comes back to its session. Gives the server's count, or `<failed/>` if there is none.
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

    /// The connection breaks.
    pub fn cut(&mut self, id: ClientId) {
        if let Some(mut link) = self.clients[id].link.take() {
            link.connection.gone(self.now);
            self.settle();
        }
    }

    /// `account/resource`
    pub fn name(&self, id: ClientId) -> String {
        format!("{}/{}", self.clients[id].account, self.clients[id].resource)
    }

    /// The newest element it heard of this name, which must be there.
    fn expect(&mut self, id: ClientId, ns: ns::Ns, name: &str) -> Element {
        let at = self.clients[id].inbox.iter().rposition(|h| matches!(h, Heard::Element(e) if e.is(ns, name)));
        match at.and_then(|at| self.clients[id].inbox.remove(at)) {
            Some(Heard::Element(element)) => element,
            _ => panic!("{} expected <{name}/> and heard {:?}", self.name(id), self.clients[id].inbox),
        }
    }

    /// Goes on until nobody has anything to do. A server that dies at a commit is started again.
    ///
    /// # Panics
    /// If that never comes.
    pub fn settle(&mut self) {
        while !self.settle_or_die() {
            self.crash();
        }
    }

    /// As [`World::settle`]; false if the server died at a commit. Then [`World::crash`] is to be called.
    ///
    /// # Panics
    /// If that never comes.
    pub fn settle_or_die(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let mut busy = false;
            for id in 0..self.clients.len() {
                busy |= self.pump(id);
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

    /// One commit: whether there was one, or nothing if the server died at it.
    pub fn write_or_die(&mut self) -> Option<bool> {
        let Some(running) = &mut self.running else { return Some(false) };
        match running.writer.step() {
            Step::Committed(done) => {
                running.core.complete(self.now, done.into_iter().map(|done| (done.id, done.outcome)));
                Some(true)
            }
            Step::Empty | Step::Stalled => Some(false),
            Step::Crashed => None,
        }
    }

    /// What a client's session wants to read of its log, and what stands there: for [`vorpal_net::c2s::Connection::fetched`].
    pub fn read_log(&mut self, id: ClientId) -> Option<(Fetch, Vec<Entry>)> {
        let fetch = self.clients[id].link.as_ref()?.connection.hungry()?;
        let reader = self.running.as_mut()?.reader.as_mut();
        Some((fetch, read(reader, fetch)?))
    }

    fn spilled(&mut self) -> bool {
        let now = self.now;
        let Some(running) = &mut self.running else { return false };
        let mut any = false;
        while let Some(cold) = running.core.spilled() {
            any = true;
            if running.core.load(now, running.reader.as_mut(), &cold.account).is_ok() {
                running.core.run(now, cold);
            }
        }
        any
    }

    /// Whether anything happened on a client's connection.
    pub fn pump(&mut self, id: ClientId) -> bool {
        let now = self.now;
        let Some(running) = &mut self.running else { return false };
        let (core, reader) = (running.core.clone(), &mut running.reader);
        let client = &mut self.clients[id];
        let Some(mut link) = client.link.take() else { return false };
        let mut busy = link.bell.rang();
        let unread = link.input.len();
        let closed = feed(&core, reader.as_mut(), now, &mut link);
        if let Some(fetch) = link.connection.hungry() {
            let entries = read(reader.as_mut(), fetch);
            link.connection.fetched(fetch, entries.as_deref());
            busy = true;
        }
        let mut out = Vec::new();
        link.connection.output(&mut out, 16 * 1024);
        busy |= !out.is_empty() || link.input.len() != unread;
        let over = closed || link.connection.is_over();
        client.link = Some(link);
        client.hear(&out);
        let Some(link) = &mut client.link else { return true };
        if !out.is_empty() {
            link.connection.written();
        }
        if over {
            let mut rest = Vec::new();
            while link.connection.output(&mut rest, 16 * 1024) {}
            link.connection.gone(now);
            client.hear(&rest);
            client.closed();
            return true;
        }
        busy
    }
}

/// Gives the connection what it needs. True if it is over.
fn feed(core: &Arc<Core>, reader: &mut dyn Reader, now: Timestamp, link: &mut Link) -> bool {
    let mut input: BytesMut = std::mem::take(&mut link.input);
    let connection = &mut link.connection;
    let mut closed = false;
    let mut need = Some(connection.input(now, &mut input));
    while let Some(next) = need.take() {
        need = match next {
            Need::Input | Need::Wait => None,
            Need::Admit(_) => Some(connection.admitted(now, true).unwrap_or_else(|| connection.input(now, &mut input))),
            Need::Load(jid) => {
                let found = core.load(now, reader, &jid).map(|_| ()).map_err(|_| ());
                Some(connection.loaded(now, found).unwrap_or_else(|| connection.input(now, &mut input)))
            }
            Need::Derive(check) => {
                let verdict = check.run();
                Some(connection.derived(now, verdict).unwrap_or_else(|| connection.input(now, &mut input)))
            }
            Need::Tls => panic!("a client of the world asked for TLS"),
            Need::Close => {
                closed = true;
                None
            }
        };
    }
    link.input = input;
    closed
}

fn read(reader: &mut dyn Reader, fetch: Fetch) -> Option<Vec<Entry>> {
    let query = LogQuery { after: fetch.from.saturating_sub(1), limit: fetch.limit, ..LogQuery::default() };
    reader.log_range(fetch.owner, query).ok()
}
