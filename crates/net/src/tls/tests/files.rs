use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn refusal(host: &str, chain: &Path, key: &Path) -> String {
    Certificate::load(host, chain, key).expect_err("refused").to_string()
}

#[test]
fn a_key_of_another_certificate_is_refused_with_both_files_named() {
    let authority = Authority::new();
    let (chain, _) = authority.issue("one", &["example.org"]);
    let (_, key) = authority.issue("two", &["example.org"]);
    let said = refusal("example.org", &chain, &key);
    assert!(said.contains("does not belong") && said.contains("one.crt") && said.contains("two.key"), "{said}");
}

#[test]
fn a_chain_in_the_wrong_order_is_told_from_a_wrong_key() {
    let authority = Authority::new();
    let (one, _) = authority.issue("one", &["example.org"]);
    let (two, key) = authority.issue("two", &["example.org"]);
    let both = authority.file("both", "crt");
    write(&both, &[&one, &two]);
    let said = refusal("example.org", &both, &key);
    assert!(said.contains("certificate 3 in"), "{said}");
    write(&both, &[&two, &one]);
    let loaded = Certificate::load("example.org", &both, &key).expect("loads");
    let broken = Warning::BrokenChain { file: both, number: 2 };
    assert_eq!(loaded.warnings(NOW), [broken, Warning::KeyForAll(key)]);
}

#[test]
fn files_that_are_missing_damaged_or_something_else_are_named() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("good", &["example.org"]);
    let other = authority.file("other", "pem");
    let with = |text: &str| fs::write(&other, text).expect("written");

    assert!(refusal("example.org", &authority.file("none", "crt"), &key).ends_with("none.crt"));
    assert!(refusal("example.org", &chain, &authority.file("none", "key")).ends_with("none.key"));
    assert!(refusal("example.org", authority.folder.path(), &key).starts_with("cannot read"));
    assert!(refusal("example.org", &key, &key).starts_with("there is no certificate in"));
    assert!(refusal("example.org", &chain, &chain).starts_with("there is no private key in"));
    with("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n");
    assert!(refusal("example.org", &chain, &other).contains("an encrypted one cannot be used"));
    with("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n");
    assert!(refusal("example.org", &chain, &other).contains("P-256"));
    with("-----BEGIN CERTIFICATE-----\nMIIE\n");
    assert!(refusal("example.org", &other, &key).ends_with("an END line is missing"));
    with("-----BEGIN CERTIFICATE-----\nM!\n-----END CERTIFICATE-----\n");
    assert!(refusal("example.org", &other, &key).ends_with("is not base64"));
    with("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n");
    assert!(refusal("example.org", &other, &key).starts_with("certificate 1 in"));
    write(&other, &[chain.as_path(); 9]);
    assert!(refusal("example.org", &other, &key).contains("more than 16"));
    with(&"x".repeat((1 << 20) + 1));
    assert!(refusal("example.org", &other, &key).contains("larger than 1 MiB"));
    assert!(refusal("exa mple", &chain, &key).contains("not the name of a host"));
    symlink("/dev/zero", authority.file("endless", "key")).expect("linked");
    assert!(refusal("example.org", &chain, &authority.file("endless", "key")).contains("larger than 1 MiB"));
}

#[test]
fn no_text_of_a_damaged_key_is_repeated() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("good", &["example.org"]);
    let text = fs::read_to_string(&key).expect("there");
    let secret = text.lines().nth(1).expect("a line").to_owned();
    for damaged in [text.replace("-----END", "----END"), text.replacen(&secret, &format!("{secret}!"), 1)] {
        fs::write(&key, damaged).expect("written");
        let said = format!("{:#}", Certificate::load("example.org", &chain, &key).expect_err("refused"));
        assert!(!said.contains(&secret[..8]), "{said}");
    }
}

#[test]
fn chain_and_key_may_be_one_file() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("good", &["example.org"]);
    let both = authority.file("both", "pem");
    write(&both, &[&key, &chain]);
    assert!(Certificate::load("example.org", &both, &both).expect("loads").covers_host());
}

