//! A connection in a session: stanzas, nonzas, the end.

use bytes::Bytes;
use vorpal_core::session::Pulled;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::element::Element;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::stanza::{Read, Stanza, StanzaFault};

use super::connection::{Connection, ConnectionState, Need};

impl Connection {
    /// What the connection needs before more is read.
    pub(super) fn unfinished(&mut self, now: Timestamp) -> Option<Need> {
        match &mut self.state {
            ConnectionState::Negotiating(negotiating) => negotiating.next.take(),
            ConnectionState::Closed => Some(Need::Close),
            ConnectionState::Bound(bound) => {
                // Even if another connection has the session: it waits until this stanza is settled.
                if let Some(later) = &bound.later {
                    return Some(Need::Load(later.account.clone()));
                }
                if bound.session.epoch() != bound.epoch {
                    match bound.session.end_of(bound.epoch) {
                        Some(Pulled::Replaced) => self.replaced(),
                        _ => self.state = ConnectionState::Closed,
                    }
                    return Some(Need::Close);
                }
                if let Some(h) = bound.resuming {
                    if let Some(end) = bound.session.end_of(bound.epoch) {
                        // Of a session that has ended meanwhile nothing is said to whoever was not told that it is back.
                        let error = if let Pulled::Closed(error) = end { error } else { None };
                        self.say_end(error.as_ref());
                        self.state = ConnectionState::Closed;
                        return Some(Need::Close);
                    }
                    if self.core.stream(&bound.session).must_settle()
                        || !self.core.level(now, &bound.lock, &bound.session)
                    {
                        return Some(Need::Wait);
                    }
                    bound.resuming = None;
                    if !self.core.resumed(now, &bound.lock, &bound.session, h) {
                        let error = StreamError::from(StreamCondition::UndefinedCondition);
                        return Some(self.fail(now, error.with_text("more was acknowledged than was sent")));
                    }
                    return None;
                }
                if bound.closing {
                    self.core.refuse_stuck(now, &bound.lock, &bound.session);
                    if self.core.stream(&bound.session).must_settle() {
                        return Some(Need::Wait);
                    }
                    // RFC 6120 §4.4: output from before the end is still sent.
                    if let Some(host) = &self.host {
                        let (lock, session) = (&bound.lock, &bound.session);
                        let mut out = self.framing.output(&mut self.out);
                        self.core.pull(lock, session, &host.registry(), bound.epoch, &mut out, usize::MAX);
                    }
                    self.core.hang_up(now, &bound.lock, &bound.session, bound.epoch);
                    return Some(Need::Wait);
                }
                self.core.stream(&bound.session).must_pause().then_some(Need::Wait)
            }
        }
    }

    pub(super) fn in_session(&mut self, now: Timestamp, frame: &Bytes) -> Option<Need> {
        match Stanza::read_any(frame, &self.context, &self.settings.limits, self.settings.passthrough) {
            Ok(Read::Other(nonza)) => self.nonza(now, &nonza),
            Ok(Read::Stanza(stanza)) => self.take_read(now, Ok(stanza)),
            Err(fault) => self.take_read(now, Err(fault)),
        }
    }

    /// Takes a stanza, or answers what is wrong with it.
    pub(super) fn take_read(&mut self, now: Timestamp, read: Result<Stanza, StanzaFault>) -> Option<Need> {
        let ConnectionState::Bound(bound) = &mut self.state else { return None };
        let (lock, session) = (&bound.lock, &bound.session);
        match read {
            Ok(stanza) => match self.core.receive(now, lock, session, bound.epoch, stanza) {
                Ok(later) => {
                    bound.later = later.map(Box::new);
                    None
                }
                Err(condition) => Some(self.fail(now, condition.into())),
            },
            Err(StanzaFault::Header(fault)) => {
                self.core.refuse(now, lock, session, bound.epoch, fault.answer());
                None
            }
            // RFC 6120 §4.9.3.24
            Err(StanzaFault::NotAStanza) => Some(self.fail(now, StreamCondition::UnsupportedStanzaType.into())),
            Err(StanzaFault::Xml(error)) => {
                let condition = StreamCondition::from_name(error.condition(), "");
                Some(self.fail(now, StreamError::from(condition).with_text(error.to_string())))
            }
        }
    }

    fn nonza(&mut self, now: Timestamp, nonza: &Element) -> Option<Need> {
        let ConnectionState::Bound(bound) = &self.state else { return None };
        if self.core.nonza(now, &bound.lock, &bound.session, bound.epoch, nonza) {
            return None;
        }
        // RFC 6120 §4.9.3.24
        Some(self.fail(now, StreamCondition::UnsupportedStanzaType.into()))
    }

    /// RFC 6120 §4.4: the client closed its stream. The server's is closed when everything it sent is settled.
    pub(super) fn client_closed(&mut self, now: Timestamp) -> Need {
        match &mut self.state {
            ConnectionState::Bound(bound) => {
                bound.closing = true;
                self.unfinished(now).unwrap_or(Need::Wait)
            }
            _ => {
                self.say_end(None);
                self.state = ConnectionState::Closed;
                Need::Close
            }
        }
    }

    /// Takes output, up to about `limit` bytes. True if there is more. At the end of the stream the connection is closed when
    /// everything is written; [`Connection::input`] reports that.
    pub fn output(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        if !self.out.is_empty() {
            out.append(&mut self.out);
            self.out = Vec::new();
            self.relieved();
        }
        let ConnectionState::Bound(bound) = &self.state else { return false };
        let registry = match &self.host {
            Some(host) => host.registry(),
            None => return false,
        };
        let pulled = match bound.resuming {
            // Nothing is sent before `<resumed/>`, unless there will be none.
            Some(_) => bound.session.end_of(bound.epoch).unwrap_or(Pulled::Empty),
            None => {
                let mut out = self.framing.output(out);
                self.core.pull(&bound.lock, &bound.session, &registry, bound.epoch, &mut out, limit)
            }
        };
        match pulled {
            Pulled::Empty => false,
            Pulled::More => true,
            Pulled::Closed(error) => {
                self.say_end(error.as_ref());
                out.append(&mut self.out);
                self.state = ConnectionState::Closed;
                false
            }
            Pulled::Replaced => {
                self.replaced();
                out.append(&mut self.out);
                false
            }
            Pulled::Detached => {
                self.state = ConnectionState::Closed;
                false
            }
        }
    }

    /// RFC 6120 §4.9.3.3: another connection has the session, which this one must not end any more.
    fn replaced(&mut self) {
        let error = StreamError::from(StreamCondition::Conflict).with_text("replaced by a new connection");
        self.say_end(Some(&error));
        self.state = ConnectionState::Closed;
    }

    /// The output from [`Connection::output`] was written to the socket.
    pub fn written(&mut self) {
        if let ConnectionState::Bound(bound) = &self.state {
            self.core.written(&bound.lock, &bound.session);
        }
    }

    /// Whether everything is written and the socket may be closed.
    pub fn is_over(&self) -> bool {
        matches!(self.state, ConnectionState::Closed)
    }
}
