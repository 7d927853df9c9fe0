//! The examples of the specifications, byte for byte.

use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};

/// One exchange as printed.
struct Example {
    mechanism: Mechanism,
    password: &'static str,
    salt: &'static str,
    username: &'static str,
    nonces: [&'static str; 2],
    settings: Settings,
    binding: Binding,
    messages: [&'static str; 4],
}

fn plays(example: Example) {
    let Example { mechanism, password, salt, username, nonces, settings, binding, messages } = example;
    let [client_nonce, server_nonce] = nonces.map(nonce);
    let [first, server_first, last, server_last] = messages;
    let salt = STANDARD.decode(salt).unwrap();
    let credentials = Credentials::derive(mechanism.hash().unwrap(), password, &salt, Iterations::MIN).unwrap();

    let secret = Secret::Password(password.to_owned());
    let mut client = Client::new(mechanism, username, secret, client_nonce).with_binding(binding);
    let mut exchange = Exchange::new(mechanism, settings, server_nonce);
    assert_eq!(client.first().unwrap(), first.as_bytes());
    let step = exchange.receive(Some(first.as_bytes()));
    let query = Query { username: username.to_owned(), hash: mechanism.hash() };
    assert!(matches!(step, Step::NeedCredentials(asked) if asked == query));
    let account = Account { address: USER.to_owned(), credentials };
    assert_eq!(challenge(exchange.account(account)), server_first);
    assert_eq!(client.respond(server_first.as_bytes()).unwrap(), last.as_bytes());
    let Step::Success(success) = exchange.receive(Some(last.as_bytes())) else { panic!("no success") };
    assert_eq!(success.account(), USER);
    assert_eq!(success.data(), Some(server_last.as_bytes()));
    assert_eq!(client.finish(Some(server_last.as_bytes())), Ok(()));
}

#[test]
fn the_example_of_rfc_5802_section_5_comes_out_byte_for_byte() {
    plays(Example {
        mechanism: scram(Hash::Sha1),
        password: "pencil",
        salt: "QSXCR+Q6sek8bf92",
        username: "user",
        nonces: ["fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"],
        settings: unbound(),
        binding: Binding::Unsupported,
        messages: [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    });
}

#[test]
fn the_example_of_rfc_7677_section_3_comes_out_byte_for_byte() {
    plays(Example {
        mechanism: scram(Hash::Sha256),
        password: "pencil",
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        username: "user",
        nonces: ["rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"],
        settings: unbound(),
        binding: Binding::Unsupported,
        messages: [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    });
}

/// No RFC has an example for SHA-512 or -PLUS; this one was computed with the hashlib and hmac of Python.
#[test]
fn an_exchange_with_sha_512_and_channel_binding_agrees_with_another_implementation() {
    let mut bytes = [0; 32];
    (0..32).zip(&mut bytes).for_each(|(value, byte)| *byte = value);
    plays(Example {
        mechanism: plus(Hash::Sha512),
        password: "p\u{e9}ncil",
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        username: "us,er",
        nonces: ["clientnonce", "servernonce"],
        settings: Settings { bindings: ChannelBindings { exporter: Some(bytes), server_end_point: None }, ..bound() },
        binding: Binding::Use { name: TLS_EXPORTER.to_owned(), data: bytes.to_vec() },
        messages: [
            "p=tls-exporter,,n=us=2Cer,r=clientnonce",
            "r=clientnonceservernonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=cD10bHMtZXhwb3J0ZXIsLAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f,r=clientnonceservernonce,\
             p=LBUZ2tERlLA/ZOs4U2bftz4cu3S4L1T7lDqkkbSO84mtmKEuUP8LLHpnTyy5FEFqwhze4iLo3tXRGEPT1ScEqg==",
            "v=Xnk1jnZz4d8vGudPLofQcVhu1+hJRUXX46TQootLLN4c2WHrmOGgy2g5Z6mFfl7gL8vW6S4rM/WLW3A1EOKBLg==",
        ],
    });
}

#[test]
fn the_first_example_of_rfc_4616_is_read() {
    let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce("server"));
    let step = exchange.receive(Some(b"\0tim\0tanstaaftanstaaf"));
    assert!(matches!(step, Step::NeedCredentials(Query { username, hash: None }) if username == "tim"));
}

#[test]
fn the_second_example_of_rfc_4616_is_refused_for_its_authzid() {
    let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce("server"));
    let Step::NeedCredentials(query) = exchange.receive(Some(b"Ursel\0Kurt\0xipj3plmq")) else { panic!() };
    assert_eq!(query.username, "Kurt");
    let credentials = Credentials::derive(Hash::Sha256, "xipj3plmq", &SALT, Iterations::MIN).unwrap();
    let step = exchange.account(Account { address: "kurt@example.org".to_owned(), credentials });
    assert_eq!(refusal(Host::new().drive(&mut exchange, step)).condition, SaslError::InvalidAuthzid);
}
