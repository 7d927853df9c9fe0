//! What comes for a session while it reads its account's log, and is not in the log: it waits for its place in the order.
//!
//! Each stanza notes the newest entry that it follows, and goes out as soon as the log was read past it.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use crate::rules::state::is_state;
use crate::session::out::Out;
use crate::store::EntryId;

/// A list of stanzas, in order. Presence is found by its sender, whatever else waits: a contact's presence costs the same
/// for each session that reads.
#[derive(Default)]
pub(super) struct Deferred(Option<Box<List>>);

/// A stanza, and the entry that it follows.
type Place = (EntryId, Out);

#[derive(Default)]
struct List {
    /// those that were taken out again leave a hole
    places: VecDeque<Option<Place>>,
    /// how many places were taken from the front
    gone: usize,
    /// how many there are
    len: usize,
    weight: usize,
    /// where the newest presence of a sender stands, counted from the first place there ever was
    newest: BTreeMap<Jid, usize>,
}

impl Deferred {
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.len)
    }

    /// The weight of all.
    pub fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.weight)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Out> {
        self.0.iter().flat_map(|list| list.places.iter().flatten().map(|(_, out)| out))
    }

    /// To change what is known of them; not the stanza itself.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Out> {
        self.0.iter_mut().flat_map(|list| list.places.iter_mut().flatten().map(|(_, out)| out))
    }

    /// Appends one that was weighed, and follows this entry.
    pub fn push(&mut self, after: EntryId, out: Out) {
        let list = self.0.get_or_insert_default();
        if list.places.len() > 2 * list.len + 16 {
            list.close_holes();
        }
        list.add((after, out));
    }

    /// Inserts these before all that wait.
    pub fn push_first(&mut self, first: Vec<Place>) {
        if !first.is_empty() {
            let rest = self.take_places();
            first.into_iter().chain(rest).for_each(|(after, out)| self.push(after, out));
        }
    }

    /// Takes the presence out that a newer one of the same sender takes the place of.
    pub fn take_older(&mut self, newer: &Stanza) -> Option<Out> {
        let list = self.0.as_mut()?;
        let at = list.newest.remove(newer.head.from.as_ref()?)?.checked_sub(list.gone)?;
        let (_, older) = list.places.get_mut(at)?.take()?;
        list.len -= 1;
        list.weight -= older.weight;
        Some(older)
    }

    /// Keeps these.
    pub fn retain(&mut self, which: impl Fn(&Out) -> bool) {
        let kept: Vec<Place> = self.take_places().filter(|(_, out)| which(out)).collect();
        kept.into_iter().for_each(|(after, out)| self.push(after, out));
    }

    /// Takes the first stanza, if it goes before this entry.
    pub fn take_before(&mut self, entry: EntryId) -> Option<Out> {
        let list = self.0.as_mut()?;
        loop {
            match list.places.front() {
                Some(Some((after, _))) if *after >= entry => return None,
                Some(_) => {}
                None => {
                    self.0 = None;
                    return None;
                }
            }
            let place = list.places.pop_front().flatten();
            list.gone += 1;
            if let Some((_, out)) = place {
                list.len -= 1;
                list.weight -= out.weight;
                if let Some(from) = out.stanza.head.from.as_ref().filter(|_| is_state(&out.stanza))
                    && list.newest.get(from).is_some_and(|at| *at < list.gone)
                {
                    list.newest.remove(from);
                }
                return Some(out);
            }
        }
    }

    fn take_places(&mut self) -> impl Iterator<Item = Place> + use<> {
        self.0.take().into_iter().flat_map(|list| list.places.into_iter().flatten())
    }

    /// Empties it.
    pub fn take(&mut self) -> Vec<Out> {
        self.take_places().map(|(_, out)| out).collect()
    }
}

impl List {
    fn add(&mut self, place: Place) {
        let (_, out) = &place;
        self.len += 1;
        self.weight += out.weight;
        if let (true, Some(from)) = (is_state(&out.stanza), &out.stanza.head.from) {
            self.newest.insert(from.clone(), self.gone + self.places.len());
        }
        self.places.push_back(Some(place));
    }

    fn close_holes(&mut self) {
        let List { places, .. } = std::mem::take(self);
        places.into_iter().flatten().for_each(|place| self.add(place));
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::stanza::Type;

    use super::*;
    use crate::session::out::Role;

    fn presence(from: &str, show: &str) -> Out {
        let text = format!("<presence xmlns='jabber:client' from='{from}'><show>{show}</show></presence>");
        let mut out = Out::new(Stanza::parse(&text).expect("a stanza"), None, Role::Extra);
        out.weigh();
        out
    }

    fn message() -> Out {
        let mut out = Out::new(Stanza::message(Type::Headline), None, Role::Planned);
        out.weigh();
        out
    }

    #[test]
    fn of_each_sender_the_newest_presence_stays_at_its_place() {
        let mut list = Deferred::default();
        let mut weight = 0;
        for n in 0..1_000 {
            let out = presence(&format!("a@x/{}", n % 7), &format!("{n}"));
            if let Some(older) = list.take_older(&out.stanza) {
                weight -= older.weight;
            }
            weight += out.weight;
            list.push(n, out);
            if n % 100 == 0 {
                let out = message();
                weight += out.weight;
                list.push(n, out);
            }
            assert_eq!((list.weight(), list.len()), (weight, list.iter().count()));
            assert!(list.0.as_ref().is_some_and(|list| list.places.len() <= 2 * list.len + 17));
        }
        assert_eq!(list.len(), 7 + 10);
        list.retain(|out| is_state(&out.stanza));
        assert_eq!(list.len(), 7);
        let shows: Vec<String> = list
            .take()
            .iter()
            .map(|out| out.stanza.to_element().elements().next().map(|show| show.content()).unwrap_or_default())
            .collect();
        assert_eq!(shows, (993..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((list.len(), list.weight()), (0, 0));
    }

    #[test]
    fn each_goes_before_the_first_entry_behind_the_one_that_it_follows() {
        let mut list = Deferred::default();
        list.push(3, presence("a@x/1", "old"));
        list.push(5, message());
        list.push(5, presence("a@x/2", "away"));
        list.push(9, message());
        list.push_first(vec![(1, message())]);
        let newer = presence("a@x/1", "new");
        assert!(list.take_older(&newer.stanza).is_some());
        list.push(9, newer);
        let mut before = |entry| std::iter::from_fn(|| list.take_before(entry)).count();
        assert_eq!([before(1), before(2), before(5), before(6), before(9), before(10)], [0, 1, 0, 2, 0, 2]);
        assert_eq!((list.len(), list.weight()), (0, 0));
        assert!(list.take_older(&presence("a@x/1", "newest").stanza).is_none(), "it has gone out");
    }
}
