//! Changed messages: whatever is changed, and wherever, nobody gets in.

use super::client::Keys;
use super::*;
use proptest::prelude::*;

/// One change to a message.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    Swap(usize, usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..200_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at.clone(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at.clone(), prop::sample::select(b",=nyprcvmaz\0 A\xc2".to_vec())).prop_map(|(at, b)| Change::Insert(at, b)),
        at.clone().prop_map(Change::Remove),
        at.clone().prop_map(Change::Cut),
        (at.clone(), at.clone()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at.clone(), at).prop_map(|(a, b)| Change::Repeat(a, b)),
    ]
}

fn apply(message: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut data = message.to_vec();
    for change in changes {
        if data.is_empty() {
            break;
        }
        let len = data.len();
        match *change {
            Change::Set(at, byte) => data[at % len] = byte,
            Change::Flip(at, bit) => data[at % len] ^= 1 << bit,
            Change::Insert(at, byte) => data.insert(at % (len + 1), byte),
            Change::Remove(at) => drop(data.remove(at % len)),
            Change::Cut(at) => data.truncate(at % len),
            Change::Swap(a, b) => data.swap(a % len, b % len),
            Change::Repeat(a, b) => {
                let (a, b) = ((a % len).min(b % len), (a % len).max(b % len));
                data.extend_from_within(a..b);
            }
        }
    }
    data
}

/// The host and the keys of its user are derived once for all cases.
fn world() -> &'static (Host, Vec<Keys>) {
    static WORLD: std::sync::OnceLock<(Host, Vec<Keys>)> = std::sync::OnceLock::new();
    WORLD.get_or_init(|| {
        let keys = |hash| Keys::derive(hash, "pencil", &SALT, Iterations::MIN).unwrap();
        (Host::new(), Hash::ALL.into_iter().map(keys).collect())
    })
}

fn scram_attempt(at: usize, in_first: &[Change], in_challenge: &[Change], in_last: &[Change]) -> (bool, bool) {
    let (host, keys) = world();
    let mechanism = Mechanism::ALL[at % 6];
    let secret = Secret::Keys(keys[at % 3].clone());
    let mut client = Client::new(mechanism, "user", secret, nonce("client")).with_authzid(USER);
    if mechanism.is_plus() {
        client = client.with_binding(exporter());
    }
    let mut exchange = Exchange::new(mechanism, bound(), nonce("server"));

    let first = client.first().unwrap();
    let sent_first = apply(&first, in_first);
    let Step::Challenge(offer) = host.receive(&mut exchange, &sent_first) else { return (false, sent_first == first) };
    let sent_offer = apply(&offer, in_challenge);
    let Ok(last) = client.respond(&sent_offer) else { return (false, sent_offer == offer && sent_first == first) };
    let sent_last = apply(&last, in_last);
    let untouched = sent_first == first && sent_offer == offer && sent_last == last;
    (matches!(host.receive(&mut exchange, &sent_last), Step::Success(_)), untouched)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scram_succeeds_exactly_if_no_message_was_changed(
        at in 0..6_usize,
        in_first in prop::collection::vec(change(), 0..3),
        in_challenge in prop::collection::vec(change(), 0..2),
        in_last in prop::collection::vec(change(), 0..3),
    ) {
        let (success, untouched) = scram_attempt(at, &in_first, &in_challenge, &in_last);
        prop_assert_eq!(success, untouched);
    }

    #[test]
    fn scram_notices_one_change_to_the_last_message(at in 0..6_usize, change in change()) {
        let (success, untouched) = scram_attempt(at, &[], &[], &[change]);
        prop_assert_eq!(success, untouched);
    }

    #[test]
    fn credentials_are_read_exactly_if_they_are_what_is_written(changes in prop::collection::vec(change(), 0..3)) {
        let (host, _) = world();
        let query = Query { username: "user".to_owned(), hash: Some(Hash::Sha256) };
        let text = host.look_up(&query).credentials.to_text();
        if let Ok(changed) = String::from_utf8(apply(text.as_bytes(), &changes))
            && let Ok(read) = Credentials::from_text(&changed)
        {
            prop_assert_eq!(read.to_text(), changed);
        }
    }

    #[test]
    fn payloads_lead_back(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = encode_payload(Some(&data));
        prop_assert_eq!(decode_payload(&text), Ok(Some(zeroize::Zeroizing::new(data))));
    }

    #[test]
    fn preparing_twice_is_preparing_once(text in "\\PC{0,40}") {
        if let Ok(once) = prep::query(&text) {
            let twice = prep::query(&once);
            prop_assert_eq!(twice.as_deref(), Ok(once.as_ref()));
        }
    }
}

proptest! {
    // Each case that gets as far derives a key.
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plain_succeeds_only_with_the_owners_name_and_password(changes in prop::collection::vec(change(), 0..3)) {
        let (host, _) = world();
        let original = b"user@example.org\0user\0pencil";
        let sent = apply(original, &changes);
        let mut exchange = Exchange::new(Mechanism::Plain, bound(), nonce("server"));
        match host.receive(&mut exchange, &sent) {
            Step::Success(success) => {
                // An authzid may be left out, and the callback of the tests ignores its case.
                prop_assert_eq!(success.account(), USER);
                let authzid = sent.strip_suffix(b"\0user\0pencil");
                let own = authzid.is_some_and(|id| id.is_empty() || id.eq_ignore_ascii_case(USER.as_bytes()));
                prop_assert!(own, "{:?}", sent);
            }
            Step::Failure(_) => prop_assert_ne!(sent.as_slice(), original.as_slice()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
