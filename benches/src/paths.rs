//! The hot paths: the whole server in one thread, without sockets and without TLS, as in the scenes of the tests.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use vorpal_core::life::join::Fetch;
use vorpal_core::store::Entry;
use vorpal_net::c2s::Need;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::jid::Jid;
use vorpal_proto::parse::{Limits, StreamContext};
use vorpal_proto::scan::scan;
use vorpal_proto::stanza::Stanza;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

use crate::store;

/// One path. Only `run` is measured; `prepare` comes before each, `clean` after it.
pub trait Run {
    /// Makes what the next run needs.
    fn prepare(&mut self) {}
    /// The path.
    fn run(&mut self);
    /// Takes away what the run has left, and checks it.
    fn clean(&mut self) {}
}

/// A path with its names.
pub struct Path {
    /// on the command line
    pub name: &'static str,
    /// in the table
    pub text: &'static str,
    /// false until the server can do it
    pub exists: fn() -> bool,
    /// sets it up
    pub make: fn() -> Box<dyn Run>,
}

/// All paths, in the order of the table.
pub const PATHS: &[Path] = &[
    Path { name: "jid", text: "parse an address with a resource", exists: always, make: jid },
    Path { name: "frame", text: "frame and scan a chat message", exists: always, make: frame },
    Path { name: "chat", text: "chat message: from input to the receiver's queue", exists: always, make: chat },
    Path { name: "pull", text: "chat message: from the queue to bytes", exists: always, make: pull },
    Path {
        name: "carbons",
        text: "chat message, two sessions each: from input to three as bytes",
        exists: always,
        make: carbons,
    },
    Path { name: "managed", text: "managed chat message: input, commit, bytes", exists: always, make: managed },
    Path { name: "archived", text: "archived chat message: input, commit, bytes", exists: has_archive, make: archived },
    Path {
        name: "presence",
        text: "presence to 20 contacts: from input to their queues",
        exists: always,
        make: presence,
    },
    Path {
        name: "presence-pull",
        text: "presence to 20 contacts: from the queues to bytes",
        exists: always,
        make: presence_pull,
    },
    Path {
        name: "store-archived",
        text: "the writer: 20 archived messages in a commit",
        exists: always,
        make: store::archived,
    },
    Path {
        name: "store-managed",
        text: "the writer: 20 managed messages in a commit",
        exists: always,
        make: store::managed,
    },
    Path {
        name: "store-delivered",
        text: "the writer: 20 managed messages in a commit, and 20 deleted that were delivered",
        exists: always,
        make: store::delivered,
    },
    Path {
        name: "attributes",
        text: "parse 32 KiB of elements with 62 attributes with prefixes each",
        exists: always,
        make: attributes,
    },
    Path { name: "bomb", text: "refuse 32 KiB that would become 8 MiB", exists: always, make: bomb },
    Path { name: "block", text: "block 500 addresses that are named 2,000 times", exists: always, make: block },
    Path { name: "entry", text: "ten entries of the log: their form for a session", exists: always, make: entry },
];

/// As clients send it: 429 bytes.
const MESSAGE: &str = include_str!("../../fuzz/corpus/xml/message-chat");
const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// As the load program sends it: 220 bytes.
const BODY: &str =
    "a message of about a hundred bytes, which is what people write to each other on an average day, or less";
const OUTPUT: usize = 16 * 1024;
const CONTACTS: usize = 20;
const ENTRIES: usize = 10;

fn always() -> bool {
    true
}

fn has_archive() -> bool {
    vorpal_modules::ALL.iter().any(|module| module.name == "mam")
}

struct Closure<F>(F);

impl<F: FnMut()> Run for Closure<F> {
    fn run(&mut self) {
        (self.0)();
    }
}

fn jid() -> Box<dyn Run> {
    Box::new(Closure(|| {
        black_box(Jid::parse(black_box("juliet.capulet@example.org/balcony.4711")).is_ok());
    }))
}

