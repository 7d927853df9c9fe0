//! Our end of a connection without a socket: bytes in any pieces, the end, what is broken.

use std::io::Write;

use proptest::{collection::vec, prelude::*};
use rustls::{
    AlertDescription, Error, PeerMisbehaved,
    version::{TLS12, TLS13},
};

use super::*;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn connected(version: &'static SupportedProtocolVersion) -> Pair {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    connect(&hosts, &Arc::new(authority.client(&[version])), "example.org", Entry::Starttls).expect("a connection")
}

#[test]
fn a_connection_may_come_byte_by_byte_and_nothing_is_kept_when_it_is_whole() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    for version in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let name = ServerName::try_from("example.org").expect("a name");
        let mut client = ClientConnection::new(config, name).expect("a client");
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");

        let (mut hello, mut heard, mut out) = (Hello::default(), BytesMut::new(), BytesMut::new());
        let mut whole = None;
        for byte in wire.chunks(1) {
            assert!(whole.is_none(), "the last byte makes it whole");
            whole = hello.feed(byte, &mut out).expect("no fault");
        }
        let (name, mut seen) = whole.expect("it is whole");
        let mut server = Machine::new(&hosts.select(name.as_deref(), None).config(Entry::Direct)).expect("a server");
        server.feed(&mut seen, &mut heard, &mut out).expect("no fault");
        client.writer().write_all(&[b'x'; 40_000]).expect("memory");
        while client.wants_write() || !out.is_empty() {
            feed(&out.split(), |bytes| client.read_tls(bytes));
            client.process_new_packets().expect("no fault");
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("memory");
            for byte in wire.chunks_mut(1) {
                server.feed(byte, &mut heard, &mut out).expect("no fault");
                assert!(server.kept() < 40_000);
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        assert_eq!(heard.len(), 40_000);
        assert_eq!(server.kept(), 0);
    }
}

#[test]
fn what_was_said_before_the_end_is_heard_and_what_comes_after_is_not() {
    for version in BOTH {
        let mut pair = connected(version);
        pair.client.writer().write_all(b"last words").expect("memory");
        pair.client.send_close_notify();
        let mut wire = pair.flight();
        wire.extend_from_slice(b"not TLS at all");
        pair.server.feed(&mut wire, &mut pair.heard, &mut pair.out).expect("no fault");
        assert_eq!(&pair.heard[..], b"last words");
        assert!(pair.server.has_ended());
        assert_eq!(pair.server.kept(), 0);
        // RFC 8446 §6.1: the other direction is still open.
        pair.server.encrypt(b"farewell", &mut pair.out).expect("encrypted");
        pair.server.close(&mut pair.out).expect("closed");
        assert!(pair.server.encrypt(b"more", &mut BytesMut::new()).is_err());
        feed(&pair.out.split(), |bytes| pair.client.read_tls(bytes));
        let state = pair.client.process_new_packets().expect("no fault");
        assert!(state.peer_has_closed());
        assert_eq!(state.plaintext_bytes_to_read(), 8);
    }
}

#[test]
fn the_end_that_was_said_twice_goes_out_once() {
    for version in BOTH {
        let mut pair = connected(version);
        pair.server.close(&mut pair.out).expect("closed");
        let once = pair.out.len();
        assert!(once > 0);
        let _ = pair.server.close(&mut pair.out);
        assert_eq!(pair.out.len(), once);
    }
}

#[test]
fn a_changed_record_ends_the_connection_and_the_client_is_told_why() {
    for version in BOTH {
        let mut pair = connected(version);
        pair.client.writer().write_all(b"first").expect("memory");
        let mut wire = pair.flight();
        pair.client.writer().write_all(b"second").expect("memory");
        let mut changed = pair.flight();
        *changed.last_mut().expect("a byte") ^= 1;
        wire.extend_from_slice(&changed);
        let failed = pair.server.feed(&mut wire, &mut pair.heard, &mut pair.out);
        assert_eq!(failed, Err(Error::DecryptError));
        assert_eq!(&pair.heard[..], b"first", "what is right is heard");
        feed(&pair.out.split(), |bytes| pair.client.read_tls(bytes));
        let told = pair.client.process_new_packets();
        assert_eq!(told.err(), Some(Error::AlertReceived(AlertDescription::BadRecordMac)));
    }
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".as_slice(),
        b"<?xml version='1.0'?>",
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
    ] {
        let mut out = BytesMut::new();
        assert!(Hello::default().feed(bytes, &mut out).is_err());
        assert_eq!(out.first_chunk(), Some(&[21, 3, 3, 0, 2, 2]), "a fatal alert");
    }
}

