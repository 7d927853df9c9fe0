//! The framer: finds stream headers, stanzas and stream ends in the bytes of a connection.
//!
//! The framer reads every byte once, however the bytes are split, and keeps a few words of state between pieces. Errors that
//! no further byte can fix are reported as soon as they arrive: text between stanzas, comments, processing instructions, DTDs,
//! an end tag that does not match, invalid UTF-8, a character that XML forbids. Everything else inside a frame (attributes,
//! references, namespaces) is checked by [`parse`](crate::parse) once the frame is complete.
//!
//! The result does not depend on how the bytes are split: of two errors, the one at the earlier byte is reported.
//!
//! Limits: the bytes of one frame, checked while they arrive, and [`MAX_OPEN`]. White space between frames is dropped and
//! not counted.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};
use smallvec::SmallVec;

use crate::chars::{has_forbidden, is_space};
use crate::parse::{Limits, StreamContext};
use crate::scan::Plain;
use crate::stanza::{Stanza, StanzaFault};
use crate::xml_error::XmlError;

/// A complete piece of a stream, in strict UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The start tag of the stream, with an XML declaration before it if there was one.
    Open(Bytes),
    /// One complete child of the stream: a stanza or a nonza.
    Element(Bytes),
    /// The end tag of the stream.
    Close,
}

/// Maximum depth of open elements in one frame. Bounds the memory of an unfinished frame besides its bytes: 4 bytes for
/// each level. The limit for stanzas is [`Limits::depth`](crate::parse::Limits::depth), which is smaller.
pub const MAX_OPEN: usize = 512;

/// Where the names of the open elements begin in the buffer, the outermost first.
type Open = SmallVec<[u32; 16]>;

/// The name of most streams' root element; the `>` ends the name.
const USUAL_STREAM: &[u8] = b"stream:stream>";

/// The state of one direction of a stream.
#[derive(Debug)]
pub struct Framer {
    limit: u32,
    /// Number of bytes at the start of the buffer that belong to the frame and have been read.
    pos: u32,
    /// Number of bytes before `pos` that are the beginning of a character.
    partial: u8,
    /// The stream header has been seen.
    opened: bool,
    state: State,
    more: Option<Box<More>>,
    #[cfg(test)]
    reads: usize,
}

/// State that is allocated only while needed.
#[derive(Debug, Default)]
struct More {
    /// Of an unfinished frame.
    open: Open,
    /// The name of the stream's root element and a `>`, if it is not [`USUAL_STREAM`].
    stream: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first byte of a frame.
    Start,
    /// Within `<?xml`: the number of letters seen.
    Target(u8),
    /// Inside the XML declaration.
    Declaration,
    /// After a `?` there.
    DeclarationEnd,
    /// Between the declaration and the stream header.
    Declared,
    /// After `<`, and whether a declaration may come here.
    Open { first: bool },
    /// Inside a start tag.
    Tag,
    /// After `/` in a start tag.
    TagSlash,
    /// Inside an attribute's value in quotes of this kind.
    Quote(u8),
    /// Inside the name of an end tag, which begins at this place of the buffer.
    EndTag(u32),
    /// After the name of an end tag, and a space.
    EndSpace,
    /// Between the tags of a first-level element.
    Content,
    /// After `<!` and this many characters of `[CDATA[`.
    Bang(u8),
    /// Inside a CDATA section, after this many closing brackets (at most two).
    CData(u8),
    /// After the end of the stream.
    Closed,
    /// After an error, which is repeated.
    Failed(XmlError),
}

enum Kind {
    Open,
    Element,
    Close,
}

impl Framer {
    /// A framer that expects a stream header. `limit` is the maximum size of a frame in bytes.
    ///
    /// Limits of more than 4 GiB are the same as one of 4 GiB.
    pub fn new(limit: usize) -> Framer {
        Framer {
            limit: clamp(limit),
            pos: 0,
            partial: 0,
            opened: false,
            state: State::Start,
            more: None,
            #[cfg(test)]
            reads: 0,
        }
    }

