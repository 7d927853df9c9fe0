//! A query and its results (XEP-0313 §4), the archive's ends (§5).
//!
//! A page is found by the ids of its ends in the log's own index, of the account or of the account and one peer, so that its
//! cost does not grow with the archive. Where entries have to be searched, their sizes are read first, and stanzas only as
//! far as the page's budget goes.

use std::time::Duration;

use bytes::Bytes;
use vorpal_core::owner::stanza_id::IdKey;
use vorpal_core::route::reading::busy;
use vorpal_core::session::inquiries::reply;
use vorpal_core::session::inquiries::{Committed, Found, Job, MAX_FOUND, ReadError};
use vorpal_core::store::{Direction, Entry, EntryId, EntrySize, LogQuery, Owner, flags, id_at};
use vorpal_proto::archive::{self, End, Fin, Query};
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;
use vorpal_proto::rsm::{Ends, Page, Place};
use vorpal_proto::write::escape_attr;

use crate::prelude::*;

/// Maximum number of messages counted if the total is requested. A larger total is not reported.
const MAX_COUNT: usize = 10_000;

/// Maximum number of entries read for one page. Not all of them belong on it: the log's index has bare addresses, and a
/// query may have a full one.
const MAX_SEARCHED: usize = 10_000;

/// Maximum size of these entries in bytes.
const MAX_SEARCHED_BYTES: u64 = 4 << 20;

/// Number of entries read from the log at a time. A page is full at [`MAX_FOUND`], so not many large entries are read in vain.
const PIECE: usize = 16;

/// Number of entries read from the log at a time if their sizes have been read before.
const SEARCHED_PIECE: usize = 64;

/// Maximum length of a query's id, in bytes. It is written into each of its results.
const MAX_QUERYID: usize = 255;

/// Size of a result without the stored stanza, if the query's id is not long.
const AROUND: usize = 384;

type Read<T> = std::result::Result<T, ReadError>;

/// The archive, and the requester.
struct Archive {
    owner: Owner,
    ids: IdKey,
    own: Jid,
    asker: Jid,
}

impl Archive {
    fn of(cx: &mut IqCx<'_>) -> std::result::Result<Archive, StanzaError> {
        let asker = cx.asker.clone();
        let account = cx.account()?;
        Ok(Archive { owner: account.owner, ids: account.ids(), own: account.jid.as_jid().clone(), asker })
    }

    /// The message with this id, if it is in the archive; its stanza is not read. If it is not there: §4.1.3, §4.3.2.
    fn find(&self, store: &mut Committed<'_>, id: &str) -> Read<EntrySize> {
        let id = self.ids.read(id).filter(|id| *id > 0 && *id < store.horizon).ok_or_else(StanzaError::not_found)?;
        let query = LogQuery { after: id - 1, before: id + 1, flags: flags::ARCHIVED, limit: 1, ..LogQuery::default() };
        let found = store.reader.log_sizes(self.owner, query)?.pop();
        found.ok_or_else(|| StanzaError::not_found().into())
    }
}

/// §5.
pub(super) fn metadata(cx: &mut IqCx<'_>) -> std::result::Result<Job, StanzaError> {
    let archive = Archive::of(cx)?;
    Ok(Box::new(move |store| {
        let mut end = |newest_first| -> Read<Option<End>> {
            let before = store.horizon;
            let query = LogQuery { before, flags: flags::ARCHIVED, newest_first, limit: 1, ..LogQuery::default() };
            let entries = store.reader.log_range(archive.owner, query)?;
            Ok(entries.first().map(|e| End { id: archive.ids.tell(e.id), time: Timestamp::from_millis(e.time) }))
        };
        let ends = end(false)?.zip(end(true)?);
        let payload = archive::metadata(ends.as_ref().map(|(first, last)| (first, last)));
        Ok(Found { messages: Vec::new(), reply: reply(payload) })
    }))
}

