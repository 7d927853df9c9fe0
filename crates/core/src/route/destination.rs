//! What an address stands for: decided by its domain first, and nowhere else (RFC 6120 §10.4, §10.5).

use crate::core::Core;
use crate::module::host::Serves;
use vorpal_proto::error::StanzaError;
use vorpal_proto::jid::Jid;

/// What an address stands for. What is not built yet answers the error of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// one of our hosts
    Host,
    /// an account of one of our hosts
    Account,
    /// a room of one of our hosts, or somebody in it
    Room,
    /// anything in a domain that another program serves
    Component,
    /// anything in a domain of somebody else
    Remote,
}

impl Core {
    pub(crate) fn destination(&self, to: &Jid) -> Destination {
        Destination::of(self.serves(to.domain()), to)
    }
}

impl Destination {
    /// By the domain first: `served` is what it is for if it is ours (RFC 6120 §10.4, §10.5). Decided here and nowhere else.
    fn of(served: Option<Serves>, to: &Jid) -> Destination {
        match (served, to.local()) {
            (None, _) => Destination::Remote,
            // XEP-0114 §1: the component answers for its domain, and for all that is in it.
            (Some(Serves::Component), _) => Destination::Component,
            (Some(_), None) => Destination::Host,
            (Some(Serves::Accounts), Some(_)) => Destination::Account,
            (Some(Serves::Rooms), Some(_)) => Destination::Room,
        }
    }

    /// What is answered where nobody is there to take a stanza; nothing for what is looked for in other ways.
    pub(crate) fn refusal(self) -> Option<StanzaError> {
        match self {
            Destination::Host | Destination::Account => None,
            // XEP-0045 §17.2: a room that does not exist, as no room does.
            Destination::Room => Some(StanzaError::not_found()),
            // RFC 6120 §8.3.3.19; XEP-0114 has no word on a component that is not connected, as none is.
            Destination::Component => Some(StanzaError::service_unavailable()),
            // RFC 6120 §10.4.3, as no server is reached.
            Destination::Remote => Some(StanzaError::remote_server_not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::error::Condition;

    use super::*;

    #[test]
    fn an_address_is_judged_by_its_domain_then_by_its_localpart() {
        use Destination::*;
        let (bare, full, domain) = ("a@x", "a@x/b", ["x", "x/b"]);
        let served = [
            (Some(Serves::Accounts), Host, Account),
            (Some(Serves::Rooms), Host, Room),
            (Some(Serves::Component), Component, Component),
            (None, Remote, Remote),
        ];
        for (served, of_domain, of_local) in served {
            let of = |to: &str| Destination::of(served, &Jid::parse(to).expect("an address"));
            assert_eq!(domain.map(of), [of_domain; 2], "{served:?}");
            assert_eq!([bare, full].map(of), [of_local; 2], "{served:?}");
        }
    }

    #[test]
    fn what_is_not_built_answers_the_error_of_its_kind() {
        use Destination::*;
        let condition = |destination: Destination| destination.refusal().map(|error| error.condition);
        assert_eq!([Host, Account].map(condition), [None, None]);
        assert_eq!(condition(Room), Some(Condition::ItemNotFound));
        assert_eq!(condition(Component), Some(Condition::ServiceUnavailable));
        assert_eq!(condition(Remote), Some(Condition::RemoteServerNotFound));
    }
}
