//! Reads and stores what the accounts of a host show of their keys (`watch/profiles.rs`).

use crate::store::{Kind, Row};
use crate::watch::profiles::MAX_COUNTED;

use std::collections::BTreeMap;

use vorpal_proto::datetime::Timestamp;
use vorpal_proto::sasl::Credentials;

use crate::core::Core;
use crate::module::host::Host;
use crate::store::{self, MapQuery, Reader, STORE, Write};
use crate::watch::profiles::Profile;

impl Core {
    /// Reads what is counted of hosts for which that was not done yet. To be called before anybody connects, and again
    /// where waiting is allowed, for hosts that come later.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load_profiles(&self, reader: &mut dyn Reader) -> store::Result<()> {
        for host in self.hosts() {
            if host.profiles().loaded {
                continue;
            }
            let row = reader.map_get(self.names.map_id(self.tables.profiles.at), STORE, host.domain().as_bytes())?;
            let stored = row.and_then(|row| serde_json::from_slice::<BTreeMap<String, u64>>(&row.value).ok());
            let found = match stored {
                Some(counts) => counts.iter().filter_map(|(text, n)| Some((Profile::from_text(text)?, *n))).collect(),
                None => self.count_profiles(&host, reader)?,
            };
            let mut profiles = host.profiles();
            found.into_iter().for_each(|(profile, number)| profiles.add(profile, number));
            profiles.loaded = true;
        }
        Ok(())
    }

    fn count_profiles(&self, host: &Host, reader: &mut dyn Reader) -> store::Result<Vec<(Profile, u64)>> {
        const PAGE: usize = 1_000;
        let map = self.names.map_id(self.tables.credentials.at);
        let mut found = Vec::new();
        let mut past: Option<Box<str>> = None;
        while found.len() < MAX_COUNTED {
            let page = reader.owners(Kind::Account, host.domain(), past.as_deref(), PAGE)?;
            let Some(last) = page.last() else { break };
            past = Some(last.name.clone());
            for account in page {
                let rows = reader.map_range(map, account.owner, MapQuery::default())?;
                let texts = rows.iter().filter_map(|row| serde_json::from_slice::<String>(&row.row.value).ok());
                let credentials: Vec<_> = texts.filter_map(|text| Credentials::from_text(&text).ok()).collect();
                found.extend(Profile::of(&credentials).map(|profile| (profile, 1)));
            }
        }
        Ok(found)
    }

    /// Stores what is counted, where it has changed.
    pub(crate) fn save_profiles(&self, now: Timestamp) {
        for host in self.hosts() {
            let mut profiles = host.profiles();
            // What was counted before is not part of it yet.
            if !profiles.loaded || !std::mem::take(&mut profiles.dirty) {
                continue;
            }
            let counts: BTreeMap<&str, u64> =
                profiles.counts.iter().map(|(text, (_, n))| (text.as_str(), *n)).collect();
            let Ok(value) = serde_json::to_vec(&counts) else { continue };
            drop(profiles);
            let map = self.names.map_id(self.tables.profiles.at);
            let key = host.domain().as_bytes().to_vec().into();
            let row = Some(Row::from(bytes::Bytes::from(value)));
            self.submit_alone(now, vec![Write::Put { map, owner: STORE, key, row }]);
        }
    }
}