    /// Changes the limit, even for a frame that has begun.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = clamp(limit);
    }

    /// The maximum size of a frame, in bytes.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Expects a new stream header, as after STARTTLS and SASL (RFC 6120 §4.3.3). The caller decides whether to drop or keep the
    /// rest of the buffer.
    pub fn reset(&mut self) {
        *self = Framer::new(self.limit as usize);
    }

    /// Whether no part of a frame has been read, so that an empty buffer may be freed.
    pub fn is_idle(&self) -> bool {
        self.pos == 0
    }

    /// Takes the next complete frame from the start of `buf`; `None` requests more bytes, to be added at its end.
    /// The buffer must contain everything that was not returned yet.
    ///
    /// # Errors
    /// An error that no further byte can fix. Afterwards the framer is unusable: it repeats the error until it is reset.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        // All of it was read already.
        let is_new = buf.len() != self.at() || buf.len() > self.limit as usize;
        if !is_new && !matches!(self.state, State::Failed(_)) {
            return Ok(None);
        }
        let result = self.step(buf);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Takes the next frame if it is a complete stanza in the plain grammar: found, judged and read in one pass. `None`:
    /// [`Framer::next`] says what it is. The result is the same as that of `next` and [`Stanza::read`] together.
    pub fn next_stanza(
        &mut self,
        buf: &mut BytesMut,
        cx: &StreamContext,
        limits: &Limits,
    ) -> Option<Result<Stanza, StanzaFault>> {
        let mut plain = Plain::default();
        let frame = self.next_plain(buf, cx, limits, &mut plain)?;
        Some(Stanza::read_plain(frame, &plain, cx))
    }

    fn next_plain(
        &mut self,
        buf: &mut BytesMut,
        cx: &StreamContext,
        limits: &Limits,
        plain: &mut Plain,
    ) -> Option<Bytes> {
        // A frame that has begun was not plain, or not complete: so no byte is judged here twice.
        if buf.is_empty() || !self.opened || !matches!(self.state, State::Start) {
            return None;
        }
        self.drop_space(buf);
        let window = buf.get(..self.limit as usize).unwrap_or(buf);
        let len = cx.scan_first(window, limits, plain)?;
        let name = window.get(plain.name.start as usize..plain.name.end as usize)?;
        if !matches!(name, b"message" | b"presence" | b"iq") {
            return None;
        }
        self.count(len);
        // A buffer that contains nothing else is taken over as it is.
        let frame = if len == buf.len() { std::mem::take(buf) } else { buf.split_to(len) };
        if self.more.as_ref().is_some_and(|more| more.stream.is_empty()) {
            self.more = None;
        }
        Some(frame.freeze())
    }

    fn step(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        match self.state {
            State::Failed(error) => return Err(error),
            State::Closed => {
                buf.clear();
                return Ok(None);
            }
            State::Start => self.drop_space(buf),
            _ => {}
        }
        let limit = self.limit as usize;
        let window = buf.get(..limit).unwrap_or(buf);
        let mut open = self.more.as_mut().map(|more| std::mem::take(&mut more.open)).unwrap_or_default();
        let unchecked = self.at() - usize::from(self.partial);
        let kind = self.read(window, &mut open);
        // Also checked before an error: an invalid character may precede it.
        self.partial = check(window.get(unchecked..self.at()).unwrap_or_default())?;
        let Some(kind) = kind? else {
            if buf.len() > limit {
                return Err(XmlError::TooLong);
            }
            if !open.is_empty() {
                self.more.get_or_insert_default().open = open;
            }
            return Ok(None);
        };
        if matches!(kind, Kind::Open) {
            self.remember(window, &open);
        } else if self.more.as_ref().is_some_and(|more| more.stream.is_empty()) {
            self.more = None;
        }
        let frame = buf.split_to(std::mem::take(&mut self.pos) as usize).freeze();
        self.state = State::Start;
        Ok(Some(match kind {
            Kind::Open => {
                self.opened = true;
                Frame::Open(frame)
            }
            Kind::Element => Frame::Element(frame),
            Kind::Close => {
                self.state = State::Closed;
                Frame::Close
            }
        }))
    }

    /// The stream header is complete: its end tag will have the same name.
    fn remember(&mut self, header: &[u8], open: &Open) {
        let from = open.first().and_then(|&at| header.get(at as usize..)).unwrap_or_default();
        self.more = None;
        if !is_name(from, USUAL_STREAM) {
            let name = from.iter().copied().take_while(|&byte| !ends_name(byte) && byte != b'/').chain([b'>']);
            self.more = Some(Box::new(More { open: Open::new(), stream: name.collect() }));
        }
    }

    fn at(&self) -> usize {
        self.pos as usize
    }

    /// `by` is at most the rest of the window, which is no longer than the limit.
    fn advance(&mut self, by: usize) {
        self.count(by);
        self.pos += by as u32;
    }

    /// §11.7: white space between stanzas, often sent only to keep the connection alive.
    fn drop_space(&mut self, buf: &mut BytesMut) {
        let spaces = buf.iter().take_while(|&&byte| is_space(byte)).count();
        self.count(spaces);
        buf.advance(spaces);
    }

    /// Continues where it stopped until a frame is complete or the bytes are used up.
    ///
    /// After an error `pos` is after the first byte that shows it.
    fn read(&mut self, bytes: &[u8], open: &mut Open) -> Result<Option<Kind>, XmlError> {
        loop {
            let rest = bytes.get(self.at()..).unwrap_or_default();
            let next = match self.state {
                // Tags often follow each other directly.
                State::Content if rest.first() == Some(&b'<') => Some(0),
                State::Content => memchr(b'<', rest),
                State::Tag => self.attributes(rest),
                State::Quote(quote) => memchr2(quote, b'<', rest),
                State::EndTag(start) => self.end_name(bytes, start, open)?,
                State::CData(0) => memchr(b']', rest),
                _ => Some(0),
            };
            let Some((skip, &byte)) = next.and_then(|at| Some((at, rest.get(at)?))) else {
                self.advance(rest.len());
                return Ok(None);
            };
            self.advance(skip + 1);
            if let Some(kind) = self.take(byte, open)? {
                return Ok(Some(kind));
            }
        }
    }

    /// Length of the part of a start tag before the byte that ends it or is not allowed in it. Most bytes of a tag are attributes:
    /// this loop skips them without the state machine.
    fn attributes(&mut self, rest: &[u8]) -> Option<usize> {
        let mut read = 0;
        loop {
            let here = rest.get(read..)?;
            let stop = here.iter().position(|&byte| TAG_STOP[usize::from(byte)])?;
            let Some([quote @ (b'\'' | b'"'), value @ ..]) = here.get(stop..) else { return Some(read + stop) };
            let Some((end, &last)) = memchr2(*quote, b'<', value).and_then(|end| Some((end, value.get(end)?))) else {
                self.state = State::Quote(*quote);
                return None;
            };
            read += stop + 1 + end;
            if last != *quote {
                return Some(read);
            }
            read += 1;
        }
    }

    /// Length of the next part of an end tag's name. All of it must match the start tag.
    fn end_name(&mut self, bytes: &[u8], start: u32, open: &Open) -> Result<Option<usize>, XmlError> {
        let rest = bytes.get(self.at()..).unwrap_or_default();
        let name = match open.last() {
            Some(&at) => bytes.get(at as usize..),
            None => Some(self.more.as_ref().map_or(USUAL_STREAM, |more| &more.stream)),
        };
        // The earlier part has already been compared.
        let expected = name.and_then(|name| name.get((self.pos - start) as usize..)).unwrap_or_default();
        let end = rest.iter().position(|&byte| END_STOP[usize::from(byte)]);
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let is_same = match end.and_then(|end| rest.get(end)) {
            Some(b'<') | None => expected.starts_with(part),
            Some(_) => expected.starts_with(part) && expected.get(part.len()).is_some_and(|&byte| ends_name(byte)),
        };
        if is_same {
            return Ok(end);
        }
        let same = part.iter().zip(expected).take_while(|(one, other)| one == other).count();
        self.advance(same + 1);
        Err(XmlError::NotWellFormed("an end tag of another name"))
    }

    /// One byte that may change the state.
    fn take(&mut self, byte: u8, open: &mut Open) -> Result<Option<Kind>, XmlError> {
        self.state = match (self.state, byte) {
            (State::Start, b'<') => State::Open { first: true },
            (State::Start, _) if self.opened => return Err(XmlError::BadFormat("text between stanzas")),
            (State::Start, _) => return Err(XmlError::NotWellFormed("text before the stream header")),

            (State::Open { .. }, b'/') if self.opened => State::EndTag(self.pos),
            (State::Open { .. }, b'!') if !open.is_empty() => State::Bang(0),
            (State::Open { .. }, b'!') => return Err(XmlError::Restricted("comment or DTD")),
            (State::Open { first: true }, b'?') if !self.opened => State::Target(0),
            (State::Open { .. }, b'?') => return Err(XmlError::Restricted("processing instruction")),
            (State::Open { .. }, b'_' | b':' | 0x80.. | b'A'..=b'Z' | b'a'..=b'z') => {
                if open.len() >= MAX_OPEN {
                    return Err(XmlError::TooMany("elements inside each other"));
                }
                open.push(self.pos - 1);
                State::Tag
            }
            (State::Open { .. }, _) => return Err(XmlError::NotWellFormed("no name after <")),

            (State::Tag, b'>') if !self.opened => return Ok(Some(Kind::Open)),
            (State::Tag, b'>') => State::Content,
            (State::Tag, b'/') => State::TagSlash,
            (State::Quote(quote), _) if byte == quote => State::Tag,
            (State::Tag | State::Quote(_) | State::EndTag(_), b'<') => {
                return Err(XmlError::NotWellFormed("< inside a tag"));
            }
            (State::TagSlash, b'>') if !self.opened => return Ok(Some(Kind::Open)),
            (State::TagSlash | State::EndTag(_) | State::EndSpace, b'>') => match open.pop() {
                None => return Ok(Some(Kind::Close)),
                Some(_) if open.is_empty() => return Ok(Some(Kind::Element)),
                Some(_) => State::Content,
            },
            (State::TagSlash, _) => return Err(XmlError::NotWellFormed("/ inside a tag")),

            // The name was compared: no other byte can end it.
            (State::EndTag(_), _) => State::EndSpace,
            (State::EndSpace, _) if !is_space(byte) => {
                return Err(XmlError::NotWellFormed("an unfinished end tag"));
            }
            (State::Content, b'<') => State::Open { first: false },

            (State::Bang(seen), _) => match b"[CDATA[".get(usize::from(seen)) {
                Some(&expected) if expected != byte => return Err(XmlError::Restricted("comment or DTD")),
                _ if seen == 6 => State::CData(0),
                _ => State::Bang(seen + 1),
            },
            (State::CData(2), b'>') => State::Content,
            (State::CData(brackets), b']') => State::CData(2.min(brackets + 1)),
            (State::CData(_), _) => State::CData(0),

            (State::Target(seen), _) => match b"xml".get(usize::from(seen)) {
                Some(&expected) if expected == byte => State::Target(seen + 1),
                None if is_space(byte) => State::Declaration,
                _ => return Err(XmlError::Restricted("processing instruction")),
            },
            (State::Declaration, b'?') => State::DeclarationEnd,
            (State::Declaration, b'<' | b'>') => return Err(XmlError::NotWellFormed("unfinished XML declaration")),
            (State::DeclarationEnd, b'>') => State::Declared,
            (State::DeclarationEnd, _) => return Err(XmlError::NotWellFormed("? in the XML declaration")),
            (State::Declared, b'<') => State::Open { first: false },
            (State::Declared, _) if !is_space(byte) => {
                return Err(XmlError::NotWellFormed("text before the stream header"));
            }
            (state, _) => state,
        };
        Ok(None)
    }

    #[cfg(test)]
    fn count(&mut self, bytes: usize) {
        self.reads += bytes;
    }

    #[cfg(not(test))]
    fn count(&mut self, _: usize) {}
}

