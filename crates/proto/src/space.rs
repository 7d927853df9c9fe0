//! The namespace of an element or attribute in a tree: a number, or a shared string for one the table does not know.

use std::sync::Arc;

use crate::ns::Ns;

/// Invariant: `Other` never holds a name that the table knows, so that equal names are equal values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    /// The number of a namespace of the table; 0 is "no namespace".
    Known(u16),
    Other(Arc<str>),
}

impl Space {
    /// What `xmlns=''` means.
    pub(crate) const NONE: Space = Space::Known(0);

    pub(crate) fn of(uri: &str) -> Space {
        match Ns::id_of(uri) {
            0 if uri.is_empty() => Space::NONE,
            0 => Space::Other(Arc::from(uri)),
            id => Space::Known(id),
        }
    }

    pub(crate) fn id(&self) -> u16 {
        match self {
            Space::Known(id) => *id,
            Space::Other(_) => 0,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Space::Known(id) => Ns::known(*id).map_or("", Ns::as_str),
            Space::Other(uri) => uri,
        }
    }

    pub(crate) fn is(&self, ns: Ns) -> bool {
        ns.is(self.id(), self.as_str())
    }
}

impl From<Ns> for Space {
    fn from(ns: Ns) -> Space {
        match ns.id() {
            0 => Space::of(ns.as_str()),
            id => Space::Known(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;

    #[test]
    fn one_namespace_has_one_value_however_it_was_named() {
        assert!(Space::of("urn:xmpp:ping") == Space::from(ns::PING));
        assert!(Space::from(Ns::private("urn:xmpp:ping")) == Space::from(ns::PING));
        assert!(Space::of("urn:example:a") == Space::from(Ns::private("urn:example:a")));
        assert!(Space::of("") == Space::NONE);
        assert_eq!(Space::NONE.as_str(), "");
        assert_eq!(size_of::<Space>(), 16);
    }
}