#[test]
fn a_certificate_for_other_hosts_is_loaded_with_a_warning() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("cert", &["example.com", "*.example.org", "192.0.2.1"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    let said = |host| {
        let warnings = Certificate::load(host, &chain, &key).expect("loads").warnings(NOW);
        warnings.iter().map(Warning::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        said("example.org"),
        ["the certificate of example.org is for example.com, *.example.org, 192.0.2.1: clients will refuse it"]
    );
    assert!(said("chat.example.org").is_empty());
    assert!(said("Example.com").is_empty());
    assert!(said("192.0.2.1").is_empty());
    assert_eq!(said("a.b.example.org").len(), 1);
}

#[test]
fn the_operator_is_told_in_time_of_the_end() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("cert", &["example.org"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    let loaded = Certificate::load("example.org", &chain, &key).expect("loads");
    assert_eq!(loaded.not_before().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(loaded.not_after().to_string(), "2027-01-01T00:00:00Z");
    let said = |now: Timestamp| loaded.warnings(now).iter().map(Warning::to_string).collect::<Vec<_>>().join("; ");
    let (first, last) = (loaded.not_before(), loaded.not_after());
    assert_eq!(
        said(first.minus(DAY)),
        "the certificate of example.org is not valid before 2026-01-01T00:00:00Z: is the clock right?"
    );
    assert_eq!(said(first), "");
    assert_eq!(said(last.minus(DAY * 22)), "");
    assert_eq!(said(last.minus(DAY * 21)), "the certificate of example.org expires on 2027-01-01T00:00:00Z");
    assert_eq!(said(last), "the certificate of example.org expires on 2027-01-01T00:00:00Z");
    assert_eq!(
        said(last.plus(Duration::from_secs(1))),
        "the certificate of example.org has expired on 2027-01-01T00:00:00Z: clients will refuse it"
    );
}

#[test]
fn a_certificate_says_who_issued_it_and_which_warnings_no_client_passes_over() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("cert", &["example.com", "*.example.org"]);
    let loaded = Certificate::load("example.com", &chain, &key).expect("loads");
    assert_eq!(loaded.names(), ["example.com", "*.example.org"]);
    assert_eq!((loaded.file(), loaded.issuer().is_empty()), (&*chain, false));
    let fatal = |host: &str, now: Timestamp| {
        let loaded = Certificate::load(host, &chain, &key).expect("loads");
        loaded.warnings(now).iter().any(Warning::is_fatal)
    };
    let last = loaded.not_after();
    assert!(!fatal("example.com", NOW) && !fatal("example.com", last));
    assert!(fatal("example.com", last.plus(Duration::from_secs(1))) && fatal("example.net", NOW));
}

#[test]
fn renewing_one_host_leaves_the_others_as_they_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    let load = |authority: &Authority, host: &str| {
        let (chain, key) = authority.issue(host, &[host]);
        Certificate::load(host, &chain, &key).expect("loads")
    };
    let served = hosts(vec![load(&authority, "a.example"), load(&authority, "b.example")]);
    let before: Vec<Vec<u8>> = served.all().iter().map(|host| host.certificate().der().to_vec()).collect();
    served.renew(vec![load(&other, "b.example")], Policy::default()).expect("renewed");
    let after: Vec<Vec<u8>> = served.all().iter().map(|host| host.certificate().der().to_vec()).collect();
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    assert_ne!(after[1], before[1]);
    assert_eq!(served.select(Some("b.example"), None).certificate().der(), after[1]);
    assert_eq!(served.select(None, None).certificate().der(), before[0]);
    // A host that is not served does not become one.
    served.renew(vec![load(&other, "c.example")], Policy::default()).expect("nothing to do");
    assert_eq!(served.all().len(), 2);
}

#[test]
fn a_key_that_everybody_can_read_is_told_of() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("cert", &["example.org"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    let loaded = Certificate::load("example.org", &chain, &key).expect("loads");
    assert_eq!(loaded.warnings(NOW), [Warning::KeyForAll(key)]);
}

#[test]
fn a_key_that_its_group_can_read_is_told_of_unless_the_server_needs_the_group() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("cert", &["example.org"]);
    for (mode, told) in [(0o600, false), (0o640, true), (0o620, true), (0o400, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("set");
        let loaded = Certificate::load("example.org", &chain, &key).expect("loads");
        let expected: &[_] = if told { &[Warning::KeyForGroup(key.clone())] } else { &[] };
        assert_eq!(loaded.warnings(NOW), expected, "{mode:o}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("set");
    let found = fs::metadata(&key).expect("there");
    let other = std::os::unix::fs::MetadataExt::uid(&found) + 1;
    assert_eq!(certificate::exposed(&key, &found, other), None, "of another owner: read by the group");
    assert_eq!(certificate::exposed(&key, &found, 0), Some(Warning::KeyForGroup(key.clone())), "root needs no group");
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_self_signed_certificate_is_made_once_and_its_key_is_for_us_alone() {
    let data = TempDir::new().expect("a folder");
    let folder = data.path().join("tls");
    let made = Certificate::self_signed("Bücher.example", &folder, NOW).expect("made");
    assert_eq!(made.warnings(NOW), []);
    assert!(made.is_self_signed());
    assert_eq!(made.host(), "bücher.example");
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("xn--bcher-kva.example.key")), 0o600);
    assert_eq!(mode(&folder.join("xn--bcher-kva.example.crt")), 0o644);
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 2, "nothing is left over");
    let again = Certificate::self_signed("bücher.example", &folder, NOW.plus(DAY)).expect("found");
    assert_eq!(again.der(), made.der());
    assert!(made.not_after().since(made.not_before()) <= DAY * 825);
}

#[test]
fn a_self_signed_certificate_is_renewed_with_its_key_when_it_has_expired_or_soon_will() {
    for later in [DAY * 735, DAY * 10_000] {
        let folder = TempDir::new().expect("a folder");
        let made = Certificate::self_signed("localhost", folder.path(), NOW).expect("made");
        let key = fs::read(folder.path().join("localhost.key")).expect("there");
        let now = NOW.plus(later);
        let renewed = Certificate::self_signed("localhost", folder.path(), now).expect("renewed");
        assert_ne!(renewed.der(), made.der());
        assert_eq!(renewed.warnings(now), []);
        assert_eq!(fs::read(folder.path().join("localhost.key")).expect("there"), key);
    }
}

#[test]
fn a_crash_between_key_and_certificate_is_mended() {
    let folder = TempDir::new().expect("a folder");
    let made = Certificate::self_signed("localhost", folder.path(), NOW).expect("made");
    fs::remove_file(folder.path().join("localhost.crt")).expect("removed");
    fs::write(folder.path().join("localhost.crt.new"), "half of it").expect("written");
    let again = Certificate::self_signed("localhost", folder.path(), NOW.plus(DAY)).expect("made");
    assert_ne!(again.der(), made.der());
    assert!(again.covers_host());
}

#[test]
fn what_was_not_made_here_is_never_written_over() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("example.org", &["example.com"]);
    let before = (fs::read(&chain).expect("there"), fs::read(&key).expect("there"));
    let late = NOW.plus(DAY * 1000);
    let found = Certificate::self_signed("example.org", authority.folder.path(), late).expect("found");
    assert!(!found.is_self_signed() && !found.covers_host());
    assert_eq!(before, (fs::read(&chain).expect("there"), fs::read(&key).expect("there")));
    fs::write(&chain, "damaged").expect("written");
    assert!(Certificate::self_signed("example.org", authority.folder.path(), late).is_err());
    fs::remove_file(&chain).expect("removed");
    fs::write(&key, "damaged").expect("written");
    assert!(Certificate::self_signed("example.org", authority.folder.path(), late).is_err());
    assert_eq!(fs::read(&key).expect("there"), b"damaged");
    assert!(Certificate::self_signed("../example.org", authority.folder.path(), NOW).is_err());
}

/// The certificates of `testdata/end_points.pem` in their order, all made by `openssl req -x509`, and what
/// `openssl x509 -outform DER | openssl dgst` says with the hash of RFC 5929 §4.1.
const END_POINTS: [(&str, Option<&str>); 19] = [
    ("rsa-md5", Some("9812b629d2e1665eb9623e27fd1450de1e99c0b7281226f1f296fbaf20cc6e9b")),
    ("rsa-sha1", Some("cd9a3d02d1b88a75db58ac7102ef97bad159841196dd3f935d4f2855f7bb5e18")),
    ("rsa-sha224", Some("0ca68e798eec0c0bbdf5b7c7556b5c17e47adbf025f011a9c5efe3e9")),
    ("rsa-sha256", Some("03487129f4118164591dc810ab5133e3d435626bbd74f8ab6478144f3b8ef91b")),
    (
        "rsa-sha384",
        Some("91aed3f52ad86c3c2d9c0ddf4e15fe0a2fc5f488579c49a5e03ffc9922ba5db80e4fd754665e55148f6053849d4f44c1"),
    ),
    (
        "rsa-sha512",
        Some(
            "e57d3f7d0b1ba1c71da1ebf4390692032f4ab83c1bc6eda2aebd8bfbd6664bff1d7c907392bcb88ad0b823f07e007ef9f9d61ac05dd9ad4a9f4522d489092632",
        ),
    ),
    ("pss-sha256", Some("7113634678fea03979e038a573396e3718216d58e7d452c17e32f8a6add89606")),
    (
        "pss-sha384",
        Some("49d728e1a884c58d4afb837fbd319eaf285580bfb05cd9155cca46f814ef05d8df8a030f955532bc851fc3ce6c8cf6be"),
    ),
    (
        "pss-sha512",
        Some(
            "4548b774f381af29fa96e39099cd09a0913720d062e5cbbcaaa92aa42c2303638bda6e16791ce09ba2ae5dcdb226ecc88308c18c7128a3efca6d432944def297",
        ),
    ),
    ("pss-sha1", Some("f6d525a3a4adc4b6fd0092bcc98348336ff92e2c7a187bd891e9b973259499b5")),
    ("pss-mixed", None),
    ("ecdsa-sha1", Some("a6b7c91edbfb63dad1a113a729ae22a4a7338ba641317ae802101a4952b1f7df")),
    ("ecdsa-sha224", Some("54439eab4f7360b6f085384679546acc674132be844213d8711795bc")),
    ("ecdsa-sha256", Some("27b9dc0317888c00876c5f2638da713660c8b3821b2ca9730f7cca523a610e2b")),
    (
        "ecdsa-sha384",
        Some("8a6dcbf5878e0a2b672b69c4f364a61d66bd39c355dedb3f162d08955e3f5ccf97f3d767ec4c389733924596bafd4574"),
    ),
    (
        "ecdsa-sha512",
        Some(
            "52aab7d2296ed9a271c18738a016563e2f954b6a568d0e9146e006ecb2bafe3e6478080907cf67309ee49072d479a8b0d7eccfbbd6cf33acf01c459a453f1a61",
        ),
    ),
    ("ed25519", None),
    ("ed448", None),
    ("rsa-sha3", None),
];

fn end_point_certificates() -> Vec<CertificateDer<'static>> {
    let pem = include_bytes!("../testdata/end_points.pem");
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("certificates")
}

#[test]
fn end_points_are_those_that_openssl_computes() {
    let certificates = end_point_certificates();
    assert_eq!(certificates.len(), END_POINTS.len());
    for (der, (name, expected)) in certificates.iter().zip(END_POINTS) {
        let hex = server_end_point(der).map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        assert_eq!(hex.as_deref(), expected, "{name}");
    }
}

#[test]
fn a_certificate_without_an_end_point_is_told_of() {
    let authority = Authority::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(["example.org".to_owned()]).expect("names");
    let (chain, private) = (authority.file("ed", "crt"), authority.file("ed", "key"));
    fs::write(&chain, params.self_signed(&key).expect("made").pem()).expect("written");
    fs::write(&private, key.serialize_pem()).expect("written");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("set");
    let loaded = Certificate::load("example.org", &chain, &private).expect("loads");
    assert_eq!(loaded.warnings(NOW), [Warning::NoEndPoint("example.org".to_owned())]);
}

proptest! {
    #[test]
    fn damaged_certificates_do_not_panic(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let certificates = end_point_certificates();
        let mut der = certificates[which.index(certificates.len())].to_vec();
        let at = at.index(der.len());
        if cut {
            der.truncate(at);
            prop_assert_eq!(server_end_point(&der), None);
        } else {
            der[at] = byte;
            let _ = server_end_point(&der);
            der.push(byte);
            prop_assert_eq!(server_end_point(&der), None, "bytes behind its end");
        }
    }
}
