use rustls::{
    CertificateError as Refused, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::*;

const BOTH: [(&SupportedProtocolVersion, ProtocolVersion); 2] =
    [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];

fn exported(pair: &Pair) -> [u8; 32] {
    let value = pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    value.expect("the handshake is done")
}

#[test]
fn both_ends_compute_the_same_bindings_under_both_versions() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    for (version, negotiated) in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let mut pair = connect(&hosts, &config, "example.org", Entry::Starttls).expect("a connection");
        assert_eq!(pair.server.state().protocol_version(), Some(negotiated));
        let bindings = pair.bindings();
        assert_eq!(bindings.exporter, Some(exported(&pair)));
        assert!(bindings.server_end_point.is_some());
        assert_eq!(bindings.server_end_point, server_end_point(pair.seen()));
        pair.talk();
        let mut other = connect(&hosts, &config, "example.org", Entry::Starttls).expect("a connection");
        assert_ne!(other.bindings().exporter, bindings.exporter);
    }
}

#[test]
fn nothing_is_exported_before_the_handshake_is_done() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    for (version, _) in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let mut pair = begin(&hosts, &config, "example.org", Entry::Starttls, |_| ()).expect("begun");
        assert_eq!(pair.bindings().exporter, None);
        pair.carry().expect("a connection");
        assert_eq!(pair.bindings().exporter, Some(exported(&pair)), "asking too early does no harm");
        assert_eq!(pair.bindings().exporter, None, "the secret is gone");
    }
}

#[test]
fn both_ends_compute_the_same_exporter_with_every_cipher_suite() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let mut tried = 0;
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let provider = CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let mut roots = RootCertStore::empty();
        roots.add(authority.root.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(Clock(NOW)))
            .with_protocol_versions(&[suite.version()])
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // The certificate of the tests is on a curve; the suites for RSA differ from the others in nothing that matters here.
        if format!("{:?}", suite.suite()).contains("ECDHE_RSA") {
            continue;
        }
        let mut pair = connect(&hosts, &Arc::new(config), "example.org", Entry::Direct).expect("a connection");
        assert_eq!(pair.server.state().negotiated_cipher_suite(), Some(*suite));
        assert_eq!(pair.bindings().exporter, Some(exported(&pair)), "{suite:?}");
        pair.talk();
        tried += 1;
    }
    assert_eq!(tried, 6);
}

#[test]
fn a_client_that_guesses_the_wrong_group_is_asked_again() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    // We do not speak the first, and the client makes a key for the first alone.
    let groups = vec![aws_lc_rs::kx_group::MLKEM768, aws_lc_rs::kx_group::X25519];
    let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(Clock(NOW)))
        .with_protocol_versions(&[&TLS13])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut pair = connect(&hosts, &Arc::new(config), "example.org", Entry::Direct).expect("a connection");
    assert_eq!(pair.server.state().handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(pair.bindings().exporter, Some(exported(&pair)));
    pair.talk();
}

#[test]
fn tls_1_2_without_the_extended_master_secret_is_refused() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let config = Arc::new(authority.client(&[&TLS12]));
    // The extension 23 without content becomes one that nobody knows.
    let without = |flight: &mut Vec<u8>| {
        let at = flight.windows(4).position(|bytes| bytes == [0, 23, 0, 0]).expect("the extension is offered");
        flight[at] = 0xfa;
    };
    let failed = begin(&hosts, &config, "example.org", Entry::Starttls, without).err();
    assert!(matches!(
        failed,
        Some(Failed::Server(Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired)))
    ));
}

