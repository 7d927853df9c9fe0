//! The keys stored for an account instead of its password (RFC 5802 §3), and their text form (RFC 5803 §2).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use super::crypto::{self, Key};
use super::prep::{self, PrepError};
use super::{Hash, MAX_INPUT_BYTES};

/// Length of the salt of a new password, in bytes.
pub const SALT_BYTES: usize = 16;

/// Maximum length of an imported salt, in bytes.
pub const MAX_SALT_BYTES: usize = 128;

/// Maximum length of the text form of [`Credentials`], in bytes.
pub const MAX_TEXT_BYTES: usize = 512;

/// The number of PBKDF2 iterations: the cost of one password guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iterations(u32);

impl Iterations {
    /// The minimum: RFC 5802 §5.1 and RFC 7677 §4.
    pub const MIN: Iterations = Iterations(4_096);
    /// The default for new passwords: 6 ms with SHA-1 or SHA-256, 20 ms with SHA-512 on the reference machine, spent by
    /// the client at each login with SCRAM and by the server at each login with PLAIN.
    pub const DEFAULT: Iterations = Iterations(50_000);
    /// The maximum for new passwords. The client spends the time at each login: with more, phones take seconds, and clients that
    /// limit the number refuse it.
    pub const MAX_NEW: Iterations = Iterations(1_000_000);
    /// The maximum for imported keys: seconds of CPU, so a typing error in an import cannot stop the server.
    pub const MAX: Iterations = Iterations(10_000_000);

    /// `None` outside of [`MIN`](Iterations::MIN)..=[`MAX`](Iterations::MAX).
    pub const fn new(count: u32) -> Option<Iterations> {
        if count >= Iterations::MIN.0 && count <= Iterations::MAX.0 { Some(Iterations(count)) } else { None }
    }

    /// The number.
    pub const fn count(self) -> u32 {
        self.0
    }
}

/// The form of a salt, as far as its bytes reveal which software made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaltForm {
    /// This many random bytes.
    Bytes(u8),
    /// This many hexadecimal digits as text.
    Hex(u8),
    /// A random UUID as text (Prosody).
    Uuid,
}

impl SaltForm {
    const UUID: usize = 36;

    /// The form of a salt.
    pub fn of(salt: &[u8]) -> SaltForm {
        let len = u8::try_from(salt.len()).unwrap_or(u8::MAX);
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let dashed = |(at, byte): (usize, &u8)| if SaltForm::is_dash(at) { *byte == b'-' } else { hex(byte) };
        if salt.len() == SaltForm::UUID && salt.iter().enumerate().all(dashed) {
            SaltForm::Uuid
        } else if salt.len() > 8 && salt.iter().all(hex) {
            SaltForm::Hex(len)
        } else {
            SaltForm::Bytes(len)
        }
    }

    fn is_dash(at: usize) -> bool {
        matches!(at, 8 | 13 | 18 | 23)
    }

    fn len(self) -> usize {
        match self {
            SaltForm::Bytes(len) | SaltForm::Hex(len) => usize::from(len).min(MAX_SALT_BYTES),
            SaltForm::Uuid => SaltForm::UUID,
        }
    }

    /// A salt of this form, made from random bytes.
    fn make(self, random: impl Iterator<Item = u8>) -> Vec<u8> {
        let digit = |byte: u8| b"0123456789abcdef".get(usize::from(byte % 16)).copied().unwrap_or_default();
        let make = |(at, byte): (usize, u8)| match self {
            SaltForm::Bytes(_) => byte,
            SaltForm::Uuid if SaltForm::is_dash(at) => b'-',
            // RFC 9562 §5.4: the version, and the variant.
            SaltForm::Uuid if at == 14 => b'4',
            SaltForm::Uuid if at == 19 => digit(8 + byte % 4),
            SaltForm::Uuid | SaltForm::Hex(_) => digit(byte),
        };
        random.take(self.len()).enumerate().map(make).collect()
    }
}

