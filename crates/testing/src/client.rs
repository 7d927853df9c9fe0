//! The client's end of a connection: its state, across all of its streams.

use std::collections::VecDeque;

use bytes::BytesMut;
use vorpal_proto::element::Element;
use vorpal_proto::frame::{Frame, Framer};
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, parse_element, parse_open};

use crate::link::Link;

/// An event that a client receives from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A first-level element: a stanza, a nonza, features, a stream error.
    Element(Element),
    /// `</stream:stream>`
    End,
    /// The server closed the socket without ending the stream.
    Cut,
}

/// A client's state of XEP-0198.
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
    /// whether it ignores requests for acknowledgement
    pub mute: bool,
}

/// A client. See the module's text.
pub struct Client {
    /// the local part of its account
    pub account: String,
    /// its host
    pub host: String,
    /// its resource
    pub resource: String,
    /// which of the world's passwords it uses: see [`crate::world::Secrets`]
    pub key: usize,
    /// the connection it has now
    pub link: Option<Link>,
    /// received events that were not consumed yet
    pub inbox: VecDeque<Heard>,
    /// its stream management
    pub smacks: Option<Smacks>,
    /// whether everything sent to it is lost in transit
    pub deaf: bool,
    /// input that is not a complete element yet
    output: BytesMut,
    framer: Framer,
    context: StreamContext,
    /// the server ended the stream
    ended: bool,
}

impl Client {
    /// A client without a connection.
    pub fn new(account: &str, host: &str, resource: &str) -> Client {
        Client {
            account: account.into(),
            host: host.into(),
            resource: resource.into(),
            key: 0,
            link: None,
            inbox: VecDeque::new(),
            smacks: None,
            deaf: false,
            output: BytesMut::new(),
            framer: Framer::new(usize::MAX),
            context: StreamContext::default(),
            ended: false,
        }
    }

    /// Attaches a new connection.
    pub fn attach(&mut self, link: Link) {
        self.link = Some(link);
        self.deaf = false;
        self.ended = false;
        self.output.clear();
        self.framer.reset();
    }

    /// The part of an incomplete element that it has read.
    pub fn unread(&self) -> &[u8] {
        &self.output
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &str) {
        let link = self.link.as_mut().unwrap_or_else(|| panic!("{}/{} has no connection", self.account, self.resource));
        link.up.extend_from_slice(bytes.as_bytes());
    }

    /// Begins a stream, on a connection that has none or after SASL.
    pub fn open_stream(&mut self, host: &str) {
        self.framer.reset();
        self.output.clear();
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ));
    }

    /// Processes the server's output. True if it has something to answer.
    pub fn hear(&mut self, bytes: &[u8]) {
        if self.deaf {
            return;
        }
        if self.link.is_none() {
            return;
        }
        self.output.extend_from_slice(bytes);
        let mut answers = 0;
        loop {
            match self.framer.next(&mut self.output) {
                Ok(None) => break,
                Ok(Some(Frame::Open(bytes))) => {
                    self.context = parse_open(&bytes, &Limits::default()).expect("the server opens a stream").1;
                }
                Ok(Some(Frame::Close)) => {
                    self.ended = true;
                    self.inbox.push_back(Heard::End);
                }
                Ok(Some(Frame::Element(bytes))) => {
                    let limits = Limits { nodes: usize::MAX, ..Limits::default() };
                    let element = parse_element(&bytes, &self.context, &limits);
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
        if self.link.take().is_some() && !self.ended && !self.deaf {
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
