//! Any sequence of what clients say, in any pieces, before and after login: what must hold for one connection.
//!
//! `INPUTS=100000 SEED=2 cargo test --release -p vorpal-net --test negotiation -- --nocapture` tries more of them.

#![expect(clippy::disallowed_methods, reason = "how long it plays at most")]
#![allow(clippy::unwrap_used, reason = "a test: what cannot be set up ends it")]

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::BytesMut;
use vorpal_core::core::{Core, core_names};
use vorpal_core::life::users::NewUser;
use vorpal_core::module::host::{Host, KeyPolicy};
use vorpal_core::module::registry::Registry;
use vorpal_core::session::Wake;
use vorpal_core::store::{Loading, LogQuery, Reader};
use vorpal_net::c2s::{Connection, Need, Settings};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::jid::BareJid;
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_open};
use vorpal_proto::sasl::client::{Binding, Client, Keys, Secret};
use vorpal_proto::sasl::{
    ChannelBindings, Credentials, Hash, Iterations, Mechanism, Nonce, TLS_EXPORTER, decode_payload, encode_payload,
};
use vorpal_store::memory::{Disk, Memory};
use vorpal_store::writer::{Step, Writer};

const BEFORE_LOGIN: usize = 4096;
const STANZA: usize = 10_000;
const SALT: &[u8; 16] = b"0123456789abcdef";
const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.net' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

type Reached = BTreeMap<String, u64>;

#[derive(Clone)]
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// One thing that the client, or its network, does.
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    /// `<auth/>` of an honest client: mechanism, whether the password is right, whether it waits for the empty challenge.
    Auth(Mechanism, bool, bool),
    /// The answer of this client to the last challenge.
    Respond,
    /// Resumption of what was enabled last, with this `h`.
    Resume(u32),
    /// The network fails, and another connection is made; or that is made before the old one is gone.
    Again(bool),
    /// The store is slow for a while, and then is not.
    Slow(bool),
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Act::Say(bytes) => write!(f, "say {}", bytes.escape_ascii()),
            Act::Auth(mechanism, right, late) => write!(f, "auth {} right: {right} late: {late}", mechanism.name()),
            Act::Respond => f.write_str("respond"),
            Act::Resume(h) => write!(f, "resume {h}"),
            Act::Again(gone) => write!(f, "again, the old one gone: {gone}"),
            Act::Slow(slow) => write!(f, "slow: {slow}"),
        }
    }
}

const HEADERS: &[&str] = &[
    "<stream:stream to='other.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    "<stream:stream to='example.net' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    "<stream:stream to='example.net' version='1.0' xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>",
    "<stream:stream to='example.net' version='1.0' xmlns='jabber:client' xmlns:stream='urn:x'>",
    "<stream:stream from='a&lt;@x' to='EXAMPLE.net' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'>",
    "<stream xmlns='http://etherx.jabber.org/streams' version='1.0' xmlns:c='jabber:client'>",
    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.net' version='1.0'/>",
    "<?xml version='1.1'?>",
    "<?xml version='1.0' encoding='UTF-16'?>",
    "GET / HTTP/1.1\r\n\r\n",
    "\x16\x03\x01",
];

const LOGIN: &[&str] = &[
    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>!</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGJvYgBwZW5jaWw=</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1ib2Iscj1h</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1iaXdzLHI9YSxwPUFBQUE=</response>",
    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>a&lt;b</resource></bind></iq>",
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>\u{FFFD}\u{85}</resource></bind></iq>",
    "<iq type='get' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
    "<resume xmlns='urn:xmpp:sm:3' h='-1'/>",
];

