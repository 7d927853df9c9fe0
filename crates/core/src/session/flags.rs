//! What modules keep of a session: flags, and values in slots.

use std::marker::PhantomData;

/// The number of a session: unique in the store for ever, so that a log entry can name it.
pub type SessionId = u64;

/// A bit in every session: `m.session_flag("carbons")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub(crate) u8);

/// A value in every session: `m.session_slot::<T>("name")`.
pub struct Slot<T> {
    pub(crate) at: usize,
    pub(crate) value: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}
