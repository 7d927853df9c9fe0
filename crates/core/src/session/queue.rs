//! The queue of a session: items that are not written to its connection yet, and the memory that they take.

use std::collections::VecDeque;

use crate::session::out::Out;
use crate::session::stream::Management;
use crate::small::lists::give_back;
use crate::small::lists::push_one;

/// An item of the queue.
pub(super) enum Item {
    /// counted when it is written, if stream management is enabled
    Stanza(Out),
    /// a stanza that [`Setup::on_outbound`](crate::module::Setup::on_outbound) held back: it is not judged again
    Released(Out),
    /// an element that is not a stanza
    Nonza(Vec<u8>),
    /// `<a/>` with this `h`; replaced by a newer one that would directly follow it
    Ack(u32),
    /// `<enabled/>`: stanzas after it are counted (XEP-0198 §3)
    Enabled(Vec<u8>, Box<Management>),
}

/// Memory of an item, without what it points to.
pub(super) const ITEM_BYTES: usize = size_of::<Item>();

impl Item {
    /// About how much memory it takes, which for a small stanza is much more than its bytes.
    pub fn weight(&self) -> usize {
        match self {
            Item::Stanza(out) | Item::Released(out) => out.weight,
            Item::Nonza(bytes) | Item::Enabled(bytes, _) => ITEM_BYTES + bytes.len(),
            Item::Ack(_) => ITEM_BYTES,
        }
    }
}

/// A queue that adds up the weight of its items.
#[derive(Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    weight: usize,
}

impl Queue {
    /// The weight of all items.
    pub fn weight(&self) -> usize {
        self.weight
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn push_back(&mut self, item: Item) {
        self.weight += item.weight();
        push_one(&mut self.items, item);
    }

    pub fn push_front(&mut self, item: Item) {
        self.weight += item.weight();
        self.items.push_front(item);
    }

    pub fn pop_front(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.weight -= item.weight();
        Some(item)
    }

    /// Puts `<a/>` at the end, in the place of one that stands there.
    pub fn push_ack(&mut self, h: u32) {
        match self.items.back_mut() {
            Some(Item::Ack(last)) => *last = h,
            _ => self.push_back(Item::Ack(h)),
        }
    }

    /// Keeps these stanzas, and nothing that is no stanza unless `nonzas`.
    pub fn retain(&mut self, nonzas: bool, which: impl Fn(&Out) -> bool) {
        self.items.retain(|item| match item {
            Item::Stanza(out) | Item::Released(out) => which(out),
            Item::Nonza(_) | Item::Ack(_) | Item::Enabled(..) => nonzas,
        });
        self.weight = self.items.iter().map(Item::weight).sum();
    }

    /// The stanzas in it.
    pub fn outs(&self) -> impl Iterator<Item = &Out> {
        self.items.iter().filter_map(|item| match item {
            Item::Stanza(out) | Item::Released(out) => Some(out),
            Item::Nonza(_) | Item::Ack(_) | Item::Enabled(..) => None,
        })
    }

    /// The same, to change what is known of them; not the stanza itself, whose weight is counted.
    pub fn outs_mut(&mut self) -> impl Iterator<Item = &mut Out> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::Stanza(out) | Item::Released(out) => Some(out),
            Item::Nonza(_) | Item::Ack(_) | Item::Enabled(..) => None,
        })
    }

    /// Empties it, and gives the stanzas.
    pub fn take_outs(&mut self) -> impl Iterator<Item = Out> + use<> {
        std::mem::take(self).items.into_iter().filter_map(|item| match item {
            Item::Stanza(out) | Item::Released(out) => Some(out),
            Item::Nonza(_) | Item::Ack(_) | Item::Enabled(..) => None,
        })
    }

    /// Gives memory back if nothing is in it.
    pub fn give_back(&mut self) {
        give_back(&mut self.items);
    }

    /// Gives all memory back that it does not need now.
    pub fn shrink(&mut self) {
        self.items.shrink_to_fit();
    }

    /// The weight, with each stanza weighed anew.
    pub fn weighed(&self) -> usize {
        let anew = |item: &Item| match item {
            Item::Stanza(out) | Item::Released(out) => out.weighed(),
            Item::Nonza(_) | Item::Ack(_) | Item::Enabled(..) => item.weight(),
        };
        self.items.iter().map(anew).sum()
    }
}
