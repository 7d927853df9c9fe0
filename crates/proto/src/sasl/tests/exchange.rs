//! Both sides together, and the order of the steps.

use super::*;

#[test]
fn every_mechanism_lets_the_owner_in() {
    let host = Host::new();
    for mechanism in Mechanism::ALL {
        let success = host.attempt(bound(), client(mechanism, "user", "pencil"), mechanism).unwrap();
        assert_eq!(success.account(), USER);
        assert_eq!(success.mechanism(), mechanism);
        assert_eq!(success.binding(), mechanism.is_plus().then_some(TLS_EXPORTER));
        assert_eq!(success.data().is_some(), mechanism != Mechanism::Plain);
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answers() {
    let host = Host::new();
    for mechanism in Mechanism::ALL {
        let wrong = host.attempt(bound(), client(mechanism, "user", "pencils"), mechanism).unwrap_err();
        let unknown = host.attempt(bound(), client(mechanism, "nobody", "pencil"), mechanism).unwrap_err();
        assert_eq!(wrong.condition, SaslError::NotAuthorized);
        assert_eq!(wrong, unknown, "{mechanism:?}");
    }
}

#[test]
fn an_unknown_user_is_shown_a_stable_salt_that_looks_like_any() {
    let host = Host::new();
    let ask = |user: &str| {
        let mut exchange = Exchange::new(scram(Hash::Sha256), unbound(), nonce("server"));
        challenge(host.receive(&mut exchange, format!("n,,n={user},r=client").as_bytes()))
    };
    assert_eq!(ask("nobody"), ask("nobody"));
    assert_ne!(ask("nobody"), ask("noone"));
    assert_eq!(ask("nobody").len(), ask("user").len());
    assert!(ask("nobody").starts_with("r=clientserver,s=") && ask("nobody").ends_with(",i=4096"));
}

#[test]
fn a_foreign_authzid_is_refused_by_every_mechanism_after_the_password_was_right() {
    let host = Host::new();
    for mechanism in Mechanism::ALL {
        let foreign = client(mechanism, "user", "pencil").with_authzid("admin@example.org");
        let refusal = host.attempt(bound(), foreign, mechanism).unwrap_err();
        assert_eq!(refusal.condition, SaslError::InvalidAuthzid, "{mechanism:?}");
        let stranger = client(mechanism, "user", "wrong").with_authzid("admin@example.org");
        let refusal = host.attempt(bound(), stranger, mechanism).unwrap_err();
        assert_eq!(refusal.condition, SaslError::NotAuthorized, "{mechanism:?}");
    }
}

#[test]
fn ones_own_authzid_is_accepted_by_every_mechanism_as_the_callback_says() {
    let host = Host::new();
    for mechanism in Mechanism::ALL {
        let own = client(mechanism, "user", "pencil").with_authzid("User@Example.org");
        assert_eq!(host.attempt(bound(), own, mechanism).unwrap().account(), USER);
    }
}

#[test]
fn the_session_is_that_of_the_account_looked_up_not_of_the_name_sent() {
    let host = Host::new();
    let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce("server"));
    let Step::NeedCredentials(query) = exchange.receive(Some(b"\0u\xc2\xadser\0pencil")) else { panic!() };
    assert_eq!(query, Query { username: "user".to_owned(), hash: None });
    let account = Account { address: "renamed@example.org".to_owned(), ..host.look_up(&query) };
    let step = exchange.account(account);
    let Step::Success(success) = host.drive(&mut exchange, step) else { panic!() };
    assert_eq!(success.account(), "renamed@example.org");
}

#[test]
fn without_an_initial_response_the_client_is_asked_for_it() {
    let host = Host::new();
    for mechanism in [Mechanism::Plain, scram(Hash::Sha1)] {
        let mut exchange = Exchange::new(mechanism, unbound(), nonce("server"));
        assert_eq!(challenge(exchange.receive(None)), "");
        let first = client(mechanism, "user", "pencil").first().unwrap();
        let step = host.receive(&mut exchange, &first);
        assert!(matches!(step, Step::Success(_) | Step::Challenge(_)), "{step:?}");
    }
}

#[test]
fn an_empty_initial_response_is_not_a_missing_one() {
    for mechanism in Mechanism::ALL {
        let mut exchange = Exchange::new(mechanism, bound(), nonce("server"));
        assert_eq!(refusal(exchange.receive(Some(b""))).condition, SaslError::MalformedRequest);
        let mut exchange = Exchange::new(mechanism, bound(), nonce("server"));
        assert_eq!(challenge(exchange.receive(None)), "");
        assert_eq!(refusal(exchange.receive(None)).condition, SaslError::MalformedRequest);
    }
}

#[test]
fn nothing_revives_an_exchange_that_is_over() {
    let host = Host::new();
    for mechanism in Mechanism::ALL {
        let mut exchange = Exchange::new(mechanism, bound(), nonce("server"));
        assert!(matches!(exchange.receive(Some(b"\xff")), Step::Failure(_)));
        let first = client(mechanism, "user", "pencil").first().unwrap();
        assert_eq!(refusal(exchange.receive(Some(&first))).reason, "message out of turn");
        assert_eq!(refusal(exchange.receive(None)).reason, "message out of turn");
        let account = host.look_up(&Query { username: "user".to_owned(), hash: mechanism.hash() });
        assert_eq!(refusal(exchange.account(account)).reason, "account out of turn");
    }
}

#[test]
fn a_final_message_counts_once() {
    let host = Host::new();
    let mut client = client(scram(Hash::Sha256), "user", "pencil");
    let mut exchange = Exchange::new(scram(Hash::Sha256), bound(), nonce("server"));
    let first = client.first().unwrap();
    let last = client.respond(challenge(host.receive(&mut exchange, &first)).as_bytes()).unwrap();
    assert!(matches!(exchange.receive(Some(&last)), Step::Success(_)));
    assert_eq!(refusal(exchange.receive(Some(&last))).reason, "message out of turn");
}

#[test]
fn a_second_guess_needs_a_second_exchange() {
    let host = Host::new();
    let mut exchange = Exchange::new(scram(Hash::Sha256), bound(), nonce("server"));
    let mut right = client(scram(Hash::Sha256), "user", "pencil");
    let mut wrong = client(scram(Hash::Sha256), "user", "wrong");
    let (first, _) = (right.first().unwrap(), wrong.first().unwrap());
    let offer = challenge(host.receive(&mut exchange, &first));
    let (right, wrong) = (right.respond(offer.as_bytes()).unwrap(), wrong.respond(offer.as_bytes()).unwrap());
    assert!(matches!(exchange.receive(Some(&wrong)), Step::Failure(_)));
    assert!(matches!(exchange.receive(Some(&right)), Step::Failure(_)));
}

#[test]
fn a_message_while_the_store_or_a_derivation_is_awaited_ends_the_exchange() {
    let host = Host::new();
    for mechanism in [Mechanism::Plain, scram(Hash::Sha256)] {
        let mut exchange = Exchange::new(mechanism, unbound(), nonce("server"));
        let first = client(mechanism, "user", "pencil").first().unwrap();
        let Step::NeedCredentials(query) = exchange.receive(Some(&first)) else { panic!() };
        assert_eq!(refusal(exchange.receive(Some(&first))).condition, SaslError::MalformedRequest);
        assert!(matches!(exchange.account(host.look_up(&query)), Step::Failure(_)));
    }
    let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce("server"));
    let Step::NeedCredentials(query) = exchange.receive(Some(b"\0user\0pencil")) else { panic!() };
    let Step::NeedDerivation(check) = exchange.account(host.look_up(&query)) else { panic!() };
    assert!(matches!(exchange.receive(Some(b"\0user\0pencil")), Step::Failure(_)));
    assert_eq!(refusal(exchange.verdict(check.run())).reason, "verdict out of turn");
}

