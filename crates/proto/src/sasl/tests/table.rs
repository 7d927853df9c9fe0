//! Every rule of RFC 5802 §5, §6 and §7, and of RFC 4616 §2, broken once: which condition the client gets and why.

use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};

const MALFORMED: SaslError = SaslError::MalformedRequest;
const UNAUTHORIZED: SaslError = SaslError::NotAuthorized;

/// What a first message leads to.
fn first(mechanism: Mechanism, settings: Settings, data: &[u8]) -> Step {
    Exchange::new(mechanism, settings, nonce("server")).receive(Some(data))
}

#[track_caller]
fn refused(step: Step, condition: SaslError, reason: &str) {
    let refusal = refusal(step);
    assert_eq!((refusal.condition, refusal.reason), (condition, reason));
}

#[track_caller]
fn accepted(step: Step, name: &str) {
    let Step::NeedCredentials(Query { username, .. }) = step else { panic!("{step:?}") };
    assert_eq!(username, name);
}

#[test]
fn the_flag_of_the_gs2_header_decides_on_channel_binding() {
    let sha = scram(Hash::Sha256);
    let plus = plus(Hash::Sha256);
    let rest = |flag: &str| format!("{flag},,n=user,r=x").into_bytes();
    let exporter_only =
        || Settings { bindings: ChannelBindings { server_end_point: None, ..bound().bindings }, ..bound() };

    accepted(first(sha, bound(), &rest("n")), "user");
    accepted(first(sha, unbound(), &rest("n")), "user");
    accepted(first(sha, unbound(), &rest("y")), "user");
    accepted(first(plus, bound(), &rest("p=tls-exporter")), "user");
    accepted(first(plus, bound(), &rest("p=tls-server-end-point")), "user");

    refused(first(sha, bound(), &rest("y")), UNAUTHORIZED, "downgrade: -PLUS was offered (y)");
    for flag in ["n", "y"] {
        refused(first(plus, bound(), &rest(flag)), MALFORMED, "-PLUS without channel binding");
    }
    refused(first(sha, bound(), &rest("p=tls-exporter")), MALFORMED, "channel binding without -PLUS");
    for flag in ["p=tls-unique", "p=TLS-EXPORTER", "p=tls-exporter2", "p=tls-exporte"] {
        refused(first(plus, bound(), &rest(flag)), UNAUTHORIZED, "unsupported channel-binding type");
    }
    let step = first(plus, exporter_only(), &rest("p=tls-server-end-point"));
    refused(step, UNAUTHORIZED, "unsupported channel-binding type");
    let step = first(plus, unbound(), &rest("p=tls-exporter"));
    refused(step, UNAUTHORIZED, "unsupported channel-binding type");
    for flag in ["p=", "p=tls exporter", "p=tls_exporter", "p=\u{e9}", "p=a=b"] {
        refused(first(plus, bound(), &rest(flag)), MALFORMED, "channel-binding type is no name");
    }
    for flag in ["", "N", "p", "P=tls-exporter", "n=", "nn", " n", "z", "\0"] {
        refused(first(plus, bound(), &rest(flag)), MALFORMED, "GS2 flag is not n, y or p");
    }
    // RFC 5801 §4 has a non-standard flag, which SCRAM excludes (RFC 5802 §7).
    refused(first(sha, bound(), b"F,n,,n=user,r=x"), MALFORMED, "GS2 flag is not n, y or p");
}

