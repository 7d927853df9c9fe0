//! The ledger of a session: which of its stanzas are settled, and the `h` to acknowledge (XEP-0198 §4).
//!
//! Every stanza that a session sends is entered and gets a number. It is *settled* once it cannot be lost any more: its batch is
//! committed, it carries no promise, or its error has been sent and, if needed, stored. `h` is the unbroken run of settled numbers,
//! and is computed here and nowhere else.
//!
//! Invariant: `h` is never ahead of the disk and never decreases, not even across a crash.

/// Maximum number of unsettled stanzas of a session: then its reader pauses.
pub const MAX_UNSETTLED: u64 = 64;

/// Maximum memory of what was read from a session since everything was settled, in bytes: then its reader pauses until all of it is
/// settled. The last stanza may exceed it.
pub const MAX_UNSETTLED_BYTES: usize = 512 << 10;

/// A stanza that was entered and is not yet settled. It can be acknowledged only through [`Settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Pending(pub(crate) u64);

/// Proof that a stanza is safe. Created only when a commit completes.
#[derive(Debug)]
pub struct Settled(pub(crate) u64);

/// The counters of one direction of one session: stanzas that the client sent.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// the number of the last stanza that was entered
    entered: u64,
    /// the unbroken run of settled numbers
    settled: u64,
    /// settled numbers beyond the run: bit i is number `settled + 2 + i`
    beyond: u64,
    /// the number up to which stanzas are handled according to a committed row
    stored: u64,
    /// the highest number in any row that was submitted to the store
    submitted: u64,
    /// number of stanzas entered before stream management began: they do not count in `h`
    base: u64,
    /// whether the session can be resumed after a crash: only then does `h` wait for the store
    tracked: bool,
}

impl Ledger {
    /// A ledger that continues from a stored number: after a restart.
    pub fn resumed(handled: u64) -> Ledger {
        Ledger {
            entered: handled,
            settled: handled,
            beyond: 0,
            stored: handled,
            submitted: handled,
            base: 0,
            tracked: true,
        }
    }

    /// Stream management begins: the next stanza is the first that counts (XEP-0198 §4).
    pub fn begin(&mut self, tracked: bool) {
        self.base = self.entered;
        self.stored = self.entered;
        self.submitted = self.entered;
        self.tracked = tracked;
    }

    /// The value of `h` once the stanza of this number, and all before it, are settled.
    pub fn counted(&self, n: u64) -> u64 {
        n.saturating_sub(self.base)
    }

    /// The number of the stanza with which `h` is this.
    pub fn uncounted(&self, h: u64) -> u64 {
        self.base + h
    }

    /// A stanza was read.
    pub fn enter(&mut self) -> Pending {
        self.entered += 1;
        Pending(self.entered)
    }

    /// Undoes the entering of the stanza that was read last.
    pub(crate) fn take_back(&mut self, Pending(n): Pending) {
        debug_assert_eq!(n, self.entered, "something was read behind it");
        if n == self.entered {
            self.entered -= 1;
        }
    }

    /// A stanza is safe.
    pub fn settle(&mut self, Settled(n): Settled) {
        debug_assert!(n > self.settled && n <= self.entered, "{n} was settled twice or never entered");
        if n != self.settled + 1 {
            self.beyond |= 1 << (n - self.settled - 2);
            return;
        }
        self.settled = n;
        let run = self.beyond.trailing_ones();
        if run > 0 {
            self.settled += u64::from(run);
            self.beyond = self.beyond.checked_shr(run).unwrap_or(0);
        }
        // The number after the run is missing by definition; its bit is dropped.
        self.beyond >>= 1;
    }

    /// A row with this number was committed.
    pub fn stored(&mut self, n: u64) {
        self.stored = self.stored.max(n);
    }

    /// The value for a progress row submitted now, in terms of `h`: `n`, but never less than in an earlier row. Rows commit in
    /// order, so if the earlier one fails, so does this one. A lower number would make the store forget stanzas, and the client
    /// would resend what is already in the log.
    pub fn row(&mut self, n: u64) -> u64 {
        self.submitted = self.submitted.max(n);
        self.counted(self.submitted)
    }