const SESSION: &[&str] = &[
    "<presence/>",
    "<presence><priority>-1</priority></presence>",
    "<presence type='unavailable'/>",
    "<presence to='bob@example.net' type='subscribe'/>",
    "<presence to='bob@example.net/x'/>",
    "<presence type='probe' to='no-one@example.net'/>",
    "<message to='alice@example.net' type='chat' id='1'><body>a &amp; b</body></message>",
    "<message to='bob@example.net' type='chat' id='1'><body>hi</body></message>",
    "<message to='no-one@example.net' id='1'><body>hi</body></message>",
    "<message to='x@other.example' id='1'><body>hi</body></message>",
    "<message type='groupchat' to='bob@example.net'><body><![CDATA[x]]></body></message>",
    "<message to='@'/>",
    "<message from='bob@example.net' to='alice@example.net'><body>forged</body></message>",
    "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<iq type='get' id='2' to='example.net'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    "<iq type='get' id='3'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq type='set' id='4'><query xmlns='jabber:iq:roster'><item jid='bob@example.net'/></query></iq>",
    "<iq type='set' id='5'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
    "<iq type='set' id='6'><block xmlns='urn:xmpp:blocking'><item jid='bob@example.net'/></block></iq>",
    "<iq type='get' id='7' to='bob@example.net/x'><odd xmlns='urn:x'/></iq>",
    "<iq type='result' id='8'/>",
    "<iq type='get'/>",
    "<iq type='set' id='9'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
    "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
    "<enable xmlns='urn:xmpp:sm:3'/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='0'/>",
    "<a xmlns='urn:xmpp:sm:3' h='1'/>",
    "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>",
    "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
    "<inactive xmlns='urn:xmpp:csi:0'/>",
    "<active xmlns='urn:xmpp:csi:0'/>",
    "<odd xmlns='urn:x'/>",
    " ",
    "\n",
];

const RUBBISH: &[&str] = &[
    "<",
    ">",
    "</x>",
    "<!-- -->",
    "<!DOCTYPE x>",
    "<?x?>",
    "text",
    "&",
    "<a:b/>",
    "\0",
    "\u{FFFE}",
    "</stream:stream>",
    "<stream:stream>",
    "<stream:error/>",
    "<iq",
    "'",
    "\"",
    "]]>",
    "<message><body>",
    "</message>",
];

fn rubbish(random: &mut Random) -> Act {
    Act::Say(match random.below(8) {
        0 => vec![b"\x80\xFF\xC0\xED"[random.below(4)]],
        // More than a frame may have, before login or after.
        1 => format!("<message><body>{}", "x".repeat([BEFORE_LOGIN, STANZA][random.below(2)])).into_bytes(),
        2 => "<a>".repeat(random.below(300)).into_bytes(),
        3 => random.pick(HEADERS).as_bytes().to_vec(),
        4 => random.pick(LOGIN).as_bytes().to_vec(),
        5 => random.pick(SESSION).as_bytes().to_vec(),
        _ => random.pick(RUBBISH).as_bytes().to_vec(),
    })
}

fn say(text: &str) -> Act {
    Act::Say(text.as_bytes().to_vec())
}

fn login(random: &mut Random, secure: bool, acts: &mut Vec<Act>) {
    acts.push(say(HEADER));
    if !secure {
        acts.push(say(LOGIN[0]));
        acts.push(say(HEADER));
    }
    for _ in 0..if random.one_in(8) { 1 + random.below(6) } else { 0 } {
        acts.push(say(random.pick(LOGIN)));
    }
    let count = if random.one_in(10) { 7 } else { 6 };
    let any = Mechanism::ALL[random.below(count)];
    let late = random.one_in(6);
    acts.push(Act::Auth(any, !random.one_in(8), late));
    if late {
        acts.push(Act::Respond);
    }
    if any != Mechanism::Plain {
        acts.push(Act::Respond);
    }
    acts.push(say(HEADER));
}