#[test]
fn an_older_version_than_the_policy_wants_is_refused() {
    let authority = Authority::new();
    let strict = TlsHosts::new(vec![authority.certificate("example.org")], Policy { min: TlsVersion::Tls13 });
    let strict = strict.expect("hosts");
    let old = Arc::new(authority.client(&[&TLS12]));
    assert!(matches!(connect(&strict, &old, "example.org", Entry::Direct), Err(Failed::Server(_))));
    let new = Arc::new(authority.client(&[&TLS12, &TLS13]));
    let pair = connect(&strict, &new, "example.org", Entry::Direct).expect("a connection");
    assert_eq!(pair.server.state().protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn the_certificate_is_that_of_the_host_named_by_sni() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org"), authority.certificate("example.com")]);
    for (version, _) in BOTH {
        let config = Arc::new(authority.client(&[version]));
        for name in ["example.org", "example.com"] {
            let pair = connect(&hosts, &config, name, Entry::Direct).expect("the client accepts the certificate");
            assert_eq!(pair.host.certificate().host(), name);
            assert_eq!(pair.seen(), pair.host.certificate().der());
        }
    }
}

#[test]
fn an_unknown_name_gets_the_default_certificate_and_the_client_decides() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org"), authority.certificate("example.com")]);
    let config = Arc::new(authority.client(&[&TLS13]));
    let failed = connect(&hosts, &config, "xmpp.example.net", Entry::Direct).err();
    assert!(matches!(failed, Some(Failed::Client(Error::InvalidCertificate(Refused::NotValidForNameContext { .. })))));
}

#[test]
fn sni_goes_before_the_address_of_the_stream_and_that_before_other_names_of_certificates() {
    let authority = Authority::new();
    let hosts = hosts(vec![
        authority.certificate("default.example"),
        authority.certificate_for("example.org", &["example.org", "xmpp.example.org", "*.wild.example.org"]),
        authority.certificate_for("bücher.example", &["xn--bcher-kva.example"]),
    ]);
    let chosen = |sni, to| hosts.select(sni, to).certificate().host().to_owned();
    assert_eq!(chosen(None, None), "default.example");
    assert_eq!(chosen(Some("nobody.example"), Some("nobody.example")), "default.example");
    assert_eq!(chosen(Some("example.org"), Some("default.example")), "example.org");
    assert_eq!(chosen(Some("EXAMPLE.org"), None), "example.org");
    assert_eq!(chosen(Some("xmpp.example.org"), None), "example.org");
    assert_eq!(chosen(Some("a.wild.example.org"), None), "example.org");
    assert_eq!(chosen(Some("a.b.wild.example.org"), None), "default.example");
    assert_eq!(chosen(Some("xmpp.example.org"), Some("bücher.example")), "bücher.example");
    assert_eq!(chosen(Some("xn--bcher-kva.example"), None), "bücher.example");
    assert_eq!(chosen(None, Some("example.org")), "example.org");
}

#[test]
fn a_reload_changes_new_connections_and_leaves_the_others_alone() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    for (version, _) in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let mut there = connect(&hosts, &config, "example.org", Entry::Starttls).expect("a connection");
        let mut under_way = begin(&hosts, &config, "example.org", Entry::Starttls, |_| ()).expect("begun");
        let old = there.seen().to_vec();
        hosts.reload(vec![authority.certificate("example.org")], Policy::default()).expect("reloaded");

        there.talk();
        under_way.carry().expect("a connection");
        assert_eq!(under_way.seen(), old);
        assert_eq!(under_way.bindings().server_end_point, server_end_point(&old));
        under_way.talk();

        let config = Arc::new(authority.client(&[version]));
        let mut new = connect(&hosts, &config, "example.org", Entry::Starttls).expect("a connection");
        assert_ne!(new.seen(), old);
        assert_eq!(new.bindings().server_end_point, server_end_point(new.seen()));
    }
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let before = hosts.select(None, None).certificate().der().to_vec();
    assert!(matches!(hosts.reload(Vec::new(), Policy::default()), Err(TlsError::NoCertificate)));
    let twice = vec![authority.certificate("example.org"), authority.certificate("Example.ORG")];
    assert!(matches!(hosts.reload(twice, Policy::default()), Err(TlsError::Twice(host)) if host == "example.org"));
    assert_eq!(hosts.select(None, None).certificate().der(), before);
}

