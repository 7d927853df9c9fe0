//! RFC 4616: PLAIN, the password itself.

use zeroize::Zeroizing;

use super::{
    Account, Credentials, Hash, Iterations, MAX_AUTHZID_BYTES, MAX_USERNAME_BYTES, Nonce, Proven, Refusal, SALT_BYTES,
    crypto, prep,
};

/// The one message of the mechanism, prepared.
pub(super) struct Message {
    pub(super) authzid: Option<String>,
    pub(super) username: String,
    pub(super) password: Zeroizing<String>,
}

impl Message {
    /// §2: `[authzid] NUL authcid NUL passwd`.
    pub(super) fn parse(data: &[u8]) -> Result<Message, Refusal> {
        let text = std::str::from_utf8(data).map_err(|_| Refusal::malformed("message is not UTF-8"))?;
        let mut fields = text.split('\0');
        let (Some(authzid), Some(username), Some(password), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(Refusal::malformed("PLAIN has not three fields"));
        };
        if username.is_empty() || password.is_empty() {
            return Err(Refusal::malformed("empty username or password"));
        }
        if username.len() > MAX_USERNAME_BYTES || authzid.len() > MAX_AUTHZID_BYTES {
            return Err(Refusal::malformed("username or authzid too long"));
        }
        // §2: a failed preparation is a failed verification. It reveals nothing about any account.
        let username = prep::query(username).map_err(|_| Refusal::unauthorized("username fails SASLprep"))?;
        let password = prep::query(password).map_err(|_| Refusal::unauthorized("password fails SASLprep"))?;
        Ok(Message {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            username: username.into_owned(),
            password: Zeroizing::new(password.into_owned()),
        })
    }
}

/// A password and the credentials to check it against. Must be [run](PasswordCheck::run) on a thread that may block.
pub struct PasswordCheck {
    pub(super) account: Account,
    pub(super) password: Zeroizing<String>,
    pub(super) ticket: Nonce,
    pub(super) wanted: Vec<(Hash, [u8; SALT_BYTES])>,
    pub(super) iterations: Iterations,
}

impl PasswordCheck {
    /// The same; if the password is correct, also derives credentials for these hashes, with a random salt for each: see
    /// [`Verdict::take_renewal`].
    #[must_use]
    pub fn making(mut self, wanted: Vec<(Hash, [u8; SALT_BYTES])>, iterations: Iterations) -> PasswordCheck {
        (self.wanted, self.iterations) = (wanted, iterations);
        self
    }

    /// Fingerprints of this password and the credentials it would be checked against, made with the secret. For the same password,
    /// after SASLprep, they stay the same until the account gets other keys. Cheap: two HMACs, whether the account exists or not.
    pub fn marks(&self, secret: &[u8; 32]) -> Marks {
        let credentials = &self.account.credentials;
        let (scheme, address) = (credentials.hash().scheme().as_bytes(), self.account.address.as_bytes());
        let (stored, password) = (credentials.stored_key(), self.password.as_bytes());
        let mark = |what: &[u8]| {
            let mac = crypto::hmac(Hash::Sha256, secret, &[what, scheme, b"\0", address, b"\0", stored, password]);
            mac.bytes().first_chunk().copied().unwrap_or_default()
        };
        Marks { wrong: mark(b"guess\0"), barred: mark(b"barred\0") }
    }

    /// The verdict on a password that was wrong before against the same keys: see [`marks`](PasswordCheck::marks).
    pub fn refused(self) -> Verdict {
        Verdict { account: self.account.address, found: Found::WrongAgain, renewal: None, ticket: self.ticket }
    }

    /// Whether the account is disabled.
    pub fn is_barred(&self) -> bool {
        self.account.credentials.is_barred()
    }

    /// The verdict on a password that was correct before against the same keys, for an account that is disabled. Never a way in.
    pub fn barred(self) -> Verdict {
        Verdict { account: self.account.address, found: Found::Barred, renewal: None, ticket: self.ticket }
    }

    /// Does the derivation: milliseconds of CPU (see [`Iterations`]), so it must not run on the reactor.
    ///
    /// Takes as long for a wrong password and a fake account as for the correct one, except for the keys that
    /// [`PasswordCheck::making`] adds for an account, once, when its password is correct.
    pub fn run(self) -> Verdict {
        let found = match self.account.credentials.is_proven_by(&self.password) {
            false => Found::Wrong,
            true if self.account.credentials.is_barred() => Found::Barred,
            true => Found::Right,
        };
        let derive = |(hash, salt): &(Hash, [u8; SALT_BYTES])| {
            // If the password may not be stored (RFC 5802 §2.2), the account keeps the keys that it has.
            Credentials::derive(*hash, &self.password, salt, self.iterations).ok()
        };
        let renewal = (found == Found::Right).then(|| Renewal {
            made: self.wanted.iter().filter_map(derive).collect(),
            checked: self.account.credentials,
        });
        Verdict { account: self.account.address, found, renewal, ticket: self.ticket }
    }
}

impl std::fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordCheck").field("account", &self.account.address).finish_non_exhaustive()
    }
}

/// What a [`PasswordCheck`] is recognised by when it is made again, without the password: see [`PasswordCheck::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// the password was wrong
    pub wrong: [u8; 16],
    /// it was correct, and the account disabled
    pub barred: [u8; 16],
}

/// The keys that a [`PasswordCheck`] derived from the correct password.
#[derive(Debug)]
pub struct Renewal {
    /// The hash of the credentials that the password was checked against.
    pub checked: Credentials,
    /// The credentials requested with [`PasswordCheck::making`], if the password may be stored.
    pub made: Vec<Credentials>,
}

/// The result for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Right,
    /// correct, and the account is disabled
    Barred,
    Wrong,
    /// wrong, as it was before
    WrongAgain,
}

/// The result of a [`PasswordCheck`], created by nothing else.
#[derive(Debug)]
pub struct Verdict {
    account: String,
    found: Found,
    renewal: Option<Renewal>,
    ticket: Nonce,
}

impl Verdict {
    /// Whether the password is correct, also for a disabled account.
    pub fn is_proven(&self) -> bool {
        matches!(self.found, Found::Right | Found::Barred)
    }

    /// Whether the password is correct and the account disabled.
    pub fn is_barred(&self) -> bool {
        self.found == Found::Barred
    }

    /// The keys derived from the correct password. They should be stored once the exchange has succeeded.
    pub fn take_renewal(&mut self) -> Option<Renewal> {
        self.renewal.take()
    }

    /// The result, if this is the answer for this ticket.
    pub(super) fn conclude(self, ticket: &Nonce, authzid: Option<String>) -> Result<Proven, Refusal> {
        if self.ticket != *ticket {
            return Err(Refusal::unauthorized("verdict of another exchange"));
        }
        match self.found {
            Found::Right => Ok(Proven { account: self.account, authzid, binding: None, data: None }),
            Found::Barred => Err(Refusal::BARRED),
            Found::Wrong => Err(Refusal::unauthorized("no such account or wrong password")),
            Found::WrongAgain => Err(Refusal::unauthorized("the same wrong password again")),
        }
    }
}