#[test]
fn the_rest_of_the_gs2_header_is_an_authzid_or_nothing() {
    let sha = scram(Hash::Sha1);
    accepted(first(sha, bound(), b"n,a=user@example.org,n=user,r=x"), "user");
    refused(first(sha, bound(), b"n,a=,n=user,r=x"), MALFORMED, "name is empty or contains NUL");
    refused(first(sha, bound(), b"n,a=x=y,n=user,r=x"), MALFORMED, "name has = without 2C or 3D");
    refused(first(sha, bound(), b"n,b=x,n=user,r=x"), MALFORMED, "GS2 header has something else than an authzid");
    refused(first(sha, bound(), b"n,user,n=user,r=x"), MALFORMED, "GS2 header has something else than an authzid");
    refused(first(sha, bound(), b"n,n=user,r=x"), MALFORMED, "GS2 header has something else than an authzid");
    for short in ["", "n", "n,", "n,a=x"] {
        refused(first(sha, bound(), short.as_bytes()), MALFORMED, "GS2 header incomplete");
    }
    let long = format!("n,a={},n=user,r=x", "x".repeat(MAX_AUTHZID_BYTES + 1));
    refused(first(sha, bound(), long.as_bytes()), MALFORMED, "username or authzid too long");
    let longest = format!("n,a={},n=user,r=x", "x".repeat(MAX_AUTHZID_BYTES));
    accepted(first(sha, bound(), longest.as_bytes()), "user");
}

#[test]
fn the_first_message_has_its_attributes_in_order() {
    let sha = scram(Hash::Sha1);
    let refuses = |bare: &[u8], reason| refused(first(sha, bound(), &[b"n,,", bare].concat()), MALFORMED, reason);
    refuses(b"", "username (n=) missing");
    refuses(b"r=x,n=user", "username (n=) missing");
    refuses(b"N=user,r=x", "username (n=) missing");
    refuses(b",n=user,r=x", "username (n=) missing");
    refuses(b"n=user", "nonce (r=) missing");
    refuses(b"n=user,", "nonce (r=) missing");
    refuses(b"n=user,x=1,r=x", "nonce (r=) missing");
    refuses(b"n=user,R=x", "nonce (r=) missing");
    refuses(b"n=user,r=", "nonce is empty or not printable");
    refuses(b"n=user,r=a b", "nonce is empty or not printable");
    refuses(b"n=user,r=a\x7f", "nonce is empty or not printable");
    refuses(b"n=user,r=a\0", "nonce is empty or not printable");
    refuses("n=user,r=\u{e9}".as_bytes(), "nonce is empty or not printable");
}

#[test]
fn mandatory_extensions_fail_and_optional_ones_are_ignored() {
    let sha = scram(Hash::Sha1);
    let refuses = |bare: &str, reason| refused(first(sha, bound(), format!("n,,{bare}").as_bytes()), MALFORMED, reason);
    refuses("m=x,n=user,r=x", "mandatory extension (m=)");
    refuses("n=user,r=x,m=x", "mandatory extension (m=)");
    refuses("n=user,r=x,z=1,m=x", "mandatory extension (m=)");
    for name in ["a", "n", "r", "c", "s", "i", "p", "v", "e"] {
        refuses(&format!("n=user,r=x,{name}=1"), "attribute out of order");
    }
    for wrong in ["", "z", "z=", "zz=1", "1=1", "=1", "\u{e9}=1"] {
        refuses(&format!("n=user,r=x,{wrong}"), "extension is no attribute");
    }
    refuses("n=user,r=x,z=\0", "extension contains NUL");
    accepted(first(sha, bound(), "n,,n=user,r=x,z=1,M=\u{e9}==,z=2".as_bytes()), "user");
}

#[test]
fn names_are_unescaped_and_prepared() {
    let sha = scram(Hash::Sha1);
    let with = |name: &[u8]| first(sha, bound(), &[b"n,,n=", name, b",r=x"].concat());
    accepted(with(b"a=2Cb=3Dc"), "a,b=c");
    accepted(with(b"=3D2C"), "=2C");
    accepted(with("\u{ff35}ser\u{ad}".as_bytes()), "User");
    for wrong in [&b"="[..], b"a=", b"a=2c", b"a=3d", b"a==2C", b"=2", b"=20", b"a=b"] {
        refused(with(wrong), MALFORMED, "name has = without 2C or 3D");
    }
    for wrong in [&b""[..], b"\0", b"a\0b"] {
        refused(with(wrong), MALFORMED, "name is empty or contains NUL");
    }
    for wrong in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xc3"] {
        refused(with(wrong), MALFORMED, "message is not UTF-8");
    }
    for wrong in ["\u{ad}", "a\u{7}", "a\u{e000}", "\u{5d0}a", "\t"] {
        refused(with(wrong.as_bytes()), UNAUTHORIZED, "username fails SASLprep");
    }
    accepted(with(&[b'x'; MAX_USERNAME_BYTES]), &"x".repeat(MAX_USERNAME_BYTES));
    refused(with(&[b'x'; MAX_USERNAME_BYTES + 1]), MALFORMED, "username or authzid too long");
}