    /// The highest number in any row that was submitted to the store.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// A batch failed, and with it everything that was in flight after it.
    pub fn rows_failed(&mut self) {
        self.submitted = self.stored;
    }

    /// Number of unsettled stanzas.
    pub fn unsettled(&self) -> u64 {
        self.entered - self.settled - u64::from(self.beyond.count_ones())
    }

    /// Goes back to the stored number: the client resends what it sent since.
    pub fn roll_back(&mut self) {
        if self.tracked {
            self.settled = self.settled.min(self.stored);
        }
        self.entered = self.settled;
        self.beyond = 0;
        self.submitted = self.stored;
    }

    /// Number of stanzas in the unbroken run of settled ones.
    pub fn handled(&self) -> u64 {
        self.settled
    }

    /// The number of the last stanza that was read.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// Whether an `h` of all settled stanzas would be ahead of the disk.
    pub fn ahead_of_disk(&self) -> bool {
        self.tracked && self.settled > self.stored
    }

    /// The value of `h` that may be sent now (XEP-0198 §4: modulo 2^32).
    pub fn h(&self) -> u32 {
        let said = if self.tracked { self.settled.min(self.stored) } else { self.settled };
        self.counted(said) as u32
    }

    /// Whether the next stanza must wait.
    pub fn is_full(&self) -> bool {
        self.entered - self.settled >= MAX_UNSETTLED
    }

    /// Whether everything that was entered is settled.
    pub fn is_level(&self) -> bool {
        self.entered == self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_is_the_unbroken_run() {
        let mut ledger = Ledger::default();
        let n: Vec<Pending> = (0..5).map(|_| ledger.enter()).collect();
        for (i, handled) in [(1, 0), (3, 0), (0, 2), (4, 2), (2, 5)] {
            ledger.settle(Settled(n[i].0));
            assert_eq!(ledger.handled(), handled);
        }
        assert!(ledger.is_level());
    }

    #[test]
    fn any_order_of_settling_ends_level() {
        for seed in 0..500u64 {
            let mut ledger = Ledger::default();
            let mut open = Vec::new();
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = |n: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % n as u64) as usize
            };
            for _ in 0..300 {
                if ledger.is_full() || (!open.is_empty() && random(2) == 0) {
                    let Pending(n) = open.swap_remove(random(open.len()));
                    ledger.settle(Settled(n));
                } else {
                    open.push(ledger.enter());
                }
                let lowest = open.iter().map(|p| p.0).min().unwrap_or(ledger.entered() + 1);
                assert_eq!(ledger.handled(), lowest - 1);
            }
        }
    }

    #[test]
    fn what_is_said_never_runs_ahead_of_the_disk() {
        let mut ledger = Ledger::default();
        ledger.begin(true);
        let Pending(n) = ledger.enter();
        ledger.settle(Settled(n));
        assert_eq!(ledger.h(), 0);
        ledger.stored(1);
        assert_eq!(ledger.h(), 1);
    }

    #[test]
    fn a_row_never_says_less_than_one_before_it() {
        let mut ledger = Ledger::default();
        ledger.begin(true);
        let [Pending(first), Pending(second)] = [ledger.enter(), ledger.enter()];
        assert_eq!(ledger.row(second), 2);
        ledger.settle(Settled(first));
        let handled = ledger.handled();
        assert_eq!(ledger.row(handled), 2, "the batch of the second is on its way");
    }

    #[test]
    fn rolled_back_it_goes_on_behind_what_is_stored() {
        let mut ledger = Ledger::default();
        ledger.begin(true);
        let n: Vec<Pending> = (0..4).map(|_| ledger.enter()).collect();
        for settled in [0, 1, 3] {
            ledger.settle(Settled(n[settled].0));
        }
        ledger.stored(1);
        assert_eq!(ledger.unsettled(), 1);
        ledger.roll_back();
        assert!(ledger.is_level());
        assert_eq!((ledger.h(), ledger.enter()), (1, Pending(2)));
    }

    #[test]
    fn h_wraps_at_two_to_the_thirty_second() {
        let mut ledger = Ledger::resumed(u64::from(u32::MAX));
        let Pending(n) = ledger.enter();
        ledger.settle(Settled(n));
        ledger.stored(n);
        assert_eq!(ledger.h(), 0);
    }
}