#[test]
fn a_session_is_resumed_under_its_own_certificate_only() {
    let authority = Authority::new();
    for (version, _) in BOTH {
        let (chain, key) = authority.issue("example.org", &["example.org"]);
        let load = || Certificate::load("example.org", &chain, &key).expect("loads");
        let hosts = hosts(vec![load()]);
        let config = Arc::new(authority.client(&[version]));
        let connect = || {
            let mut pair = connect(&hosts, &config, "example.org", Entry::Starttls).expect("a connection");
            pair.talk(); // takes the ticket along
            let bindings = pair.bindings();
            assert_eq!(bindings.exporter, Some(exported(&pair)));
            assert_eq!(bindings.server_end_point, server_end_point(pair.seen()));
            pair.server.state().handshake_kind()
        };
        assert_ne!(connect(), Some(HandshakeKind::Resumed));
        assert_eq!(connect(), Some(HandshakeKind::Resumed));
        hosts.reload(vec![load()], Policy::default()).expect("reloaded");
        assert_eq!(connect(), Some(HandshakeKind::Resumed), "the certificate is the same");
        hosts.reload(vec![authority.certificate("example.org")], Policy::default()).expect("reloaded");
        assert_ne!(connect(), Some(HandshakeKind::Resumed), "the certificate is another");
    }
}

#[test]
fn direct_tls_wants_xmpp_if_alpn_is_spoken_and_starttls_does_not_listen() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let speaking = |protocols: &[&str]| {
        let mut config = authority.client(&[&TLS12, &TLS13]);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let connect = |protocols: &[&str], entry| connect(&hosts, &speaking(protocols), "example.org", entry);
    let agreed =
        |pair: Result<Pair, Failed>| pair.expect("a connection").server.state().alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(agreed(connect(&["h2", "xmpp-client"], Entry::Direct)), Some(b"xmpp-client".to_vec()));
    assert_eq!(agreed(connect(&[], Entry::Direct)), None);
    for other in ["http/1.1", "xmpp-server", "xmpp-clients"] {
        assert!(matches!(connect(&[other], Entry::Direct), Err(Failed::Server(Error::NoApplicationProtocol))));
        assert_eq!(agreed(connect(&[other], Entry::Starttls)), None);
    }
}

#[test]
fn an_expired_certificate_is_served_and_refused_by_the_client() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let later = NOW.plus(Duration::from_secs(100 * 86_400));
    let config = Arc::new(client(authority.root.der().clone(), &[&TLS13], later));
    let failed = connect(&hosts, &config, "example.org", Entry::Direct).err();
    assert!(matches!(failed, Some(Failed::Client(Error::InvalidCertificate(Refused::ExpiredContext { .. })))));
}

#[test]
fn a_client_is_not_asked_for_a_certificate() {
    #[derive(Debug)]
    struct NeverAsked;
    impl ResolvesClientCert for NeverAsked {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            panic!("asked for a certificate");
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    for (version, _) in BOTH {
        let mut config = authority.client(&[version]);
        config.client_auth_cert_resolver = Arc::new(NeverAsked);
        connect(&hosts, &Arc::new(config), "example.org", Entry::Direct).expect("a connection").talk();
    }
}

#[test]
fn a_client_that_trusts_the_self_signed_certificate_can_connect() {
    let folder = TempDir::new().expect("a folder");
    let hosts = hosts(vec![Certificate::self_signed("localhost", folder.path(), NOW).expect("made")]);
    let der = hosts.select(None, None).certificate().der().to_vec();
    for (version, _) in BOTH {
        let config = Arc::new(client(der.clone().into(), &[version], NOW));
        for name in ["localhost", "127.0.0.1", "::1"] {
            connect(&hosts, &config, name, Entry::Direct).expect("a connection").talk();
        }
    }
}
