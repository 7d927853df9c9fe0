//! Accounts as an operator sees them, and what logging in needs of them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use vorpal_proto::confusable::mixed_scripts;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::error::{StreamCondition, StreamError};
use vorpal_proto::jid::BareJid;
use vorpal_proto::sasl::prep::{self, PrepError};
use vorpal_proto::sasl::{Credentials, Hash, Marks, PasswordCheck, Renewal, Shown};

use crate::core::Core;
use crate::core::flights::Flight;
use crate::core::turn::{Locked, Turn};
use crate::module::host::{Host, KeyPolicy};
use crate::owner::account::{Account, AccountRef};
use crate::owner::words::{Notice, PASSWORD_CHANGED, Say, Words};
use crate::session::Closing;
use crate::store::{Batch, Kind, OwnerRow, Row, Write};
use crate::watch::profiles::Profile;

/// The address of an account to be created: one that a login reaches.
///
/// A login prepares the name by SASLprep (RFC 4616, RFC 5802), then by PRECIS; addresses are prepared by PRECIS alone.
/// An account with a name that SASLprep changes or refuses would be another account's at each login, or nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser(BareJid);

/// Why an account cannot be created under an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is a domain.
    #[error("{0} has no name before the @")]
    NoName(BareJid),
    /// A login under this name is one to another account.
    #[error("clients that log in as {wanted} reach {reached}: create {reached}")]
    Other {
        /// the address that was asked for
        wanted: BareJid,
        /// the one that clients log in to
        reached: BareJid,
    },
    /// No login is possible under this name.
    #[error("clients cannot log in as {wanted}")]
    Refused {
        /// the address that was asked for
        wanted: BareJid,
        /// what is wrong with it
        #[source]
        source: PrepError,
    },
}

impl NewUser {
    /// Checks an address.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn new(jid: BareJid) -> Result<NewUser, NameError> {
        let Some(local) = jid.local() else { return Err(NameError::NoName(jid)) };
        let prepared = match prep::query(local) {
            Ok(prepared) if prepared == local => return Ok(NewUser(jid)),
            Ok(prepared) => prepared,
            Err(source) => return Err(NameError::Refused { wanted: jid, source }),
        };
        match BareJid::new(&prepared, jid.domain()) {
            Ok(reached) if reached == jid => Ok(NewUser(jid)),
            Ok(reached) => Err(NameError::Other { wanted: jid, reached }),
            Err(_) => Err(NameError::Refused { wanted: jid, source: PrepError::Prohibited }),
        }
    }

    /// The address.
    pub fn jid(&self) -> &BareJid {
        &self.0
    }

    /// The scripts of its letters, if they are mixed as in names that imitate others (UTS 39).
    pub fn mixed_scripts(&self) -> Option<Vec<&'static str>> {
        mixed_scripts(self.0.local().unwrap_or_default())
    }
}

/// Counts another profile of the account, once it is stored.
fn counted(account: &Account, from: Option<Profile>, to: Option<Profile>, done: Notice) -> Notice {
    let host = account.host.clone();
    Box::new(move |stored| {
        if stored {
            host.profiles().changed(from, to);
        }
        done(stored);
    })
}

/// What becomes of an account's sessions when it gets another password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// They go on.
    Keep,
    /// They end, and what was begun with the old password comes to nothing.
    End,
}

