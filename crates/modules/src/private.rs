//! XEP-0049: Private XML Storage.
//!
//! Keeps XML elements for a user's clients: preferences, bookmarks (XEP-0048), notes on contacts. Each is stored and returned by its
//! namespace and name. A set may hold several elements, also of several namespaces.
//!
//! Hooks:  none
//! Stores: account list `private_index` of names and sizes; cold rows `private`, one for each element
//! Config: `max_items`, `max_bytes`
//! Limits: 128 KiB for an element, and for all that one request returns; 512 bytes for a namespace and a name
//! Not:    elements in the namespaces that §2.3 reserves; bookmarks are kept as they are, and not in PEP (XEP-0402) as well

use std::collections::BTreeSet;

use bytes::Bytes;
use vorpal_config::{Bounded, GIB, KIB, MIB, section};
use vorpal_core::owner::cold::ColdMap;
use vorpal_core::session::inquiries::{Answer, Found, Job, MAX_FOUND, ReadError, Said, reply};
use vorpal_core::store::StoreError;
use vorpal_proto::kept::{self, NotKept};

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "private", xeps: &[Xep(49, "1.2")], setup };

section! {
    /// Private XML storage (XEP-0049): data that clients keep on the server, such as bookmarks.
    pub(crate) struct Config in "modules.private" {
        /// Maximum number of elements of one account.
        max_items: Bounded<u32, 1, MOST_ITEMS> = Bounded::clamp(200), example 50;
        /// Maximum size of all elements of one account, their namespaces and names included.
        max_bytes: Bounded<vorpal_config::Bytes, {64 * KIB}, GIB> = Bounded::clamp(vorpal_config::Bytes::new(MIB)), example "256 KiB";
    }
}

/// Maximum size of an element, in bytes. A request for several returns no more either.
const MAX_ITEM: usize = MAX_FOUND;

/// How many elements an account may have by any configuration, and a request may name if any of them is to be read.
const MOST_ITEMS: u64 = 1_000;

/// Maximum length of a namespace and a name together, in bytes. They are in memory with the account.
const MAX_NAME: usize = 512;

/// Namespace and name of an element.
type Name = (String, String);

#[derive(Clone, Copy)]
struct Private {
    /// the bytes of each element, its namespace and its name; the same names as in `items`
    index: Map<Name, u32>,
    /// the elements as XML
    items: ColdMap<Name, Bytes>,
    max_items: usize,
    max_bytes: u64,
}

fn setup(m: &mut Setup<'_>) -> Result {
    let config = m.config::<Config>()?;
    let private = Private {
        index: m.account_map("private_index"),
        items: m.cold_map("private"),
        max_items: config.max_items.get() as usize,
        max_bytes: config.max_bytes.get().get(),
    };
    m.feature(ns::PRIVATE);
    m.account_feature(ns::PRIVATE);
    m.iq_get_reading(At::OwnAccount, ns::PRIVATE, "query", move |cx, query| private.get(cx, query));
    m.iq_set(At::OwnAccount, ns::PRIVATE, "query", move |cx, query| private.set(cx, query));
    // §2.3: `forbidden` is preferable. Strangers do not even learn whether the account exists.
    m.iq_get(At::Contacts, ns::PRIVATE, "query", |_, _| forbidden());
    m.iq_set(At::Contacts, ns::PRIVATE, "query", |_, _| forbidden());
    Ok(())
}

fn forbidden() -> Answer {
    Err(StanzaError::forbidden("this is the private storage of another user"))
}

impl Private {
    /// §2.3, example 2. What is not stored is returned as it was asked for.
    fn get(self, cx: &mut IqCx<'_>, query: &Element) -> std::result::Result<Said, StanzaError> {
        let asked = elements(query)?;
        let Some(first) = asked.first() else {
            return Err(StanzaError::bad_request("a request names an element"));
        };
        if asked.iter().any(|element| element.ns() != first.ns()) {
            return Err(StanzaError::bad_request("a request is about one namespace"));
        }
        let states = &cx.account()?.states;
        let sizes: Vec<usize> =
            asked.iter().filter_map(|element| Some(*states.newest(self.index, &name(element))? as usize)).collect();
        if sizes.is_empty() {
            return Ok(reply(el("query", ns::PRIVATE).children(asked.into_iter().map(Element::tag))).into());
        }
        let too_much = || StanzaError::policy_violation("too much at once: request fewer elements");
        if asked.len() as u64 > MOST_ITEMS || sizes.len() > 1 && sizes.iter().sum::<usize>() > MAX_ITEM {
            return Err(too_much());
        }
        // The question may wait, and what the client put into the elements does not wait with it.
        let (items, asked) = (cx.cold(self.items)?, asked.into_iter().map(Element::tag).collect::<Vec<Element>>());
        let job: Job = Box::new(move |store| {
            let mut answer = el("query", ns::PRIVATE);
            let (mut found, mut size) = (0, 0);
            for element in asked {
                let Some(xml) = items.get(store, &name(&element))? else {
                    answer.push_child(element);
                    continue;
                };
                // Another session may have stored larger ones meanwhile.
                (found, size) = (found + 1, size + xml.len());
                if found > 1 && size > MAX_ITEM {
                    return Err(too_much().into());
                }
                answer.push_child(read(&xml)?);
            }
            Ok(Found { messages: Vec::new(), reply: reply(answer) })
        });
        Ok(job.into())
    }