/// §4.
pub(super) fn ask(cx: &mut IqCx<'_>, asked: &Element, max_page: u32) -> std::result::Result<Job, StanzaError> {
    let query = Query::read(asked)?;
    if query.queryid.as_ref().is_some_and(|id| id.len() > MAX_QUERYID) {
        return Err(StanzaError::bad_request("a queryid is at most 255 bytes"));
    }
    // §6.1.3: an account's archive has no nodes.
    if query.node.is_some() {
        return Err(StanzaError::not_found());
    }
    // XEP-0059 §2.6: counting up to there would cost more than any page.
    if matches!(query.page.place, Place::At(index) if index > 0) {
        return Err(StanzaError::feature_not_implemented().with_text("pages are found by id, not by index"));
    }
    let archive = Archive::of(cx)?;
    let max = query.page.max.unwrap_or(max_page).min(max_page) as usize;
    Ok(Box::new(move |store| Search { archive, query, max }.run(store)))
}

struct Search {
    archive: Archive,
    query: Query,
    max: usize,
}

/// The two entries between which a page lies, both excluded.
#[derive(Clone, Copy)]
struct Span {
    after: EntryId,
    before: EntryId,
}

/// The messages of a page, oldest first.
struct Hits {
    found: Vec<(EntryId, Stanza)>,
    /// there may be more in the direction of the search
    more: bool,
    /// the oldest and the newest entry read, whether they belong on the page or not
    read: Option<(EntryId, EntryId)>,
}

/// What follows a piece of a span.
enum Behind {
    Nothing,
    Rest(Span),
    /// more than the budget allows
    TooMuch,
}

/// How much may still be read for a page.
struct Budget {
    entries: usize,
    bytes: u64,
    begun: bool,
}