fn frame() -> Box<dyn Run> {
    let (mut framer, mut input) = (Framer::new(1 << 18), BytesMut::with_capacity(16 << 10));
    input.extend_from_slice(HEADER.as_bytes());
    assert!(matches!(framer.next(&mut input), Ok(Some(Frame::Open(_)))));
    let limits = Limits::DEFAULT;
    Box::new(Closure(move || {
        input.extend_from_slice(MESSAGE.as_bytes());
        let Ok(Some(Frame::Element(frame))) = framer.next(&mut input) else { panic!("no frame") };
        black_box(scan(&frame, &limits));
    }))
}

/// A stanza that is read in the full grammar; whether it is taken.
fn whole(frame: String, taken: bool) -> Box<dyn Run> {
    let (frame, cx, limits) = (Bytes::from(frame), StreamContext::default(), Limits::DEFAULT);
    Box::new(Closure(move || {
        assert_eq!(black_box(Stanza::read(&frame, &cx, &limits, false)).is_ok(), taken);
    }))
}

fn attributes() -> Box<dyn Run> {
    let declared: String = (0..62).map(|n| format!(" xmlns:p{n:02}='urn:example:{n:02}'")).collect();
    let used: String = (0..62).map(|n| format!(" p{n:02}:a=''")).collect();
    let element = format!("<a{used}/>");
    let count = 32 * 1024 / element.len();
    whole(format!("<message><z{declared}>{}</z></message>", element.repeat(count)), true)
}

fn bomb() -> Box<dyn Run> {
    let (uri, elements) = ("n".repeat(1_000), "<p:ab/>".repeat(4_000));
    whole(format!("<message><z xmlns:p='urn:{uri}' xmlns='urn:z'>{elements}</z></message>"), false)
}

/// A server with clients who are online, and buffers as a worker has them.
struct Scene {
    world: World,
    out: Vec<u8>,
}

impl Scene {
    /// With or without the archive, which makes every message one that is stored.
    fn new(archive: bool) -> Scene {
        let modules = vorpal_modules::ALL.iter().filter(|module| archive || module.name != "mam").copied();
        let world = World::new(1, Store::Memory, true, modules.collect::<Vec<_>>().leak());
        Scene { world, out: Vec::with_capacity(1 << 20) }
    }

    fn online(&mut self, name: &str, managed: bool) -> ClientId {
        self.resource(name, "bench", managed)
    }

    fn resource(&mut self, name: &str, resource: &str, managed: bool) -> ClientId {
        self.world.create_account(name);
        let id = self.world.client(name, resource);
        self.world.bind(id);
        if managed {
            self.world.enable(id);
        }
        self.say(id, "<presence/>");
        id
    }

    /// Sends, and everything settles; what was heard is forgotten.
    fn say(&mut self, id: ClientId, bytes: &str) {
        self.world.clients[id].send(bytes);
        self.rest();
    }

    fn rest(&mut self) {
        self.world.settle();
        for client in &mut self.world.clients {
            client.inbox.clear();
        }
    }

    /// Puts bytes into a connection's input buffer, where the socket would have.
    fn arrive(&mut self, id: ClientId, bytes: &str) {
        self.world.clients[id].send(bytes);
    }

    /// The connection takes its input.
    fn input(&mut self, id: ClientId) {
        let now = self.world.now;
        let Some(link) = &mut self.world.clients[id].link else { panic!("no connection") };
        let need = link.driver.connection.input(now, &mut link.up);
        // It waits where an IQ must be answered before the next stanza is taken.
        assert!(matches!(need, Need::Input | Need::Wait), "{need:?}");
    }

    /// The connection writes its output.
    fn output(&mut self, id: ClientId) {
        let Some(link) = &mut self.world.clients[id].link else { panic!("no connection") };
        link.driver.connection.output(&mut self.out, OUTPUT);
        link.driver.connection.written();
    }

    fn commit(&mut self) {
        assert_eq!(self.world.write_or_die(), Some(true), "nothing to commit");
    }

