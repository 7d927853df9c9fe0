//! Finds where stanzas end, and nothing else.
//!
//! The program shares its cores with the server it measures, so what it spends must be small and the same whatever the
//! server: tags are counted, names are not compared, entities are not resolved. It trusts the server to send well-formed
//! XML; it is no model for anything that faces a peer.

use std::ops::Range;

use anyhow::{Result, bail};
use memchr::{memchr, memchr3};

/// A stanza longer than this ends the run.
const MAX_PENDING: usize = 4 << 20;

/// What the stream holds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The stream's opening tag.
    Open(Range<usize>),
    /// One complete child of the stream.
    Stanza(Range<usize>),
    /// The stream's closing tag.
    Close,
}

/// The bytes received and not yet looked at. Ranges in frames hold until the next `fill`.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where the frame being looked for begins.
    start: usize,
    /// Up to here tags have been counted, so that a stanza in many pieces is scanned once.
    seen: usize,
    depth: usize,
}

impl Inbox {
    /// The bytes of a frame.
    pub fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Forgets what was taken and adds `more`.
    pub fn fill(&mut self, more: &[u8]) -> Result<()> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.seen -= self.start;
            self.start = 0;
        }
        if self.bytes.len() + more.len() > MAX_PENDING {
            bail!("the server sends a stanza of more than {MAX_PENDING} bytes");
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Starts over, as after STARTTLS and SASL: the next thing is an opening tag. Fails if anything is left over.
    pub fn restart(&mut self) -> Result<()> {
        if self.get(self.start..self.bytes.len()).iter().any(|b| !b.is_ascii_whitespace()) {
            bail!("the server sends data where the stream should begin anew");
        }
        *self = Inbox::default();
        Ok(())
    }

    /// Gives the memory back when nothing is pending.
    pub fn shrink(&mut self) {
        if self.start == self.bytes.len() {
            (self.bytes, self.start, self.seen) = (Vec::new(), 0, 0);
        }
    }

    /// The next complete frame, if the bytes for it are there.
    pub fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(open) = find(&self.bytes, self.seen, |rest| memchr(b'<', rest)) else {
                self.seen = self.bytes.len();
                if self.depth < 2 {
                    self.start = self.seen; // whitespace between stanzas
                }
                return Ok(None);
            };
            let Some(end) = tag_end(&self.bytes, open + 1) else {
                self.seen = open;
                return Ok(None);
            };
            self.seen = end + 1;
            if self.depth < 2 {
                self.start = open;
            }
            let empty = end > open && self.bytes.get(end - 1) == Some(&b'/');
            match self.bytes.get(open + 1) {
                Some(b'?' | b'!') => self.start = if self.depth < 2 { self.seen } else { self.start },
                Some(b'/') => {
                    let Some(depth) = self.depth.checked_sub(1) else {
                        bail!("the server closes what it did not open")
                    };
                    self.depth = depth;
                    match depth {
                        0 => return Ok(Some(Frame::Close)),
                        1 => return Ok(Some(Frame::Stanza(self.took()))),
                        _ => {}
                    }
                }
                _ if empty && self.depth == 1 => return Ok(Some(Frame::Stanza(self.took()))),
                _ if empty => {}
                _ => {
                    self.depth += 1;
                    if self.depth == 1 {
                        return Ok(Some(Frame::Open(self.took())));
                    }
                }
            }
        }
    }

    /// The range from the frame's start to what was seen last.
    fn took(&mut self) -> Range<usize> {
        let range = self.start..self.seen;
        self.start = self.seen;
        range
    }
}

/// Position in the whole of what `search` finds in `bytes[from..]`.
fn find(bytes: &[u8], from: usize, search: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    search(bytes.get(from..)?).map(|at| from + at)
}

/// The `>` that ends the tag whose inside begins at `from`; one within quotes does not.
pub fn tag_end(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = find(bytes, from, |rest| memchr3(b'>', b'\'', b'"', rest))?;
        match bytes.get(at) {
            Some(b'>') => return Some(at),
            Some(&quote) => from = find(bytes, at + 1, |rest| memchr(quote, rest))? + 1,
            None => return None,
        }
    }
}

/// The bytes between `before` and the next `after`.
pub fn between<'a>(stanza: &'a [u8], before: &[u8], after: u8) -> Option<&'a [u8]> {
    let from = memchr::memmem::find(stanza, before)? + before.len();
    let to = find(stanza, from, |rest| memchr(after, rest))?;
    stanza.get(from..to)
}

/// The value of an attribute: its first occurrence anywhere in the stanza, with either quote.
pub fn attribute<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    between(stanza, format!(" {name}='").as_bytes(), b'\'')
        .or_else(|| between(stanza, format!(" {name}=\"").as_bytes(), b'"'))
}

/// Whether `needle` stands anywhere in the stanza.
pub fn has(stanza: &[u8], needle: &str) -> bool {
    memchr::memmem::find(stanza, needle.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "<?xml version='1.0'?><stream:stream to='x>y' id=\"a'b\">\n<a/> <message to='b'><body>1 &gt; 0</body>\
                          <x y='/>'/></message><iq type='result'></iq> </stream:stream>";

    fn frames(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let mut inbox = Inbox::default();
        let mut found = Vec::new();
        for piece in pieces {
            inbox.fill(&piece).unwrap();
            while let Some(frame) = inbox.next().unwrap() {
                found.push(match frame {
                    Frame::Open(r) | Frame::Stanza(r) => String::from_utf8(inbox.get(r).to_vec()).unwrap(),
                    Frame::Close => "close".to_owned(),
                });
            }
        }
        found
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_frames() {
        let whole = frames([STREAM.as_bytes().to_vec()].into_iter());
        assert_eq!(
            whole,
            [
                "<stream:stream to='x>y' id=\"a'b\">",
                "<a/>",
                "<message to='b'><body>1 &gt; 0</body><x y='/>'/></message>",
                "<iq type='result'></iq>",
                "close"
            ]
        );
        for size in 1..STREAM.len() {
            assert_eq!(frames(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), whole, "pieces of {size}");
        }
    }

    #[test]
    fn an_attribute_is_found_with_either_quote() {
        assert_eq!(attribute(b"<a h='3' b=\"4\"/>", "h"), Some(&b"3"[..]));
        assert_eq!(attribute(b"<a h='3' b=\"4\"/>", "b"), Some(&b"4"[..]));
        assert_eq!(attribute(b"<a h='3'/>", "c"), None);
    }

    #[test]
    fn data_before_a_new_stream_is_refused() {
        let mut inbox = Inbox::default();
        inbox.fill(b"<s><success/> <more").unwrap();
        while inbox.next().unwrap().is_some() {}
        assert!(inbox.restart().is_err());
    }

    #[test]
    fn an_endless_stanza_is_refused() {
        let mut inbox = Inbox::default();
        inbox.fill(b"<s><message>").unwrap();
        while inbox.next().unwrap().is_some() {}
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..5).any(|_| inbox.fill(&piece).is_err());
        assert!(refused);
    }
}
