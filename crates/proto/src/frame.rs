//! Where a stream header, a stanza and the end of a stream begin and end in the bytes of a connection.
//!
//! The framer reads every byte once, however it is cut into pieces, and keeps a handful of words between pieces. It
//! follows tags and quotes but no names: what is inside a frame is judged by [`parse`](crate::parse). What can never
//! become a stanza – text between stanzas, comments, processing instructions, DTDs – is refused at once.
//!
//! Limits: the bytes of one frame, checked while they arrive. White space between frames is dropped and not counted.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use crate::chars::is_space;
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

/// The state of one direction of a stream.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    /// How many bytes at the start of the buffer belong to the frame and have been read.
    pos: usize,
    /// Elements open inside the stream.
    depth: u32,
    state: State,
    /// The stream header has been seen.
    opened: bool,
    #[cfg(test)]
    reads: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first byte of a frame.
    Start,
    /// Within `<?xml`: so many of the letters were seen.
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
    /// Inside an end tag.
    EndTag,
    /// Between the tags of a first-level element.
    Content,
    /// After `<!`, and so many of the characters of `[CDATA[`.
    Bang(u8),
    /// Inside a CDATA section, after so many closing brackets (two at most).
    CData(u8),
    /// After the end of the stream.
    Closed,
    /// After an error: it is said again.
    Failed(XmlError),
}

enum Kind {
    Open,
    Element,
    Close,
}

impl Framer {
    /// A framer that expects a stream header. `limit` is the largest frame in bytes.
    pub fn new(limit: usize) -> Framer {
        Framer {
            limit,
            pos: 0,
            depth: 0,
            state: State::Start,
            opened: false,
            #[cfg(test)]
            reads: 0,
        }
    }

    /// Changes the limit, also for a frame that has begun.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Expects a new stream header, as after STARTTLS and SASL (RFC 6120 §4.3.3). What is left in the buffer is the
    /// caller's to drop or to keep.
    pub fn reset(&mut self) {
        *self = Framer::new(self.limit);
    }

    /// Whether nothing of a frame has been read, so that an empty buffer may be given back.
    pub fn is_idle(&self) -> bool {
        self.pos == 0
    }

    /// Takes the next complete frame off the start of `buf`; `None` asks for more bytes, to be added at its end.
    /// The buffer must hold everything that was not returned yet.
    ///
    /// # Errors
    /// What no further byte can mend. The framer is of no use afterwards: it repeats the error until it is reset.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, XmlError> {
        let result = self.step(buf);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
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
        let window = buf.get(..self.limit).unwrap_or(buf);
        let Some(kind) = self.read(window)? else {
            return if buf.len() > self.limit { Err(XmlError::TooLong) } else { Ok(None) };
        };
        let frame = buf.split_to(std::mem::take(&mut self.pos)).freeze();
        if !frame.is_ascii() && std::str::from_utf8(&frame).is_err() {
            return Err(XmlError::Encoding);
        }
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

    /// §11.7: white space between stanzas, often sent only to keep the connection alive.
    fn drop_space(&mut self, buf: &mut BytesMut) {
        let spaces = buf.iter().take_while(|&&byte| is_space(byte)).count();
        self.count(spaces);
        buf.advance(spaces);
    }