impl Core {
    /// What a password is checked against, by the hash that a mechanism needs, if it needs one. For a name of this host
    /// without an account something that looks like one of its accounts and never fits, for one that is disabled what it
    /// has, barred: only who proves to know the password is told that it is disabled (RFC 6120 §6.5.1).
    ///
    /// Where an account has no keys for the hash, the answer looks as if it had new ones; where a name without an account
    /// draws the profile of such an account, so does that.
    pub fn credentials(&self, host: &Host, account: Option<&AccountRef>, jid: &str, hash: Option<Hash>) -> Credentials {
        let policy = host.key_policy();
        let profile = host.profiles().draw(&self.secret, jid);
        let drawn = |hash: Hash| profile.and_then(|profile| profile.shown(hash));
        let cheapest = policy.by_cost().next().unwrap_or(Hash::Sha256);
        let of_fake = hash.or_else(|| policy.by_cost().find(|hash| drawn(*hash).is_some())).unwrap_or(cheapest);
        let shown = if account.is_some() { None } else { drawn(of_fake) };
        // Also for an account that has keys: it would be quicker than others.
        let fake = Credentials::fake(&self.secret, jid, of_fake, shown.unwrap_or(Shown::new(policy.iterations)));
        let Some(account) = account else { return fake };
        let account = account.lock();
        let stored = account.states.rows(self.tables.credentials);
        // Without a wish: what new passwords have, else whatever was imported.
        let found = match hash {
            Some(hash) => stored.get(hash.scheme()),
            None => policy.by_cost().find_map(|hash| stored.get(hash.scheme())),
        };
        match found.and_then(|text| Credentials::from_text(text).ok()) {
            Some(credentials) if account.disabled => credentials.barred(),
            Some(credentials) => credentials,
            None => fake,
        }
    }

    /// Whether an account has keys that a mechanism with this hash can check a password with.
    pub fn has_keys(&self, account: &AccountRef, hash: Hash) -> bool {
        account.lock().states.rows(self.tables.credentials).contains_key(hash.scheme())
    }

    /// See [`PasswordCheck::marks`]. Nobody outside this process can make them.
    pub fn marks(&self, check: &PasswordCheck) -> Marks {
        check.marks(&self.secret)
    }

    /// Creates an account. `done` hears whether it is stored; it is not if the name is taken. From then on it can be loaded.
    pub fn create_user(&self, now: Timestamp, user: &NewUser, credentials: &[Credentials], done: Notice) {
        let jid = user.jid();
        let Some(local) = jid.local() else { return done(false) };
        let (host, profile) = (self.host(jid.domain()), Profile::of(credentials));
        let done: Notice = Box::new(move |stored| {
            if let Some(host) = host.filter(|_| stored) {
                host.profiles().changed(None, profile);
            }
            done(stored);
        });
        let jid = user.jid().clone();
        let mut done = Some(done);
        let open = self.journal.submit(now, &mut |ids| {
            let owner = ids.owner();
            let row = OwnerRow {
                owner,
                kind: Kind::Account,
                host: jid.domain().into(),
                name: local.into(),
                disabled: false,
                created: now.as_millis(),
            };
            let mut writes = vec![Write::Create(row)];
            let map = self.names.map_id(self.tables.credentials.at);
            writes.extend(credentials.iter().map(|c| Write::Put {
                map,
                owner,
                key: Bytes::from_static(c.hash().scheme().as_bytes()),
                row: serde_json::to_vec(&c.to_text()).ok().map(|text| Row::from(Bytes::from(text))),
            }));
            if let Some(done) = done.take() {
                self.flights.lock().insert(ids.batch(), Flight::Created(jid.clone(), done));
            }
            let owners = SmallVec::from_slice(&[owner]);
            Batch { id: ids.batch(), now: now.as_millis(), owners, updates: false, writes }
        });
        if !open && let Some(done) = done {
            done(false);
        }
    }