fn script(random: &mut Random, secure: bool) -> Vec<Act> {
    let mut acts = Vec::new();
    login(random, secure, &mut acts);
    acts.push(say(LOGIN[10]));
    for _ in 0..1 + random.below(12) {
        acts.push(match random.below(12) {
            0 => say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>"),
            1 => Act::Slow(random.one_in(2)),
            _ => say(random.pick(SESSION)),
        });
    }
    if random.one_in(3) {
        acts.push(Act::Again(random.one_in(2)));
        login(random, secure, &mut acts);
        acts.push(if random.one_in(4) { say(LOGIN[10]) } else { Act::Resume(random.below(3) as u32) });
        for _ in 0..random.below(5) {
            acts.push(say(random.pick(SESSION)));
        }
    }
    if random.one_in(2) {
        acts.push(say("</stream:stream>"));
    }
    // So many slips in a script.
    for _ in 0..[0, 0, 1, 1, 3, 8][random.below(6)] {
        let at = random.below(acts.len());
        match random.below(6) {
            0 => drop(acts.remove(at)),
            1 => {
                let other = random.below(acts.len());
                acts.swap(at, other);
            }
            2 => acts.insert(at, acts[at].clone()),
            3 => acts[at] = rubbish(random),
            4 => acts.insert(at, rubbish(random)),
            _ => {
                if let Act::Say(bytes) = &mut acts[at] {
                    let place = random.below(bytes.len().max(1));
                    match random.below(3) {
                        0 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
                        1 => bytes.truncate(place),
                        _ => drop(bytes.splice(place..place, random.pick(RUBBISH).bytes())),
                    }
                }
            }
        }
        if acts.is_empty() {
            acts.push(say(HEADER));
        }
    }
    acts
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// What is derived once for all inputs.
struct Derived {
    credentials: Vec<Credentials>,
    right: Vec<Keys>,
    wrong: Vec<Keys>,
}

impl Derived {
    fn new() -> Derived {
        let keys = |password| {
            Hash::ALL.iter().map(|h| Keys::derive(*h, password, SALT, Iterations::MIN).unwrap()).collect::<Vec<_>>()
        };
        let credentials = Hash::ALL.iter().map(|h| Credentials::derive(*h, "pencil", SALT, Iterations::MIN).unwrap());
        Derived { credentials: credentials.collect(), right: keys("pencil"), wrong: keys("eraser") }
    }
}

/// The server around the connection.
struct World {
    core: Arc<Core>,
    writer: Writer,
    reader: Box<dyn Reader>,
    settings: Arc<Settings>,
    now: Timestamp,
    slow: bool,
    random: Random,
}

impl World {
    fn new(derived: &Derived, seed: u64) -> World {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let (queue, mut writer) = Writer::new(Box::new(Memory::open(&Disk::new()).unwrap()));
        let names = core_names();
        let domain = BareJid::of_domain("example.net").unwrap();
        let registry = Registry::build(vorpal_modules::ALL.iter().copied(), names.clone(), |_| None).unwrap();
        names.bind(|name, loading| writer.map(name, loading)).unwrap();
        let progress = writer.map("progress", Loading::Cold).unwrap();
        let mut bytes = Random(seed);
        let random = move |out: &mut [u8]| out.iter_mut().for_each(|b| *b = bytes.below(256) as u8);
        let core = Core::new(Arc::new(queue), names, progress, [7; 32], Box::new(random), now);
        let host = Host::new(&domain, registry);
        // As the accounts have: a password is checked a thousand times here.
        host.set_key_policy(KeyPolicy { iterations: Iterations::MIN, ..KeyPolicy::default() });
        core.set_hosts([Arc::new(host)]);
        let reader = writer.reader().unwrap();
        let settings = Settings {
            max_attempts: 5,
            max_before_login: BEFORE_LOGIN,
            max_stanza: STANZA,
            without_tls: false,
            plain_without_tls: false,
            mechanisms: HashMap::new(),
            passthrough: seed.is_multiple_of(2),
            limits: Limits::default(),
        };
        let random = Random(seed ^ 0x5EED);
        let mut world =
            World { core: Arc::new(core), writer, reader, settings: Arc::new(settings), now, slow: false, random };
        // Bob has a password of his own, which nobody here knows.
        for (name, credentials) in [("alice", &derived.credentials[..]), ("bob", &[])] {
            let jid = BareJid::new(name, "example.net").unwrap();
            world.core.create_user(now, &NewUser::new(jid).unwrap(), credentials, Box::new(|stored| assert!(stored)));
        }
        world.settle();
        world
    }

    /// Writes all there is, and does what waited for it.
    fn settle(&mut self) {
        self.now = self.now.plus(std::time::Duration::from_millis(7));
        loop {
            match self.writer.step() {
                Step::Committed(done) => self.core.complete(self.now, done.into_iter().map(|d| (d.id, d.outcome))),
                Step::Empty => match self.core.spilled() {
                    Some(cold) => {
                        self.core.load(self.reader.as_mut(), &cold.account).unwrap();
                        self.core.run(self.now, cold);
                    }
                    None => return,
                },
                other => panic!("the store: {other:?}"),
            }
        }
    }

    fn sessions(&self) -> Vec<String> {
        self.core
            .all_loaded()
            .iter()
            .flat_map(|a| a.lock().sessions.iter().map(|s| s.jid.to_string()).collect::<Vec<_>>())
            .collect()
    }
}

/// A client and its connection.
struct Peer {
    connection: Connection,
    input: BytesMut,
    /// reads what the server says
    framer: Framer,
    said: BytesMut,
    context: StreamContext,
    open: bool,
    /// the server has closed its stream
    ended: bool,
    closed: bool,
    client: Option<Client>,
    challenge: Option<Vec<u8>>,
    /// the right password is known to the server
    proven: bool,
    success: bool,
    token: Option<String>,
}

fn bindings() -> ChannelBindings {
    ChannelBindings { exporter: Some([7; 32]), server_end_point: None }
}

impl Peer {
    fn new(world: &World, secure: bool) -> Peer {
        let bindings = secure.then(bindings);
        let connection = Connection::new(world.core.clone(), world.settings.clone(), bindings, Arc::new(Silent));
        Peer {
            connection,
            input: BytesMut::new(),
            framer: Framer::new(usize::MAX),
            said: BytesMut::new(),
            context: StreamContext::default(),
            open: false,
            ended: false,
            closed: false,
            client: None,
            challenge: None,
            proven: false,
            success: false,
            token: None,
        }
    }

    /// As the task drives it. Gives whether the connection waits.
    fn pump(&mut self, world: &mut World, reached: &mut Reached) -> Result<bool, String> {
        let now = world.now;
        let mut need = Some(self.connection.input(now, &mut self.input));
        let mut waits = false;
        while let Some(next) = need.take() {
            match next {
                Need::Input => {
                    let limit = if self.success { STANZA } else { BEFORE_LOGIN };
                    if self.input.len() > limit {
                        return Err(format!("bound: {} bytes wait", self.input.len()));
                    }
                }
                Need::Wait => waits = true,
                Need::Admit(_) if world.random.one_in(30) => need = self.connection.put_off(),
                Need::Admit(_) => need = self.connection.admitted(!world.random.one_in(30)),
                Need::Bind => need = self.connection.may_bind(now, !world.random.one_in(10)),
                Need::Load(jid) => {
                    let found = !world.random.one_in(30);
                    if found {
                        world.core.load(world.reader.as_mut(), &jid).map_err(|e| e.to_string())?;
                    }
                    need = self.connection.loaded(now, if found { Ok(()) } else { Err(()) });
                    if need.is_none() {
                        need = Some(self.connection.input(now, &mut self.input));
                    }
                }
                Need::Derive(check) => {
                    need = self.connection.derived(now, check.run());
                    if need.is_none() {
                        need = Some(self.connection.input(now, &mut self.input));
                    }
                }
                Need::Tls => {
                    self.take(reached)?;
                    self.input.clear();
                    self.connection.secured(bindings());
                    self.framer = Framer::new(usize::MAX);
                    self.open = false;
                    *reached.entry("tls".into()).or_default() += 1;
                }
                Need::Close => {
                    self.take(reached)?;
                    self.closed = true;
                }
            }
            if need.is_none() && !self.closed && !waits && !self.input.is_empty() && !matches!(need, Some(Need::Input))
            {
                // What was answered may let more be read.
                let before = self.input.len();
                let next = self.connection.input(now, &mut self.input);
                if !matches!(next, Need::Input) || self.input.len() != before {
                    need = Some(next);
                }
            }
        }
        if let Some(fetch) = self.connection.hungry(now) {
            let query = LogQuery { after: fetch.from.saturating_sub(1), limit: fetch.limit, ..LogQuery::default() };
            let entries = world.reader.log_range(fetch.owner, query).map_err(|e| e.to_string())?;
            self.connection.fetched(fetch, Some(&entries));
        }
        while let Some(inquiry) = self.connection.inquiry() {
            let found = (inquiry.job)(world.reader.as_mut());
            world.core.answered(now, inquiry.asker, found);
        }
        self.take(reached)?;
        if self.connection.is_over() {
            self.closed = true;
        }
        Ok(waits)
    }

    /// Takes and judges what the server says.
    fn take(&mut self, reached: &mut Reached) -> Result<(), String> {
        let mut out = Vec::new();
        while self.connection.output(&mut out, 16 * 1024) {}
        if out.len() > 1 << 20 {
            return Err(format!("output: {} bytes at once", out.len()));
        }
        if out.is_empty() {
            return Ok(());
        }
        if self.closed {
            return Err(format!("said after the end: {}", out.escape_ascii()));
        }
        self.connection.written();
        self.said.extend_from_slice(&out);
        let bad = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}: {}", out.escape_ascii());
        loop {
            let frame = self.framer.next(&mut self.said).map_err(|e| bad("output is no stream", &e))?;
            match frame {
                None => break,
                Some(_) if self.ended => return Err(bad("output behind the end", &"")),
                Some(Frame::Open(bytes)) => {
                    self.context = parse_open(&bytes, &Limits::default()).map_err(|e| bad("header", &e))?.1;
                    self.open = true;
                }
                Some(Frame::Close) => self.ended = true,
                Some(Frame::Element(bytes)) => self.element(&bytes, reached)?,
            }
        }
        if !self.said.is_empty() {
            return Err(bad("output breaks off", &""));
        }
        Ok(())
    }

    fn element(&mut self, bytes: &[u8], reached: &mut Reached) -> Result<(), String> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let element =
            parse_element(bytes, &self.context, &Limits::default()).map_err(|e| format!("output: {e}: {}", text()))?;
        let mut here = |what: &str| *reached.entry(what.to_owned()).or_default() += 1;
        match (element.ns(), element.name()) {
            ("http://etherx.jabber.org/streams", "error") => {
                let condition = element.elements().next().map_or("none", |child| child.name());
                here(&format!("error {condition}"));
            }
            ("urn:ietf:params:xml:ns:xmpp-sasl", "challenge") => {
                let data = decode_payload(&element.content()).map_err(|e| e.to_string())?;
                self.challenge = Some(data.unwrap_or_default().to_vec());
                here("challenge");
            }
            ("urn:ietf:params:xml:ns:xmpp-sasl", "failure") => {
                here(&format!("failure {}", element.elements().next().map_or("none", |child| child.name())));
            }
            ("urn:ietf:params:xml:ns:xmpp-sasl", "success") => {
                if !self.proven {
                    return Err("login: success without the password".to_owned());
                }
                let data = decode_payload(&element.content()).map_err(|e| e.to_string())?;
                if let Some(client) = &mut self.client {
                    client.finish(data.as_deref().map(Vec::as_slice)).map_err(|e| format!("login: {e}"))?;
                }
                self.success = true;
                // What is said next is a stream of its own.
                if !self.said.is_empty() && !self.said.starts_with(b"<?xml") {
                    return Err("output: no new stream behind success".to_owned());
                }
                self.framer = Framer::new(usize::MAX);
                self.open = false;
                here("success");
            }
            ("jabber:client", _) if !self.success => return Err(format!("login: a stanza before it: {}", text())),
            ("jabber:client", "iq") if element.elements().any(|c| c.is(vorpal_proto::ns::BIND, "bind")) => {
                if element.get("type") == Some("result") {
                    let jid =
                        element.elements().next().and_then(|bind| bind.elements().next()).map(|jid| jid.content());
                    let jid = jid.unwrap_or_default();
                    if !jid.starts_with("alice@example.net/") {
                        return Err(format!("bind: {}", text()));
                    }
                    here("bound");
                } else {
                    here("bind refused");
                }
            }
            ("jabber:client", name) => here(&format!("{name} {}", element.get("type").unwrap_or("-"))),
            ("urn:xmpp:sm:3", name) => {
                if !self.success && name != "failed" {
                    return Err(format!("login: a session before it: {}", text()));
                }
                if name == "enabled" {
                    self.token = element.get("id").map(str::to_owned);
                }
                here(&format!("sm {name}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the client says for this act.
    fn words(&mut self, act: &Act, derived: &Derived, token: Option<&str>) -> Vec<u8> {
        match act {
            Act::Say(bytes) => {
                // Credentials that slipped into another place are right all the same; there are none in the lists.
                bytes.clone()
            }
            Act::Auth(mechanism, right, late) => {
                let keys = if *right { &derived.right } else { &derived.wrong };
                let secret = match mechanism.hash() {
                    None => Secret::Password(if *right { "pencil" } else { "eraser" }.to_owned()),
                    Some(hash) => Secret::Keys(keys[Hash::ALL.iter().position(|h| *h == hash).unwrap_or(0)].clone()),
                };
                let nonce = Nonce::from_text("fyko+d2lbbFgONRv9qkxdawL").unwrap();
                let mut client = Client::new(*mechanism, "alice", secret, nonce);
                if mechanism.is_plus() {
                    client =
                        client.with_binding(Binding::Use { name: TLS_EXPORTER.to_owned(), data: [7; 32].to_vec() });
                }
                let first = client.first().unwrap();
                self.client = Some(client);
                // One who knows the password and the channel may get in from here on.
                self.proven |= *right;
                self.challenge = late.then(|| first.clone());
                let payload = if *late { String::new() } else { encode_payload(Some(&first)) };
                format!(
                    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{}'>{payload}</auth>",
                    mechanism.name()
                )
                .into_bytes()
            }
            Act::Respond => {
                let answer = match (&mut self.client, self.challenge.take()) {
                    (Some(client), Some(challenge)) if challenge.is_empty() => client.first().ok(),
                    (Some(client), Some(challenge)) => client.respond(&challenge).ok(),
                    _ => None,
                };
                let payload = answer.map_or("=".to_owned(), |answer| encode_payload(Some(&answer)));
                format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{payload}</response>").into_bytes()
            }
            Act::Resume(h) => {
                let token = token.unwrap_or("unknown");
                format!("<resume xmlns='urn:xmpp:sm:3' previd='{token}' h='{h}'/>").into_bytes()
            }
            Act::Again(_) | Act::Slow(_) => Vec::new(),
        }
    }
}

/// Plays one script.
fn play(acts: &[Act], secure: bool, seed: u64, derived: &Derived, reached: &mut Reached) -> Result<(), String> {
    let mut world = World::new(derived, seed);
    let mut peers = vec![Peer::new(&world, secure)];
    let mut pieces = Random(seed ^ 0xC0FFEE);
    let small = 1 + pieces.below(if pieces.clone().one_in(3) { 12 } else { 4000 });
    let mut proven = false;
    let mut token = None;
    for act in acts {
        match act {
            Act::Again(gone) => {
                if *gone && let Some(peer) = peers.last_mut() {
                    peer.connection.gone(world.now);
                    peer.closed = true;
                }
                peers.push(Peer::new(&world, secure));
                continue;
            }
            Act::Slow(slow) => {
                world.slow = *slow;
                continue;
            }
            _ => {}
        }
        let Some(peer) = peers.last_mut() else { return Ok(()) };
        let words = peer.words(act, derived, token.as_deref());
        for piece in words.chunks(small) {
            if peer.closed {
                break;
            }
            peer.input.extend_from_slice(piece);
            peer.pump(&mut world, reached)?;
            if !world.slow {
                world.settle();
                peer.pump(&mut world, reached)?;
            }
        }
        proven |= peer.proven;
        token = peer.token.clone().or(token);
        let logged_in = peers.iter().any(|peer| peer.success);
        let sessions = world.sessions();
        let allowed = logged_in && proven;
        if !sessions.is_empty() && !allowed {
            return Err(format!("login: sessions without it: {sessions:?}"));
        }
        if let Some(other) = sessions.iter().find(|jid| !jid.starts_with("alice@example.net/")) {
            return Err(format!("login: a session of another: {other}"));
        }
        // An old connection that lives on hears of what the new one did.
        for peer in peers.iter_mut().rev().skip(1).filter(|peer| !peer.closed) {
            peer.pump(&mut world, reached)?;
        }
    }
    world.slow = false;
    for peer in &mut peers {
        let mut waits = false;
        // Each IQ that writes waits for a commit of its own.
        for _ in 0..64 {
            world.settle();
            if !peer.closed {
                waits = peer.pump(&mut world, reached)?;
            }
            if !waits {
                break;
            }
        }
        if waits && !peer.closed {
            return Err("stuck: it waits and nothing will come".to_owned());
        }
        if peer.closed {
            *reached.entry("closed".into()).or_default() += 1;
            // Nothing more is read or said.
            let mut more = BytesMut::from(&b"<presence/><iq type='get' id='1'/>"[..]);
            if peer.connection.is_over() && !matches!(peer.connection.input(world.now, &mut more), Need::Close) {
                return Err("over: it goes on".to_owned());
            }
            peer.take(reached)?;
        }
        peer.connection.gone(world.now);
        let mut rest = Vec::new();
        peer.connection.output(&mut rest, usize::MAX);
        if !peer.closed && !rest.is_empty() {
            return Err(format!("gone: and says {}", rest.escape_ascii()));
        }
    }
    world.settle();
    for lock in world.core.all_loaded() {
        if lock.lock().sessions.iter().any(|session| session.is_attached()) {
            return Err("gone: a session thinks it has a connection".to_owned());
        }
        if lock.lock().sessions.iter().any(|session| !world.core.stream(session).is_resumable()) {
            return Err("gone: a session is left that nobody can resume".to_owned());
        }
    }
    Ok(())
}

fn judge(acts: &[Act], secure: bool, seed: u64, derived: &Derived, reached: &mut Reached) -> Result<(), String> {
    let played = AssertUnwindSafe(|| play(acts, secure, seed, derived, reached));
    catch_unwind(played).unwrap_or_else(|_| Err("panic".to_owned()))
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn whatever_clients_say_nobody_gets_in_without_the_password_and_every_stream_is_well_formed() {
    let (inputs, seed) = (number("INPUTS", 20_000), number("SEED", 1));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(number("SECONDS", 3600));
    let derived = Derived::new();
    let mut random = Random(seed);
    let mut reached = Reached::new();
    let mut played = 0;
    while played < inputs && std::time::Instant::now() < end {
        let secure = random.one_in(2);
        let mut acts = script(&mut random, secure);
        let seed = random.number();
        if let Err(said) = judge(&acts, secure, seed, &derived, &mut reached) {
            let property = |said: &str| said.split(':').next().unwrap_or_default().to_owned();
            let (wanted, mut last, mut at) = (property(&said), said, 0);
            while at < acts.len() {
                let mut fewer = acts.clone();
                fewer.remove(at);
                match judge(&fewer, secure, seed, &derived, &mut Reached::new()) {
                    Err(said) if property(&said) == wanted => {
                        acts = fewer;
                        last = said;
                    }
                    _ => at += 1,
                }
            }
            panic!("input {played}, seed {seed}, secure: {secure}: {last}\n{acts:#?}");
        }
        played += 1;
    }
    println!("{played} inputs: {reached:?}");
    // Enough of each, or the run would prove nothing.
    for place in [
        "tls",
        "challenge",
        "success",
        "bound",
        "sm enabled",
        "sm resumed",
        "sm failed",
        "sm a",
        "closed",
        "failure not-authorized",
        "failure incorrect-encoding",
        "failure aborted",
        "failure encryption-required",
        "error host-unknown",
        "error not-authorized",
        "error policy-violation",
        "error not-well-formed",
        "error unsupported-stanza-type",
        "error unsupported-version",
        "error invalid-namespace",
    ] {
        assert!(played < 5_000 || reached.get(place).is_some_and(|n| *n > 3), "no input got to {place}");
    }
}

#[test]
fn who_is_put_off_may_try_again_on_the_same_stream_and_it_does_not_count() {
    let mut world = World::new(&Derived::new(), 1);
    let mut connection =
        Connection::new(world.core.clone(), world.settings.clone(), Some(bindings()), Arc::new(Silent));
    let now = world.now;
    let says = |connection: &mut Connection, text: &str| connection.input(now, &mut BytesMut::from(text));
    let heard = |connection: &mut Connection| {
        let mut out = Vec::new();
        while connection.output(&mut out, 4096) {}
        String::from_utf8(out).unwrap()
    };
    const OPEN: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                        to='example.net' version='1.0'>";
    const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHBlbmNpbA==</auth>";
    const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    says(&mut connection, OPEN);
    heard(&mut connection);
    // More often than attempts are allowed.
    for _ in 0..20 {
        assert!(matches!(says(&mut connection, AUTH), Need::Admit(name) if name == "alice@example.net"));
        assert_eq!(connection.prospect(), (vorpal_net::limits::Class::New, true));
        assert!(connection.put_off().is_none());
        let answer = heard(&mut connection);
        assert!(answer.contains("<temporary-auth-failure") && !connection.is_over(), "{answer}");
    }
    assert!(matches!(says(&mut connection, AUTH), Need::Admit(_)));
    let Some(Need::Load(jid)) = connection.admitted(true) else { panic!("the account is not read") };
    world.core.load(world.reader.as_mut(), &jid).unwrap();
    let Some(Need::Derive(check)) = connection.loaded(now, Ok(())) else { panic!("no password is checked") };
    assert!(connection.derived(now, check.run()).is_none());
    assert!(heard(&mut connection).contains("<success"));
    says(&mut connection, OPEN);
    heard(&mut connection);
    for _ in 0..20 {
        assert!(matches!(says(&mut connection, BIND), Need::Bind));
        assert!(connection.may_bind(now, false).is_none());
        let answer = heard(&mut connection);
        assert!(answer.contains("id='b'") && answer.contains("<resource-constraint"), "{answer}");
        assert!(answer.contains("type='wait'") && !connection.is_bound(), "{answer}");
    }
    assert!(matches!(says(&mut connection, BIND), Need::Bind));
    assert!(connection.may_bind(now, true).is_none() && connection.is_bound());
    world.settle();
    assert_eq!(world.sessions().len(), 1);
}