/// The part of an account's credentials that a challenge reveals to anybody, whether or not they know the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// The number of iterations.
    pub iterations: Iterations,
    /// The form of the salt.
    pub salt: SaltForm,
}

impl Shown {
    /// That of new keys with this number of iterations.
    pub fn new(iterations: Iterations) -> Shown {
        Shown { iterations, salt: SaltForm::Bytes(u8::try_from(SALT_BYTES).unwrap_or_default()) }
    }

    /// A short text: `50000:b16`.
    pub fn to_text(self) -> String {
        let count = self.iterations.count();
        match self.salt {
            SaltForm::Bytes(len) => format!("{count}:b{len}"),
            SaltForm::Hex(len) => format!("{count}:h{len}"),
            SaltForm::Uuid => format!("{count}:u"),
        }
    }

    /// Parses the output of [`Shown::to_text`].
    pub fn from_text(text: &str) -> Option<Shown> {
        let (count, form) = text.split_once(':')?;
        let salt = match form.split_at_checked(1)? {
            ("b", len) => SaltForm::Bytes(len.parse().ok()?),
            ("h", len) => SaltForm::Hex(len.parse().ok()?),
            ("u", "") => SaltForm::Uuid,
            _ => return None,
        };
        Some(Shown { iterations: Iterations::new(number(count)?)?, salt })
    }
}

