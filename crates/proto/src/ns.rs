//! The namespaces of XMPP, one line each, with the specification they come from.
//!
//! A namespace is a small number wherever it is compared: the parser looks a name up once, everything above compares
//! integers. Names that are not in the table have the number 0 and are compared as strings.

/// A namespace known when the program was built.
#[derive(Clone, Copy, Debug)]
pub struct Ns {
    id: u16,
    uri: &'static str,
}

impl Ns {
    /// A namespace that this table need not list: for modules kept outside this repository. Compared as a string; if the
    /// table has it, or comes to have it, it is the one of the table.
    pub const fn private(uri: &'static str) -> Ns {
        let mut at = 0;
        while at < COUNT {
            if same(TABLE[at].uri.as_bytes(), uri.as_bytes()) {
                return TABLE[at];
            }
            at += 1;
        }
        Ns { id: 0, uri }
    }

    /// The name as it stands in `xmlns`.
    pub const fn as_str(self) -> &'static str {
        self.uri
    }

    /// The number of the namespace; 0 for one that is not in the table.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// The number that belongs to `uri`, 0 if it is not in the table.
    pub fn id_of(uri: &str) -> u16 {
        Ns::id_of_bytes(uri.as_bytes())
    }

    /// As [`id_of`](Ns::id_of), for bytes that may be a name.
    pub(crate) fn id_of_bytes(uri: &[u8]) -> u16 {
        let mut slot = slot_of(uri);
        loop {
            let id = BY_HASH[slot];
            match Ns::known(id) {
                Some(ns) if ns.uri.as_bytes() != uri => slot = (slot + 1) % SLOTS,
                _ => return id,
            }
        }
    }

    /// The namespace with this number, if the table has one.
    pub fn known(id: u16) -> Option<Ns> {
        usize::from(id).checked_sub(1).and_then(|at| TABLE.get(at)).copied()
    }

    /// Whether an element with this number and this name is in the namespace.
    #[inline]
    pub fn is(self, id: u16, uri: &str) -> bool {
        if self.id != 0 { self.id == id } else { id == 0 && self.uri == uri }
    }
}

impl PartialEq for Ns {
    fn eq(&self, other: &Ns) -> bool {
        self.is(other.id, other.uri)
    }
}

impl Eq for Ns {}

