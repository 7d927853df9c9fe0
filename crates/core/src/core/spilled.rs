//! Stanzas that wait for an account to be read (`route/cold.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use vorpal_proto::jid::{BareJid, Jid};

use crate::owner::words::Work;

/// Maximum number of stanzas that wait for accounts to be read, all in all.
pub const MAX_SPILLED: usize = 4_096;

/// Maximum memory of these, in bytes.
pub const MAX_SPILLED_BYTES: usize = 16 << 20;

/// Maximum number of stanzas that wait for one account to be read.
pub const MAX_SPILLED_FOR_ONE: usize = 512;

/// An account to be read: load it, hold on to it, and give this to [`Core::run`](crate::core::Core::run), or to [`Core::abandon`](crate::core::Core::abandon) if it cannot be read.
#[derive(Debug)]
#[must_use = "what waits for the account waits until this is given back"]
pub struct Cold {
    /// whom to load
    pub account: BareJid,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Spilled {
    lines: Mutex<Lines>,
    /// how many accounts somebody waits for: mostly none, and then nobody needs the lock to know it
    accounts: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    of: HashMap<BareJid, VecDeque<Work>>,
    /// the accounts that nobody reads yet, in the order they were first needed
    unread: VecDeque<BareJid>,
    stanzas: usize,
    bytes: usize,
}

impl Spilled {
    /// A stanza waits for its account. It is given back if it cannot. True if it is the first that waits for that account.
    pub(crate) fn push(&self, account: &BareJid, work: Work) -> Result<bool, Box<Work>> {
        let weight = work.stanza.weight();
        let mut lines = self.lines.lock();
        let full = lines.stanzas >= MAX_SPILLED || lines.bytes + weight > MAX_SPILLED_BYTES;
        let of_one = lines.of.get(account).map_or(0, VecDeque::len);
        if full || of_one >= MAX_SPILLED_FOR_ONE {
            return Err(Box::new(work));
        }
        lines.stanzas += 1;
        lines.bytes += weight;
        match lines.of.get_mut(account) {
            Some(line) => {
                line.push_back(work);
                Ok(false)
            }
            None => {
                lines.of.insert(account.clone(), VecDeque::from([work]));
                lines.unread.push_back(account.clone());
                self.accounts.store(lines.of.len(), Ordering::Release);
                Ok(true)
            }
        }
    }

    /// Whether anything waits for this account.
    pub(crate) fn waits_for(&self, account: &Jid) -> bool {
        self.accounts.load(Ordering::Acquire) > 0 && self.lines.lock().of.contains_key(account.bare_str())
    }

    pub(crate) fn next(&self) -> Option<Cold> {
        self.lines.lock().unread.pop_front().map(|account| Cold { account })
    }

    /// The first that waits for an account. The line is gone when it is empty.
    pub(crate) fn pop(&self, account: &BareJid) -> Option<Work> {
        let mut lines = self.lines.lock();
        let work = lines.of.get_mut(account).and_then(VecDeque::pop_front);
        match &work {
            Some(work) => {
                lines.stanzas -= 1;
                lines.bytes -= work.stanza.weight();
            }
            None => {
                lines.of.remove(account);
                self.accounts.store(lines.of.len(), Ordering::Release);
            }
        }
        work
    }

    /// Maximum number that wait for an account.
    pub(crate) fn len(&self, account: &BareJid) -> usize {
        self.lines.lock().of.get(account).map_or(0, VecDeque::len)
    }

    /// The account is to be read once more.
    pub(crate) fn again(&self, account: BareJid) {
        self.lines.lock().unread.push_back(account);
    }

    /// How many stanzas wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let lines = self.lines.lock();
        (lines.stanzas, lines.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::words::Mode;
    use vorpal_proto::stanza::{Stanza, Type};

    fn to(account: &BareJid, id: usize) -> Work {
        let stanza = Stanza::message(Type::Chat).to(account.as_jid().clone()).id(id.to_string());
        Work { stanza, hops: 0, mode: Mode::Onward }
    }

    fn named(at: usize) -> BareJid {
        format!("u{at}@x").parse().expect("an address")
    }

    #[test]
    fn stanzas_wait_in_order_and_each_account_is_read_once() {
        let (spilled, a, b) = (Spilled::default(), named(1), named(2));
        assert!(!spilled.waits_for(a.as_jid()));
        assert!(spilled.push(&a, to(&a, 1)).expect("there is room"));
        assert!(spilled.push(&b, to(&b, 2)).expect("there is room"));
        assert!(!spilled.push(&a, to(&a, 3)).expect("there is room"));
        let first = spilled.next().expect("somebody waits for it");
        assert_eq!(first.account, a);
        assert!(!spilled.push(&a, to(&a, 4)).expect("there is room"), "it is being read");
        assert_eq!(spilled.next().map(|cold| cold.account), Some(b.clone()));
        assert!(spilled.next().is_none());
        let ids = |account| {
            let mut ids = Vec::new();
            while let Some(work) = spilled.pop(account) {
                ids.extend(work.stanza.head.id.map(|id| id.to_string()));
            }
            ids
        };
        assert!(spilled.waits_for(a.as_jid()));
        assert_eq!(ids(&a), ["1", "3", "4"]);
        assert!(!spilled.waits_for(a.as_jid()) && spilled.waits_for(b.as_jid()));
        assert_eq!(ids(&b), ["2"]);
        assert_eq!(spilled.waiting(), (0, 0));
    }

    #[test]
    fn what_waits_is_bounded_for_one_account_and_for_all() {
        let (spilled, one) = (Spilled::default(), named(0));
        let taken = (0..).take_while(|id| spilled.push(&one, to(&one, *id)).is_ok()).count();
        assert_eq!(taken, MAX_SPILLED_FOR_ONE);
        let others = (1..).take_while(|id| spilled.push(&named(*id), to(&named(*id), *id)).is_ok()).count();
        assert_eq!(taken + others, MAX_SPILLED);
        while spilled.pop(&one).is_some() {}
        assert!(spilled.push(&one, to(&one, 0)).is_ok());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let spilled = Spilled::default();
        let body = "x".repeat(200 << 10);
        let large = |at| {
            let xml = format!("<message to='u{at}@x'><body>{body}</body></message>");
            Work { stanza: Stanza::parse(&xml).expect("a stanza"), hops: 0, mode: Mode::Onward }
        };
        let taken = (0..).take_while(|at| spilled.push(&named(*at), large(*at)).is_ok()).count();
        assert!(taken < 90, "{taken} of 200 KiB");
        assert!(spilled.waiting().1 <= MAX_SPILLED_BYTES);
    }
}
