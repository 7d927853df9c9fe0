//! What the accounts of a host show of their keys before anybody has proven anything, counted: so that an account that does
//! not exist looks like one of them.
//!
//! A challenge of SCRAM shows the rounds and the salt. After an import these differ between accounts, and some accounts
//! have no keys for some hash. A name without an account draws one of the profiles that the accounts have, in proportion
//! to their numbers. The draw depends on the name and the store's secret: asked again, also after a restart, the answer is
//! the same, and when the numbers change few names draw anew, only to or from the profiles that changed.
//!
//! The counts are kept in step when credentials are stored, and are written once a second if they have changed. A crash may
//! lose the last second of it, which moves the proportions by as little.
//!
//! Limits: [`MAX_PROFILES`] for each host; [`MAX_COUNTED`] accounts are read once where nothing is stored yet.

use std::collections::BTreeMap;

use vorpal_proto::sasl::{Credentials, Hash, Shown, lot};

/// Maximum number of different profiles that are counted for a host: each costs a hash for each login. A population has
/// one for each server it was imported from and each setting of `login.iterations`; rarer ones are not drawn.
pub const MAX_PROFILES: usize = 32;

/// Maximum number of accounts of a host that are read to count their profiles, at the first start that finds no counts:
/// a fraction of a second. With more accounts these stand for all.
pub const MAX_COUNTED: usize = 10_000;

/// What one account shows for each hash, in the order of [`Hash::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile([Option<Shown>; Hash::ALL.len()]);

impl Profile {
    /// That of an account with these credentials; none without any.
    pub fn of<'a>(credentials: impl IntoIterator<Item = &'a Credentials>) -> Option<Profile> {
        let mut profile = Profile([None; Hash::ALL.len()]);
        for credentials in credentials {
            for (shown, hash) in profile.0.iter_mut().zip(Hash::ALL) {
                if hash == credentials.hash() {
                    *shown = Some(credentials.shown());
                }
            }
        }
        profile.0.iter().any(Option::is_some).then_some(profile)
    }

    /// What is shown for a hash; none where there are no keys.
    pub fn shown(&self, hash: Hash) -> Option<Shown> {
        self.0.iter().zip(Hash::ALL).find(|(_, of)| *of == hash).and_then(|(shown, _)| *shown)
    }

    fn to_text(self) -> String {
        self.0.map(|shown| shown.map_or_else(|| "-".to_owned(), Shown::to_text)).join(" ")
    }

    pub(crate) fn from_text(text: &str) -> Option<Profile> {
        let mut words = text.split(' ');
        let mut profile = Profile([None; Hash::ALL.len()]);
        for shown in &mut profile.0 {
            *shown = match words.next()? {
                "-" => None,
                word => Some(Shown::from_text(word)?),
            };
        }
        words.next().is_none().then_some(profile)
    }
}

/// The profiles of a host's accounts, by their texts, with the number of accounts that have each.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    pub counts: BTreeMap<String, (Profile, u64)>,
    /// what is stored is part of it
    pub loaded: bool,
    /// something is not stored yet
    pub dirty: bool,
}

impl Profiles {
    /// An account had a profile and now has another; none where it had no keys, or has none.
    pub fn changed(&mut self, from: Option<Profile>, to: Option<Profile>) {
        if from == to {
            return;
        }
        if let Some(from) = from.map(Profile::to_text)
            && let Some((_, count)) = self.counts.get_mut(&from)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&from);
            }
        }
        if let Some(to) = to {
            self.add(to, 1);
        }
        self.dirty = true;
    }

    pub(crate) fn add(&mut self, profile: Profile, number: u64) {
        let text = profile.to_text();
        if self.counts.len() < MAX_PROFILES || self.counts.contains_key(&text) {
            let (_, count) = self.counts.entry(text).or_insert((profile, 0));
            *count = count.saturating_add(number);
        }
    }

    /// The profile of a name that has no account. None if no account of the host has one.
    ///
    /// Each profile draws a number from an exponential distribution whose rate is its count, and the least wins.
    pub fn draw(&self, secret: &[u8; 32], account: &str) -> Option<Profile> {
        let time = |text: &str, count: u64| {
            let uniform = (lot(secret, account, text) as f64 + 1.0) / (u64::MAX as f64 + 2.0);
            -uniform.ln() / count as f64
        };
        let drawn = self.counts.iter().map(|(text, (profile, count))| (time(text, *count), profile));
        drawn.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, profile)| *profile)
    }
}

#[cfg(test)]
mod tests {
    use vorpal_proto::sasl::{Iterations, SaltForm};

    use super::*;

    fn profile(count: u32) -> Profile {
        let shown = Shown { iterations: Iterations::new(count).expect("a count"), salt: SaltForm::Bytes(12) };
        Profile([None, None, Some(shown)])
    }

    fn drawn(profiles: &Profiles, names: u32) -> Vec<Option<Profile>> {
        (0..names).map(|n| profiles.draw(&[7; 32], &format!("name{n}@a.example"))).collect()
    }

    #[test]
    fn names_draw_in_proportion_and_few_draw_anew() {
        let mut profiles = Profiles::default();
        assert_eq!(profiles.draw(&[7; 32], "juliet@a.example"), None);
        let (old, new) = (profile(4_096), profile(50_000));
        (0..300).for_each(|_| profiles.changed(None, Some(old)));
        (0..700).for_each(|_| profiles.changed(None, Some(new)));
        let before = drawn(&profiles, 4_000);
        let share = before.iter().filter(|drawn| **drawn == Some(old)).count();
        // Three standard deviations of 4,000 draws are 87.
        assert!((1_113..=1_287).contains(&share), "{share}");
        assert_eq!(drawn(&profiles, 4_000), before, "asked again");

        (0..100).for_each(|_| profiles.changed(Some(old), Some(new)));
        let after = drawn(&profiles, 4_000);
        let back = before.iter().zip(&after).filter(|(was, is)| **was == Some(new) && **is == Some(old)).count();
        let share = after.iter().filter(|drawn| **drawn == Some(old)).count();
        assert!(back == 0 && (720..=880).contains(&share), "{back} {share}");
        (0..200).for_each(|_| profiles.changed(Some(old), None));
        assert!(drawn(&profiles, 100).iter().all(|drawn| *drawn == Some(new)));
    }

    #[test]
    fn the_number_of_profiles_is_bounded() {
        let mut profiles = Profiles::default();
        for n in 0..100 {
            profiles.changed(None, Some(profile(5_000 + n)));
        }
        assert_eq!(profiles.counts.len(), MAX_PROFILES);
        profiles.changed(Some(profile(5_099)), Some(profile(5_000)));
        assert_eq!(profiles.counts.values().map(|(_, count)| *count).max(), Some(2));
    }

    #[test]
    fn the_text_leads_back() {
        for text in ["- - 4096:b12", "50000:b16 50000:b16 -", "5000:u 4096:h32 9000:b1"] {
            assert_eq!(Profile::from_text(text).map(Profile::to_text).as_deref(), Some(text));
        }
        for rubbish in ["", "- -", "- - - -", "- - x"] {
            assert_eq!(Profile::from_text(rubbish), None, "{rubbish}");
        }
    }
}
