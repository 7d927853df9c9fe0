//! From a session's queue to its connection: the one place where a stanza becomes bytes for a client.
//!
//! The kernel decides which items are written and in what order. A [`Wire`] decides how one item looks on its transport: TCP
//! appends items to one long document (RFC 6120), WebSocket puts each into a message of its own, with its namespace (RFC 7395 §3.3.3).

use std::io::Write as _;

use vorpal_proto::stanza::Stanza;

use crate::session::Session;
use crate::session::checkpoint::DUE_AFTER;
use crate::session::guard::Guard;
use crate::session::guard::OpenSession;
use crate::session::guard::Outgoing;
use crate::session::guard::Verdict;
use crate::session::out::Out;
use crate::session::queue::ITEM_BYTES;
use crate::session::queue::Item;
use crate::session::stream::Held;
use crate::session::stream::Stream;
use crate::small::lists::push_one;

/// The output of a connection. Each call is one item, so a transport that sends items one by one knows where each begins and ends.
pub trait Wire {
    /// Appends a stanza. It is in the namespace `jabber:client`; whether that must be declared is the transport's affair.
    fn stanza(&mut self, stanza: &Stanza);

    /// Appends an element that is not a stanza. It declares its own namespace.
    fn nonza(&mut self, xml: &[u8]);

    /// Number of bytes in the output so far, including what was there before the first item.
    fn len(&self) -> usize;