    /// Goes on where it stopped until a frame is complete or the bytes are used up.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<Kind>, XmlError> {
        loop {
            let rest = bytes.get(self.pos..).unwrap_or_default();
            let next = match self.state {
                State::Content => memchr(b'<', rest),
                State::Tag => match rest.iter().position(|&byte| TAG_STOP[usize::from(byte)]) {
                    // Most bytes of a tag are in quotes: go through them without looking up and down each time.
                    Some(at) => match rest.get(at..) {
                        Some([quote @ (b'\'' | b'"'), value @ ..]) => {
                            self.state = State::Quote(*quote);
                            memchr2(*quote, b'<', value).map(|end| at + 1 + end)
                        }
                        _ => Some(at),
                    },
                    None => None,
                },
                State::Quote(quote) => memchr2(quote, b'<', rest),
                State::EndTag => memchr2(b'>', b'<', rest),
                State::CData(0) => memchr(b']', rest),
                _ => Some(0),
            };
            let Some((skip, &byte)) = next.and_then(|at| Some((at, rest.get(at)?))) else {
                self.count(rest.len());
                self.pos = bytes.len();
                return Ok(None);
            };
            self.count(skip + 1);
            self.pos += skip + 1;
            if let Some(kind) = self.take(byte)? {
                return Ok(Some(kind));
            }
        }
    }

    /// One byte that may change the state.
    fn take(&mut self, byte: u8) -> Result<Option<Kind>, XmlError> {
        self.state = match (self.state, byte) {
            (State::Start, b'<') => State::Open { first: true },
            (State::Start, _) if self.opened => return Err(XmlError::BadFormat("text between stanzas")),
            (State::Start, _) => return Err(XmlError::NotWellFormed("text before the stream header")),

            (State::Open { .. }, b'/') if self.opened => State::EndTag,
            (State::Open { .. }, b'!') if self.depth > 0 => State::Bang(0),
            (State::Open { .. }, b'!') => return Err(XmlError::Restricted("comment or DTD")),
            (State::Open { first: true }, b'?') if !self.opened => State::Target(0),
            (State::Open { .. }, b'?') => return Err(XmlError::Restricted("processing instruction")),
            (State::Open { .. }, b'_' | b':' | 0x80.. | b'A'..=b'Z' | b'a'..=b'z') => State::Tag,
            (State::Open { .. }, _) => return Err(XmlError::NotWellFormed("no name after <")),

            (State::Tag, b'>') if !self.opened => return Ok(Some(Kind::Open)),
            (State::Tag, b'>') => {
                self.depth = self.depth.saturating_add(1);
                State::Content
            }
            (State::Tag, b'/') => State::TagSlash,
            (State::Quote(quote), _) if byte == quote => State::Tag,
            (State::Tag | State::Quote(_) | State::EndTag, b'<') => {
                return Err(XmlError::NotWellFormed("< inside a tag"));
            }
            (State::TagSlash, b'>') if !self.opened => return Ok(Some(Kind::Open)),
            (State::TagSlash, b'>') if self.depth == 0 => return Ok(Some(Kind::Element)),
            (State::TagSlash, b'>') => State::Content,
            (State::TagSlash, _) => return Err(XmlError::NotWellFormed("/ inside a tag")),

            (State::EndTag, b'>') if self.depth == 0 => return Ok(Some(Kind::Close)),
            (State::EndTag, b'>') => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Ok(Some(Kind::Element));
                }
                State::Content
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

/// The bytes that mean something in a start tag outside quotes.
const TAG_STOP: [bool; 256] = {
    let mut table = [false; 256];
    table[b'>' as usize] = true;
    table[b'/' as usize] = true;
    table[b'<' as usize] = true;
    table[b'\'' as usize] = true;
    table[b'"' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' to=\"a>b\">";

    fn show(frame: Frame) -> String {
        match frame {
            Frame::Open(bytes) => format!("open {}", std::str::from_utf8(&bytes).unwrap()),
            Frame::Element(bytes) => format!("element {}", std::str::from_utf8(&bytes).unwrap()),
            Frame::Close => "close".to_owned(),
        }
    }

    /// All frames of `input`, given in pieces of `size` bytes, and how the stream ended.
    fn frames(input: &[u8], size: usize, limit: usize) -> (Vec<String>, Result<(), XmlError>, Framer) {
        let (mut framer, mut buf, mut found) = (Framer::new(limit), BytesMut::new(), Vec::new());
        for piece in input.chunks(size) {
            buf.extend_from_slice(piece);
            loop {
                match framer.next(&mut buf) {
                    Ok(Some(frame)) => found.push(show(frame)),
                    Ok(None) => break,
                    Err(error) => return (found, Err(error), framer),
                }
            }
        }
        (found, Ok(()), framer)
    }

    fn error(after_header: &str) -> XmlError {
        frames(format!("{HEADER}{after_header}").as_bytes(), 1, 1000).1.unwrap_err()
    }

    #[test]
    fn a_stream_comes_apart_into_its_frames_however_it_is_cut() {
        let stanzas = [
            "<presence/>",
            "<message to='>' from=\"'/>\"><body>1 > 0 ]]&gt; é</body><x><![CDATA[</message>]]]]><![CDATA[>]]></x></message>",
            "<a><b/><c ></c ></a>",
            "<iq\n/>",
        ];
        let input = format!("{HEADER}{}</stream:stream >\n", stanzas.join(" \n\t"));
        let mut expected = vec![format!("open {HEADER}")];
        expected.extend(stanzas.iter().map(|s| format!("element {s}")));
        expected.push("close".to_owned());
        for size in 1..input.len() {
            let (found, end, _) = frames(input.as_bytes(), size, 1000);
            assert_eq!((found, end), (expected.clone(), Ok(())), "in pieces of {size}");
        }
    }

    #[test]
    fn no_byte_is_looked_at_twice() {
        let body = "x".repeat(100_000);
        let input = format!("{HEADER}  <message a='{body}'><body>{body}</body><![CDATA[{body}]]></message>  ");
        let input = input.replace("<![CDATA[", "<b><![CDATA[").replace("]]>", "]]></b>");
        for size in [1, 7, 4096, input.len()] {
            let (found, end, framer) = frames(input.as_bytes(), size, 1_000_000);
            assert_eq!((found.len(), end), (2, Ok(())));
            assert_eq!(framer.reads, input.len(), "in pieces of {size}");
        }
    }

    #[test]
    fn white_space_between_stanzas_does_not_accumulate() {
        let (mut framer, mut buf) = (Framer::new(100), BytesMut::from(HEADER));
        assert!(framer.next(&mut buf).unwrap().is_some());
        for _ in 0..1000 {
            buf.extend_from_slice(b" \r\n\t ");
            assert_eq!(framer.next(&mut buf), Ok(None));
            assert!(buf.is_empty() && framer.is_idle());
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_while_it_arrives() {
        let exact = "<message><body>0123456789</body></message>";
        let input = format!("<a>{exact}{exact}");
        assert_eq!(frames(input.as_bytes(), 5, exact.len()).0.len(), 3);
        for size in [1, 10, 1000] {
            let (found, end, _) = frames(input.as_bytes(), size, exact.len() - 1);
            assert_eq!((found.len(), end), (1, Err(XmlError::TooLong)));
        }
        assert_eq!(frames(b"<", 1, 0).1, Err(XmlError::TooLong));
        let (mut framer, mut buf) = (Framer::new(100), BytesMut::from("<stream to='long enough"));
        assert_eq!(framer.next(&mut buf), Ok(None));
        framer.set_limit(10);
        assert_eq!(framer.next(&mut buf), Err(XmlError::TooLong));
        assert_eq!(framer.next(&mut buf), Err(XmlError::TooLong));
    }

    #[test]
    fn what_can_never_become_a_stanza_is_refused_at_once() {
        for text in ["x", "\u{FEFF}", "&lt;", ">", "<a/>x"] {
            assert_eq!(error(text).condition(), "bad-format", "{text}");
        }
        for restricted in ["<!", "<?", "<a><?", "<a><!-", "<a><!D", "<a><![I", "<a><b/><!--"] {
            assert_eq!(error(restricted).condition(), "restricted-xml", "{restricted}");
        }
        for bad in ["< ", "<1", "<>", "<-", "<a <", "<a b='<", "<a/ ", "<a></a<", "<a><b/x"] {
            assert_eq!(error(bad).condition(), "not-well-formed", "{bad}");
        }
    }

    #[test]
    fn only_a_declaration_and_space_may_stand_before_the_header() {
        let end = |input: &str| frames(input.as_bytes(), 1, 1000).1.map_err(|e| e.condition());
        for good in ["<?xml version='1.0'?>", "\n <?xml ?>  <a>", "  <a>", "<?xml\t?>\n"] {
            assert_eq!(end(good), Ok(()), "{good}");
        }
        for bad in ["x", "\u{FEFF}<a>", "</a", "<?xml ?>x", "<?xml ?x", "<?xml <", "<?xml >"] {
            assert_eq!(end(bad), Err("not-well-formed"), "{bad}");
        }
        for bad in ["<?xm ", "<?xml-", "<?xml?", "<?php", "<?xml ?><?", "<!DOCTYPE", "<?xml ?><!"] {
            assert_eq!(end(bad), Err("restricted-xml"), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_not_strict_utf_8_never_leave_the_framer() {
        for bad in [&b"\xC0\xAF"[..], b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xFF", b"\xE2\x82", b"\x80"] {
            let mut input = HEADER.as_bytes().to_vec();
            input.extend_from_slice(b"<a>");
            input.extend_from_slice(bad);
            input.extend_from_slice(b"</a>");
            assert_eq!(frames(&input, 2, 1000).1, Err(XmlError::Encoding));
        }
    }

    #[test]
    fn a_reset_framer_expects_a_header_again() {
        let (mut framer, mut buf) = (Framer::new(1000), BytesMut::new());
        for _ in 0..2 {
            buf.extend_from_slice(HEADER.as_bytes());
            assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
            buf.extend_from_slice(b"<auth/>");
            assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Element(_)))));
            assert!(framer.is_idle());
            framer.reset();
        }
    }

    #[test]
    fn nothing_is_read_or_kept_after_the_end_of_the_stream() {
        let (mut framer, mut buf) = (Framer::new(1000), BytesMut::from("<a></a><b>x"));
        assert!(matches!(framer.next(&mut buf), Ok(Some(Frame::Open(_)))));
        assert_eq!(framer.next(&mut buf), Ok(Some(Frame::Close)));
        assert_eq!(framer.next(&mut buf), Ok(None));
        assert!(buf.is_empty());
    }

    #[test]
    fn a_framer_stays_small() {
        assert!(size_of::<Framer>() - size_of::<usize>() <= 48);
        assert!(size_of::<Framer>() <= 56, "with the counter of the tests");
    }
}