#[test]
fn a_message_has_a_greatest_length() {
    for mechanism in Mechanism::ALL {
        let step = first(mechanism, bound(), &[b'n'; MAX_INPUT_BYTES + 1]);
        refused(step, MALFORMED, "message too long");
        assert_ne!(refusal(first(mechanism, bound(), &[b'n'; MAX_INPUT_BYTES])).reason, "message too long");
    }
    let (mut exchange, good) = before_last(scram(Hash::Sha256), bound());
    let long = good.replacen(",p=", &format!(",z={},p=", "z".repeat(MAX_INPUT_BYTES)), 1);
    refused(exchange.receive(Some(long.as_bytes())), MALFORMED, "message too long");
}

/// An exchange that waits for the client-final-message, and the right one.
fn before_last(mechanism: Mechanism, settings: Settings) -> (Exchange, String) {
    let mut client = client(mechanism, "user", "pencil");
    let mut exchange = Exchange::new(mechanism, settings, nonce("server"));
    let step = Host::new().receive(&mut exchange, &client.first().unwrap());
    let last = client.respond(challenge(step).as_bytes()).unwrap();
    (exchange, String::from_utf8(last).unwrap())
}

#[test]
fn each_part_of_the_final_message_is_checked() {
    // c=biws,r=clientserver,p=<44 characters>
    let (mut exchange, good) = before_last(scram(Hash::Sha256), bound());
    assert!(good.starts_with("c=biws,r=clientserver,p="));
    assert!(matches!(exchange.receive(Some(good.as_bytes())), Step::Success(_)));

    let wrong = |from: &str, to: &str, condition, reason: &str| {
        let (mut exchange, good) = before_last(scram(Hash::Sha256), bound());
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        refused(exchange.receive(Some(bad.as_bytes())), condition, reason);
    };
    let proof = &good[good.find("p=").unwrap()..];
    let other_hash = format!("p={}", STANDARD.encode([0; 20]));
    let mut longer = STANDARD.decode(&proof[2..]).unwrap();
    longer.push(0);
    let longer = format!("p={}", STANDARD.encode(&longer));
    let shorter = format!("p={}", STANDARD.encode(&STANDARD.decode(&proof[2..]).unwrap()[..31]));

    wrong("c=", "C=", MALFORMED, "channel binding (c=) missing");
    wrong("c=biws,", "", MALFORMED, "channel binding (c=) missing");
    wrong("biws", "bi ws", MALFORMED, "channel binding is not base64");
    wrong("biws", "biw", MALFORMED, "channel binding is not base64");
    wrong("biws", "", UNAUTHORIZED, "channel binding or GS2 header differs");
    wrong("biws", "eSws", UNAUTHORIZED, "channel binding or GS2 header differs");
    wrong("biws", &STANDARD.encode("n,a=user,"), UNAUTHORIZED, "channel binding or GS2 header differs");
    wrong("biws", &STANDARD.encode("n,,x"), UNAUTHORIZED, "channel binding or GS2 header differs");

    wrong("r=clientserver,", "", MALFORMED, "nonce (r=) missing");
    wrong("r=clientserver", "z=1,r=clientserver", MALFORMED, "nonce (r=) missing");
    wrong("clientserver", "clientServer", UNAUTHORIZED, "nonce differs");
    wrong("clientserver", "client", UNAUTHORIZED, "nonce differs");
    wrong("clientserver", "clientserver2", UNAUTHORIZED, "nonce differs");
    wrong("clientserver", "", UNAUTHORIZED, "nonce differs");

    wrong("clientserver,", "clientserver,m=1,", MALFORMED, "mandatory extension (m=)");
    wrong("clientserver,", "clientserver,r=clientserver,", MALFORMED, "attribute out of order");
    wrong("clientserver,", "clientserver,p=AAAA,", MALFORMED, "attribute out of order");
    wrong("clientserver,", "clientserver,,", MALFORMED, "extension is no attribute");
    wrong("clientserver,", "clientserver,z=1,", UNAUTHORIZED, "no such account or wrong proof");

    wrong(proof, "", MALFORMED, "proof (p=) missing");
    wrong(proof, "P=AAAA", MALFORMED, "proof (p=) missing");
    wrong(proof, "p=A", MALFORMED, "proof is not base64 or not last");
    wrong(proof, &format!("{proof},z=1"), MALFORMED, "proof is not base64 or not last");
    wrong(proof, &format!("{proof}\n"), MALFORMED, "proof is not base64 or not last");
    wrong(proof, proof.trim_end_matches('='), MALFORMED, "proof is not base64 or not last");
    wrong(proof, "p=", UNAUTHORIZED, "no such account or wrong proof");
    wrong(proof, &other_hash, UNAUTHORIZED, "no such account or wrong proof");
    wrong(proof, &longer, UNAUTHORIZED, "no such account or wrong proof");
    wrong(proof, &shorter, UNAUTHORIZED, "no such account or wrong proof");
    wrong("p=", "p=AAAA", UNAUTHORIZED, "no such account or wrong proof");
}

