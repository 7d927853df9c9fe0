//! XEP-0441: what a user wants archived.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vorpal_core::owner::state::Cell;
use vorpal_core::session::inquiries::Answer;
use vorpal_proto::archive::{Prefs, Rule};
use vorpal_proto::jid::Jid;

use crate::prelude::*;

/// Maximum size of the addresses of both lists in bytes. They are in memory with the account, and are told whole.
const MAX_BYTES: usize = 128 << 10;

/// The preferences of an account whose user has chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct Stored(pub Prefs);

/// As they are stored.
#[derive(Serialize, Deserialize)]
struct Written {
    default: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    always: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    never: Vec<String>,
}

impl From<Stored> for Written {
    fn from(Stored(prefs): Stored) -> Written {
        let list = |jids: &BTreeSet<Jid>| jids.iter().map(Jid::to_string).collect();
        Written { default: prefs.default.name().into(), always: list(&prefs.always), never: list(&prefs.never) }
    }
}

impl TryFrom<Written> for Stored {
    type Error = &'static str;

    fn try_from(written: Written) -> std::result::Result<Stored, &'static str> {
        let list = |jids: Vec<String>| jids.iter().map(|jid| Jid::parse(jid)).collect::<std::result::Result<_, _>>();
        let default = Rule::from_name(&written.default).ok_or("no such rule")?;
        let always = list(written.always).map_err(|_| "not an address")?;
        let never = list(written.never).map_err(|_| "not an address")?;
        Ok(Stored(Prefs { default, always, never }))
    }
}

/// §2.1: of a user who has not chosen, the host's.
pub(super) fn show(cx: &mut IqCx<'_>, prefs: Cell<Stored>, default: Rule) -> Answer {
    let stored = cx.account()?.states.get(prefs);
    ok_with(stored.map_or_else(|| Prefs { default, ..Prefs::default() }.element(), |Stored(prefs)| prefs.element()))
}

/// §2.1: for what comes from now on. What is in the archive stays there (XEP-0313 §3.2: no gaps).
pub(super) fn change(cx: &mut IqCx<'_>, prefs: Cell<Stored>, given: &Element) -> Answer {
    let given = Prefs::read(given)?;
    // What is there already may shrink, and not grow.
    let most = cx.account()?.states.newest(prefs, &()).map_or(0, |Stored(stored)| size(stored)).max(MAX_BYTES);
    if size(&given) > most {
        return Err(StanzaError::resource_constraint().with_text("the addresses in the lists are too long in total"));
    }
    let applied = given.element();
    cx.update_cell(prefs, |_| Ok(Some(Stored(given))))?;
    ok_with(applied)
}

/// Bytes of the addresses of both lists.
fn size(prefs: &Prefs) -> usize {
    [&prefs.always, &prefs.never].into_iter().flatten().map(|jid| jid.as_str().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again_and_nothing_wrong_is() {
        let jids = |jids: &[&str]| jids.iter().map(|jid| Jid::parse(jid).expect("an address")).collect();
        let prefs = Prefs { default: Rule::Roster, always: jids(&["a@b", "c@d/e"]), never: jids(&["f@g"]) };
        let json = serde_json::to_string(&Stored(prefs.clone())).expect("json");
        assert_eq!(json, r#"{"default":"roster","always":["a@b","c@d/e"],"never":["f@g"]}"#);
        assert_eq!(serde_json::from_str::<Stored>(&json).expect("json").0, prefs);
        for wrong in [r#"{"default":"maybe"}"#, r#"{"default":"never","never":["@"]}"#] {
            assert!(serde_json::from_str::<Stored>(wrong).is_err(), "{wrong}");
        }
    }
}
