//! Who was here and cannot come back after a restart: sessions that are available and cannot be resumed.
//!
//! A client that resumes after a restart believes these sessions to be there, and nobody saw them go. Where an account has a
//! session that can be resumed, its others are known by one row, which is written with what is put off (`beat.rs`): so a client
//! learns of each that it is gone (RFC 6121 §4.5.2). Of an account that nobody came back to all sessions are gone, and no row is
//! needed: see [`crate::route::untold`].
//!
//! The row carries no promise: who came or went within the last second before a kill is not in it.

use std::collections::BTreeMap;

use vorpal_proto::jid::Jid;

use crate::bounds::MAX_SESSIONS;
use crate::core::Core;
use crate::core::turn::{Locked, Turn};
use crate::owner::account::Account;
use crate::owner::tables::Company;
use crate::session::Session;

/// One that went is remembered for so long, in milliseconds: a client that is away longer begins a new session.
const KEPT: u64 = 24 * 60 * 60 * 1000;

/// Maximum number of resources in the row.
const MAX_KNOWN: usize = MAX_SESSIONS;

impl Core {
    /// A session of the account became available or can be resumed from now on; or it `went`.
    pub(crate) fn company_changes(&self, at: &mut Locked<'_>, session: &Session, went: bool) {
        let resumable = at.account.sessions.len() > 1 && at.account.sessions.iter().any(|s| s.stream().is_resumable());
        if !resumable && at.account.states.get(self.tables.company).is_none() {
            return;
        }
        let gone = at.account.company.get_or_insert_default();
        if let Some(resource) = session.jid.resource().filter(|_| went && !session.stream().is_resumable())
            && gone.len() < MAX_KNOWN
            && !gone.iter().any(|known| known == resource)
        {
            gone.push(resource.to_owned());
        }
        self.mark_dirty(at);
    }
}

impl Turn<'_> {
    /// Stages the row, if it has changed.
    pub(crate) fn save_company(&self, account: &mut Account) {
        let Some(gone) = account.company.take() else { return };
        let before = account.states.newest(self.core.tables.company, &()).cloned();
        let mut each: BTreeMap<String, Option<u64>> = BTreeMap::new();
        if account.sessions.iter().any(|session| session.stream().is_resumable()) {
            let now = self.now.as_millis();
            for (resource, went) in before.iter().flat_map(|before| &before.each) {
                let went = went.unwrap_or(now);
                if now.saturating_sub(went) < KEPT {
                    each.insert(resource.clone(), Some(went));
                }
            }
            each.extend(gone.into_iter().map(|resource| (resource, Some(now))));
            for session in account.available() {
                let Some(resource) = session.jid.resource() else { continue };
                match session.stream().is_resumable() {
                    true => drop(each.remove(resource)),
                    false => drop(each.insert(resource.to_owned(), None)),
                }
            }
            while each.len() > MAX_KNOWN {
                // Those that are here are no more than that.
                let Some(oldest) = each.iter().min_by_key(|(_, went)| went.unwrap_or(u64::MAX)) else { break };
                let oldest = oldest.0.clone();
                each.remove(&oldest);
            }
        }
        let company = (!each.is_empty()).then_some(Company { each });
        if company != before {
            account.states.stage(self.core.tables.company, (), company);
        }
    }
}

impl Account {
    /// Addresses whose sessions may have been here before a restart and are not now.
    pub(crate) fn gone_company(&self, core: &Core) -> Vec<Jid> {
        let known = self.states.get(core.tables.company).into_iter().flat_map(|company| company.each.keys());
        let here = |resource: &String| self.by_resource(resource).is_some_and(|session| session.is_available());
        known.filter(|r| !here(r)).filter_map(|r| self.jid.as_jid().with_resource(r).ok()).collect()
    }
}