#[test]
fn keys_are_renewed_as_often_as_the_client_wants_while_it_talks() {
    let mut pair = connected(&TLS13);
    for _ in 0..100 {
        pair.client.refresh_traffic_keys().expect("renewed");
        pair.talk();
    }
    assert_eq!(pair.server.kept(), 0);
}

#[test]
fn who_renews_keys_and_says_nothing_is_refused() {
    let mut pair = connected(&TLS13);
    let failed = (0..100).find_map(|_| {
        pair.client.refresh_traffic_keys().expect("renewed");
        let mut wire = pair.flight();
        pair.server.feed(&mut wire, &mut pair.heard, &mut pair.out).err()
    });
    assert_eq!(failed, Some(Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests)));
}

#[test]
fn a_large_text_is_cut_into_records() {
    for version in BOTH {
        let mut pair = connected(version);
        let text: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        pair.server.encrypt(&text, &mut pair.out).expect("encrypted");
        let mut heard = Vec::new();
        for wire in pair.out.split().chunks(1000) {
            feed(wire, |bytes| pair.client.read_tls(bytes));
            pair.client.process_new_packets().expect("no fault");
            let _ = io::Read::read_to_end(&mut pair.client.reader(), &mut heard);
        }
        assert!(heard == text);
    }
}

#[test]
fn a_first_message_that_never_ends_is_refused() {
    let mut hello = Hello::default();
    let mut out = BytesMut::new();
    let mut sent = 0;
    let mut record = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    while hello.feed(&record, &mut out).is_ok() {
        sent += record.len();
        assert!(sent < 20_000, "it is still taken");
        record = vec![22, 3, 1, 0, 1, 0];
    }
}

#[test]
fn a_message_of_a_handshake_that_never_ends_is_refused() {
    let authority = Authority::new();
    let hosts = hosts(vec![authority.certificate("example.org")]);
    let config = Arc::new(authority.client(&[&TLS12]));
    let mut pair = begin(&hosts, &config, "example.org", Entry::Starttls, |_| ()).expect("begun");
    // A key exchange of 65,535 bytes, a few in each record.
    let mut sent = 0;
    let mut record = vec![22, 3, 3, 0, 4, 16, 0, 0xff, 0xff];
    while pair.server.feed(&mut record, &mut pair.heard, &mut pair.out).is_ok() {
        sent += record.len();
        assert!(sent < 20_000, "it is still taken");
        assert!(pair.server.kept() < 40_000);
        record = vec![22, 3, 3, 0, 1, 0];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_at_any_point_make_it_panic(
        old in any::<bool>(),
        done in any::<bool>(),
        cuts in vec(1..400usize, 1..8),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        junk in vec(any::<u8>(), 0..64),
    ) {
        let authority = Authority::new();
        let hosts = hosts(vec![authority.certificate("example.org")]);
        let config = Arc::new(authority.client(&[if old { &TLS12 } else { &TLS13 }]));
        let mut pair = begin(&hosts, &config, "example.org", Entry::Starttls, |_| ()).expect("begun");
        if done {
            pair.carry().expect("a connection");
            pair.client.writer().write_all(&[b'x'; 700]).expect("memory");
            pair.client.send_close_notify();
        } else {
            feed(&pair.out.split(), |bytes| pair.client.read_tls(bytes));
            pair.client.process_new_packets().expect("no fault");
        }
        let mut wire = pair.flight();
        wire.extend_from_slice(&junk);
        for (at, to) in changes {
            let at = at.index(wire.len());
            wire[at] = to;
        }
        let mut rest = wire.as_mut_slice();
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at_mut((*cut).min(rest.len()));
            if pair.server.feed(piece, &mut pair.heard, &mut pair.out).is_err() || behind.is_empty() {
                break;
            }
            let _ = pair.server.encrypt(b"between", &mut pair.out);
            rest = behind;
        }
        prop_assert!(pair.heard.len() <= 700);
    }
}
