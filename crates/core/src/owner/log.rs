//! An account's log: the session data of an entry, and the form in which each session gets the entry.
//!
//! `form` is used for every read of the log: replay after a resumption, after a restart, and missed entries. Live delivery uses the
//! same functions for copies, delays and stanza ids, so the results cannot differ.

use bytes::Bytes;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::Jid;
use vorpal_proto::ns;
use vorpal_proto::stanza::Stanza;

use crate::owner::account::Account;
use crate::owner::plan::Targets;
use crate::owner::stanza_id::IdKey;
use crate::owner::words::Draft;
use crate::rules::delay::delayed;
use crate::session::{Role, Session, SessionId};
use crate::store::{Direction, Entry, EntryId, Side, flags};

/// The session data of an entry, for one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogMeta {
    /// the session that sent it
    pub origin: Option<SessionId>,
    /// the sessions it was planned for
    pub targets: Targets,
    /// the sessions that get it as a copy of what the account received
    pub copies: Targets,
    /// the sessions that get it as a copy of what the account sent
    pub sent_copies: Targets,
    /// when the message arrived, if a session held it before it was written to the log
    pub since: Option<Timestamp>,
}

const META_VERSION: u8 = 1;

impl LogMeta {
    fn encode(&self) -> Bytes {
        let origin: &[SessionId] = self.origin.as_slice();
        let lists = [origin, &self.targets, &self.copies, &self.sent_copies];
        // Allocated with its final length, once.
        let ids: usize = lists.iter().map(|list| list.len().min(255)).sum();
        let mut out = Vec::with_capacity(1 + lists.len() + 8 * (ids + usize::from(self.since.is_some())));
        out.push(META_VERSION);
        for list in lists {
            out.push(list.len().min(255) as u8);
            for id in list.iter().take(255) {
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
        // At the end, because it was added later: without it an entry arrived when it was written.
        if let Some(since) = self.since {
            out.extend_from_slice(&since.as_millis().to_be_bytes());
        }
        out.into()
    }

    /// `None` for the format of an older or newer version: such an entry counts as missed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<LogMeta> {
        let (&META_VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut list = || -> Option<Targets> {
            let (count, tail) = rest.split_first()?;
            let (ids, tail) = tail.split_at_checked(usize::from(*count) * 8)?;
            rest = tail;
            ids.chunks_exact(8).map(|id| id.try_into().ok().map(SessionId::from_be_bytes)).collect()
        };
        let origin = list()?.first().copied();
        let (targets, copies, sent_copies) = (list()?, list()?, list()?);
        let since = rest.try_into().ok().map(|millis| Timestamp::from_millis(u64::from_be_bytes(millis)));
        Some(LogMeta { origin, targets, copies, sent_copies, since })
    }

    fn side(&self, account: &Account, peer: &Jid, dir: Direction, archive: bool) -> Side {
        Side {
            owner: account.owner,
            dir,
            flags: if archive { flags::ARCHIVED } else { 0 },
            peer: peer.bare_str().into(),
            meta: self.encode(),
        }
    }

    pub(crate) fn received(&self, account: &Account, peer: &Jid) -> Side {
        self.side(account, peer, Direction::Received, false)
    }

    pub(crate) fn sent(&self, account: &Account, peer: &Jid, archive: bool) -> Side {
        self.side(account, peer, Direction::Sent, archive)
    }

    pub(crate) fn both(&self, account: &Account, peer: &Jid, archive: bool) -> Side {
        self.side(account, peer, Direction::Both, archive)
    }
}

impl Draft {
    pub(crate) fn new(stanza: &Stanza, sides: [Option<Side>; 2]) -> Draft {
        let mut body = Vec::with_capacity(stanza.weight());
        stanza.write(&mut body, None);
        Draft { sides, body: body.into() }
    }

    /// Whether the archive of one of its owners keeps the entry.
    pub(crate) fn is_archived(&self, side: usize) -> bool {
        self.sides.get(side).and_then(Option::as_ref).is_some_and(|side| side.flags & flags::ARCHIVED != 0)
    }
}

/// The stanza of an entry; `None` if it cannot be parsed (any more).
pub(crate) fn stanza_of(entry: &Entry) -> Option<Stanza> {
    Stanza::stored(&entry.body).ok()
}

/// What a session that reads the log is given of an entry.
pub(crate) enum Form {
    /// This stanza.
    Given(Stanza, Role),
    /// Nothing, though no other session took the entry: the session was given a copy of it before. That is as good as the message.
    HasCopy,
    /// Nothing.
    Left,
}

/// The form of an entry for one session. The first match counts: the entry was planned for the session; the account received it and
/// no session took it; the session gets a copy of what was sent or received. `missed` says whether no session took or holds the
/// entry. Below `had_to` the session was given its entries live, copies included.
pub(crate) fn form(
    account: &Account,
    session: &Session,
    entry: &Entry,
    mut stanza: Stanza,
    missed: bool,
    had_to: EntryId,
) -> Form {
    if entry.flags & flags::ARCHIVED != 0 {
        account.stamp(&mut stanza, entry.id);
    }
    let meta = LogMeta::decode(&entry.meta).unwrap_or_default();
    let received = entry.dir != Direction::Sent;
    let live = entry.id < had_to;
    let time = meta.since.map_or(entry.time, Timestamp::as_millis);
    if meta.targets.contains(&session.id) && !live {
        return Form::Given(delayed(stanza, &account.jid, time), Role::Planned);
    }
    let orphaned = !meta.targets.iter().any(|id| account.session(*id).is_some());
    if received && missed && orphaned {
        // A session is given copies before its first presence, and while its priority is negative.
        if live && [&meta.copies, &meta.sent_copies].iter().any(|copies| copies.contains(&session.id)) {
            return Form::HasCopy;
        }
        return Form::Given(delayed(stanza, &account.jid, time), Role::Missed);
    }
    if meta.origin == Some(session.id) || live {
        return Form::Left;
    }
    let wrapped = |name: &str| {
        let stanza = delayed(stanza.clone(), &account.jid, time);
        copy_of(&stanza, name, account.jid.as_jid()).to(session.jid.clone())
    };
    if meta.sent_copies.contains(&session.id) {
        return Form::Given(wrapped("sent"), Role::Extra);
    }
    if meta.copies.contains(&session.id) {
        return Form::Given(wrapped("received"), Role::Extra);
    }
    Form::Left
}

/// Whether the session was given the entry itself live, and has taken it unless it still holds it.
pub(crate) fn was_given(session: &Session, entry: &Entry, had_to: EntryId) -> bool {
    entry.id < had_to && LogMeta::decode(&entry.meta).is_some_and(|meta| meta.targets.contains(&session.id))
}

/// XEP-0280 §7, §8: the copy comes from the account's bare address, and has the type of what it carries.
pub(crate) fn copy_of(stanza: &Stanza, direction: &str, account: &Jid) -> Stanza {
    let mut copy = Stanza::message(stanza.type_()).from(account.bare().into_jid());
    copy.append_around(stanza, &[(ns::CARBONS, direction), (ns::FORWARD, "forwarded")]);
    copy
}

impl Account {
    /// The key of its ids.
    pub fn ids(&self) -> IdKey {
        self.ids
    }

    /// Adds the archive's id of an entry of the account (XEP-0359 §2.1).
    pub(crate) fn stamp(&self, stanza: &mut Stanza, entry: EntryId) {
        self.ids.stamp(&self.jid, stanza, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_sessions_is_read_as_it_was_written() {
        let ids = |list: &[u64]| list.iter().copied().collect();
        let (targets, copies, sent_copies) = (ids(&[1, 2]), ids(&[]), ids(&[9]));
        let meta = LogMeta { origin: Some(7), targets, copies, sent_copies, since: None };
        assert_eq!(LogMeta::decode(&meta.encode()), Some(meta.clone()));
        let meta = LogMeta { since: Some(Timestamp::from_millis(1_767_225_600_000)), ..meta };
        assert_eq!(LogMeta::decode(&meta.encode()), Some(meta));
        assert_eq!(LogMeta::decode(&[]), None);
        assert_eq!(LogMeta::decode(&[9, 0, 0, 0, 0]), None);
        assert_eq!(LogMeta::decode(&[META_VERSION, 200, 1]), None);
    }
}
