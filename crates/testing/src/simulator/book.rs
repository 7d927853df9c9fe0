//! The record of every message, by the number that is its id.

use super::player::PlayerId;

/// The record of a message.
#[derive(Clone, Debug)]
pub struct Message {
    /// who sent it first
    pub from: PlayerId,
    /// which life of its sender's session
    pub life: u32,
    /// which owner of the sender's name sent it, counted from 0
    pub generation: u32,
    /// which owner of the name it is for was there, or came last, when its sender heard that it was handled
    pub handled: Option<u32>,
    /// the account it is for, by number; `None` if it does not exist
    pub to: Option<usize>,
    /// the client it was addressed to, and which life of it: stanzas that another session left behind arrive in any order
    pub target: Option<(PlayerId, u32)>,
    /// its position among all sent stanzas: the newest one
    pub order: u64,
    /// number of times it was sent, in different sessions
    pub copies: u32,
    /// the server promises it if the sender's stream is managed
    pub promised: bool,
    /// the sender's stream was managed when it was sent first
    pub managed: bool,
    /// number of crashes before it was sent first
    pub epoch: u32,
    /// it was returned as an error
    pub bounced: bool,
    /// its sender knows that it was handled
    pub acked: bool,
    /// a client it was for has received it
    pub received: bool,
    /// it was in transit to a client without stream management whose connection was lost, or was lost by the disk
    pub excused: bool,
}

/// The record of presence or an IQ that was sent to the address of a session.
#[derive(Clone, Copy, Debug)]
pub struct Directed {
    /// who sent it
    pub from: PlayerId,
    /// which life of its sender's session
    pub life: u32,
    /// the client it was addressed to, and which life of it
    pub target: (PlayerId, u32),
    /// its position among all sent stanzas: the newest one
    pub order: u64,
}

/// What is known of an IQ to another's address.
#[derive(Clone, Debug)]
pub struct Question {
    /// who asked
    pub from: PlayerId,
    /// which life of its session
    pub life: u32,
    /// the client it was addressed to, and which life of it; none if the server answers
    pub target: Option<(PlayerId, u32)>,
    /// the account that was asked
    pub account: usize,
    /// how often the server had been started anew
    pub epoch: u32,
    /// how often what is known of the asked account had changed
    pub changes: u32,
    /// so many answers were heard
    pub answers: u32,
}

/// A stanza that a client has sent and that is not acknowledged.
#[derive(Clone, Debug)]
pub struct Unacked {
    /// its number on the stream
    pub number: u32,
    /// as it was sent
    pub xml: String,
    /// the message, if it is one
    pub message: Option<u64>,
}

/// All numbers that occur in these bytes as an id.
pub fn ids_in(bytes: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(bytes);
    let mut ids = Vec::new();
    for quote in ["'", "\""] {
        for rest in text.split(&format!(" id={quote}")).skip(1) {
            if let Some((id, _)) = rest.split_once(quote)
                && let Ok(id) = id.parse()
            {
                ids.push(id);
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_whatever_their_quotes() {
        assert_eq!(ids_in(b"<message id='12' to='a'><x id=\"x\"/></message><iq id=\"7\"/><message id='3"), [12, 7]);
    }
}