macro_rules! namespaces {
    ($($(#[$doc:meta])* $name:ident = $uri:literal;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Number { _Unknown, $($name),* }
        $($(#[$doc])* pub const $name: Ns = Ns { id: Number::$name as u16, uri: $uri };)*
        const COUNT: usize = 0 $(+ { let _ = $name; 1 })*;
        const TABLE: [Ns; COUNT] = [$($name),*];
    };
}

namespaces! {
    /// RFC 6120: the content namespace between client and server.
    CLIENT = "jabber:client";
    /// RFC 6120: the content namespace between servers.
    SERVER = "jabber:server";
    /// XEP-0114: the content namespace of a component that connected to us.
    COMPONENT = "jabber:component:accept";
    /// RFC 6120 §4: streams.
    STREAM = "http://etherx.jabber.org/streams";
    /// RFC 6120 §4.9: conditions of stream errors.
    STREAM_ERROR = "urn:ietf:params:xml:ns:xmpp-streams";
    /// RFC 6120 §8.3: conditions of stanza errors.
    STANZA_ERROR = "urn:ietf:params:xml:ns:xmpp-stanzas";
    /// RFC 6120 §5: STARTTLS.
    TLS = "urn:ietf:params:xml:ns:xmpp-tls";
    /// RFC 6120 §6: SASL.
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// RFC 6120 §7: resource binding.
    BIND = "urn:ietf:params:xml:ns:xmpp-bind";
    /// RFC 3921 §3: session establishment, kept for old clients.
    SESSION = "urn:ietf:params:xml:ns:xmpp-session";
    /// RFC 6121 §2: roster.
    ROSTER = "jabber:iq:roster";
    /// RFC 6121 §2.6: roster versioning, as a stream feature.
    ROSTER_VERSIONING = "urn:xmpp:features:rosterver";
    /// RFC 6121 §3.4: pre-approved subscriptions, as a stream feature.
    PRE_APPROVAL = "urn:xmpp:features:pre-approval";
    /// The namespace bound to the prefix `xml`.
    XML = "http://www.w3.org/XML/1998/namespace";
    /// XEP-0004: data forms.
    DATA_FORMS = "jabber:x:data";
    /// XEP-0122: what may be put into a field of a data form.
    DATA_VALIDATE = "http://jabber.org/protocol/xdata-validate";
    /// XEP-0012: last activity.
    LAST = "jabber:iq:last";
    /// XEP-0016: privacy lists.
    PRIVACY = "jabber:iq:privacy";
    /// XEP-0030: service discovery, information.
    DISCO_INFO = "http://jabber.org/protocol/disco#info";
    /// XEP-0030: service discovery, items.
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items";
    /// XEP-0045: multi-user chat.
    MUC = "http://jabber.org/protocol/muc";
    /// XEP-0045: multi-user chat, what a room says of its users.
    MUC_USER = "http://jabber.org/protocol/muc#user";
    /// XEP-0048: bookmarks.
    BOOKMARKS_OLD = "storage:bookmarks";
    /// XEP-0050: ad-hoc commands.
    COMMANDS = "http://jabber.org/protocol/commands";
    /// XEP-0059: result set management.
    RSM = "http://jabber.org/protocol/rsm";
    /// XEP-0085: chat states.
    CHAT_STATES = "http://jabber.org/protocol/chatstates";
    /// XEP-0090: legacy entity time.
    TIME_OLD = "jabber:iq:time";
    /// XEP-0092: software version.
    VERSION = "jabber:iq:version";
    /// XEP-0115: entity capabilities.
    CAPS = "http://jabber.org/protocol/caps";
    /// XEP-0172: user nickname.
    NICK = "http://jabber.org/protocol/nick";
    /// XEP-0157: contact addresses of a service, as the type of a form.
    SERVER_INFO = "http://jabber.org/network/serverinfo";
    /// XEP-0184: message delivery receipts.
    RECEIPTS = "urn:xmpp:receipts";
    /// XEP-0191: blocking command.
    BLOCKING = "urn:xmpp:blocking";
    /// XEP-0191 §3.5: the condition of errors caused by blocking.
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors";
    /// XEP-0198: stream management.
    SM = "urn:xmpp:sm:3";
    /// XEP-0199: ping.
    PING = "urn:xmpp:ping";
    /// XEP-0202: entity time.
    TIME = "urn:xmpp:time";
    /// XEP-0203: delayed delivery.
    DELAY = "urn:xmpp:delay";
    /// XEP-0249: direct invitations to rooms.
    CONFERENCE = "jabber:x:conference";
    /// XEP-0280: message carbons.
    CARBONS = "urn:xmpp:carbons:2";
    /// XEP-0280 §6.1: the rules by which messages are eligible.
    CARBONS_RULES = "urn:xmpp:carbons:rules:0";
    /// XEP-0297: stanza forwarding.
    FORWARD = "urn:xmpp:forward:0";
    /// XEP-0308: last message correction.
    CORRECT = "urn:xmpp:message-correct:0";
    /// XEP-0313: message archive management.
    MAM = "urn:xmpp:mam:2";
    /// XEP-0313 §7: queries by id, flipped pages and metadata.
    MAM_EXTENDED = "urn:xmpp:mam:2#extended";
    /// XEP-0313 §7: the field `include-groupchat` is understood.
    MAM_GROUPCHAT = "urn:xmpp:mam:2#groupchat-field";
    /// XEP-0333: displayed markers.
    CHAT_MARKERS = "urn:xmpp:chat-markers:0";
    /// XEP-0334: message processing hints.
    HINTS = "urn:xmpp:hints";
    /// XEP-0352: client state indication.
    CSI = "urn:xmpp:csi:0";
    /// XEP-0353: Jingle message initiation.
    JINGLE_MESSAGE = "urn:xmpp:jingle-message:0";
    /// XEP-0359: unique and stable stanza ids.
    STANZA_ID = "urn:xmpp:sid:0";
    /// XEP-0380: explicit message encryption.
    EME = "urn:xmpp:eme:0";
    /// XEP-0373: OpenPGP for XMPP.
    OPENPGP = "urn:xmpp:openpgp:0";
    /// XEP-0027: OpenPGP as it was.
    OPENPGP_OLD = "jabber:x:encrypted";
    /// XEP-0384: OMEMO, the version in use by most clients.
    OMEMO = "eu.siacs.conversations.axolotl";
    /// XEP-0384: OMEMO 2.
    OMEMO_2 = "urn:xmpp:omemo:2";
    /// XEP-0424: message retraction.
    RETRACT = "urn:xmpp:message-retract:1";
    /// XEP-0444: message reactions.
    REACTIONS = "urn:xmpp:reactions:0";
    /// XEP-0440: channel-binding types a server supports.
    SASL_CB = "urn:xmpp:sasl-cb:0";
    /// XEP-0077: in-band registration.
    REGISTER = "jabber:iq:register";
    /// XEP-0054: vcard-temp.
    VCARD = "vcard-temp";
    /// XEP-0049: private XML storage.
    PRIVATE = "jabber:iq:private";
}

/// Many more slots than namespaces, so that most look-ups end at the first.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 11;
const _: () = assert!(COUNT * 4 < SLOTS, "the table of namespaces has outgrown its index");

/// Where the number of each name is found: at the slot its hash gives or in the next that was free. It is worked out by
/// the compiler, and peers add nothing to it, so the hash need not be secret.
static BY_HASH: [u16; SLOTS] = by_hash();

const fn by_hash() -> [u16; SLOTS] {
    let mut index = [0; SLOTS];
    let mut at = 0;
    while at < COUNT {
        let mut slot = slot_of(TABLE[at].uri.as_bytes());
        while index[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = TABLE[at].id;
        at += 1;
    }
    index
}

/// Equality that the compiler can work out.
const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Eight bytes at a time: namespaces are looked up several times for every stanza.
const fn slot_of(name: &[u8]) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = name.len() as u64;
    let mut rest = name;
    while let Some((word, tail)) = rest.split_first_chunk() {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        rest = tail;
    }
    // What is left is read together with what came before it, if there is enough.
    let last = match name.last_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let (mut word, mut at) = (0, 0);
            while at < name.len() {
                word = word << 8 | name[at] as u64;
                at += 1;
            }
            word
        }
    };
    hash = (hash.rotate_left(23) ^ last).wrapping_mul(FACTOR);
    (hash >> (u64::BITS - SLOT_BITS)) as usize
}

/// Whether a namespace is one of those that Jabber keeps for itself (XEP-0049 §2.3).
pub fn is_jabbers(ns: &str) -> bool {
    ns.starts_with("jabber:") || ns.starts_with("http://jabber.org/") || ns == VCARD.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_number() {
        for ns in TABLE {
            assert_eq!(Ns::id_of(ns.as_str()), ns.id(), "{}", ns.as_str());
            assert_eq!(Ns::known(ns.id()).map(Ns::as_str), Some(ns.as_str()));
        }
        assert_eq!(Ns::id_of("urn:example:none"), 0);
        assert!(Ns::known(0).is_none());
        assert!(Ns::known(u16::MAX).is_none());
    }

    #[test]
    fn the_names_of_the_table_are_distinct_and_portable_and_near_their_slots() {
        for (at, ns) in TABLE.iter().enumerate() {
            assert!(TABLE[..at].iter().all(|other| other.uri != ns.uri), "{}", ns.uri);
            let probes = (0..SLOTS).take_while(|n| BY_HASH[(slot_of(ns.uri.as_bytes()) + n) % SLOTS] != ns.id);
            assert!(probes.count() < 4, "{}", ns.uri);
            assert!(crate::portable::is_portable_uri(ns.uri.as_bytes()), "{}", ns.uri);
            assert!(crate::write::is_plain(ns.uri), "{}", ns.uri);
        }
    }

    #[test]
    fn names_outside_the_table_are_compared_as_strings() {
        let mine = Ns::private("urn:example:mine");
        assert!(mine.is(0, "urn:example:mine"));
        assert!(!mine.is(0, "urn:example:other"));
        assert!(PING.is(Ns::id_of("urn:xmpp:ping"), "urn:xmpp:ping"));
    }

    #[test]
    fn a_private_name_that_the_table_has_is_that_of_the_table() {
        const MINE: Ns = Ns::private("urn:xmpp:ping");
        assert_eq!(MINE.id(), PING.id());
        assert!(MINE.is(PING.id(), "urn:xmpp:ping"), "as the parser numbers it");
        for near in ["urn:xmpp:pin", "urn:xmpp:pingo", "urn:xmpp:pinG", ""] {
            assert_eq!(Ns::private(near).id(), 0, "{near}");
        }
        for ns in TABLE {
            assert_eq!(Ns::private(ns.uri).id(), ns.id, "{}", ns.uri);
        }
    }
}
