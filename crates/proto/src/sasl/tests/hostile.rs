//! 200,000 inputs for each entry point, from a fixed seed: none may panic and none may get in.

use super::client::Keys;
use super::*;

const INPUTS: u32 = 200_000;

/// A small generator (xorshift64*), so that a failure comes again.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    /// Half of them are bytes, half are made of the words of the grammar, so that they come far.
    fn input(&mut self) -> Vec<u8> {
        const WORDS: [&str; 40] = [
            "n",
            "y",
            "p=",
            "p=tls-exporter",
            "p=tls-server-end-point",
            ",",
            ",,",
            "a=",
            "n=",
            "r=",
            "m=",
            "c=",
            "p=",
            "v=",
            "s=",
            "i=",
            "i=4096",
            "user",
            "user@example.org",
            "client",
            "clientserver",
            "=2C",
            "=3D",
            "=",
            "biws",
            "eSws",
            "AAAA",
            "AA==",
            "\0",
            "pencil",
            "\u{ad}",
            "\u{5d0}",
            "\u{1f511}",
            "\u{ff35}",
            "x",
            "SCRAM-SHA-256",
            "$",
            ":",
            "4096",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
        ];
        let mut data = Vec::new();
        if self.next().is_multiple_of(2) {
            (0..self.below(64)).for_each(|_| data.push(self.next().to_le_bytes()[3]));
        } else {
            if self.next().is_multiple_of(2) {
                const STARTS: [&str; 4] =
                    ["n,,n=user,r=client", "p=tls-exporter,,n=user,r=client", "c=biws,r=clientserver,", "\0user\0"];
                data.extend_from_slice(STARTS[self.below(STARTS.len())].as_bytes());
            }
            (0..self.below(16)).for_each(|_| data.extend_from_slice(WORDS[self.below(WORDS.len())].as_bytes()));
        }
        data
    }

    fn inputs(seed: u64) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = Rng(seed);
        (0..INPUTS).map(move |_| rng.input())
    }
}

/// Keys that fit no password, so that nothing needs to be derived.
fn user(hash: Hash) -> Account {
    Account {
        address: USER.to_owned(),
        credentials: Credentials::fake(&SECRET, USER, hash, Shown::new(Iterations::MIN)),
    }
}

#[test]
fn random_first_messages_do_not_panic() {
    for mechanism in Mechanism::ALL {
        let mut asked = 0;
        for data in Rng::inputs(1 + u64::from(mechanism.strength())) {
            let mut exchange = Exchange::new(mechanism, bound(), nonce("server"));
            match exchange.receive(Some(&data)) {
                Step::NeedCredentials(query) => {
                    asked += 1;
                    assert!(!query.username.is_empty());
                }
                Step::Failure(_) => {}
                other => panic!("{other:?} for {data:?}"),
            }
        }
        // Otherwise the inputs would be too dull to show anything.
        assert!(asked > 20, "{mechanism:?}: only {asked} were understood");
    }
}

#[test]
fn random_final_messages_do_not_panic_and_do_not_succeed() {
    for hash in Hash::ALL {
        let account = user(hash);
        let mut proofs = 0;
        for data in Rng::inputs(20 + u64::from(scram(hash).strength())) {
            let mut exchange = Exchange::new(scram(hash), bound(), nonce("server"));
            let Step::NeedCredentials(_) = exchange.receive(Some(b"n,,n=user,r=client")) else { panic!() };
            let Step::Challenge(_) = exchange.account(account.clone()) else { panic!() };
            let refusal = refusal(exchange.receive(Some(&data)));
            proofs += u32::from(refusal.reason == "no such account or wrong proof");
        }
        assert!(proofs > 20, "only {proofs} came as far as the proof");
    }
}

#[test]
fn random_texts_do_not_panic_any_reader() {
    for data in Rng::inputs(30) {
        let text = String::from_utf8_lossy(&data);
        let _ = Mechanism::from_name(&text);
        let _ = Hash::from_scheme(&text);
        let _ = Nonce::from_text(&text);
        let _ = prep::stored(&text);
        if let Ok(credentials) = Credentials::from_text(&text) {
            assert_eq!(credentials.to_text(), text);
        }
        if let Ok(Some(payload)) = decode_payload(&text) {
            assert_eq!(encode_payload(Some(&payload)), text);
        }
    }
}

#[test]
fn random_credentials_do_not_panic_the_reader() {
    let good = user(Hash::Sha1).credentials.to_text();
    let mut rng = Rng(40);
    for insert in Rng::inputs(41) {
        let at = rng.below(good.len());
        let text = format!("{}{}{}", &good[..at], String::from_utf8_lossy(&insert), &good[at + rng.below(2)..]);
        if let Ok(credentials) = Credentials::from_text(&text) {
            assert_eq!(credentials.to_text(), text);
        }
    }
}

#[test]
fn random_answers_of_a_server_do_not_panic_the_client() {
    let keys = Keys::derive(Hash::Sha256, "pencil", &SALT, Iterations::MIN).unwrap();
    let mut rng = Rng(50);
    for data in Rng::inputs(51) {
        let mut client = Client::new(scram(Hash::Sha256), "user", Secret::Keys(keys.clone()), nonce("client"));
        client.first().unwrap();
        let answered = client.respond(&data).is_ok();
        if !answered && rng.next().is_multiple_of(4) {
            client.respond(b"r=clientserver,s=AAAA,i=4096").unwrap();
        }
        assert!(client.finish(Some(&data)).is_err());
    }
}