    /// Whether nothing is in the output.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// XEP-0198 §4: asks the client how many stanzas it has handled.
pub(super) const ACK_REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";

/// Size of the longest `<a/>`.
const ACK_BYTES: usize = 41;

/// XEP-0198 §4: how many of the client's stanzas are handled.
fn write_ack(out: &mut impl Wire, h: u32) {
    let mut xml = [0; ACK_BYTES];
    let mut rest = &mut xml[..];
    // The longest one fits (tested below).
    let _ = write!(rest, "<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
    let len = ACK_BYTES - rest.len();
    out.nonza(&xml[..len]);
}

impl Stream {
    /// Writes items of the queue, up to about `limit` bytes. True if the queue has more.
    pub(crate) fn pull(
        &mut self,
        session: &Session,
        guard: &mut impl Guard,
        out: &mut impl Wire,
        limit: usize,
    ) -> bool {
        let (mut wrote, before) = (false, out.len());
        while out.len() < limit {
            let Some(item) = self.queue.pop_front() else { break };
            match item {
                // It is counted until it is acknowledged, or gone.
                Item::Stanza(mut next) => {
                    let appended = next.stanza.appended();
                    let verdict = guard.judge(&Outgoing { session: OpenSession(session) }, &mut next.stanza);
                    if next.stanza.appended() != appended {
                        self.weight -= next.weight;
                        next.weigh();
                        self.weight += next.weight;
                    }
                    match verdict {
                        Verdict::Send => {
                            self.release(guard, out);
                            self.send(guard, next, out);
                            wrote = true;
                        }
                        Verdict::Hold => self.hold(next, false),
                        Verdict::HoldLatest => self.hold(next, true),
                        Verdict::Drop => {
                            self.unweigh(&next);
                            self.answer_is_gone(next.answers);
                        }
                    }
                    if self.held.len() >= self.max_held {
                        self.release(guard, out);
                        wrote = true;
                    }
                }
                Item::Released(next) => self.send(guard, next, out),
                Item::Ack(h) => {
                    self.weight -= ITEM_BYTES;
                    write_ack(out, h);
                }
                Item::Nonza(bytes) => {
                    self.weight -= ITEM_BYTES + bytes.len();
                    out.nonza(&bytes);
                }
                Item::Enabled(bytes, management) => {
                    self.weight -= ITEM_BYTES + bytes.len();
                    out.nonza(&bytes);
                    self.sm = Some(*management);
                    session.set_counted();
                }
            }
        }
        // Dropped and replaced stanzas made room, and no write will report it.
        if out.len() == before && self.could_read_on() {
            self.wake();
        }
        if wrote && self.should_ask() {
            self.asks();
            out.nonza(ACK_REQUEST);
        }
        self.queue.give_back();
        if self.crowded && !self.is_crowded() {
            self.crowded = false;
            self.wake();
        }
        !self.queue.is_empty()
    }

    fn hold(&mut self, out: Out, latest_only: bool) {
        if latest_only {
            let from = &out.stanza.head.from;
            let older = self.held.iter().position(|h| h.latest_only && h.out.stanza.head.from == *from);
            if let Some(gone) = older.and_then(|at| self.held.remove(at)) {
                self.weight -= gone.out.weight;
            }
        }
        self.held.push_back(Held { out, latest_only });
    }

    /// Writes everything that was held back, in order.
    fn release(&mut self, guard: &mut impl Guard, out: &mut impl Wire) {
        for held in std::mem::take(&mut self.held) {
            self.send(guard, held.out, out);
        }
    }

    /// Moves everything that was held back to the head of the queue, in order. It is not held back again.
    pub(crate) fn flush(&mut self) {
        // Without a connection nothing is written: it waits for the next one, with everything else.
        if self.wake.is_none() || self.held.is_empty() {
            return;
        }
        for held in std::mem::take(&mut self.held).into_iter().rev() {
            // The session holds it as before: its weight is already counted.
            self.queue.push_front(Item::Released(held.out));
        }
        self.wake();
    }

    /// The one place where a stanza becomes bytes for a client.
    fn send(&mut self, guard: &mut impl Guard, mut next: Out, out: &mut impl Wire) {
        if guard.withholds(&next.stanza) {
            self.unweigh(&next);
            guard.keep(next);
            return;
        }
        out.stanza(&next.stanza);
        next.counted = self.sm.is_some();
        if let Some(sm) = &mut self.sm {
            sm.sent += 1;
            sm.unasked += 1;
            self.unlisted |= next.entry.is_some() || sm.sent - self.listed >= DUE_AFTER;
            if let Some(entry) = next.entry {
                self.disordered |= entry < self.newest_sent;
                self.newest_sent = self.newest_sent.max(entry);
            }
            self.unlisted |= self.is_answer_written(next.answers);
            push_one(&mut self.unacked, next);
        } else if next.role.is_owed() {
            push_one(&mut self.unacked, next);
        } else {
            self.unweigh(&next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vorpal_proto::jid::Jid;
    use vorpal_proto::ns;
    use vorpal_proto::stanza::Type;

    use super::*;
    use crate::bounds::Bounds;
    use crate::session::{Pushed, Role, Wake};

    /// A transport that sends each item by itself, and declares the namespace of stanzas.
    #[derive(Default)]
    struct Frames(Vec<String>);

    impl Wire for Frames {
        fn stanza(&mut self, stanza: &Stanza) {
            let mut xml = Vec::new();
            stanza.write(&mut xml, Some(ns::CLIENT));
            self.nonza(&xml);
        }

        fn nonza(&mut self, xml: &[u8]) {
            self.0.push(String::from_utf8_lossy(xml).into_owned());
        }

        fn len(&self) -> usize {
            self.0.iter().map(String::len).sum()
        }
    }

    fn session() -> Session {
        let jid = Jid::parse("romeo@example.org/orchard").expect("an address");
        let session = Session::new(1, jid, &Bounds::default());
        session.stream().wake = Some(Arc::new(Silent));
        session
    }

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    /// Lets everything pass.
    struct Open;

    impl Guard for Open {
        fn judge(&mut self, _: &Outgoing<'_>, _: &mut Stanza) -> Verdict {
            Verdict::Send
        }

        fn withholds(&mut self, _: &Stanza) -> bool {
            false
        }

        fn keep(&mut self, _: Out) {}
    }

    fn message(id: &str) -> Out {
        Out::new(Stanza::message(Type::Chat).id(id), None, Role::Extra)
    }

    #[test]
    fn the_longest_acknowledgement_fits() {
        for (h, written) in
            [(0, "<a xmlns='urn:xmpp:sm:3' h='0'/>"), (u32::MAX, "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>")]
        {
            let mut frames = Frames::default();
            write_ack(&mut frames, h);
            assert_eq!(frames.0, [written]);
        }
    }

    #[test]
    fn each_item_reaches_the_transport_by_itself_also_what_was_held_back() {
        let session = session();
        let mut stream = session.stream();
        for id in ["1", "2"] {
            let mut held = message(id);
            held.weigh();
            stream.weight += held.weight;
            stream.hold(held, false);
        }
        assert_eq!(stream.push(message("3")), Pushed::Queued);
        stream.flush();
        stream.push_nonza(b"<x xmlns='urn:example'/>".to_vec());
        let mut frames = Frames::default();
        assert!(!stream.pull(&session, &mut Open, &mut frames, usize::MAX));
        let stanza = |id| format!("<message xmlns='jabber:client' type='chat' id='{id}'/>");
        assert_eq!(frames.0, [stanza("1"), stanza("2"), stanza("3"), "<x xmlns='urn:example'/>".to_owned()]);
        assert_eq!((stream.weight, stream.queue.weight()), (0, 0));
    }
}