/// A number that is always the same for a name and cannot be computed without the secret: it determines what a missing account looks
/// like.
pub fn lot(secret: &[u8; 32], account: &str, what: &str) -> u64 {
    let mac = crypto::hmac(Hash::Sha256, secret, &[b"lot\0", what.as_bytes(), b"\0", account.as_bytes()]);
    mac.bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Why there are no [`Credentials`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The password cannot be prepared.
    #[error("unusable password")]
    Password(#[from] PrepError),
    /// The password is longer than PLAIN could ever carry ([`MAX_INPUT_BYTES`]).
    #[error("password too long")]
    PasswordLength,
    /// The salt is empty or longer than [`MAX_SALT_BYTES`].
    #[error("salt empty or too long")]
    Salt,
    /// The text form is wrong; says where, never what.
    #[error("stored credentials are damaged: {0}")]
    Text(&'static str),
}

/// The keys of one account for one hash: enough to check a password, not enough to log in with.
///
/// Secret nevertheless (guesses can be tried against it): it has no `Debug` output and no `==`, and is wiped when dropped.
#[derive(Clone)]
pub struct Credentials {
    hash: Hash,
    salt: Vec<u8>,
    iterations: Iterations,
    stored_key: Key,
    server_key: Key,
    /// Made by [`Credentials::fake`]: no proof is ever accepted, whatever the computation says.
    fake: bool,
    /// Made by [`Credentials::barred`]: a client with a correct proof learns that the account is disabled.
    barred: bool,
}

impl Credentials {
    /// Derives them from a new password.
    ///
    /// Expensive: milliseconds of CPU, see [`Iterations`]. Must not be called on the reactor. The salt must be random,
    /// of [`SALT_BYTES`], and different for each account, hash and password.
    ///
    /// # Errors
    /// [`CredentialsError::Password`] if SASLprep refuses the password as a stored string (RFC 5802 §2.2),
    /// [`CredentialsError::PasswordLength`], [`CredentialsError::Salt`].
    pub fn derive(
        hash: Hash,
        password: &str,
        salt: &[u8],
        iterations: Iterations,
    ) -> Result<Credentials, CredentialsError> {
        if password.len() > MAX_INPUT_BYTES {
            return Err(CredentialsError::PasswordLength);
        }
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(CredentialsError::Salt);
        }
        let password = prep::stored(password)?;
        Ok(Credentials::from_prepared(hash, &password, salt, iterations))
    }

    fn from_prepared(hash: Hash, password: &str, salt: &[u8], iterations: Iterations) -> Credentials {
        let salted = crypto::hi(hash, password.as_bytes(), salt, iterations.count());
        let client_key = crypto::hmac(hash, salted.bytes(), &[b"Client Key"]);
        Credentials {
            hash,
            salt: salt.to_vec(),
            iterations,
            stored_key: crypto::digest(hash, client_key.bytes()),
            server_key: crypto::hmac(hash, salted.bytes(), &[b"Server Key"]),
            fake: false,
            barred: false,
        }
    }

    /// Fake credentials for a missing account, or one without keys for this hash. They look real and never match.
    ///
    /// The exchange continues as with a wrong password: the same messages, the same work, the same failure at the end,
    /// and the same salt whenever the name is tried again. `account` must be the normalised bare JID, otherwise `BOB` and
    /// `bob` would differ here but not for an existing account. `shown` should be one that an account of the host may have;
    /// with a different one the salt is different, as after a new password. Cheap: no derivation is done.
    pub fn fake(secret: &[u8; 32], account: &str, hash: Hash, shown: Shown) -> Credentials {
        let mac = |what: &[u8], more: &[u8]| {
            let parts = [what, hash.scheme().as_bytes(), b"\0", account.as_bytes(), more];
            crypto::hmac(Hash::Sha512, secret, &parts)
        };
        let part = |what: &[u8]| Key::new(mac(what, b"").bytes().get(..hash.output_len()).unwrap_or_default());
        let random = (0..=u8::MAX).flat_map(|block| {
            let more = format!("\0{}\0{block}", shown.to_text());
            mac(b"salt\0", more.as_bytes()).bytes().to_vec()
        });
        Credentials {
            hash,
            salt: shown.salt.make(random),
            iterations: shown.iterations,
            stored_key: part(b"stored\0"),
            server_key: part(b"server\0"),
            fake: true,
            barred: false,
        }
    }

    /// The same credentials for a disabled account: a client that proves knowledge of the password fails with
    /// [`SaslError::AccountDisabled`](super::SaslError::AccountDisabled), all others as usual.
    #[must_use]
    pub fn barred(self) -> Credentials {
        Credentials { barred: true, ..self }
    }

    /// The hash of the client's key.
    pub(super) fn stored_key(&self) -> &[u8] {
        self.stored_key.bytes()
    }

    /// Whether they let no client in, even with a correct proof.
    pub(super) const fn is_barred(&self) -> bool {
        self.barred
    }

    /// The part that a challenge reveals.
    pub fn shown(&self) -> Shown {
        Shown { iterations: self.iterations, salt: SaltForm::of(&self.salt) }
    }

    /// Whether this is the password.
    ///
    /// Expensive, like [`Credentials::derive`], and equally so for [`fake`](Credentials::fake) ones; the comparison
    /// takes constant time. A password that cannot be prepared is wrong at once.
    pub fn matches(&self, password: &str) -> bool {
        password.len() <= MAX_INPUT_BYTES
            && prep::query(password).is_ok_and(|password| self.is_proven_by(&password))
            && !self.barred
    }

    /// As [`Credentials::matches`], for a password after SASLprep, and also for a barred account.
    pub(super) fn is_proven_by(&self, password: &str) -> bool {
        let theirs = Credentials::from_prepared(self.hash, password, &self.salt, self.iterations);
        let same = self.stored_key.same(theirs.stored_key.bytes()) & self.server_key.same(theirs.server_key.bytes());
        (same & self.real()).into()
    }

    /// RFC 5802 §3: whether the proof was made with the client key, even that of a barred account, and the signature that
    /// proves possession of the server key.
    pub(super) fn check_proof(&self, auth_message: &[&[u8]], proof: &[u8]) -> Option<Key> {
        let signature = crypto::hmac(self.hash, self.stored_key.bytes(), auth_message);
        let client_key = signature.xor(proof);
        let right = self.stored_key.same(crypto::digest(self.hash, client_key.bytes()).bytes());
        let answer = crypto::hmac(self.hash, self.server_key.bytes(), auth_message);
        let whole = proof.len().ct_eq(&self.hash.output_len());
        bool::from(right & whole & self.real()).then_some(answer)
    }

    fn real(&self) -> Choice {
        Choice::from(u8::from(!self.fake))
    }

    /// The hash they are for.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The salt, which the client is shown.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The number of iterations, which the client is shown.
    pub const fn iterations(&self) -> Iterations {
        self.iterations
    }

    /// The stable text form, `SCRAM-SHA-256$10000:salt$StoredKey:ServerKey` with base64 (RFC 5803 §2). A secret.
    ///
    /// At most [`MAX_TEXT_BYTES`] long.
    pub fn to_text(&self) -> String {
        format!(
            "{}${}:{}${}:{}",
            self.hash.scheme(),
            self.iterations.count(),
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key.bytes()),
            STANDARD.encode(self.server_key.bytes()),
        )
    }

    /// Reads the text form. Accepts exactly what [`Credentials::to_text`] writes: one text for one value.
    ///
    /// # Errors
    /// [`CredentialsError::Text`] names the field that is wrong.
    pub fn from_text(text: &str) -> Result<Credentials, CredentialsError> {
        let wrong = |what| move || CredentialsError::Text(what);
        if text.len() > MAX_TEXT_BYTES {
            return Err(CredentialsError::Text("length"));
        }
        let mut fields = text.split('$');
        let (Some(scheme), Some(info), Some(keys), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(CredentialsError::Text("fields"));
        };
        let hash = Hash::from_scheme(scheme).ok_or_else(wrong("scheme"))?;
        let (count, salt) = info.split_once(':').ok_or_else(wrong("fields"))?;
        let (stored_key, server_key) = keys.split_once(':').ok_or_else(wrong("fields"))?;

        let iterations = number(count).and_then(Iterations::new).ok_or_else(wrong("iterations"))?;
        let salt = STANDARD.decode(salt).map_err(|_| CredentialsError::Text("salt"))?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(CredentialsError::Text("salt"));
        }
        let key = |text: &str, what| {
            let bytes = STANDARD.decode(text).map_err(|_| CredentialsError::Text(what))?;
            if bytes.len() == hash.output_len() { Ok(Key::new(&bytes)) } else { Err(CredentialsError::Text(what)) }
        };
        Ok(Credentials {
            hash,
            salt,
            iterations,
            stored_key: key(stored_key, "StoredKey")?,
            server_key: key(server_key, "ServerKey")?,
            fake: false,
            barred: false,
        })
    }
}

