//! Where periodic work stands.

use std::collections::VecDeque;
use std::time::Duration;

use crate::owner::account::AccountRef;

/// The accounts to trim. Each account is in at most one of the lists.
#[derive(Default)]
pub(crate) struct Trims {
    /// when the next round begins, in steady time
    pub due: Duration,
    /// accounts of the next round
    pub next: Vec<AccountRef>,
    /// accounts of this round that have more to delete
    pub now: VecDeque<AccountRef>,
}

/// The position of the sweep.
#[derive(Default)]
pub(crate) struct Progress {
    pub host: usize,
    pub past: Option<Box<str>>,
    /// when this round began, in steady time
    pub began: Option<Duration>,
    /// when the next round begins, if this one has ended
    pub rests_until: Option<Duration>,
}

impl Progress {
    pub(crate) fn next_host(&self) -> Progress {
        Progress { host: self.host + 1, began: self.began, ..Progress::default() }
    }
}
