//! Messages that say of themselves which they are, and the check that each came once and in order.

use anyhow::{Result, bail, ensure};

use crate::scan::between;

/// The length of a body.
const BODY: usize = 100;

/// What a body says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The pair that the message belongs to.
    pub pair: u32,
    /// Which of the pair sent it: 0 or 1.
    pub side: u32,
    /// Its place among the messages of this side, from 0.
    pub sequence: u32,
    /// Microseconds after the beginning.
    pub sent_at: u64,
}

impl Number {
    /// Reads a message's body; anything else is none of ours.
    pub fn read(stanza: &[u8]) -> Option<Number> {
        let body = str::from_utf8(between(stanza, b"<body>", b'<')?).ok()?;
        let mut words = body.split(' ');
        let pair = words.next()?.parse().ok()?;
        let side = words.next()?.parse().ok()?;
        let sequence = words.next()?.parse().ok()?;
        let sent_at = words.next()?.parse().ok()?;
        Some(Number { pair, side, sequence, sent_at })
    }

    /// A chat message of about 220 bytes that asks for a receipt, as clients send it.
    pub fn message(self, to: &str) -> String {
        let Number { pair, side, sequence, sent_at } = self;
        let mut body = format!("{pair:05} {side} {sequence:07} {sent_at:012} ");
        body.extend(std::iter::repeat_n('.', BODY.saturating_sub(body.len())));
        format!(
            "<message to='{to}' type='chat' id='{pair}-{side}-{sequence:07}'><body>{body}</body>\
             <request xmlns='urn:xmpp:receipts'/></message>"
        )
    }
}

/// What one session is due to get, from each side of its pair, and how far it is.
#[derive(Debug)]
pub struct Order {
    pair: u32,
    due: [u32; 2],
    next: [u32; 2],
}

impl Order {
    /// Nothing has come of what is due from each side.
    pub fn new(pair: u32, due: [u32; 2]) -> Order {
        Order { pair, due, next: [0, 0] }
    }

    /// Whether all has come.
    pub fn complete(&self) -> bool {
        self.next == self.due
    }

    /// Fails on any message but the next of its side.
    pub fn accept(&mut self, message: &Number) -> Result<()> {
        let side = usize::try_from(message.side)?;
        let (Some(next), Some(due)) = (self.next.get_mut(side), self.due.get(side)) else { bail!("no side {side}") };
        ensure!(message.pair == self.pair, "a message of pair {} for pair {}", message.pair, self.pair);
        ensure!(*next < *due, "message {} of side {side}, from which {due} were due", message.sequence);
        ensure!(message.sequence == *next, "message {} of side {side} where {next} was due", message.sequence);
        *next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_within_a_copy() {
        let copy = b"<message><received><forwarded><message><body>00007 1 0000012 000000000345 ...</body></message>";
        assert_eq!(Number::read(copy), Some(Number { pair: 7, side: 1, sequence: 12, sent_at: 345 }));
        assert_eq!(Number::read(b"<presence from='a'/>"), None);
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let number = Number { pair: 7, side: 1, sequence: 12, sent_at: 345 };
        let message = number.message("u1@localhost/talk");
        assert_eq!(Number::read(message.as_bytes()), Some(number));
        assert!((200..240).contains(&message.len()), "{}", message.len());
    }

    #[test]
    fn a_loss_a_repetition_a_swap_a_stranger_and_a_surplus_are_noticed() {
        let message = |pair, side, sequence| Number { pair, side, sequence, sent_at: 0 };
        let start = || Order::new(3, [2, 1]);
        for wrong in [
            vec![message(3, 0, 1)],
            vec![message(3, 0, 0), message(3, 0, 0)],
            vec![message(3, 0, 1), message(3, 0, 0)],
            vec![message(4, 0, 0)],
            vec![message(3, 2, 0)],
            vec![message(3, 1, 0), message(3, 1, 1)],
        ] {
            let mut order = start();
            assert!(wrong.iter().any(|message| order.accept(message).is_err()), "{wrong:?}");
        }
        let mut order = start();
        for right in [message(3, 0, 0), message(3, 1, 0), message(3, 0, 1)] {
            assert!(!order.complete());
            order.accept(&right).unwrap();
        }
        assert!(order.complete());
    }
}