#[test]
fn the_verdict_of_another_exchange_does_not_count() {
    let host = Host::new();
    let check = |own: &str| {
        let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce(own));
        let Step::NeedCredentials(query) = exchange.receive(Some(b"\0user\0pencil")) else { panic!() };
        let Step::NeedDerivation(check) = exchange.account(host.look_up(&query)) else { panic!() };
        (exchange, check)
    };
    let ((mut one, _), (_, other)) = (check("one"), check("two"));
    assert_eq!(refusal(one.verdict(other.run())).reason, "verdict of another exchange");
}

#[test]
fn credentials_of_another_hash_are_our_fault() {
    let host = Host::new();
    let mut exchange = Exchange::new(scram(Hash::Sha1), unbound(), nonce("server"));
    let step = exchange.receive(Some(b"n,,n=user,r=client"));
    assert!(matches!(step, Step::NeedCredentials(Query { hash: Some(Hash::Sha1), .. })));
    let other = host.look_up(&Query { username: "user".to_owned(), hash: Some(Hash::Sha256) });
    assert_eq!(refusal(exchange.account(other)).condition, SaslError::TemporaryAuthFailure);
}

#[test]
fn names_and_passwords_outside_of_ascii_work() {
    let credentials = Credentials::derive(Hash::Sha512, "\u{bd}\u{b4}", &SALT, Iterations::MIN).unwrap();
    for mechanism in [scram(Hash::Sha512), Mechanism::Plain] {
        let mut client = client(mechanism, "a,=\u{e9}", "\u{bd}\u{b4}");
        let mut exchange = Exchange::new(mechanism, unbound(), nonce("server"));
        let Step::NeedCredentials(query) = exchange.receive(Some(&client.first().unwrap())) else { panic!() };
        assert_eq!(query.username, "a,=\u{e9}");
        let account = Account { address: "x@example.org".to_owned(), credentials: credentials.clone() };
        let step = match exchange.account(account) {
            Step::Challenge(challenge) => exchange.receive(Some(&client.respond(&challenge).unwrap())),
            Step::NeedDerivation(check) => exchange.verdict(check.run()),
            other => panic!("{other:?}"),
        };
        assert!(matches!(step, Step::Success(_)), "{step:?}");
    }
}

