//! When sessions without a connection end, in steady time (`clock.rs`): one entry for each such session, whatever its clients do.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use vorpal_proto::jid::BareJid;

use crate::session::flags::SessionId;

/// See the module's text.
#[derive(Default)]
pub(crate) struct Deadlines(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    due: BTreeMap<(Duration, SessionId), BareJid>,
    of: HashMap<SessionId, Duration, RandomState>,
}

impl Deadlines {
    /// The session ends then, and not when it was said before.
    pub fn set(&self, account: &BareJid, id: SessionId, at: Duration) {
        let mut lists = self.0.lock();
        if let Some(before) = lists.of.insert(id, at) {
            lists.due.remove(&(before, id));
        }
        lists.due.insert((at, id), account.clone());
    }

    /// The session has a connection, or has ended.
    pub fn forget(&self, id: SessionId) {
        let mut lists = self.0.lock();
        if let Some(before) = lists.of.remove(&id) {
            lists.due.remove(&(before, id));
        }
    }

    /// The next session that is due, and its account.
    pub fn pop(&self, steady: Duration) -> Option<(BareJid, SessionId)> {
        let mut lists = self.0.lock();
        let first = lists.due.first_entry().filter(|first| first.key().0 <= steady)?;
        let ((_, id), account) = first.remove_entry();
        lists.of.remove(&id);
        Some((account, id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_deadline_however_often_it_loses_its_connection() {
        let (deadlines, romeo) = (Deadlines::default(), "romeo@x".parse::<BareJid>().expect("an address"));
        let second = Duration::from_secs(1);
        for times in 1..=1_000 {
            deadlines.set(&romeo, 7, 600 * second + times * second);
            if times % 2 == 0 {
                deadlines.forget(7);
            }
            assert!(deadlines.len() <= 1);
        }
        deadlines.set(&romeo, 7, 5 * second);
        deadlines.set(&romeo, 8, 3 * second);
        deadlines.set(&romeo, 9, 4 * second);
        deadlines.forget(9);
        assert_eq!(deadlines.pop(2 * second), None);
        assert_eq!(deadlines.pop(9 * second), Some((romeo.clone(), 8)));
        assert_eq!(deadlines.pop(9 * second), Some((romeo, 7)));
        assert_eq!(deadlines.pop(9 * second), None);
        assert_eq!(deadlines.len(), 0);
    }
}
