//! What a session is told when little waits to be written: presence and requests ([`Untold`]), and answers from the store ([`Asked`]).

use std::collections::VecDeque;

use vorpal_proto::jid::{BareJid, Jid};

use crate::session::inquiries::Asked;
use crate::session::stream::Stream;
use crate::session::untold::Untold;

impl Stream {
    /// The next item, if little waits to be written. What waits behind the log counts as well.
    pub(crate) fn next_untold(&mut self) -> Option<Untold> {
        if !self.may_be_told() {
            return None;
        }
        if let Some(list) = &mut self.untold {
            let next = list.pop_front();
            if list.is_empty() {
                self.untold = None;
            }
            return next;
        }
        self.stale.pop().map(Untold::Stale)
    }

    /// Changes of the roster that it is to be told, in the place of everything that it was to be told before. Without any, nothing
    /// changes.
    pub(crate) fn set_changes(&mut self, contacts: impl IntoIterator<Item = BareJid>) {
        let list: VecDeque<Untold> = contacts.into_iter().map(Untold::Change).collect();
        if !list.is_empty() {
            self.untold = Some(Box::new(list));
        }
    }

    /// What it is to be told, in the place of everything that it was to be told before except changes of the roster.
    pub(crate) fn set_untold(&mut self, list: impl IntoIterator<Item = Untold>) {
        let before = self.untold.take().into_iter().flat_map(|list| *list);
        let changes = before.filter(|untold| matches!(untold, Untold::Change(_)));
        let list: VecDeque<Untold> = changes.chain(list).collect();
        self.untold = (!list.is_empty()).then(|| Box::new(list));
    }

    /// What it is to be told next.
    pub(crate) fn tell_first(&mut self, items: impl IntoIterator<Item = Untold, IntoIter: DoubleEndedIterator>) {
        let list = self.untold.get_or_insert_default();
        items.into_iter().rev().for_each(|item| list.push_front(item));
    }

    /// Forgets a sender whose presence did not fit.
    pub(crate) fn forget_stale(&mut self, from: &Jid) {
        self.stale.remove(from);
    }
}

impl Stream {
    /// Makes room for one more question; false at the limit (`MAX_INQUIRIES`).
    pub(crate) fn open_inquiry(&mut self) -> bool {
        self.inquiries.get_or_insert_default().open()
    }

    /// A question may be read for now.
    pub(crate) fn push_inquiry(&mut self, asked: Asked) {
        if let Some(inquiries) = &mut self.inquiries {
            inquiries.push(asked);
            self.wake();
        }
    }

    /// The next question to be read for, if none is being read for and little waits to be written.
    pub(crate) fn next_inquiry(&mut self) -> Option<Asked> {
        if !self.has_room() {
            return None;
        }
        self.inquiries.as_mut()?.next()
    }

    /// Whether a question could be read for, but for what waits to be written.
    pub(crate) fn has_due_inquiry(&self) -> bool {
        self.inquiries.as_ref().is_some_and(|inquiries| inquiries.is_due())
    }

    /// The reading of a question has ended.
    pub(crate) fn inquiry_read(&mut self) {
        if let Some(inquiries) = &mut self.inquiries {
            inquiries.running = false;
        }
    }

    /// A question is answered.
    pub(crate) fn close_inquiry(&mut self) {
        if let Some(inquiries) = &mut self.inquiries {
            inquiries.open = inquiries.open.saturating_sub(1);
        }
    }

    /// Takes the questions whose reading has not begun.
    pub(crate) fn take_inquiries(&mut self) -> VecDeque<Asked> {
        self.inquiries.as_mut().map(|inquiries| std::mem::take(&mut inquiries.waiting)).unwrap_or_default()
    }
}