#[test]
fn a_protected_list_is_signed_with_the_rest() {
    let host = Host::new();
    let offered = Offered::new(["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"], Some(&["tls-server-end-point", "tls-exporter"]));
    let settings = Settings { offered: Some(offered), ..bound() };
    let mut client = client(scram(Hash::Sha1), "user", "pencil");
    let mut exchange = Exchange::new(scram(Hash::Sha1), settings, nonce("server"));
    let offer = challenge(host.receive(&mut exchange, &client.first().unwrap()));
    assert!(offer.ends_with(",i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="), "{offer}");
    // A client that was shown another hash signs that one.
    let shown = offer.replace("G6k", "X6k");
    assert_eq!(
        refusal(exchange.receive(Some(&client.respond(shown.as_bytes()).unwrap()))).condition,
        SaslError::NotAuthorized
    );
}

#[test]
fn the_client_notices_a_server_that_does_not_know_it() {
    let mut client = client(scram(Hash::Sha256), "user", "pencil");
    client.first().unwrap();
    let last = client.respond(b"r=clientevil,s=QSXCR+Q6sek8bf92,i=4096").unwrap();
    assert!(last.starts_with(b"c=biws,r=clientevil,p="));
    let forged: &[u8] = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(client.finish(Some(forged)), Err(super::client::ClientError::Unproven));
}

#[test]
fn the_client_refuses_what_a_server_may_not_say() {
    for wrong in [
        "r=other,s=QSXCR+Q6sek8bf92,i=4096",
        "r=client,s=QSXCR+Q6sek8bf92,i=4096",
        "m=x,r=clientserver,s=QSXCR+Q6sek8bf92,i=4096",
        "r=clientserver,s=QSXCR+Q6sek8bf92,i=4096,m=x",
        "r=clientserver,s=,i=4096",
        "r=clientserver,s=QSXCR+Q6sek8bf92,i=1",
        "r=clientserver,s=QSXCR+Q6sek8bf92,i=4000000000",
        "r=clientserver,s=QSXCR+Q6sek8bf92",
        "e=other-error",
        "",
    ] {
        let mut client = client(scram(Hash::Sha1), "user", "pencil");
        client.first().unwrap();
        assert!(client.respond(wrong.as_bytes()).is_err(), "{wrong}");
        assert!(client.finish(Some(b"v=")).is_err());
    }
}

#[test]
fn printing_an_exchange_shows_no_secret() {
    let host = Host::new();
    let mut exchange = Exchange::new(Mechanism::Plain, unbound(), nonce("server"));
    let step = exchange.receive(Some(b"\0user\0pencil"));
    let Step::NeedCredentials(query) = &step else { panic!() };
    let mut shown = format!("{step:?} {exchange:?}");
    let step = exchange.account(host.look_up(query));
    shown += &format!("{step:?} {exchange:?} {:?}", client(Mechanism::Plain, "user", "pencil"));
    assert!(shown.contains(USER) && !shown.contains("pencil"), "{shown}");
}

#[test]
fn a_check_can_move_to_another_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<PasswordCheck>();
    is_send::<Verdict>();
    is_send::<Exchange>();
}