    /// §2.3, example 1. Each element replaces the one of its namespace and name; an empty one removes it, since that is also returned
    /// for what is not stored.
    fn set(self, cx: &mut IqCx<'_>, query: &Element) -> Answer {
        let given = elements(query)?;
        if given.is_empty() {
            return Err(StanzaError::not_acceptable().with_text("there is no element to store"));
        }
        let states = &cx.account()?.states;
        let before = (states.newest_len(self.index), states.newest_sum(self.index, |_, size| *size as usize));
        let mut after = before;
        let mut changes: Vec<(Name, Option<(u32, Bytes)>)> = Vec::with_capacity(given.len());
        for element in given {
            let name = name(element);
            let known = states.newest(self.index, &name).map(|size| *size as usize);
            let item = if is_empty(element) { None } else { Some(written(element, &name)?) };
            let size = item.as_ref().map(|(size, _)| *size as usize);
            after.0 = after.0 + usize::from(size.is_some()) - usize::from(known.is_some());
            after.1 = after.1 + size.unwrap_or(0) - known.unwrap_or(0);
            if item.is_some() || known.is_some() {
                changes.push((name, item));
            }
        }
        // What is there already may shrink, and not grow.
        if after.0 > self.max_items.max(before.0) {
            return Err(StanzaError::resource_constraint().with_text("too many elements are stored"));
        }
        if after.1 as u64 > self.max_bytes.max(before.1 as u64) {
            return Err(StanzaError::resource_constraint().with_text("too much is stored"));
        }
        for (name, item) in changes {
            match &item {
                Some((_, xml)) => cx.put(self.items, &name, xml)?,
                None => cx.remove(self.items, &name)?,
            }
            cx.account()?.states.stage(self.index, name, item.map(|(size, _)| size));
        }
        ok()
    }
}

/// The elements in a query, which have namespaces of their own.
fn elements(query: &Element) -> std::result::Result<Vec<&Element>, StanzaError> {
    if !query.content().trim().is_empty() {
        return Err(StanzaError::bad_request("a query has elements, and no text"));
    }
    let mut seen = BTreeSet::new();
    for element in query.elements() {
        if is_reserved(element.ns()) {
            return Err(StanzaError::not_acceptable().with_text("elements in this namespace are not stored"));
        }
        if element.ns().len() + element.name().len() > MAX_NAME {
            return Err(StanzaError::policy_violation("the namespace or the name is too long"));
        }
        if !seen.insert((element.ns(), element.name())) {
            return Err(StanzaError::bad_request("an element is named twice"));
        }
    }
    Ok(query.elements().collect())
}

/// §2.3: no namespace, the query's own, and the reserved ones.
fn is_reserved(ns: &str) -> bool {
    ns.is_empty() || ns::is_jabbers(ns)
}

fn name(element: &Element) -> Name {
    (element.ns().to_owned(), element.name().to_owned())
}

fn is_empty(element: &Element) -> bool {
    element.nodes().is_empty() && element.attrs().next().is_none()
}

/// An element as it is stored, and its size with its name.
fn written(element: &Element, (ns, name): &Name) -> std::result::Result<(u32, Bytes), StanzaError> {
    let xml = kept::write(element, MAX_ITEM).map_err(|fault| match fault {
        NotKept::TooLarge => StanzaError::policy_violation("an element is too large"),
        NotKept::CannotBeRead => StanzaError::not_acceptable()
            .with_text("an element cannot be stored: it has too many namespaces, or too long names"),
    })?;
    let size = u32::try_from(ns.len() + name.len() + xml.len()).map_err(|_| StanzaError::internal_server_error())?;
    Ok((size, xml))
}

fn read(xml: &Bytes) -> std::result::Result<Element, ReadError> {
    kept::read(xml).ok_or(ReadError::Store(StoreError::Bug("a private element cannot be read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_reserved() {
        for ns in ["", "jabber:client", "jabber:iq:private", "jabber:x", "http://jabber.org/protocol/x", "vcard-temp"] {
            assert!(is_reserved(ns), "{ns}");
        }
        for ns in ["storage:bookmarks", "exodus:prefs", "urn:jabber:x", "http://jabber.example/", "vcard-temp:x"] {
            assert!(!is_reserved(ns), "{ns}");
        }
    }
}