impl Budget {
    /// Charges an entry of this size to the budget; false if it exceeds it. The first one never does.
    fn take(&mut self, bytes: u64) -> bool {
        if self.begun && (self.entries == 0 || bytes > self.bytes) {
            return false;
        }
        self.begun = true;
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

impl Search {
    fn run(&self, store: &mut Committed<'_>) -> Read<Found> {
        let all = self.span(store)?;
        let chosen = self.chosen(store)?;
        if self.max == 0 {
            return self.count(store, all, chosen.as_deref());
        }
        let (mut span, backwards) = (all, matches!(self.query.page.place, Place::Before(_) | Place::Last));
        match &self.query.page.place {
            Place::After(id) => span.after = span.after.max(self.archive.find(store, id)?.id),
            Place::Before(id) => span.before = span.before.min(self.archive.find(store, id)?.id),
            Place::First | Place::Last | Place::At(_) => {}
        }
        let Hits { found, more, read } = self.hits(store, span, backwards, chosen)?;
        // If that costs nothing: the page begins with the very first message, or is the complete result.
        let from_start = match self.query.page.place {
            Place::First | Place::At(_) => true,
            Place::Before(_) | Place::Last => !more,
            Place::After(_) => false,
        };
        let whole = from_start && !more && !matches!(self.query.page.place, Place::Before(_));
        let ends = match (found.first(), found.last()) {
            (Some((first, _)), Some((last, _))) => Some((*first, *last)),
            // A client continues from the ends of a page (§4.3.2). A search that ended early may have found nothing: then they are
            // the ends of the searched range.
            _ if more => Some(read.ok_or_else(|| busy("messages were deleted meanwhile; ask again"))?),
            _ => None,
        };
        let ends = ends.map(|(first, last)| Ends {
            first: self.archive.ids.tell(first),
            index: (from_start && !found.is_empty()).then_some(0),
            last: self.archive.ids.tell(last),
        });
        let page = Page { ends, count: whole.then_some(found.len() as u64) };
        let mut messages: Vec<Stanza> = found.into_iter().map(|(_, stanza)| stanza).collect();
        if self.query.flip {
            messages.reverse();
        }
        Ok(Found { messages, reply: reply(Fin { complete: !more, page }.element()) })
    }

    /// §4.1.2, §4.1.3: the filters by position. Ids ascend with time: an entry's id is never below its time.
    fn span(&self, store: &mut Committed<'_>) -> Read<Span> {
        let filter = &self.query.filter;
        let start = filter.start.map_or(0, |time| id_at(time).saturating_sub(1));
        let end = filter.end.map_or(EntryId::MAX, |time| id_at(time.plus(Duration::from_millis(1))));
        let mut span = Span { after: start, before: end.min(store.horizon) };
        if let Some(id) = &filter.after_id {
            span.after = span.after.max(self.archive.find(store, id)?.id);
        }
        if let Some(id) = &filter.before_id {
            span.before = span.before.min(self.archive.find(store, id)?.id);
        }
        Ok(span)
    }

    /// §4.1.3: the messages requested by id, oldest first. All of them must exist, whatever the other filters.
    fn chosen(&self, store: &mut Committed<'_>) -> Read<Option<Vec<EntrySize>>> {
        let (ids, filter) = (&self.query.filter.ids, &self.query.filter);
        if ids.is_empty() {
            return Ok(None);
        }
        let peer = filter.with.as_ref().map(Jid::bare_str);
        let mut chosen = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = self.archive.find(store, id)?;
            if peer.is_none_or(|peer| *entry.peer == *peer) {
                chosen.push(entry);
            }
        }
        chosen.sort_unstable_by_key(|entry| entry.id);
        chosen.dedup_by_key(|entry| entry.id);
        Ok(Some(chosen))
    }

    /// Whether the stanzas have to be read to decide which entries belong on the page.
    fn needs_stanzas(&self) -> bool {
        self.query.filter.with.as_ref().is_some_and(Jid::is_full)
    }

    /// The filters that the log's index cannot apply.
    fn fits(&self, entry: &Entry) -> bool {
        let filter = &self.query.filter;
        // The clock may have been set back: then ids run ahead of it.
        if filter.start.is_some_and(|start| entry.time < start.as_millis()) {
            return false;
        }
        // §4.1.1: only a bare address matches all resources.
        let Some(with) = filter.with.as_ref().filter(|with| with.is_full()) else { return true };
        let Some(stanza) = head(&entry.body) else { return false };
        let is = |jid: &Option<Jid>| jid.as_ref() == Some(with);
        match entry.dir {
            Direction::Sent => is(&stanza.head.to),
            Direction::Received => is(&stanza.head.from),
            Direction::Both => is(&stanza.head.to) || is(&stanza.head.from),
        }
    }

    fn log_query(&self, span: Span, newest_first: bool, limit: usize) -> LogQuery<'_> {
        let Span { after, before } = span;
        // A message to oneself (§4.1.1): the log has one address for both sides.
        let peer = self.query.filter.with.as_ref().map(Jid::bare_str);
        LogQuery { after, before, peer, flags: flags::ARCHIVED, newest_first, limit }
    }

    /// The messages of a span from one of its ends, at most as many as the page may have.
    fn hits(
        &self,
        store: &mut Committed<'_>,
        span: Span,
        backwards: bool,
        chosen: Option<Vec<EntrySize>>,
    ) -> Read<Hits> {
        let mut budget = Budget { entries: MAX_SEARCHED, bytes: MAX_SEARCHED_BYTES, begun: false };
        let mut page = PageOf { search: self, bytes: 0, found: Vec::new(), more: false, read: None };
        if let Some(mut chosen) = chosen {
            chosen.retain(|entry| entry.id > span.after && entry.id < span.before);
            if backwards {
                chosen.reverse();
            }
            for EntrySize { id, bytes, .. } in chosen {
                page.more = !budget.take(bytes);
                if page.more {
                    break;
                }
                // It may have been deleted since the lookup.
                let entry = store.reader.log_get(self.archive.owner, id)?;
                if entry.is_some_and(|entry| !page.read(&entry)) {
                    break;
                }
            }
            return Ok(page.done(backwards));
        }
        let mut rest = span;
        loop {
            // One more than the page holds shows whether there are more.
            let room = self.max + 1 - page.found.len();
            let (entries, behind) = self.piece(store, rest, backwards, room, &mut budget)?;
            for entry in entries {
                if !page.read(&entry) {
                    return Ok(page.done(backwards));
                }
            }
            match behind {
                Behind::Rest(span) => rest = span,
                Behind::Nothing => return Ok(page.done(backwards)),
                Behind::TooMuch => {
                    page.more = true;
                    return Ok(page.done(backwards));
                }
            }
        }
    }

