//! The other end of a connection: what a client keeps, over all of its streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use vorpal_core::session::Wake;
use vorpal_net::c2s::Connection;
use vorpal_proto::element::Element;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_open};

/// What a client hears from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A first-level element: a stanza, a nonza, features, a stream error.
    Element(Element),
    /// `</stream:stream>`
    End,
    /// The server closed the socket without ending the stream.
    Cut,
}

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
}

/// A connection, both ends of it.
pub struct Link {
    /// the server's end
    pub connection: Connection,
    /// rung by the server
    pub bell: Arc<Bell>,
    /// what the server has not read yet
    pub input: BytesMut,
    /// what the client has not read yet
    output: BytesMut,
    framer: Framer,
    context: StreamContext,
    ended: bool,
}

impl Link {
    /// A connection that was just accepted.
    pub fn new(connection: Connection, bell: Arc<Bell>) -> Link {
        Link {
            connection,
            bell,
            input: BytesMut::new(),
            output: BytesMut::new(),
            framer: Framer::new(usize::MAX),
            context: StreamContext::default(),
            ended: false,
        }
    }
}

/// What a client knows of XEP-0198.
#[derive(Clone, Debug, Default)]
pub struct Smacks {
    /// stanzas are counted: `<enabled/>` was received
    pub enabled: bool,
    /// the secret by which the session is resumed
    pub token: Option<String>,
    /// stanzas received
    pub received: u32,
    /// the server's last count of what it has handled
    pub acked: u32,
    /// whether it does not answer when it is asked
    pub mute: bool,
}

/// A client. See the module's text.
#[derive(Default)]
pub struct Client {
    /// the local part of its account
    pub account: String,
    /// its resource
    pub resource: String,
    /// the connection it has now
    pub link: Option<Link>,
    /// what it has heard and nobody has asked for yet
    pub inbox: VecDeque<Heard>,
    /// its stream management
    pub smacks: Option<Smacks>,
    /// whether what it is sent is lost on the way
    pub deaf: bool,
}

impl Client {
    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &str) {
        let link = self.link.as_mut().unwrap_or_else(|| panic!("{}/{} has no connection", self.account, self.resource));
        link.input.extend_from_slice(bytes.as_bytes());
    }

    /// Begins a stream, on a connection that has none or after SASL.
    pub fn open_stream(&mut self, host: &str) {
        if let Some(link) = &mut self.link {
            link.framer.reset();
            link.output.clear();
        }
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ));
    }

    /// Takes what the server has written. True if it wants to answer something.
    pub fn hear(&mut self, bytes: &[u8]) {
        if self.deaf {
            return;
        }
        let Some(link) = &mut self.link else { return };
        link.output.extend_from_slice(bytes);
        let mut answers = 0;
        loop {
            match link.framer.next(&mut link.output) {
                Ok(None) => break,
                Ok(Some(Frame::Open(bytes))) => {
                    link.context = parse_open(&bytes, &Limits::default()).expect("the server opens a stream").1;
                }
                Ok(Some(Frame::Close)) => {
                    link.ended = true;
                    self.inbox.push_back(Heard::End);
                }
                Ok(Some(Frame::Element(bytes))) => {
                    let limits = Limits { nodes: usize::MAX, ..Limits::default() };
                    let element = parse_element(&bytes, &link.context, &limits);
                    let element = element.unwrap_or_else(|error| panic!("the server sent bad XML: {error}: {bytes:?}"));
                    match &mut self.smacks {
                        Some(smacks) if element.is(ns::SM, "r") => {
                            answers += u32::from(!smacks.mute);
                            continue;
                        }
                        Some(smacks) => smacks.note(&element),
                        None => {}
                    }
                    self.inbox.push_back(Heard::Element(element));
                }
                Err(error) => panic!("the server sent bad XML: {error}"),
            }
        }
        if let (true, Some(smacks)) = (answers > 0, &self.smacks) {
            let h = smacks.received;
            self.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        }
    }

    /// The server has closed the socket.
    pub fn closed(&mut self) {
        if let Some(link) = self.link.take()
            && !link.ended
            && !self.deaf
        {
            self.inbox.push_back(Heard::Cut);
        }
    }
}

impl Smacks {
    fn note(&mut self, element: &Element) {
        let number = |name| element.get(name).and_then(|h| h.parse().ok());
        if element.is(ns::SM, "enabled") {
            self.enabled = true;
            self.received = 0;
            self.token = element.get("id").map(str::to_owned);
        } else if element.is(ns::SM, "a") || element.is(ns::SM, "resumed") {
            self.acked = number("h").unwrap_or(self.acked);
        } else if self.enabled && ["message", "presence", "iq"].iter().any(|name| element.is(ns::CLIENT, name)) {
            self.received = self.received.wrapping_add(1);
        }
    }
}