#[test]
fn the_final_message_is_text() {
    for wrong in [&b""[..], b"\xff", b"c", b",", b",p=", b",,,p=", b"n,,n=user,r=x"] {
        let (mut exchange, _) = before_last(scram(Hash::Sha1), bound());
        assert_eq!(refusal(exchange.receive(Some(wrong))).condition, MALFORMED, "{wrong:?}");
    }
    let (mut exchange, _) = before_last(scram(Hash::Sha1), bound());
    assert_eq!(refusal(exchange.receive(None)).condition, MALFORMED);
}

#[test]
fn an_optional_extension_in_both_messages_does_not_hinder() {
    // By hand, since the client sends none. The extension is part of what is signed.
    let credentials = Credentials::derive(Hash::Sha1, "pencil", &SALT, Iterations::MIN).unwrap();
    let salted = crypto::hi(Hash::Sha1, b"pencil", &SALT, 4096);
    let client_key = crypto::hmac(Hash::Sha1, salted.bytes(), &[b"Client Key"]);
    let stored_key = crypto::digest(Hash::Sha1, client_key.bytes());

    let mut exchange = Exchange::new(scram(Hash::Sha1), bound(), nonce("server"));
    let step = exchange.receive(Some(b"n,,n=user,r=x,z=first"));
    assert!(matches!(step, Step::NeedCredentials(_)));
    let offer = challenge(exchange.account(Account { address: USER.to_owned(), credentials }));
    let without_proof = "c=biws,r=xserver,y=one,z=two";
    let message = format!("n=user,r=x,z=first,{offer},{without_proof}");
    let signature = crypto::hmac(Hash::Sha1, stored_key.bytes(), &[message.as_bytes()]);
    let proof = STANDARD.encode(client_key.xor(signature.bytes()).bytes());
    let step = exchange.receive(Some(format!("{without_proof},p={proof}").as_bytes()));
    assert!(matches!(step, Step::Success(_)), "{step:?}");
}

#[test]
fn another_channel_than_ours_is_refused() {
    let host = Host::new();
    for data in [vec![0xe2; 32], EXPORTER[..31].to_vec(), Vec::new()] {
        let binding = Binding::Use { name: TLS_EXPORTER.to_owned(), data };
        let there = client(plus(Hash::Sha256), "user", "pencil").with_binding(binding);
        let refusal = host.attempt(bound(), there, plus(Hash::Sha256)).unwrap_err();
        assert_eq!(refusal.condition, UNAUTHORIZED);
        assert_eq!(refusal.reason, "channel binding or GS2 header differs");
    }
    // The right bytes under the name of the other type.
    let binding = Binding::Use { name: TLS_SERVER_END_POINT.to_owned(), data: EXPORTER.to_vec() };
    let there = client(plus(Hash::Sha256), "user", "pencil").with_binding(binding);
    assert!(host.attempt(bound(), there, plus(Hash::Sha256)).is_err());
}

