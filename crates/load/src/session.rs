//! One client's session: what it sends is put together from templates, what it gets is cut at stanza ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::ready;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::ReadBuf;

use crate::scan::{Frame, Inbox, attribute, has, tag_end};
use crate::wire::Wire;

/// How much is read at once, into one buffer for all sessions.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Counters of XEP-0198 §4, from `<enable/>` and `<enabled/>` on.
#[derive(Debug, Default)]
struct Sm {
    /// Ask for an ack after so many stanzas.
    every: u32,
    sent: u32,
    acked: u32,
    received: u32,
}

/// A connection with what was read from it and what is to be written.
pub struct Session {
    wire: Wire,
    inbox: Inbox,
    out: Vec<u8>,
    sm: Option<Sm>,
    /// The full JID, once bound.
    pub jid: String,
}

impl Session {
    /// A session on a fresh connection.
    pub fn new(wire: Wire) -> Session {
        Session { wire, inbox: Inbox::default(), out: Vec::new(), sm: None, jid: String::new() }
    }

    /// Starts over after SASL: the next thing received is a stream's opening tag.
    pub fn restart(&mut self) -> Result<()> {
        self.inbox.restart()
    }

    /// The bare connection, after `<proceed/>`. Fails if the server has sent more than that.
    pub fn into_wire(mut self) -> Result<Wire> {
        self.inbox.restart()?;
        Ok(self.wire)
    }

    /// Puts bytes that XEP-0198 does not count into the output.
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Ends a stanza whose bytes were `put`: it is counted, and an ack is asked for when it is time.
    pub fn end_stanza(&mut self) {
        if let Some(sm) = &mut self.sm {
            sm.sent = sm.sent.wrapping_add(1);
            if sm.sent.is_multiple_of(sm.every) {
                self.ask();
            }
        }
    }

    /// Asks for an ack.
    pub fn ask(&mut self) {
        self.out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
    }

    /// Says how many stanzas were received.
    fn acknowledge(&mut self) {
        if let Some(sm) = &self.sm {
            let ack = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", sm.received);
            self.out.extend_from_slice(ack.as_bytes());
        }
    }

    /// Whether everything sent has been acked; so too without XEP-0198.
    pub fn all_acked(&self) -> bool {
        self.sm.as_ref().is_none_or(|sm| sm.acked == sm.sent)
    }

    /// Writes the output in one go.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.wire.write(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for bytes. Cancel-safe: bytes that were read are in the inbox.
    pub async fn fill(&mut self) -> Result<()> {
        let (wire, inbox) = (&mut self.wire, &mut self.inbox);
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(wire.poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Err(anyhow::Error::from(io::Error::from(io::ErrorKind::UnexpectedEof))).into();
                }
                inbox.fill(buffer.filled()).into()
            })
        })
        .await
        .with_context(|| format!("while {} waited", self.name()))
    }

    /// The next message, presence or IQ among the bytes read. Requests for acks are answered into the output, acks counted.
    pub fn take(&mut self) -> Result<Option<Range<usize>>> {
        while let Some(frame) = self.inbox.next()? {
            let Frame::Stanza(range) = frame else { bail!("the server ended the stream of {}", self.name()) };
            let stanza = self.inbox.get(range.clone());
            let name = name(stanza);
            if matches!(name, b"message" | b"presence" | b"iq") {
                if let Some(sm) = &mut self.sm {
                    sm.received = sm.received.wrapping_add(1);
                }
                return Ok(Some(range));
            }
            match (name, &mut self.sm) {
                (b"r", Some(_)) => self.acknowledge(),
                (b"a", Some(sm)) => {
                    let h = attribute(stanza, "h").and_then(|h| str::from_utf8(h).ok()?.parse().ok());
                    let h: u32 = h.context("an ack without h")?;
                    ensure!(
                        h <= sm.sent && h >= sm.acked,
                        "an ack of {h} where {} of {} were acked",
                        sm.acked,
                        sm.sent
                    );
                    sm.acked = h;
                }
                _ => bail!("{} got {}", self.name(), String::from_utf8_lossy(stanza)),
            }
        }
        Ok(None)
    }

    /// The bytes of what `take` found.
    pub fn get(&self, range: Range<usize>) -> &[u8] {
        self.inbox.get(range)
    }

    /// Writes the output and waits for one child of the stream, whatever it is; a stream's opening tag is passed over.
    pub async fn answer(&mut self) -> Result<&[u8]> {
        self.flush().await?;
        loop {
            match self.inbox.next()? {
                Some(Frame::Stanza(range)) => return Ok(self.inbox.get(range)),
                Some(Frame::Open(_)) => {}
                Some(Frame::Close) => bail!("the server ended the stream of {}", self.name()),
                None => self.fill().await?,
            }
        }
    }

    /// Waits for one child of the stream, which must hold `wanted`.
    pub async fn expect(&mut self, wanted: &str) -> Result<&[u8]> {
        let answer = self.answer().await?;
        ensure!(has(answer, wanted), "not {wanted} but {}", String::from_utf8_lossy(answer));
        Ok(answer)
    }

    /// Waits for a stanza that holds `wanted`; others are counted and passed over.
    pub async fn await_stanza(&mut self, wanted: &str) -> Result<()> {
        loop {
            while let Some(range) = self.take()? {
                let stanza = self.get(range);
                if has(stanza, wanted) {
                    return Ok(());
                }
                ensure!(!has(stanza, "type='error'"), "{}", String::from_utf8_lossy(stanza));
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Writes the output and waits for the answer to the IQ with this id; other stanzas are counted and dropped.
    pub async fn answer_to(&mut self, id: &str) -> Result<Vec<u8>> {
        self.flush().await?;
        loop {
            while let Some(range) = self.take()? {
                let stanza = self.get(range);
                if name(stanza) == b"iq" && attribute(head(stanza), "id") == Some(id.as_bytes()) {
                    return Ok(stanza.to_vec());
                }
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// The JID without its resource.
    pub fn bare(&self) -> &str {
        self.jid.split('/').next().unwrap_or_default()
    }

    /// XEP-0198 §3: turns stream management on, with resumption, as clients do.
    pub async fn enable_sm(&mut self, every: u32) -> Result<()> {
        self.put(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.expect("<enabled").await?;
        self.sm = Some(Sm { every, ..Sm::default() });
        Ok(())
    }

    /// Reads and drops whatever comes, until the connection ends.
    pub async fn sit(&mut self) -> Result<()> {
        loop {
            while self.take()?.is_some() {}
            self.inbox.shrink();
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Closes the stream; the server's own closing tag is not awaited. What was received and not asked for yet is acknowledged:
    /// else the server keeps it for the account's next session, and is right.
    pub async fn close(mut self) -> Result<()> {
        self.acknowledge();
        self.put(b"</stream:stream>");
        self.flush().await?;
        Ok(self.wire.shutdown().await?)
    }

    fn name(&self) -> &str {
        if self.jid.is_empty() { "a session not yet bound" } else { &self.jid }
    }
}

/// The name of a stanza's first tag.
pub fn name(stanza: &[u8]) -> &[u8] {
    let rest = stanza.get(1..).unwrap_or_default();
    let end = rest.iter().position(|b| matches!(b, b' ' | b'/' | b'>' | b'\n' | b'\t' | b'\r')).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// A stanza's first tag.
pub fn head(stanza: &[u8]) -> &[u8] {
    let end = tag_end(stanza, 1).unwrap_or(stanza.len());
    stanza.get(..end).unwrap_or_default()
}