    /// Fails unless just this was written; the client hears it.
    fn written(&mut self, id: ClientId, wanted: &str, count: usize) {
        let text = String::from_utf8_lossy(&self.out);
        assert_eq!(text.matches(wanted).count(), count, "{text}");
        let out = std::mem::take(&mut self.out);
        self.world.clients[id].hear(&out);
        self.out = out;
        self.out.clear();
    }
}

fn message(to: &str) -> String {
    format!(
        "<message to='{to}@localhost/bench' type='chat' id='1-0-0000001'><body>{BODY}</body><request xmlns='urn:xmpp:receipts'/></message>"
    )
}

/// Romeo writes to Juliet. What of it is measured is said by the flags.
struct Chat {
    scene: Scene,
    from: ClientId,
    to: ClientId,
    message: String,
    measured: Part,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// nothing has to be committed
    Input,
    Output,
    All,
}

impl Chat {
    fn boxed(measured: Part, managed: bool, archive: bool) -> Box<dyn Run> {
        let mut scene = Scene::new(archive);
        let (from, to) = (scene.online("romeo", managed), scene.online("juliet", managed));
        Box::new(Chat { scene, from, to, message: message("juliet"), measured })
    }
}

impl Run for Chat {
    fn prepare(&mut self) {
        self.scene.arrive(self.from, &self.message);
        if self.measured == Part::Output {
            self.scene.input(self.from);
        }
    }

    fn run(&mut self) {
        if self.measured != Part::Output {
            self.scene.input(self.from);
        }
        if self.measured == Part::All {
            self.scene.commit();
        }
        if self.measured != Part::Input {
            self.scene.output(self.to);
        }
    }

    fn clean(&mut self) {
        if self.measured == Part::Input {
            self.scene.output(self.to);
        }
        self.scene.written(self.to, BODY, 1);
        if self.measured == Part::All {
            // Acknowledged now, so that nothing piles up.
            let heard = self.scene.world.clients[self.to].smacks.as_ref().map(|smacks| smacks.received);
            if let Some(h) = heard {
                self.scene.say(self.to, &format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            }
        }
        self.scene.rest();
    }
}

fn chat() -> Box<dyn Run> {
    Chat::boxed(Part::Input, false, false)
}

fn pull() -> Box<dyn Run> {
    Chat::boxed(Part::Output, false, false)
}

fn managed() -> Box<dyn Run> {
    Chat::boxed(Part::All, true, false)
}

fn archived() -> Box<dyn Run> {
    Chat::boxed(Part::All, false, true)
}

/// Romeo writes to Juliet; her second session and his get copies.
struct Carbons {
    scene: Scene,
    from: ClientId,
    to: [ClientId; 3],
    message: String,
}

impl Run for Carbons {
    fn prepare(&mut self) {
        self.scene.arrive(self.from, &self.message);
    }

    fn run(&mut self) {
        self.scene.input(self.from);
        for at in self.to {
            self.scene.output(at);
        }
    }

    fn clean(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.scene.out).matches(BODY).count(), 3);
        self.scene.out.clear();
        self.scene.rest();
    }
}

fn carbons() -> Box<dyn Run> {
    let mut scene = Scene::new(false);
    let sessions = [("romeo", "bench"), ("juliet", "bench"), ("romeo", "second"), ("juliet", "second")];
    let [from, to @ ..] = sessions.map(|(name, resource)| {
        let id = scene.resource(name, resource, false);
        scene.say(id, "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        id
    });
    Box::new(Carbons { scene, from, to, message: message("juliet") })
}

/// Romeo changes his presence; twenty contacts see it.
struct Presence {
    scene: Scene,
    from: ClientId,
    contacts: Vec<ClientId>,
    away: bool,
    pull: bool,
}

impl Presence {
    fn boxed(pull: bool) -> Box<dyn Run> {
        let mut scene = Scene::new(false);
        let from = scene.online("romeo", false);
        let contacts: Vec<ClientId> = (0..CONTACTS).map(|n| scene.online(&format!("contact{n}"), false)).collect();
        for (n, contact) in contacts.iter().enumerate() {
            scene.say(*contact, "<presence to='romeo@localhost' type='subscribe'/>");
            scene.say(from, &format!("<presence to='contact{n}@localhost' type='subscribed'/>"));
        }
        Box::new(Presence { scene, from, contacts, away: false, pull })
    }

    fn show(&self) -> &'static str {
        if self.away { "away" } else { "dnd" }
    }
}

