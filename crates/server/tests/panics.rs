//! A handler that panics, in a whole server: at most one session ends, and nobody else hears of it.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vorpal::control;
use vorpal::orders::{self, Answer, Order};
use vorpal::{Program, Server, serve};
use vorpal_config::Config;
use vorpal_core::module::hook::Flow;
use vorpal_core::module::{At, Module, Phase, Result, Setup, Stage};
use vorpal_proto::element::el;
use vorpal_proto::ns::Ns;

const BOOM: Ns = Ns::private("urn:example:boom");

/// Whether the next stream's features panic, where nothing catches it but the connection's task.
static ARMED: AtomicBool = AtomicBool::new(false);

static MODULE: Module = Module { name: "boom", xeps: &[], setup };

fn setup(m: &mut Setup<'_>) -> Result {
    m.iq_get(At::Host, BOOM, "boom", |_, _| panic!("on purpose: an IQ"));
    m.on_message(Phase::Gate, |_, msg| {
        assert!(!msg.has(BOOM, "gate"), "on purpose: a message at the gate");
        Flow::Next
    });
    m.on_message(Phase::Copy, |_, msg| {
        assert!(!msg.has(BOOM, "copy"), "on purpose: a message that is copied");
        Flow::Next
    });
    m.on_nonza(BOOM, "boom", |_, _| panic!("on purpose: a nonza"));
    m.stream_feature(Stage::Authenticated, || {
        assert!(!ARMED.swap(false, Ordering::SeqCst), "on purpose: the features");
        el("boom", BOOM)
    });
    Ok(())
}

fn program() -> Program {
    let modules = vorpal_modules::ALL.iter().copied().chain([&MODULE]).collect::<Vec<_>>();
    Program { modules: modules.leak(), sections: vorpal_modules::SECTIONS }
}

/// A client that says and reads text.
struct Client {
    socket: TcpStream,
    heard: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        Client { socket, heard: String::new() }
    }

    fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).expect("it is read");
    }

    /// Reads until this was heard, and forgets what came with it. False at the end of the connection.
    fn hears(&mut self, text: &str) -> bool {
        let mut bytes = [0; 4096];
        while !self.heard.contains(text) {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Ok(count) => self.heard.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(error) => panic!("{text} was not heard ({error}) but {}", self.heard),
            }
        }
        self.heard.clear();
        true
    }

    fn open(&mut self) {
        self.say("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    }

    fn log_in(address: SocketAddr, payload: &str) -> Client {
        let mut client = Client::connect(address);
        client.open();
        assert!(client.hears("</stream:features>"));
        client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{payload}</auth>"));
        assert!(client.hears("<success"));
        client.open();
        client
    }

    fn bound(address: SocketAddr, payload: &str) -> Client {
        let mut client = Client::log_in(address, payload);
        assert!(client.hears("</stream:features>"));
        client.say(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>",
        );
        assert!(client.hears("</iq>"));
        client.say("<presence/>");
        assert!(client.hears("<presence"));
        client
    }

    fn is_well(&mut self) {
        self.say("<iq type='get' id='well' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
        assert!(self.hears("id='well'"), "it has a session");
    }
}

#[test]
fn a_panic_ends_one_session_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let text = format!(
        "data = \"data\"\n[listen]\nc2s = []\nc2s_tls = []\nc2s_plain = [\"{address}\"]\n[login]\nplain_without_tls = true\n"
    );
    let path = folder.path().join("vorpal.toml");
    let config = Config::read(&path, text, [], &program().known()).expect("a configuration");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::open(config.clone(), program().modules).expect("a server");
        for name in ["a", "b"] {
            let order = Order::UserAdd { jid: format!("{name}@localhost"), password: "secret".to_owned().into() };
            let answer = orders::execute(&server.runtime, order).await;
            assert!(matches!(answer, Answer::Done | Answer::Noted(_)), "{answer:?}");
        }
        server.close().await;
    });
    runtime.spawn(serve(config, None, program()));
    await_listening(address, folder.path());

    let (a, b) = ("AGEAc2VjcmV0", "AGIAc2VjcmV0");
    let (mut one, mut other) = (Client::bound(address, a), Client::bound(address, b));
    // Caught where it is: an error for who asked, and the session goes on.
    one.say("<iq type='get' id='i' to='localhost'><boom xmlns='urn:example:boom'/></iq>");
    assert!(one.hears("<internal-server-error"));
    one.say("<message to='b@localhost' type='chat' id='m'><body>x</body><gate xmlns='urn:example:boom'/></message>");
    assert!(one.hears("<internal-server-error"));
    one.say(
        "<message to='b@localhost' type='chat' id='n'><body>arrives</body><copy xmlns='urn:example:boom'/></message>",
    );
    assert!(other.hears("arrives"), "who copies is not asked whether it goes on");
    one.say("<boom xmlns='urn:example:boom'/>");
    one.is_well();
    other.is_well();

    // Caught by nobody but the task of the connection: it ends, and its session with it.
    ARMED.store(true, Ordering::SeqCst);
    let mut third = Client::log_in(address, a);
    assert!(!third.hears("</stream:features>"), "the connection is gone");
    one.is_well();
    other.is_well();
    Client::bound(address, b).is_well();

    let top = runtime.block_on(control::order(&folder.path().join("data/admin.sock"), &Order::Top));
    let Ok(Answer::Rows(rows)) = top else { panic!("{top:?}") };
    let panics = rows[0]["counts"]["vorpal_panics_total"].as_u64();
    assert!(panics.is_some_and(|panics| panics >= 5), "an operator sees how many: {panics:?}");
}

fn await_listening(address: SocketAddr, folder: &Path) {
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "the server in {} does not listen", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
