//! The disk space reserve: with less free space no new promises are made, so that existing ones can still be settled.
//!
//! Refused: messages that would need the log, and changes that only add data. Accepted: errors that settle a promise, stanzas that
//! were promised before and need another home, acknowledgements, sessions, deletions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::store::Room;

/// The last observed free space, and the resulting state.
#[derive(Debug, Default)]
pub struct Reserve {
    /// no new promises are made
    short: AtomicBool,
    /// minimum free space for new promises, in bytes; 0 disables the reserve
    least: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    room: Option<Room>,
    warned: bool,
}

/// A change that is logged for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// free space is below twice the reserve
    Low,
    /// it is below the reserve: new promises are refused
    Short,
    /// free space is sufficient again
    Enough,
}

impl Reserve {
    /// Whether new promises are refused.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// The last observed space, if the store can report it.
    pub fn room(&self) -> Option<Room> {
        self.seen.lock().room
    }

    /// The minimum free space for new promises, in bytes.
    pub fn least(&self) -> u64 {
        self.least.load(Ordering::Relaxed)
    }

    /// The free space from which new promises are accepted again after they were refused, in bytes: a quarter above the minimum.
    pub fn enough(&self) -> u64 {
        let least = self.least();
        least.saturating_add(least / 4)
    }

    /// Sets the minimum free space, in bytes. Takes effect with the next check of the disk.
    pub fn set_least(&self, bytes: u64) {
        self.least.store(bytes, Ordering::Relaxed);
    }

    /// Processes an observation. Space is short below the reserve, and sufficient again 25 % above it, so that the state does not
    /// flap at the limit.
    pub fn observe(&self, room: Room) -> Option<Change> {
        let least = self.least();
        let above = self.enough();
        let mut seen = self.seen.lock();
        seen.room = Some(room);
        let short = room.free < if self.is_short() { above } else { least };
        let was = self.short.swap(short, Ordering::Relaxed);
        if short != was {
            seen.warned = true;
            return Some(if short { Change::Short } else { Change::Enough });
        }
        if short {
            return None;
        }
        if room.free >= above.saturating_mul(2) {
            seen.warned = false;
        } else if room.free < least.saturating_mul(2) && !std::mem::replace(&mut seen.warned, true) {
            return Some(Change::Low);
        }
        None
    }
}

/// What is answered then: it may work later.
pub(crate) fn no_room() -> vorpal_proto::error::StanzaError {
    vorpal_proto::error::StanzaError::resource_constraint().with_text("the server has no room to keep it now")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reserve: &Reserve, free: u64) -> Option<Change> {
        reserve.observe(Room { free, total: 1_000 })
    }

    #[test]
    fn it_warns_once_refuses_below_the_reserve_and_recovers_a_quarter_above_it() {
        let reserve = Reserve::default();
        reserve.set_least(100);
        assert_eq!(told(&reserve, 500), None);
        assert_eq!(told(&reserve, 199), Some(Change::Low));
        assert_eq!(told(&reserve, 150), None, "once");
        assert_eq!(told(&reserve, 230), None);
        assert_eq!(told(&reserve, 199), None, "not again before there was clearly more");
        assert!(!reserve.is_short());
        assert_eq!(told(&reserve, 99), Some(Change::Short));
        assert_eq!(told(&reserve, 99), None);
        assert_eq!(told(&reserve, 124), None, "not at the edge");
        assert!(reserve.is_short());
        assert_eq!(told(&reserve, 125), Some(Change::Enough));
        assert!(!reserve.is_short());
        assert_eq!(told(&reserve, 300), None);
        assert_eq!(told(&reserve, 150), Some(Change::Low), "there was clearly more meanwhile");
        assert_eq!(reserve.room(), Some(Room { free: 150, total: 1_000 }));
    }

    #[test]
    fn a_disk_that_fills_at_once_is_short_without_a_warning_before() {
        let reserve = Reserve::default();
        reserve.set_least(100);
        assert_eq!(told(&reserve, 0), Some(Change::Short));
        assert_eq!(told(&reserve, 1_000), Some(Change::Enough));
        assert_eq!(told(&reserve, 150), None, "somebody who was just told of less needs no warning of more");
    }

    #[test]
    fn without_a_reserve_nothing_is_refused() {
        let reserve = Reserve::default();
        assert_eq!(told(&reserve, 0), None);
        assert!(!reserve.is_short());
    }

    #[test]
    fn a_reserve_that_is_lowered_holds_from_the_next_look_on() {
        let reserve = Reserve::default();
        reserve.set_least(100);
        assert_eq!(told(&reserve, 50), Some(Change::Short));
        reserve.set_least(10);
        assert_eq!(told(&reserve, 50), Some(Change::Enough));
    }
}