    /// The next entries of a span, at most `room`, and what follows them.
    fn piece(
        &self,
        store: &mut Committed<'_>,
        span: Span,
        backwards: bool,
        room: usize,
        budget: &mut Budget,
    ) -> Read<(Vec<Entry>, Behind)> {
        let beyond = |last: EntryId| match backwards {
            true => Behind::Rest(Span { before: last, ..span }),
            false => Behind::Rest(Span { after: last, ..span }),
        };
        if !self.needs_stanzas() {
            let limit = room.min(PIECE);
            let entries = store.reader.log_range(self.archive.owner, self.log_query(span, backwards, limit))?;
            let affordable = entries.iter().all(|entry| budget.take(entry.body.len() as u64));
            let behind = match entries.last() {
                Some(last) if entries.len() == limit && affordable => beyond(last.id),
                Some(_) if entries.len() == limit => Behind::TooMuch,
                _ => Behind::Nothing,
            };
            return Ok((entries, behind));
        }
        let limit = room.min(SEARCHED_PIECE);
        let sizes = store.reader.log_sizes(self.archive.owner, self.log_query(span, backwards, limit))?;
        let affordable = sizes.iter().take_while(|entry| budget.take(entry.bytes)).count();
        let behind = match sizes.last() {
            Some(_) if affordable < sizes.len() => Behind::TooMuch,
            Some(last) if sizes.len() == limit => beyond(last.id),
            _ => Behind::Nothing,
        };
        let Some(last) = sizes[..affordable].last().map(|entry| entry.id) else { return Ok((Vec::new(), behind)) };
        // Some may have been deleted since: no others are read instead.
        let sized = match backwards {
            true => Span { after: last - 1, ..span },
            false => Span { before: last + 1, ..span },
        };
        let entries = store.reader.log_range(self.archive.owner, self.log_query(sized, backwards, affordable))?;
        Ok((entries, behind))
    }

    /// XEP-0059 §2.7: no messages, only how many there are.
    fn count(&self, store: &mut Committed<'_>, span: Span, chosen: Option<&[EntrySize]>) -> Read<Found> {
        let count = match chosen {
            _ if self.needs_stanzas() => self.count_read(store, span, chosen)?,
            Some(chosen) => Some(chosen.iter().filter(|of| of.id > span.after && of.id < span.before).count()),
            None => {
                let query = self.log_query(span, false, MAX_COUNT + 1);
                Some(store.reader.log_count(self.archive.owner, query)?).filter(|count| *count <= MAX_COUNT)
            }
        };
        let page = Page { ends: None, count: count.map(|count| count as u64) };
        Ok(Found { messages: Vec::new(), reply: reply(Fin { complete: count == Some(0), page }.element()) })
    }

    /// The number of matching entries if stanzas have to be read; `None` if the budget of a page does not suffice.
    fn count_read(&self, store: &mut Committed<'_>, span: Span, chosen: Option<&[EntrySize]>) -> Read<Option<usize>> {
        let mut budget = Budget { entries: MAX_SEARCHED, bytes: MAX_SEARCHED_BYTES, begun: false };
        let mut count = 0;
        for EntrySize { id, bytes, .. } in chosen.into_iter().flatten() {
            if *id <= span.after || *id >= span.before {
                continue;
            }
            if !budget.take(*bytes) {
                return Ok(None);
            }
            let entry = store.reader.log_get(self.archive.owner, *id)?;
            count += usize::from(entry.is_some_and(|entry| self.fits(&entry)));
        }
        let mut rest = Some(span).filter(|_| chosen.is_none());
        while let Some(span) = rest {
            let (entries, behind) = self.piece(store, span, false, SEARCHED_PIECE, &mut budget)?;
            count += entries.iter().filter(|entry| self.fits(entry)).count();
            rest = match behind {
                Behind::Rest(span) => Some(span),
                Behind::Nothing => None,
                Behind::TooMuch => return Ok(None),
            };
        }
        Ok(Some(count))
    }

