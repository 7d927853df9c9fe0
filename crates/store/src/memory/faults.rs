//! What a test can make the memory store do wrong, and when.

use crate::shape::StoreError;
use std::collections::BTreeMap;

/// What goes wrong at a commit.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Every batch of the commit fails with this error; later ones are served again.
    Fail(StoreError),
    /// The batch at this place in the group fails alone (the last one, if there are fewer).
    FailOne(usize, StoreError),
    /// The batch at this place in the group is refused at its first write (the last one, if there are fewer).
    Refuse(usize),
    /// The commit waits until [`super::Disk::release`].
    Delay,
    /// The process dies before the commit: it never happens, and nothing after it.
    CrashBefore,
    /// The process dies within the commit: so many batches of the group are durable, the others never happen, and nobody is
    /// told. No backend that commits a group at once does this; one that commits batch by batch does.
    CrashAmid(usize),
    /// The process dies after the commit: it is durable, but nobody is told.
    CrashAfter,
}

/// The faults that are to come, by number of commit.
#[derive(Debug, Default)]
pub(super) struct Faults {
    at: BTreeMap<u64, Fault>,
    /// Commits that waited and were let go.
    released: u64,
    /// What every read answers, while it is set.
    pub reads: Option<StoreError>,
}

impl Faults {
    pub fn plan(&mut self, commit: u64, fault: Fault) {
        self.at.insert(commit, fault);
    }

    pub fn stalls(&self, commit: u64) -> bool {
        self.released < commit && matches!(self.at.get(&commit), Some(Fault::Delay))
    }

    pub fn release(&mut self, commit: u64) {
        self.released = commit;
    }

    pub fn take(&mut self, commit: u64) -> Option<Fault> {
        self.at.remove(&commit)
    }
}
