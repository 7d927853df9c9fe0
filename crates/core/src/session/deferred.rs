//! What came for a session while it reads its account's log, and is not in the log: it waits until the log was read.

use std::collections::BTreeMap;

use vorpal_proto::jid::Jid;
use vorpal_proto::stanza::Stanza;

use super::{Out, is_state};

/// A list of stanzas, in order. Presence is found by its sender, whatever else waits: a contact's presence costs the same
/// for each session that reads.
#[derive(Default)]
pub(super) struct Deferred(Option<Box<List>>);

#[derive(Default)]
struct List {
    /// those that were taken out again leave a hole
    places: Vec<Option<Out>>,
    /// how many there are
    len: usize,
    weight: usize,
    /// where the newest presence of a sender stands
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
        self.0.iter().flat_map(|list| list.places.iter().flatten())
    }

    /// To change what is known of them; not the stanza itself.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Out> {
        self.0.iter_mut().flat_map(|list| list.places.iter_mut().flatten())
    }

    /// Appends one that was weighed.
    pub fn push(&mut self, out: Out) {
        let list = self.0.get_or_insert_default();
        if list.places.len() > 2 * list.len + 16 {
            list.close_holes();
        }
        list.add(out);
    }

    /// Takes the presence out that a newer one of the same sender takes the place of.
    pub fn take_older(&mut self, newer: &Stanza) -> Option<Out> {
        let list = self.0.as_mut()?;
        let at = list.newest.remove(newer.head.from.as_ref()?)?;
        let older = list.places.get_mut(at)?.take()?;
        list.len -= 1;
        list.weight -= older.weight;
        Some(older)
    }

    /// Keeps these.
    pub fn retain(&mut self, which: impl Fn(&Out) -> bool) {
        let kept: Vec<Out> = self.take().into_iter().filter(|out| which(out)).collect();
        kept.into_iter().for_each(|out| self.push(out));
    }

    /// Empties it.
    pub fn take(&mut self) -> Vec<Out> {
        self.0.take().map_or_else(Vec::new, |list| list.places.into_iter().flatten().collect())
    }
}

impl List {
    fn add(&mut self, out: Out) {
        self.len += 1;
        self.weight += out.weight;
        if let (true, Some(from)) = (is_state(&out.stanza), &out.stanza.head.from) {
            self.newest.insert(from.clone(), self.places.len());
        }
        self.places.push(Some(out));
    }

    fn close_holes(&mut self) {
        let List { places, .. } = std::mem::take(self);
        places.into_iter().flatten().for_each(|out| self.add(out));
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::stanza::Type;

    use super::super::Role;
    use super::*;

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
            list.push(out);
            if n % 100 == 0 {
                let out = message();
                weight += out.weight;
                list.push(out);
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
}