/// RFC 5802 §7: `posit-number`, so no sign and no leading zero.
pub(super) fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";

    fn of(hash: Hash, password: &str) -> Credentials {
        Credentials::derive(hash, password, &SALT, Iterations::MIN).unwrap()
    }

    #[test]
    fn the_right_password_matches_and_no_other() {
        for hash in Hash::ALL {
            let credentials = of(hash, "pencil");
            assert!(credentials.matches("pencil"));
            for wrong in ["", "pencil ", "Pencil", "penci", "\0"] {
                assert!(!credentials.matches(wrong), "{wrong:?}");
            }
        }
    }

    #[test]
    fn passwords_are_compared_after_preparation() {
        let credentials = of(Hash::Sha256, "I\u{ad}X \u{fb01}");
        assert!(credentials.matches("\u{2168} fi"));
        assert!(!credentials.matches("ix fi"));
    }

    #[test]
    fn a_password_that_others_could_not_type_is_not_stored() {
        let derive = |password| Credentials::derive(Hash::Sha1, password, &SALT, Iterations::MIN).map(|_| ());
        assert_eq!(derive(""), Err(CredentialsError::Password(PrepError::Empty)));
        assert_eq!(derive("a\tb"), Err(CredentialsError::Password(PrepError::Prohibited)));
        assert_eq!(derive("\u{1f511}"), Err(CredentialsError::Password(PrepError::Unassigned)));
        assert_eq!(derive(&"x".repeat(MAX_INPUT_BYTES + 1)), Err(CredentialsError::PasswordLength));
    }

    #[test]
    fn a_salt_has_a_length() {
        let derive = |salt: &[u8]| Credentials::derive(Hash::Sha1, "x", salt, Iterations::MIN).map(|_| ());
        assert_eq!(derive(&[]), Err(CredentialsError::Salt));
        assert_eq!(derive(&[0; MAX_SALT_BYTES + 1]), Err(CredentialsError::Salt));
        assert_eq!(derive(&[0; MAX_SALT_BYTES]), Ok(()));
    }

    #[test]
    fn iterations_have_bounds() {
        for (count, good) in [(0, false), (4_095, false), (4_096, true), (10_000_000, true), (10_000_001, false)] {
            assert_eq!(Iterations::new(count).is_some(), good, "{count}");
        }
    }

    #[test]
    fn the_text_form_of_the_password_of_rfc_7677_is_the_known_one() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = Credentials::derive(Hash::Sha256, "pencil", &salt, Iterations::MIN).unwrap().to_text();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn the_text_form_leads_back() {
        for hash in Hash::ALL {
            let salt = vec![0xff; MAX_SALT_BYTES];
            let text = Credentials::derive(hash, "pencil", &salt, Iterations::MIN).unwrap().to_text();
            assert!(text.len() <= MAX_TEXT_BYTES);
            let read = Credentials::from_text(&text).unwrap();
            assert_eq!(read.to_text(), text);
            assert!(read.matches("pencil"));
            assert_eq!((read.hash(), read.salt(), read.iterations()), (hash, salt.as_slice(), Iterations::MIN));
        }
    }

    #[test]
    fn rubbish_is_not_read() {
        let good = "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";
        assert!(Credentials::from_text(good).is_ok());
        let wrong = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            match Credentials::from_text(&text) {
                Err(CredentialsError::Text(what)) => what,
                other => panic!("{text}: {other:?}"),
            }
        };
        assert_eq!(wrong("SCRAM-SHA-1", "SCRAM-SHA-256"), "StoredKey");
        assert_eq!(wrong("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"), "scheme");
        assert_eq!(wrong("SCRAM", "scram"), "scheme");
        assert_eq!(wrong("4096", "4095"), "iterations");
        assert_eq!(wrong("4096", "10000001"), "iterations");
        assert_eq!(wrong("4096", "99999999999999999999"), "iterations");
        assert_eq!(wrong("4096", "+4096"), "iterations");
        assert_eq!(wrong("4096", "04096"), "iterations");
        assert_eq!(wrong("4096", ""), "iterations");
        assert_eq!(wrong("QSXCR+Q6sek8bf92", ""), "salt");
        assert_eq!(wrong("QSXCR", "QS CR"), "salt");
        assert_eq!(wrong("vK9Y=", "vK9Z="), "StoredKey");
        assert_eq!(wrong("vK9Y=", "vK9Y"), "StoredKey");
        assert_eq!(wrong("2/fTE=", "2/fTE=\n"), "ServerKey");
        assert_eq!(wrong("2/fTE=", "2/fTE=:"), "ServerKey");
        assert_eq!(wrong("2/fTE=", "2/fTE=$"), "fields");
        assert_eq!(wrong(":QSX", "QSX"), "fields");
        assert_eq!(wrong(":D+C", "D+C"), "fields");
        assert_eq!(wrong("SCRAM", &"x".repeat(MAX_TEXT_BYTES)), "length");
        assert!(Credentials::from_text("").is_err());
    }

    #[test]
    fn fake_ones_are_stable_and_differ_by_account_and_hash() {
        let fake = |secret: u8, account, hash| {
            let fake = Credentials::fake(&[secret; 32], account, hash, Shown::new(Iterations::DEFAULT));
            assert_eq!(fake.salt().len(), SALT_BYTES);
            fake.to_text()
        };
        let one = fake(1, "romeo@example.net", Hash::Sha256);
        assert_eq!(one, fake(1, "romeo@example.net", Hash::Sha256));
        assert_ne!(one, fake(2, "romeo@example.net", Hash::Sha256));
        assert_ne!(one, fake(1, "juliet@example.net", Hash::Sha256));
        assert_ne!(one, fake(1, "romeo@example.net", Hash::Sha512));
    }

    #[test]
    fn a_fake_shows_what_it_is_told_to_and_differs_by_it() {
        let mut salts = std::collections::BTreeSet::new();
        for (count, salt, form) in [
            (4_096, SaltForm::Bytes(12), "4096:b12"),
            (4_096, SaltForm::Bytes(16), "4096:b16"),
            (10_000, SaltForm::Bytes(128), "10000:b128"),
            (10_000, SaltForm::Uuid, "10000:u"),
            (10_000, SaltForm::Hex(32), "10000:h32"),
        ] {
            let shown = Shown { iterations: Iterations::new(count).unwrap(), salt };
            assert_eq!((shown.to_text().as_str(), Shown::from_text(form)), (form, Some(shown)));
            let fake = Credentials::fake(&[1; 32], "romeo@example.net", Hash::Sha1, shown);
            assert_eq!(fake.shown(), shown, "{form}");
            assert!(salts.insert(fake.salt().get(..9).unwrap().to_vec()), "{form}");
        }
        let uuid = Shown { iterations: Iterations::MIN, salt: SaltForm::Uuid };
        let fake = Credentials::fake(&[1; 32], "romeo@example.net", Hash::Sha1, uuid);
        let text = String::from_utf8(fake.salt().to_vec()).unwrap();
        assert!(text.get(14..15) == Some("4") && "89ab".contains(text.get(19..20).unwrap()), "{text}");
        for rubbish in ["", "4096", "4096:", "4096:x1", "1:b16", "4096:b", "4096:b300", "4096:u1", "4096:\u{e9}"] {
            assert_eq!(Shown::from_text(rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn barred_ones_look_the_same_and_nothing_fits() {
        let credentials = of(Hash::Sha256, "pencil");
        let barred = credentials.clone().barred();
        assert_eq!((barred.salt(), barred.iterations()), (credentials.salt(), credentials.iterations()));
        assert!(credentials.matches("pencil") && !barred.matches("pencil"));
    }

    #[test]
    fn no_password_and_no_proof_fits_a_fake_even_if_its_keys_were_right() {
        let mut credentials = of(Hash::Sha256, "pencil");
        let salted = crypto::hi(Hash::Sha256, b"pencil", &SALT, Iterations::MIN.count());
        let client_key = crypto::hmac(Hash::Sha256, salted.bytes(), &[b"Client Key"]);
        let signature = crypto::hmac(Hash::Sha256, credentials.stored_key.bytes(), &[b"message"]);
        let proof = client_key.xor(signature.bytes());
        assert!(credentials.matches("pencil") && credentials.check_proof(&[b"message"], proof.bytes()).is_some());
        credentials.fake = true;
        assert!(!credentials.matches("pencil") && credentials.check_proof(&[b"message"], proof.bytes()).is_none());
    }

    #[test]
    fn printing_shows_no_secret() {
        let credentials = of(Hash::Sha256, "pencil");
        let shown = format!("{credentials:?} {credentials:#?} {:?}", credentials.stored_key);
        assert!(shown.contains("Sha256"));
        for secret in credentials.to_text().split(['$', ':']).skip(2) {
            assert!(!shown.contains(secret));
        }
        assert!(!shown.contains("salt") && !shown.contains('['));
    }
}
