//! Who has blocked whom, as far as clients can know it for certain (XEP-0191).

use std::collections::BTreeMap;

use vorpal_proto::element::Element;
use vorpal_proto::ns;

use super::player::PlayerId;
use super::{Check, Simulator, wrong};

/// An account and whom it blocks, by their numbers.
type Pair = (usize, usize);

/// A question that blocks or unblocks.
#[derive(Clone, Copy, Debug)]
struct Asked {
    pair: Pair,
    blocks: bool,
    /// when it was sent first
    sent: u64,
    /// so many that unblock had been sent before
    unblocked: u32,
    /// so many times it was sent without an answer heard
    waits: u32,
    /// when the last answer was heard
    answered: Option<u64>,
}

/// See the module's text.
#[derive(Default)]
pub struct Blocks {
    /// rises with everything that happens here
    moment: u64,
    asked: BTreeMap<String, Asked>,
    /// so many questions that unblock were sent
    unblocks: BTreeMap<Pair, u32>,
    /// since when, and from whom it is known
    certain: BTreeMap<Pair, (u64, PlayerId)>,
    /// when each client connected last
    connected: BTreeMap<PlayerId, u64>,
    /// when each message was sent last
    sent: BTreeMap<u64, u64>,
}

impl Blocks {
    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A client begins to come back: what it hears was written from here on.
    pub fn connects(&mut self, id: PlayerId) {
        let now = self.now();
        self.connected.insert(id, now);
    }

    /// A message is sent, perhaps once more.
    pub fn sends(&mut self, number: u64) {
        let now = self.now();
        self.sent.insert(number, now);
    }

    /// A question is sent, perhaps once more. What unblocks may be dealt with from here on, whenever that is.
    pub fn asks(&mut self, question: &str, pair: Pair, blocks: bool) {
        let sent = self.now();
        let unblocks = self.unblocks.entry(pair).or_default();
        if !blocks {
            *unblocks += 1;
            self.certain.remove(&pair);
        }
        let unblocked = *unblocks;
        let asked = Asked { pair, blocks, sent, unblocked, waits: 0, answered: None };
        let asked = self.asked.entry(question.to_owned()).or_insert(asked);
        asked.waits += 1;
        asked.answered = None;
    }

    /// The question that this is, if it is one: to be sent once more.
    pub fn question(&self, question: &str) -> Option<(Pair, bool)> {
        self.asked.get(question).map(|asked| (asked.pair, asked.blocks))
    }

    /// An answer is heard. It is certain that somebody is blocked if nothing that unblocks them can have been dealt with since that was
    /// asked for.
    pub fn answered(&mut self, id: PlayerId, question: &str, result: bool) {
        let now = self.now();
        let Some(asked) = self.asked.get_mut(question) else { return };
        asked.waits = asked.waits.saturating_sub(1);
        // The error of a failed commit may be heard after it was sent again, and that is still to be dealt with.
        if result || asked.waits == 0 {
            asked.answered = Some(now);
        }
        let asked = *asked;
        let may_undo = |other: &Asked| {
            other.pair == asked.pair && !other.blocks && other.answered.is_none_or(|answered| answered > asked.sent)
        };
        let open = self.asked.values().any(may_undo);
        let unblocks = self.unblocks.get(&asked.pair).copied().unwrap_or_default();
        if asked.blocks && result && !open && unblocks == asked.unblocked {
            self.certain.entry(asked.pair).or_insert((now, id));
        }
    }

    /// The disk forgot something.
    pub fn forget(&mut self) {
        self.certain.clear();
    }

    /// The account is deleted, and its list with it.
    pub fn ends(&mut self, account: usize) {
        self.certain.retain(|(by, _), _| *by != account);
        let asked = self.asked.values().map(|asked| asked.pair).filter(|(by, _)| *by == account);
        for pair in asked {
            *self.unblocks.entry(pair).or_default() += 1;
        }
    }

    /// Whether the message may have waited when its receiver blocked its sender: then nobody hears of it any more.
    pub fn may_have_caught(&self, number: u64, pair: Pair) -> bool {
        let sent = self.sent.get(&number).copied().unwrap_or_default();
        let blocks = self.asked.values().filter(|asked| asked.pair == pair && asked.blocks);
        blocks.into_iter().any(|asked| asked.answered.is_none_or(|answered| answered > sent))
    }

    /// Whether the first account has ever asked to block the second.
    pub fn was_asked(&self, pair: Pair) -> bool {
        self.asked.values().any(|asked| asked.pair == pair && asked.blocks)
    }

    fn is_certain(&self, id: PlayerId, pair: Pair) -> bool {
        let connected = self.connected.get(&id).copied().unwrap_or_default();
        self.certain.get(&pair).is_some_and(|(since, by)| *by == id || connected > *since)
    }
}

impl Simulator {
    /// Whatever a client is told, and however long it waited: not by anybody whom its account blocks. Errors say what became of
    /// what the client sent itself.
    pub(super) fn nobody_hears_who_is_blocked(&self, id: PlayerId, element: &Element) -> Check {
        let own = self.players[id].account;
        let copied = element.find(ns::CARBONS, "received").and_then(|copy| copy.find(ns::FORWARD, "forwarded"));
        let copied = copied.and_then(|forwarded| forwarded.find(ns::CLIENT, "message"));
        for stanza in [Some(element), copied].into_iter().flatten() {
            let Some(from) = stanza.get("from").filter(|_| stanza.get("type") != Some("error")) else { continue };
            let bare = from.split_once('/').map_or(from, |(bare, _)| bare);
            let Some(other) = (0..self.accounts.len()).find(|account| self.bare(*account) == bare) else { continue };
            if other != own && self.blocks.is_certain(id, (own, other)) {
                let why = format!("{} heard of {from}, who is blocked: {stanza:?}", self.name(id));
                return Err(wrong("nobody_hears_who_is_blocked", why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = (0, 1);

    #[test]
    fn what_waits_while_a_block_is_asked_for_once_more_may_be_caught() {
        let mut blocks = Blocks::default();
        blocks.asks("q1", PAIR, true);
        blocks.asks("q1", PAIR, true);
        // The first one came to nothing.
        blocks.answered(0, "q1", false);
        blocks.sends(7);
        assert!(blocks.may_have_caught(7, PAIR));
        blocks.answered(0, "q1", true);
        assert!(blocks.may_have_caught(7, PAIR));
        blocks.sends(8);
        assert!(!blocks.may_have_caught(8, PAIR), "the gate says so to its sender");
    }

    #[test]
    fn a_block_that_came_to_nothing_catches_nothing_any_more() {
        let mut blocks = Blocks::default();
        blocks.asks("q1", PAIR, true);
        blocks.answered(0, "q1", false);
        blocks.sends(7);
        assert!(!blocks.may_have_caught(7, PAIR));
    }
}