/// Whether this byte ends the name of an element that has an end tag (XML §3.1).
const fn ends_name(byte: u8) -> bool {
    byte == b'>' || is_space(byte)
}

/// Whether a name in a tag is this one, which is stored with a trailing `>`.
fn is_name(tag: &[u8], name: &[u8]) -> bool {
    let len = name.len() - 1;
    tag.get(..len) == name.get(..len) && tag.get(len).is_some_and(|&byte| ends_name(byte))
}

fn clamp(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// Checks that the bytes are characters that XML allows, in strict UTF-8 (RFC 6120 §11.6). Returns the number of bytes at the end
/// that are the beginning of a character.
fn check(bytes: &[u8]) -> Result<u8, XmlError> {
    let (mut least, mut union) = (u8::MAX, 0);
    for &byte in bytes {
        least = least.min(byte);
        union |= byte;
    }
    if least >= b' ' && union.is_ascii() { Ok(0) } else { check_each(bytes) }
}

fn check_each(bytes: &[u8]) -> Result<u8, XmlError> {
    let (text, bad) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let (valid, _) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(valid).unwrap_or_default(), Some(error.error_len()))
        }
    };
    if has_forbidden(text) {
        return Err(XmlError::NotWellFormed("a character that XML forbids"));
    }
    match bad {
        Some(Some(_)) => Err(XmlError::Encoding),
        Some(None) => Ok(u8::try_from(bytes.len() - text.len()).unwrap_or_default()),
        None => Ok(0),
    }
}

/// The bytes with a meaning in a start tag outside quotes.
const TAG_STOP: [bool; 256] = {
    let mut table = [false; 256];
    table[b'>' as usize] = true;
    table[b'/' as usize] = true;
    table[b'<' as usize] = true;
    table[b'\'' as usize] = true;
    table[b'"' as usize] = true;
    table
};

/// The bytes that end the name in an end tag, or are wrong in it.
const END_STOP: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte as u8 == b'<' || ends_name(byte as u8);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
