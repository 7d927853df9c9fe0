//! Framings: how the elements of a stream are packed into the bytes of a connection.
//!
//! A framing finds the elements in what is read, and writes the stream header, stanzas, other elements and the end of the stream
//! in its own words. It knows nothing of what the elements mean. A second one, such as WebSocket (RFC 7395), is a file here and a
//! variant of [`Framing`] and [`Output`].

mod tcp;

use bytes::BytesMut;
use vorpal_core::session::Wire;
use vorpal_proto::element::Element;
use vorpal_proto::error::StreamError;
use vorpal_proto::frame::Frame;
use vorpal_proto::ns;
use vorpal_proto::parse::{Limits, StreamContext, StreamHeader, XmlError};
use vorpal_proto::stanza::{Stanza, StanzaFault};

use tcp::{Tcp, TcpOutput};

/// The framing of one connection, with its state.
pub(crate) enum Framing {
    /// One XML document in each direction (RFC 6120 §4).
    Tcp(Tcp),
}

/// The attributes of the server's stream header (RFC 6120 §4.7), unescaped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening<'a> {
    /// the id of the stream
    pub id: &'a str,
    /// the host, if the client named one that exists
    pub from: Option<&'a str>,
    /// what the client called itself
    pub to: Option<&'a str>,
}

impl Framing {
    /// TCP, with a maximum size of one frame in bytes.
    pub fn tcp(limit: usize) -> Framing {
        Framing::Tcp(Tcp::new(limit))
    }

    // === what is read ===

    /// Takes the next complete frame from the start of `buf`. `None` requests more bytes, to be added at its end.
    ///
    /// # Errors
    /// An error that no further byte can fix. It is repeated until [`Framing::restart`].
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        match self {
            Framing::Tcp(tcp) => tcp.next(buf),
        }
    }

    /// Takes the next frame if it is a complete stanza that can be read in one pass. `None`: [`Framing::next`] says what it is.
    pub fn next_stanza(
        &mut self,
        buf: &mut BytesMut,
        cx: &StreamContext,
        limits: &Limits,
    ) -> Option<Result<Stanza, StanzaFault>> {
        match self {
            Framing::Tcp(tcp) => tcp.next_stanza(buf, cx, limits),
        }
    }

    /// Reads the client's stream header, which [`Framing::next`] returned as [`Frame::Open`].
    ///
    /// # Errors
    /// It is not one.
    pub fn read_header(&self, frame: &[u8], limits: &Limits) -> Result<(StreamHeader, StreamContext), XmlError> {
        match self {
            Framing::Tcp(_) => tcp::read_header(frame, limits),
        }
    }

    /// Whether no part of a frame was read, so that an empty buffer may be freed.
    pub fn is_idle(&self) -> bool {
        match self {
            Framing::Tcp(tcp) => tcp.is_idle(),
        }
    }

    /// The maximum size of one frame, in bytes.
    pub fn limit(&self) -> usize {
        match self {
            Framing::Tcp(tcp) => tcp.limit(),
        }
    }

    /// Changes the maximum size of one frame, also of one that has begun.
    pub fn set_limit(&mut self, limit: usize) {
        match self {
            Framing::Tcp(tcp) => tcp.set_limit(limit),
        }
    }

    /// A new stream begins on the same connection, as after STARTTLS and SASL (RFC 6120 §4.3.3).
    pub fn restart(&mut self) {
        match self {
            Framing::Tcp(tcp) => tcp.restart(),
        }
    }

    // === what is written ===

    /// Writes the server's stream header.
    pub fn open(&mut self, out: &mut Vec<u8>, opening: Opening<'_>) {
        match self {
            Framing::Tcp(_) => tcp::open(out, opening),
        }
    }

    /// Writes the stream features (RFC 6120 §4.3.2): the children of `features`.
    pub fn features(&mut self, out: &mut Vec<u8>, features: &Element) {
        match self {
            Framing::Tcp(_) => tcp::features(out, features),
        }
    }

    /// Writes an error that ends the stream (RFC 6120 §4.9), inside the stream. [`Framing::close`] follows.
    pub fn error(&mut self, out: &mut Vec<u8>, error: &StreamError) {
        match self {
            Framing::Tcp(_) => tcp::error(out, error),
        }
    }

    /// Writes the end of the stream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Framing::Tcp(_) => tcp::close(out),
        }
    }

    /// Writes an element that is not a stanza.
    pub fn element(&mut self, out: &mut Vec<u8>, element: &Element) {
        match self {
            Framing::Tcp(_) => element.write(out, ns::CLIENT.as_str()),
        }
    }

    /// The same output for the items of a session, and for single stanzas.
    pub fn output<'a>(&mut self, out: &'a mut Vec<u8>) -> Output<'a> {
        match self {
            Framing::Tcp(_) => Output::Tcp(TcpOutput(out)),
        }
    }
}

/// Writes the items of a session in the framing of its connection.
pub(crate) enum Output<'a> {
    Tcp(TcpOutput<'a>),
}

impl Wire for Output<'_> {
    fn stanza(&mut self, stanza: &Stanza) {
        match self {
            Output::Tcp(tcp) => tcp.stanza(stanza),
        }
    }

    fn nonza(&mut self, xml: &[u8]) {
        match self {
            Output::Tcp(tcp) => tcp.nonza(xml),
        }
    }

    fn len(&self) -> usize {
        match self {
            Output::Tcp(tcp) => tcp.len(),
        }
    }
}