#[test]
fn the_end_point_is_as_good_as_the_exporter() {
    let binding = Binding::Use { name: TLS_SERVER_END_POINT.to_owned(), data: vec![0xce; 32] };
    let there = client(plus(Hash::Sha1), "user", "pencil").with_binding(binding);
    let success = Host::new().attempt(bound(), there, plus(Hash::Sha1)).unwrap();
    assert_eq!(success.binding(), Some(TLS_SERVER_END_POINT));
}

#[test]
fn a_client_that_saw_no_plus_may_say_so_if_there_was_none() {
    let host = Host::new();
    let there = || client(scram(Hash::Sha256), "user", "pencil").with_binding(Binding::NotOffered);
    assert!(host.attempt(unbound(), there(), scram(Hash::Sha256)).is_ok());
    assert_eq!(host.attempt(bound(), there(), scram(Hash::Sha256)).unwrap_err().condition, UNAUTHORIZED);
}

#[test]
fn plain_has_three_fields_and_a_name_and_a_password() {
    let with = |data: &[u8]| first(Mechanism::Plain, bound(), data);
    accepted(with(b"\0user\0pencil"), "user");
    accepted(with(b"user@example.org\0user\0pencil"), "user");
    accepted(with(b"\0a=2C,\0pencil"), "a=2C,");
    for wrong in [&b""[..], b"user", b"\0user", b"user\0pencil", b"\0user\0pen\0cil", b"\0\0\0\0"] {
        refused(with(wrong), MALFORMED, "PLAIN has not three fields");
    }
    for wrong in [&b"\0\0pencil"[..], b"\0user\0", b"\0\0", b"x\0\0"] {
        refused(with(wrong), MALFORMED, "empty username or password");
    }
    for wrong in [&b"\0us\xffer\0pencil"[..], b"\0user\0\xc0\x80", b"\xff\0user\0pencil"] {
        refused(with(wrong), MALFORMED, "message is not UTF-8");
    }
    refused(with(b"\0us\x07er\0pencil"), UNAUTHORIZED, "username fails SASLprep");
    refused(with(b"\0\xc2\xad\0pencil"), UNAUTHORIZED, "username fails SASLprep");
    refused(with(b"\0user\0pen\ncil"), UNAUTHORIZED, "password fails SASLprep");
    refused(with(b"\0user\0\xc2\xad"), UNAUTHORIZED, "password fails SASLprep");
    let name = |len| [b"\0", "x".repeat(len).as_bytes(), b"\0pencil"].concat();
    accepted(with(&name(MAX_USERNAME_BYTES)), &"x".repeat(MAX_USERNAME_BYTES));
    refused(with(&name(MAX_USERNAME_BYTES + 1)), MALFORMED, "username or authzid too long");
    let authzid = |len| ["x".repeat(len).as_bytes(), b"\0user\0pencil"].concat();
    accepted(with(&authzid(MAX_AUTHZID_BYTES)), "user");
    refused(with(&authzid(MAX_AUTHZID_BYTES + 1)), MALFORMED, "username or authzid too long");
}

#[test]
fn the_conditions_have_the_names_of_rfc_6120() {
    for (error, element) in [
        (SaslError::Aborted, "aborted"),
        (SaslError::AccountDisabled, "account-disabled"),
        (SaslError::CredentialsExpired, "credentials-expired"),
        (SaslError::EncryptionRequired, "encryption-required"),
        (SaslError::IncorrectEncoding, "incorrect-encoding"),
        (SaslError::InvalidAuthzid, "invalid-authzid"),
        (SaslError::InvalidMechanism, "invalid-mechanism"),
        (SaslError::MalformedRequest, "malformed-request"),
        (SaslError::MechanismTooWeak, "mechanism-too-weak"),
        (SaslError::NotAuthorized, "not-authorized"),
        (SaslError::TemporaryAuthFailure, "temporary-auth-failure"),
    ] {
        assert_eq!(error.element(), element);
        assert_eq!(error.to_string(), element);
    }
}