    /// Replaces what the password is checked against, for all hashes. The account's sessions go on, or all of them end:
    /// then no login that was proven with the old password comes to a session any more, and no session of before is
    /// resumed. The old password counts until the new one is stored; a session that begins meanwhile ends with that. `done`
    /// hears whether it is stored.
    ///
    /// The sessions are deleted by batches before that of the password: after a crash either both are as they were, or the
    /// sessions are gone.
    pub fn set_credentials(
        &self,
        now: Timestamp,
        lock: &AccountRef,
        credentials: &[Credentials],
        sessions: Sessions,
        done: Notice,
    ) {
        self.turn(now, |turn| {
            let mut guard = lock.lock();
            let account = &mut *guard;
            let before = self.profile(account);
            if sessions == Sessions::End {
                account.revocations += 1;
                turn.end_all(&mut Locked::new(lock, account), PASSWORD_CHANGED);
                for token in account.states.newest_keys(self.tables.ended) {
                    account.states.stage(self.tables.ended, token, None);
                }
            }
            for c in credentials {
                account.states.stage(self.tables.credentials, c.hash().scheme().into(), Some(c.to_text()));
            }
            // What else there is was made of the old password.
            self.remove_keys(account, |hash| credentials.iter().all(|c| c.hash() != hash));
            let done = counted(account, before, self.profile(account), done);
            // Until it is stored the old one counts: who comes with it has to go again.
            let say = if sessions == Sessions::End { Say::Revoked { done } } else { Say::Notice(done) };
            turn.finish_user(&mut Locked::new(lock, account), say, Vec::new());
            drop(guard);
        })
    }

    /// The hashes for which the account has no keys and its host wants them, or has keys of fewer rounds than new ones
    /// get; with the policy of the host.
    pub fn keys_to_make(&self, account: &AccountRef) -> (Vec<Hash>, Arc<KeyPolicy>) {
        let account = account.lock();
        let policy = account.host.key_policy();
        let good = |hash: &Hash| {
            let text = account.states.newest(self.tables.credentials, &hash.scheme().to_owned());
            let credentials = text.and_then(|text| Credentials::from_text(text).ok());
            credentials.is_some_and(|c| c.iterations() >= policy.iterations)
        };
        let wanted = policy.hashes.iter().copied().filter(|hash| !good(hash)).collect();
        (wanted, policy)
    }

    /// Stores what was made of the account's password when it was seen, and removes keys that its host does not want, once
    /// those that it wants are there. Nothing happens if the password is another one by now. Nobody hears of it: if it
    /// fails, it is made again.
    pub fn renew_credentials(&self, now: Timestamp, lock: &AccountRef, renewal: &Renewal) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            let (table, policy) = (self.tables.credentials, account.host.key_policy());
            let of = |account: &Account, hash: Hash| account.states.newest(table, &hash.scheme().to_owned()).cloned();
            if of(&account, renewal.checked.hash()) != Some(renewal.checked.to_text()) {
                return;
            }
            let before = self.profile(&account);
            for c in &renewal.made {
                account.states.stage(table, c.hash().scheme().to_owned(), Some(c.to_text()));
            }
            if policy.hashes.iter().all(|hash| of(&account, *hash).is_some()) {
                self.remove_keys(&mut account, |hash| !policy.keeps(hash));
            }
            if account.states.is_staged() {
                let done = counted(&account, before, self.profile(&account), Box::new(|_| ()));
                turn.finish_user(&mut Locked::new(lock, &mut account), Say::Notice(done), Vec::new());
            }
        })
    }

    /// `done`, and the account's profile is counted as another one.
    pub(crate) fn counting_profile(&self, account: &Account, to: Option<Profile>, done: Notice) -> Notice {
        counted(account, self.profile(account), to, done)
    }

    /// What its newest keys show.
    fn profile(&self, account: &Account) -> Option<Profile> {
        let rows = account.states.newest_rows(self.tables.credentials);
        Profile::of(&rows.values().filter_map(|text| Credentials::from_text(text).ok()).collect::<Vec<_>>())
    }

    /// Stages the removal of the keys of these hashes.
    fn remove_keys(&self, account: &mut Account, which: impl Fn(Hash) -> bool) {
        for hash in Hash::ALL.into_iter().filter(|hash| which(*hash)) {
            let key = hash.scheme().to_owned();
            if account.states.newest(self.tables.credentials, &key).is_some() {
                account.states.stage(self.tables.credentials, key, None);
            }
        }
    }

    /// Lets nobody log in to the account any more, at once and before it is stored; or lets them again, once it is. Its sessions
    /// end. `done` hears whether it is stored; if not, the account is as before, but for its sessions.
    pub fn disable_user(&self, now: Timestamp, lock: &AccountRef, disabled: bool, done: Notice) {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            if disabled {
                account.revocations += 1;
                turn.end_all(&mut Locked::new(lock, &mut account), "the account is disabled");
            }
            turn.set_disabled(&mut Locked::new(lock, &mut account), disabled, done);
        })
    }

    /// Ends one session of the account, by its resource. False if there is none.
    pub fn kick(&self, now: Timestamp, lock: &AccountRef, resource: &str, reason: &str) -> bool {
        let session = lock.lock().by_resource(resource).cloned();
        let Some(session) = session else { return false };
        let error = StreamError::from(StreamCondition::PolicyViolation).with_text(reason);
        self.close(now, lock, &session, Some(error));
        true
    }

    /// Ends all sessions of the account; says how many there were.
    pub fn kick_all(&self, now: Timestamp, lock: &AccountRef, reason: &str) -> usize {
        self.turn(now, |turn| {
            let mut account = lock.lock();
            let count = account.sessions.len();
            turn.end_all(&mut Locked::new(lock, &mut account), reason);
            count
        })
    }

    /// A number that changes when logins that have not come to a session yet may not any more.
    pub fn revocations(&self, lock: &AccountRef) -> u32 {
        lock.lock().revocations
    }
}

