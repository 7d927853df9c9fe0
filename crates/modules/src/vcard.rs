//! XEP-0054: vcard-temp.
//!
//! A user's business card: name, photo, addresses. The user sets it; anybody may view it.
//!
//! Hooks:  none
//! Stores: account state `vcard_size`; cold rows `vcard`, one for each account
//! Config: `max_bytes`
//! Limits: 128 KiB for a vCard
//! Not:    vCard4 (XEP-0292), avatars in presence (XEP-0153), a vCard of the server

use bytes::Bytes;
use vorpal_config::{Bounded, KIB, section};
use vorpal_core::owner::cold::ColdMap;
use vorpal_core::owner::state::Cell;
use vorpal_core::session::inquiries::{Answer, Found, Job, MAX_FOUND, ReadError, Said, reply};
use vorpal_core::store::StoreError;
use vorpal_proto::kept::{self, NotKept};

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "vcard", xeps: &[Xep(54, "1.3.0")], setup };

section! {
    /// vCards (XEP-0054): what users say of themselves, with a photo.
    pub(crate) struct Config in "modules.vcard" {
        /// Maximum size of a vCard, the photo included, which takes a third more than its file.
        max_bytes: Bounded<vorpal_config::Bytes, {4 * KIB}, {128 * KIB}> = Bounded::clamp(vorpal_config::Bytes::new(128 * KIB)), example "64 KiB";
    }
}

#[derive(Clone, Copy)]
struct Vcards {
    /// the bytes of the vCard; absent if there is none
    size: Cell<u32>,
    /// the vCard as XML
    cards: ColdMap<(), Bytes>,
    max_bytes: usize,
}

fn setup(m: &mut Setup<'_>) -> Result {
    let config = m.config::<Config>()?;
    let max_bytes = usize::try_from(config.max_bytes.get().get()).unwrap_or(MAX_FOUND).min(MAX_FOUND);
    let vcards = Vcards { size: m.account_state("vcard_size"), cards: m.cold_map("vcard"), max_bytes };
    m.feature(ns::VCARD);
    m.account_feature(ns::VCARD);
    m.iq_get_reading(At::OwnAccount, ns::VCARD, "vCard", move |cx, _| vcards.get(cx, StanzaError::not_found()));
    m.iq_get_reading(At::Anyone, ns::VCARD, "vCard", move |cx, _| vcards.get(cx, StanzaError::service_unavailable()));
    m.iq_set(At::OwnAccount, ns::VCARD, "vCard", move |cx, card| vcards.set(cx, card));
    // §3.2: `forbidden`. A stranger gets what a name without an account answers.
    m.iq_set(At::Contacts, ns::VCARD, "vCard", |_, _| Err(StanzaError::forbidden("this is the vCard of another user")));
    Ok(())
}

impl Vcards {
    /// §3.1, §3.3. `absent`: the answer if there is none; to others it is that of a name without an account.
    fn get(self, cx: &mut IqCx<'_>, absent: StanzaError) -> std::result::Result<Said, StanzaError> {
        if cx.account()?.states.newest(self.size, &()).is_none() {
            return Err(absent);
        }
        let cards = cx.cold(self.cards)?;
        let job: Job = Box::new(move |store| {
            // It was removed after it was asked for.
            let Some(xml) = cards.get(store, &())? else { return Err(absent.into()) };
            let card = kept::read(&xml).ok_or(ReadError::Store(StoreError::Bug("a vCard cannot be read")))?;
            Ok(Found { messages: Vec::new(), reply: reply(card) })
        });
        Ok(job.into())
    }

    /// §3.2: the new vCard replaces the old one as a whole. One without any element removes it.
    fn set(self, cx: &mut IqCx<'_>, card: &Element) -> Answer {
        if card.elements().next().is_none() {
            if cx.account()?.states.newest(self.size, &()).is_some() {
                cx.remove(self.cards, &())?;
                cx.account()?.states.stage(self.size, (), None);
            }
            return ok();
        }
        let xml = kept::write(card, self.max_bytes).map_err(|fault| match fault {
            NotKept::TooLarge => StanzaError::policy_violation("the vCard is too large"),
            NotKept::CannotBeRead => StanzaError::not_acceptable()
                .with_text("the vCard cannot be stored: it has too many namespaces, or too long names"),
        })?;
        let size = u32::try_from(xml.len()).map_err(|_| StanzaError::internal_server_error())?;
        cx.put(self.cards, &(), &xml)?;
        cx.account()?.states.stage(self.size, (), Some(size));
        ok()
    }
}