impl Run for Presence {
    fn prepare(&mut self) {
        self.away = !self.away;
        let presence = format!("<presence><show>{}</show><status>back soon</status></presence>", self.show());
        self.scene.arrive(self.from, &presence);
        if self.pull {
            self.scene.input(self.from);
        }
    }

    fn run(&mut self) {
        if !self.pull {
            self.scene.input(self.from);
            return;
        }
        for at in 0..self.contacts.len() {
            self.scene.output(self.contacts[at]);
        }
    }

    fn clean(&mut self) {
        if !self.pull {
            for at in 0..self.contacts.len() {
                self.scene.output(self.contacts[at]);
            }
        }
        let text = String::from_utf8_lossy(&self.scene.out);
        assert_eq!(text.matches(&format!(">{}<", self.show())).count(), CONTACTS, "{text}");
        self.scene.out.clear();
        self.scene.rest();
    }
}

fn presence() -> Box<dyn Run> {
    Presence::boxed(false)
}

fn presence_pull() -> Box<dyn Run> {
    Presence::boxed(true)
}

/// Romeo blocks many addresses with one request, which names each several times: as many items as one request may have.
struct Block {
    scene: Scene,
    from: ClientId,
    request: String,
}

impl Run for Block {
    fn prepare(&mut self) {
        self.scene.arrive(self.from, &self.request);
    }

    fn run(&mut self) {
        self.scene.input(self.from);
    }

    fn clean(&mut self) {
        self.scene.commit();
        self.scene.output(self.from);
        self.scene.written(self.from, "type='result'", 1);
        self.scene.say(self.from, "<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'/></iq>");
    }
}

fn block() -> Box<dyn Run> {
    let mut scene = Scene::new(false);
    let from = scene.online("romeo", false);
    let items: String = (0..2_000).map(|n| format!("<item jid='stranger{}@example.org'/>", n % 500)).collect();
    let request = format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{items}</block></iq>");
    Box::new(Block { scene, from, request })
}

/// Juliet comes back and reads what she missed.
struct Missed {
    scene: Scene,
    from: ClientId,
    to: ClientId,
    read: Option<(Fetch, Vec<Entry>)>,
}

impl Run for Missed {
    fn prepare(&mut self) {
        self.scene.say(self.to, "<presence type='unavailable'/>");
        let message = message("juliet").replace("@localhost/bench", "@localhost");
        for _ in 0..ENTRIES {
            self.scene.arrive(self.from, &message);
        }
        self.scene.rest();
        self.scene.arrive(self.to, "<presence/>");
        self.scene.input(self.to);
        self.scene.world.write_or_die();
        self.read = self.scene.world.read_log(self.to);
        let found = self.read.as_ref().map(|(_, entries)| entries.len());
        assert_eq!(found, Some(ENTRIES));
    }

    fn run(&mut self) {
        let (Some(link), Some((fetch, entries))) = (&mut self.scene.world.clients[self.to].link, &self.read) else {
            panic!("no connection")
        };
        link.driver.connection.fetched(*fetch, Some(entries.as_slice()));
    }

    fn clean(&mut self) {
        self.scene.output(self.to);
        self.scene.written(self.to, BODY, ENTRIES);
        self.scene.rest();
    }
}

fn entry() -> Box<dyn Run> {
    let mut scene = Scene::new(false);
    let (from, to) = (scene.online("romeo", false), scene.online("juliet", false));
    Box::new(Missed { scene, from, to, read: None })
}