impl Turn<'_> {
    /// Marks the account: as disabled in memory at once, as enabled when it is stored.
    pub(crate) fn set_disabled(&mut self, at: &mut Locked<'_>, disabled: bool, done: Notice) {
        at.account.disabled |= disabled;
        let write = Write::Disable { owner: at.account.owner, disabled };
        self.finish_user(at, Say::Disabled { disabled, done }, vec![write]);
    }

    pub(crate) fn end_all(&mut self, at: &mut Locked<'_>, reason: &str) {
        for session in at.account.sessions.clone() {
            let error = StreamError::from(StreamCondition::NotAuthorized).with_text(reason);
            self.end(at, &session, Closing::Error(error));
        }
    }

    fn finish_user(&mut self, at: &mut Locked<'_>, say: Say, mut writes: Vec<Write>) {
        let mut words = Words::of_says([say]);
        // Of sessions that are not to come back none may be left in the store.
        self.core.forget_gone(at.account, &mut words, &mut writes);
        self.finish_one(at, words, None, writes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(local: &str) -> Result<NewUser, NameError> {
        NewUser::new(BareJid::new(local, "a.example").expect("an address"))
    }

    #[test]
    fn an_account_is_one_that_a_login_reaches() {
        for name in ["juliet", "j\u{fc}rgen", "\u{5d0}\u{5d1}", "\u{430}\u{434}\u{43c}\u{438}\u{43d}", "a\u{1e9e}b"] {
            assert!(checked(name).is_ok(), "{name}");
        }
        let joined = "\u{915}\u{94d}\u{200d}\u{937}";
        let reached = BareJid::new("\u{915}\u{94d}\u{937}", "a.example").expect("an address");
        let error = checked(joined).expect_err("SASLprep takes the joiner out");
        assert_eq!(
            error,
            NameError::Other { wanted: BareJid::new(joined, "a.example").expect("one"), reached: reached.clone() }
        );
        assert!(
            error
                .to_string()
                .ends_with("reach \u{915}\u{94d}\u{937}@a.example: create \u{915}\u{94d}\u{937}@a.example")
        );
        assert!(NewUser::new(reached).is_ok());
        assert!(matches!(checked("\u{5d0}1"), Err(NameError::Refused { source: PrepError::Bidirectional, .. })));
        let domain = BareJid::of_domain("a.example").expect("a domain");
        assert!(matches!(NewUser::new(domain), Err(NameError::NoName(_))));
    }

    #[test]
    fn mixed_scripts_are_noticed() {
        let mixed = checked("\u{430}dmin").expect("it can log in").mixed_scripts();
        assert_eq!(mixed, Some(vec!["Cyrillic", "Latin"]));
        assert_eq!(checked("admin").expect("it can log in").mixed_scripts(), None);
    }
}