    /// §4.2. The stored bytes go in as they are.
    fn result(&self, entry: &Entry) -> Stanza {
        let mut raw = Vec::with_capacity(entry.body.len() + AROUND);
        raw.extend_from_slice(b"<result xmlns='urn:xmpp:mam:2'");
        if let Some(queryid) = &self.query.queryid {
            raw.extend_from_slice(b" queryid='");
            escape_attr(&mut raw, queryid);
            raw.push(b'\'');
        }
        raw.extend_from_slice(b" id='");
        raw.extend_from_slice(self.archive.ids.tell(entry.id).as_bytes());
        raw.extend_from_slice(b"'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='");
        raw.extend_from_slice(Timestamp::from_millis(entry.time).to_string().as_bytes());
        raw.extend_from_slice(b"'/>");
        // §3.2: the remains of a message that was deleted from the middle.
        if let Some(rest) = entry.body.strip_prefix(b"<message") {
            raw.extend_from_slice(b"<message xmlns='jabber:client'");
            raw.extend_from_slice(rest);
        }
        raw.extend_from_slice(b"</forwarded></result>");
        let mut stanza = Stanza::message(Type::None).from(self.archive.own.clone()).to(self.archive.asker.clone());
        stanza.append_written(ns::MAM, "result", Bytes::from(raw));
        stanza
    }
}

/// A page under construction.
struct PageOf<'a> {
    search: &'a Search,
    bytes: usize,
    found: Vec<(EntryId, Stanza)>,
    more: bool,
    /// the first and the last entry read
    read: Option<(EntryId, EntryId)>,
}

impl PageOf<'_> {
    /// Adds an entry, if it belongs here. False if the page is full: the entry belongs to the next page.
    fn read(&mut self, entry: &Entry) -> bool {
        if self.search.fits(entry) && !self.take(entry) {
            return false;
        }
        self.read = Some((self.read.map_or(entry.id, |(first, _)| first), entry.id));
        true
    }

    /// False if the page is full.
    fn take(&mut self, entry: &Entry) -> bool {
        // Checked before building, so that no result is built that does not fit.
        let full = self.found.len() >= self.search.max;
        if full || !self.found.is_empty() && self.bytes + entry.body.len() > MAX_FOUND {
            self.more = true;
            return false;
        }
        let stanza = self.search.result(entry);
        let bytes = self.bytes + written_size(&stanza);
        if !self.found.is_empty() && bytes > MAX_FOUND {
            self.more = true;
            return false;
        }
        self.bytes = bytes;
        self.found.push((entry.id, stanza));
        true
    }

    fn done(mut self, backwards: bool) -> Hits {
        if backwards {
            self.found.reverse();
            self.read = self.read.map(|(newest, oldest)| (oldest, newest));
        }
        Hits { found: self.found, more: self.more, read: self.read }
    }
}

/// The stanza without its content: the addresses are in its first tag.
fn head(body: &[u8]) -> Option<Stanza> {
    let mut quote = None;
    let end = body.iter().position(|byte| match (quote, byte) {
        (None, b'>') => true,
        (None, b'\'' | b'"') => {
            quote = Some(*byte);
            false
        }
        (Some(open), byte) if open == *byte => {
            quote = None;
            false
        }
        _ => false,
    })?;
    let tag = std::str::from_utf8(&body[..end]).ok()?;
    Stanza::parse(&format!("{}/>", tag.strip_suffix('/').unwrap_or(tag))).ok()
}

/// Upper bound of the size of a result as it is written to the client.
fn written_size(result: &Stanza) -> usize {
    // An apostrophe in an address becomes six bytes.
    let addresses = [&result.head.from, &result.head.to];
    let apostrophes: usize = addresses.into_iter().flatten().map(|jid| jid.as_str().matches('\'').count()).sum();
    result.weight() + 5 * apostrophes
}
