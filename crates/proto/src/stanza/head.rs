//! The start tag of a stanza, as values (RFC 6120 §8.1).

use compact_str::CompactString;

use super::{HeaderFault, StanzaFault};
use crate::error::StanzaError;
use crate::jid::Jid;
use crate::write::escaped_len;

/// The three kinds of stanza (RFC 6120 §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// The name of the element.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Kind> {
        match name {
            "message" => Some(Kind::Message),
            "presence" => Some(Kind::Presence),
            "iq" => Some(Kind::Iq),
            _ => None,
        }
    }
}

/// The `type` of a stanza. Which values a kind may have is checked when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    /// No `type` at all: a normal message, an available presence.
    None,
    // message (RFC 6121 §5.2.2)
    Normal,
    Chat,
    Groupchat,
    Headline,
    // presence (RFC 6121 §4.7.1)
    Unavailable,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Probe,
    // iq (RFC 6120 §8.2.3)
    Get,
    Set,
    Result,
    /// Any kind: an error (RFC 6120 §8.3).
    Error,
}

impl Type {
    /// The value of the attribute; `None` for [`Type::None`].
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Type::None => return None,
            Type::Normal => "normal",
            Type::Chat => "chat",
            Type::Groupchat => "groupchat",
            Type::Headline => "headline",
            Type::Unavailable => "unavailable",
            Type::Subscribe => "subscribe",
            Type::Subscribed => "subscribed",
            Type::Unsubscribe => "unsubscribe",
            Type::Unsubscribed => "unsubscribed",
            Type::Probe => "probe",
            Type::Get => "get",
            Type::Set => "set",
            Type::Result => "result",
            Type::Error => "error",
        })
    }

    /// RFC 6121 §5.2.2: an unknown message type means a normal message. Presence and IQ have no such rule.
    pub(super) fn of(kind: Kind, value: Option<&str>) -> Option<Type> {
        use Kind::{Iq, Message, Presence};
        Some(match (kind, value) {
            (Message | Presence, None) => Type::None,
            (Message, Some("chat")) => Type::Chat,
            (Message, Some("groupchat")) => Type::Groupchat,
            (Message, Some("headline")) => Type::Headline,
            (_, Some("error")) => Type::Error,
            (Message, Some(_)) => Type::Normal,
            (Presence, Some("unavailable")) => Type::Unavailable,
            (Presence, Some("subscribe")) => Type::Subscribe,
            (Presence, Some("subscribed")) => Type::Subscribed,
            (Presence, Some("unsubscribe")) => Type::Unsubscribe,
            (Presence, Some("unsubscribed")) => Type::Unsubscribed,
            (Presence, Some("probe")) => Type::Probe,
            (Iq, Some("get")) => Type::Get,
            (Iq, Some("set")) => Type::Set,
            (Iq, Some("result")) => Type::Result,
            (Presence, Some(_)) | (Iq, _) => return None,
        })
    }
}

/// The start tag of a stanza, as values.
#[derive(Clone, Debug)]
pub struct Head {
    /// message, presence or iq
    pub kind: Kind,
    /// the `type`
    pub type_: Type,
    /// the `id`, chosen by the sender of the request or first stanza
    pub id: Option<CompactString>,
    /// the sender; set by the server when the stanza enters (RFC 6120 §8.1.2.1)
    pub from: Option<Jid>,
    /// the addressee
    pub to: Option<Jid>,
    /// `xml:lang`
    pub lang: Option<CompactString>,
}

impl Head {
    /// Size of the start tag and the end tag when written, addresses not counted.
    pub(super) fn own_bytes(&self) -> usize {
        const TAGS: usize = "<presence type='unsubscribed' id='' xml:lang=''></presence>".len();
        let text = |text: &Option<CompactString>| text.as_deref().map_or(0, escaped_len);
        TAGS + text(&self.id) + text(&self.lang)
    }

    /// The error data for the stanza with this header.
    pub(super) fn fault(self, error: StanzaError) -> StanzaFault {
        let Head { kind, type_, id, to, .. } = self;
        let answerable = !matches!(type_, Type::Error | Type::Result);
        StanzaFault::Header(Box::new(HeaderFault { kind, answerable, id, to, error }))
    }
}
