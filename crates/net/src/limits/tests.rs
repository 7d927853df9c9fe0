use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{bucket::Bucket, *};

const START: Duration = Duration::from_secs(1_000);

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(n).into()
}

fn v6(network: u64, host: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host)).into()
}

fn per_minute(burst: u32, per_minute: u32) -> Rate {
    rate(burst, per_minute).expect("not zero")
}

/// Small enough to be reached by hand.
fn small() -> Settings {
    Settings {
        connections: 8,
        connections_per_network: 4,
        new_connections: None,
        half_open: 5,
        half_open_per_network: 3,
        grace: Duration::ZERO,
        unequal_grace: Duration::ZERO,
        waiting: 3,
        failed_logins: rate(6, 6),
        failed_logins_to_account: rate(2, 2),
        failed_logins_anywhere: rate(10, 60),
        longest_delay: Duration::from_secs(5),
    }
}

fn accept(limits: &mut Limits, address: IpAddr) -> (Ticket, Option<ConnectionId>) {
    match limits.admit(START, address) {
        Admission::Accepted(ticket) => (ticket, None),
        Admission::AcceptedDropping(ticket, id) => (ticket, Some(id)),
        other => panic!("not accepted: {other:?}"),
    }
}

fn enter(limits: &mut Limits, address: IpAddr) -> Ticket {
    let (mut ticket, dropped) = accept(limits, address);
    assert_eq!(dropped, None);
    assert!(limits.logged_in(&mut ticket));
    ticket
}

fn refused(admission: Admission) -> Refusal {
    match admission {
        Admission::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn addresses_of_one_64_are_one_network_and_mapped_ones_are_ipv4() {
    assert_eq!(Network::from(v6(7, 1)), Network::from(v6(7, u64::MAX)));
    assert_ne!(Network::from(v6(7, 1)), Network::from(v6(8, 1)));
    assert_ne!(Network::from(v4(1)), Network::from(v4(2)));
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
    assert_eq!(Network::from(mapped), Network::from(IpAddr::from([192, 0, 2, 1])));
}

#[test]
fn a_network_with_all_its_connections_is_refused_until_one_closes() {
    let mut limits = Limits::new(small());
    let mut tickets: Vec<_> = (0..4).map(|_| enter(&mut limits, v4(1))).collect();
    assert_eq!(refused(limits.admit(START, v4(1))), Refusal::NetworkFull);
    let other = enter(&mut limits, v4(2));
    limits.closed(tickets.remove(0));
    tickets.push(enter(&mut limits, v4(1)));
    tickets.push(other);
    assert_eq!(limits.connections(), 5);
    tickets.into_iter().for_each(|ticket| limits.closed(ticket));
    assert_eq!((limits.connections(), limits.entries()), (0, 0));
}

#[test]
fn a_full_server_refuses_everybody() {
    let mut limits = Limits::new(small());
    let tickets: Vec<_> = (0..8).map(|n| enter(&mut limits, v4(n))).collect();
    assert_eq!(refused(limits.admit(START, v4(100))), Refusal::Full);
    tickets.into_iter().for_each(|ticket| limits.closed(ticket));
    assert!(matches!(limits.admit(START, v4(100)), Admission::Accepted(_)));
}

#[test]
fn a_network_with_too_many_half_open_connections_loses_its_oldest() {
    let mut limits = Limits::new(small());
    let (mut first, _) = accept(&mut limits, v4(1));
    let (stranger, _) = accept(&mut limits, v4(2));
    let rest: Vec<_> = (0..2).map(|_| accept(&mut limits, v4(1)).0).collect();
    let (last, dropped) = accept(&mut limits, v4(1));
    assert_eq!(dropped, Some(first.id()));
    assert!(!limits.logged_in(&mut first), "what was dropped cannot log in any more");
    assert_eq!(limits.connections(), 4);
    limits.closed(first);
    assert_eq!(limits.connections(), 4, "and is not counted twice when it closes");
    rest.into_iter().chain([stranger, last]).for_each(|ticket| limits.closed(ticket));
    assert_eq!((limits.connections(), limits.half_open(), limits.entries()), (0, 0, 0));
}

#[test]
fn too_many_half_open_connections_in_all_cost_the_busiest_network_its_oldest() {
    let mut limits = Limits::new(small());
    let (quiet, _) = accept(&mut limits, v4(1));
    let (busy, _) = accept(&mut limits, v4(2));
    let _busy = [accept(&mut limits, v4(2)).0, accept(&mut limits, v4(2)).0];
    let _other = accept(&mut limits, v4(3)).0;
    let (_, dropped) = accept(&mut limits, v4(4));
    assert_eq!(dropped, Some(busy.id()), "not the oldest of all, {:?}", quiet.id());
    assert_eq!(limits.half_open(), 5);
}

#[test]
fn among_equally_busy_networks_the_oldest_connection_goes() {
    let mut limits = Limits::new(small());
    let tickets: Vec<_> = [9, 3, 7, 1, 5].into_iter().map(|n| accept(&mut limits, v4(n)).0).collect();
    let (_, dropped) = accept(&mut limits, v4(2));
    assert_eq!(dropped, Some(tickets[0].id()));
}

#[test]
fn who_has_logged_in_is_never_dropped() {
    let mut limits = Limits::new(small());
    let mut tickets = vec![enter(&mut limits, v4(1))];
    for _ in 0..20 {
        tickets.push(accept(&mut limits, v4(1)).0);
    }
    let mut first = tickets.remove(0);
    assert!(limits.logged_in(&mut first));
    assert_eq!(limits.connections(), 4);
}

#[test]
fn connections_without_a_login_do_not_keep_others_out() {
    let mut limits = Limits::new(small());
    let _in: Vec<_> = (0..6).map(|n| enter(&mut limits, v4(n % 2))).collect();
    let idle: Vec<_> = (0..2).map(|_| accept(&mut limits, v4(2)).0).collect();
    let (_, dropped) = accept(&mut limits, v4(3));
    assert_eq!(dropped, Some(idle[0].id()), "the server was full");
    assert_eq!(limits.connections(), 8);
}

#[test]
fn a_network_that_opens_connections_too_fast_is_refused_alone_and_for_a_while() {
    let mut limits = Limits::new(Settings { new_connections: rate(3, 6), ..small() });
    for _ in 0..3 {
        let ticket = enter(&mut limits, v6(1, 1));
        limits.closed(ticket);
    }
    assert_eq!(refused(limits.admit(START, v6(1, 2))), Refusal::TooFast);
    assert!(matches!(limits.admit(START, v6(2, 1)), Admission::Accepted(_)));
    let almost = START + Duration::from_millis(9_999);
    assert_eq!(refused(limits.admit(almost, v6(1, 3))), Refusal::TooFast);
    assert!(matches!(limits.admit(START + Duration::from_secs(10), v6(1, 3)), Admission::Accepted(_)));
}

#[test]
fn no_number_of_addresses_grows_the_memory() {
    let settings = Settings { new_connections: rate(3, 6), grace: Duration::ZERO, ..Settings::default() };
    let mut limits = Limits::new(settings);
    let most = MAX_NETWORKS + 2 * MAX_WIDE_NETWORKS + 7 * settings.half_open;
    let mut held = Vec::new();
    for n in 0..200_000 {
        let address = if n % 2 == 0 { v4(n) } else { v6(u64::from(n) << 16, 1) };
        let (ticket, _) = accept(&mut limits, address);
        held.push(ticket);
        if held.len() > 10_000 {
            held.drain(..).for_each(|ticket| limits.closed(ticket));
        }
        assert!(limits.entries() <= most, "{} entries", limits.entries());
        assert!(limits.connections() <= settings.half_open);
    }
}

#[test]
fn failures_at_any_number_of_accounts_do_not_grow_the_memory() {
    let mut logins = Logins::new(Settings::default());
    for n in 0..200_000 {
        let _ = fail(&mut logins, START, v4(n), &format!("user{n}@example.org"));
    }
    assert!(logins.entries() <= 32_768 + 65_536 + 32_768, "{} entries", logins.entries());
}

#[test]
fn a_bucket_survives_half_the_bound_of_others() {
    let mut buckets: Buckets<u32> = Buckets::new(100);
    let rate = per_minute(1, 1);
    assert_eq!(buckets.touch(0).take(START, rate), Ok(()));
    for key in 1..=50 {
        buckets.touch(key);
    }
    assert!(buckets.touch(0).take(START, rate).is_err(), "still known");
    for key in 51..=200 {
        buckets.touch(key);
        assert!(buckets.len() <= buckets.bound());
    }
    assert_eq!(buckets.peek(0), Bucket::default(), "forgotten at last");
}

#[test]
fn a_bucket_that_goes_on_being_used_is_not_forgotten() {
    let mut buckets: Buckets<u32> = Buckets::new(100);
    let rate = per_minute(1, 1);
    assert_eq!(buckets.touch(0).take(START, rate), Ok(()));
    for key in 1..10_000 {
        buckets.touch(key);
        assert!(buckets.touch(0).take(START, rate).is_err());
    }
}

fn fail(logins: &mut Logins, now: Duration, address: IpAddr, account: &str) -> Result<Duration, Duration> {
    match logins.attempt(now, address, account) {
        Attempt::After(delay, pending) => {
            logins.failed(pending);
            Ok(delay)
        }
        Attempt::Refused(wait) => Err(wait),
        Attempt::Busy => panic!("nobody else tries"),
    }
}

#[test]
fn guessing_at_one_account_is_refused_to_the_network_and_not_to_the_owner() {
    let mut logins = Logins::new(small());
    assert!(fail(&mut logins, START, v4(1), "romeo@example.org").is_ok());
    assert!(fail(&mut logins, START, v4(1), "romeo@example.org").is_ok());
    assert_eq!(fail(&mut logins, START, v4(1), "romeo@example.org"), Err(Duration::from_secs(30)));
    assert_eq!(fail(&mut logins, START, v4(2), "romeo@example.org"), Ok(Duration::ZERO));
    assert_eq!(fail(&mut logins, START, v4(1), "juliet@example.org"), Ok(Duration::ZERO));
    assert!(fail(&mut logins, START + Duration::from_secs(30), v4(1), "romeo@example.org").is_ok());
}

/// Tries a password that is wrong; false if that is refused.
fn guess(logins: &mut Logins, address: IpAddr, account: &str, password: u8) -> bool {
    match logins.attempt(START, address, account) {
        Attempt::After(_, pending) if logins.was_refused(&pending, &[password; 16]) => logins.no_guess(pending),
        Attempt::After(_, pending) => {
            logins.is_refused(&pending, [password; 16]);
            logins.failed(pending);
        }
        Attempt::Refused(_) | Attempt::Busy => return false,
    }
    true
}

#[test]
fn the_same_wrong_password_is_no_new_guess() {
    let mut logins = Logins::new(small());
    // Of the three limits none counts it: not that of the network, nor that of the account.
    for _ in 0..1_000 {
        assert!(guess(&mut logins, v4(1), "romeo@example.org", 1));
    }
    assert_eq!(fail(&mut logins, START, v4(2), "romeo@example.org"), Ok(Duration::ZERO));
    // Elsewhere it is one, and at another account.
    assert!(guess(&mut logins, v4(1), "juliet@example.org", 1) && guess(&mut logins, v4(1), "juliet@example.org", 2));
    assert!(!guess(&mut logins, v4(1), "juliet@example.org", 1), "two were different");
    assert!(guess(&mut logins, v4(1), "romeo@example.org", 2));
    assert!(!guess(&mut logins, v4(1), "romeo@example.org", 1), "and so they were here");
}

#[test]
fn the_last_four_wrong_passwords_are_remembered() {
    let mut logins = Logins::new(Settings { failed_logins_to_account: rate(6, 1), failed_logins: None, ..small() });
    let mut tries = |password| guess(&mut logins, v4(1), "romeo@example.org", password);
    assert!([1, 2, 3, 4, 1, 2, 3, 4, 4, 1].into_iter().all(&mut tries), "four count");
    assert!(tries(5) && tries(4) && tries(2), "the oldest gave way to the fifth");
    assert!(tries(1), "and is a new one");
    assert!(!tries(1), "the sixth was the last");
}

#[test]
fn guessing_at_many_accounts_is_refused_to_the_network() {
    let mut logins = Logins::new(small());
    for n in 0..6 {
        assert!(fail(&mut logins, START, v6(1, n), &format!("{n}@example.org")).is_ok());
    }
    assert_eq!(fail(&mut logins, START, v6(1, 9), "9@example.org"), Err(Duration::from_secs(10)));
    assert!(fail(&mut logins, START, v6(2, 9), "9@example.org").is_ok());
}

#[test]
fn guessing_from_everywhere_delays_the_owner_and_never_refuses() {
    let mut logins = Logins::new(small());
    for n in 0..10 {
        assert_eq!(fail(&mut logins, START, v4(n), "romeo@example.org"), Ok(Duration::ZERO));
    }
    assert_eq!(fail(&mut logins, START, v4(10), "romeo@example.org"), Ok(Duration::from_secs(1)));
    for n in 11..100_000 {
        let delay = fail(&mut logins, START, v4(n), "romeo@example.org").expect("never refused");
        assert!(delay <= Duration::from_secs(5));
    }
    assert_eq!(fail(&mut logins, START, v4(100_000), "romeo@example.org"), Ok(Duration::from_secs(5)));
    let later = START + Duration::from_secs(17);
    assert_eq!(fail(&mut logins, later, v4(1), "romeo@example.org"), Ok(Duration::ZERO), "the debt has a bound");
    assert_eq!(fail(&mut logins, START, v4(1_000_001), "juliet@example.org"), Ok(Duration::ZERO));
}

#[test]
fn a_right_password_does_not_count() {
    let mut logins = Logins::new(small());
    for _ in 0..100 {
        match logins.attempt(START, v4(1), "romeo@example.org") {
            Attempt::After(delay, pending) => {
                assert_eq!(delay, Duration::ZERO);
                logins.succeeded(pending);
            }
            other => panic!("not admitted: {other:?}"),
        }
    }
}

#[test]
fn an_account_of_ones_own_does_not_buy_guesses_at_others() {
    let mut logins = Logins::new(small());
    let mut guesses = 0;
    for n in 0..100 {
        if fail(&mut logins, START, v4(1), &format!("victim{n}@example.org")).is_ok() {
            guesses += 1;
        }
        if let Attempt::After(_, pending) = logins.attempt(START, v4(1), "mine@example.org") {
            logins.succeeded(pending);
        }
    }
    assert_eq!(guesses, 6);
}

#[test]
fn a_guard_counts_until_it_is_dropped() {
    let gate = Gate::new(small());
    let Ok(Admitted::In(mut entered)) = gate.admit(START, v4(1)) else { panic!("there is room") };
    assert_eq!(gate.connections(), (1, 1));
    assert!(entered.guard.logged_in());
    assert_eq!(gate.connections(), (1, 0));
    drop(entered);
    assert_eq!(gate.connections(), (0, 0));
}

#[test]
fn a_stream_within_its_burst_does_not_wait_and_then_pays_by_its_rate() {
    let mut throttle = Throttle::new(NonZeroU32::new(1_000).expect("not zero"), 5_000);
    assert_eq!(throttle.take(START, 5_000), Duration::ZERO);
    assert_eq!(throttle.take(START, 500), Duration::from_millis(500));
    assert_eq!(throttle.take(START + Duration::from_millis(500), 1_000), Duration::from_secs(1));
    assert_eq!(
        throttle.take(START + Duration::from_secs(60), 5_000),
        Duration::ZERO,
        "idle time refills, up to the burst"
    );
    assert_eq!(throttle.take(START + Duration::from_secs(60), 1), Duration::from_millis(1));
    let mut throttle = Throttle::new(NonZeroU32::MIN, u32::MAX);
    assert!(throttle.take(Duration::MAX, usize::MAX) <= Duration::from_nanos(u64::MAX));
}

proptest! {
    #[test]
    fn no_more_is_admitted_in_any_stretch_than_the_burst_and_the_rate(
        burst in 1u32..20, rate in 1u32..6_000, steps in prop::collection::vec(0u64..5_000, 1..200),
    ) {
        let limit = per_minute(burst, rate);
        let mut bucket = Bucket::default();
        let mut now = START;
        let mut admitted = Vec::new();
        for step in steps {
            now += Duration::from_millis(step);
            match bucket.take(now, limit) {
                Ok(()) => admitted.push(now),
                Err(wait) => prop_assert_eq!(bucket.wait(now + wait, limit), Duration::ZERO, "the wait told is enough"),
            }
        }
        for (i, from) in admitted.iter().enumerate() {
            for (count, to) in admitted[i..].iter().enumerate() {
                let minutes = (*to - *from).as_secs_f64() / 60.0;
                prop_assert!(count as f64 + 1.0 <= f64::from(burst) + f64::from(rate) * minutes + 1e-6);
            }
        }
    }

    #[test]
    fn attempts_that_fail_never_exceed_the_burst_and_the_rate_whatever_succeeds_between(
        steps in prop::collection::vec((0u64..8_000, 0u8..4, any::<bool>()), 1..300),
    ) {
        let mut logins = Logins::new(Settings { failed_logins_to_account: None, ..small() });
        let mut now = START;
        let mut failed = 0;
        let mut pending = Vec::new();
        for (step, open, succeed) in steps {
            now += Duration::from_millis(step);
            for _ in 0..open {
                match logins.attempt(now, v4(1), "romeo@example.org") {
                    Attempt::After(_, attempt) => pending.push(attempt),
                    Attempt::Refused(wait) => prop_assert!(wait > Duration::ZERO),
                    Attempt::Busy => prop_assert!(pending.len() >= 16),
                }
            }
            if let Some(attempt) = pending.pop() {
                if succeed {
                    logins.succeeded(attempt);
                } else {
                    logins.failed(attempt);
                    failed += 1;
                }
            }
            let most = 6.0 + (now - START).as_secs_f64() / 10.0;
            prop_assert!(f64::from(failed) <= most + 1e-6, "{} failed, {} allowed", failed, most);
        }
    }

    #[test]
    fn a_reader_that_waits_as_told_never_hands_on_more_than_the_burst_and_the_rate(
        rate in 1u32..1_000_000, burst in 0u32..1_000_000,
        reads in prop::collection::vec((0u64..2_000_000, 0usize..70_000), 1..200),
    ) {
        let mut throttle = Throttle::new(NonZeroU32::new(rate).expect("not zero"), burst);
        let mut now = START;
        let mut passed = Vec::new();
        for (pause, bytes) in reads {
            now += Duration::from_micros(pause);
            now += throttle.take(now, bytes);
            passed.push((now, bytes));
        }
        for (i, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0.0;
            for (to, bytes) in &passed[i..] {
                sum += *bytes as f64;
                // The first of a stretch may have been paid for by the silence before it, or by a wait if it is larger than the burst.
                let first = passed[i].1 as f64;
                let allowed = f64::from(burst).max(first) + f64::from(rate) * (*to - *from).as_secs_f64();
                prop_assert!(sum <= allowed + 1.0, "{sum} bytes, {allowed} allowed");
            }
        }
    }

    #[test]
    fn the_counts_are_those_of_a_plain_list(
        steps in prop::collection::vec((0u8..4, 0u32..4, any::<prop::sample::Index>()), 1..300),
    ) {
        let settings = small();
        let mut limits = Limits::new(settings);
        let mut held: Vec<(Ticket, bool)> = Vec::new();
        let mut dropped = BTreeSet::new();
        for (what, address, which) in steps {
            let chosen = (!held.is_empty()).then(|| which.index(held.len()));
            match (what, chosen) {
                (0 | 1, _) => match limits.admit(START, v4(address)) {
                    Admission::Accepted(ticket) => held.push((ticket, false)),
                    Admission::AcceptedDropping(ticket, id) => {
                        let victim = held.iter().find(|(held, _)| held.id() == id).expect("a connection that is there");
                        prop_assert!(!victim.1 && dropped.insert(id));
                        held.push((ticket, false));
                    }
                    Admission::Later | Admission::Waits(..) => unreachable!("nobody has time here"),
                    Admission::Refused(_) => {}
                },
                (2, Some(i)) => {
                    let known = !dropped.contains(&held[i].0.id());
                    prop_assert_eq!(limits.logged_in(&mut held[i].0), known);
                    held[i].1 = known;
                }
                (_, Some(i)) => limits.closed(held.swap_remove(i).0),
                (_, None) => {}
            }
            let alive: Vec<_> = held.iter().filter(|(ticket, _)| !dropped.contains(&ticket.id())).collect();
            prop_assert_eq!(limits.connections(), alive.len());
            prop_assert_eq!(limits.half_open(), alive.iter().filter(|(_, logged_in)| !logged_in).count());
            prop_assert!(limits.connections() <= settings.connections && limits.half_open() <= settings.half_open);
            for network in 0..4 {
                let here: Vec<_> = alive.iter().filter(|(ticket, _)| ticket.network() == Network::from(v4(network))).collect();
                prop_assert!(here.len() <= settings.connections_per_network);
                prop_assert!(here.iter().filter(|(_, logged_in)| !logged_in).count() <= settings.half_open_per_network);
            }
        }
        held.into_iter().for_each(|(ticket, _)| limits.closed(ticket));
        prop_assert_eq!((limits.connections(), limits.entries()), (0, 0));
    }
}

#[test]
fn who_waits_for_the_server_is_not_dropped_for_others_and_counts_as_a_stranger_again_afterwards() {
    let mut limits = Limits::new(small());
    let (mut first, _) = accept(&mut limits, v4(1));
    assert!(limits.waits(&mut first) && limits.waits(&mut first));
    let others: Vec<_> = (0..3).map(|_| accept(&mut limits, v4(1))).collect();
    assert!(others.iter().all(|(_, dropped)| dropped.is_none()));
    // The network has all that it may: the oldest goes that does not wait.
    let (newest, dropped) = accept(&mut limits, v4(1));
    assert_eq!(dropped, Some(others[0].0.id()));
    assert_eq!((limits.connections(), limits.half_open()), (4, 3));
    limits.goes_on(START, &mut first);
    assert_eq!(limits.half_open(), 4);
    assert_eq!(accept(&mut limits, v4(1)).1, Some(first.id()));
    assert!(!limits.waits(&mut first), "it was dropped");
    for ticket in [first, newest].into_iter().chain(others.into_iter().map(|(ticket, _)| ticket)) {
        limits.closed(ticket);
    }
    assert_eq!(limits.connections(), 1);
}

#[test]
fn a_network_whose_connections_all_wait_gets_no_more_than_it_may_have() {
    let mut limits = Limits::new(small());
    let wait = |limits: &mut Limits| {
        let (mut ticket, _) = accept(limits, v4(1));
        assert!(limits.waits(&mut ticket));
        ticket
    };
    let waiting: Vec<_> = (0..4).map(|_| wait(&mut limits)).collect();
    assert_eq!(refused(limits.admit(START, v4(1))), Refusal::NetworkFull);
    waiting.into_iter().for_each(|ticket| limits.closed(ticket));
    assert_eq!((limits.connections(), limits.entries()), (0, 0));
}

#[test]
fn to_ask_whether_an_attempt_would_be_refused_costs_nothing() {
    let mut logins = Logins::new(small());
    for _ in 0..2 {
        assert!((0..100).all(|_| !logins.refuses(START, v4(1), "romeo@x")));
        assert!(matches!(logins.attempt(START, v4(1), "romeo@x"), Attempt::After(..)));
    }
    assert!(logins.refuses(START, v4(1), "romeo@x") && !logins.refuses(START, v4(1), "juliet@x"));
}

#[test]
fn many_who_try_at_once_behind_one_address_wait_for_each_other_and_only_failures_count() {
    let gate = Gate::new(small());
    let attempt = |n: u32| gate.attempt(START, v4(1), &format!("pupil{n}@x"));
    let trial = |n| match attempt(n) {
        Try::After(_, trial) => trial,
        other => panic!("{n} may not try: {other:?}"),
    };
    let mut trying: Vec<Trial> = (0..6).map(trial).collect();
    for n in 6..100 {
        assert!(matches!(attempt(n), Try::Later), "{n}");
        trying.remove(0).succeeded();
        trying.push(trial(n));
    }
    // Somebody who guesses at one account is not waited for.
    gate.set(Settings { failed_logins: rate(8, 6), ..small() });
    let _guesses = [trial(7), trial(7)];
    assert!(matches!(attempt(7), Try::Refused));
    drop(trying);
    drop(_guesses);
    assert!(matches!(attempt(8), Try::Refused), "eight failed, and nobody tries any more");
    assert!(matches!(gate.attempt(START, v4(2), "pupil8@x"), Try::After(..)));
}

#[test]
fn who_has_just_come_is_not_dropped_for_the_next_and_that_one_waits() {
    let grace = Duration::from_secs(2);
    let mut limits = Limits::new(Settings { grace, unequal_grace: grace, ..small() });
    let later = |millis| START + Duration::from_millis(millis);
    let tickets: Vec<_> = (0..5).map(|n| accept(&mut limits, v4(n)).0).collect();
    let Admission::Waits(waits, None) = limits.admit(later(1000), v4(9)) else { panic!("it does not wait") };
    assert!(limits.let_in(later(1999)).is_none());
    assert_eq!((limits.connections(), limits.waiting()), (5, 1));
    let Some((next, newest, Some(dropped))) = limits.let_in(later(2000)) else { panic!("it still waits") };
    assert_eq!((next, dropped), (waits, tickets[0].id()));
    // The next victim is the next oldest, and as old; one that waited for the server has its time again.
    let mut waited = tickets;
    for ticket in &mut waited[1..] {
        assert!(limits.waits(ticket));
        limits.goes_on(later(2000), ticket);
    }
    assert!(matches!(limits.admit(later(3999), v4(10)), Admission::Waits(_, None)));
    assert!(limits.let_in(later(3999)).is_none());
    drop(newest);
}

/// Of the networks of a /48 the n-th, each from another /56 as long as there are any.
fn spread(n: u64) -> u64 {
    n << 8 & 0xff00 | n >> 8
}

#[test]
fn a_56_counts_for_four_networks_and_a_48_for_sixteen() {
    let settings = Settings { connections: 10_000, half_open: 10_000, half_open_per_network: 3, ..small() };
    // A customer with a /48 who comes from each of its 65,536 networks once.
    let mut limits = Limits::new(settings);
    let tickets: Vec<_> = (0..1_000).map(|n| accept(&mut limits, v6(0x2001_0db8_0001_0000 | n, 1))).collect();
    assert_eq!(limits.half_open(), 3 * 16, "three for each of sixteen");
    assert_eq!(tickets.iter().filter(|(_, dropped)| dropped.is_some()).count(), 1_000 - 3 * 16);
    // One with a /56.
    let before = limits.half_open();
    let more: Vec<_> = (0..100).map(|n| accept(&mut limits, v6(0x2001_0db8_0002_0000 | n, 1))).collect();
    assert_eq!(limits.half_open() - before, 3 * 4);
    // Its neighbour is not affected, and none is refused who has just come.
    let (mut neighbour, dropped) = accept(&mut limits, v6(0x2001_0db8_0003_0000, 1));
    assert!(dropped.is_none() && limits.logged_in(&mut neighbour));
    tickets.into_iter().chain(more).for_each(|(ticket, _)| limits.closed(ticket));
    limits.closed(neighbour);
    assert_eq!((limits.connections(), limits.half_open(), limits.entries()), (0, 0, 0));
}

#[test]
fn wide_networks_have_bounds_for_connections_and_for_new_ones_too() {
    let settings = Settings { connections: 10_000, half_open: 10_000, half_open_per_network: 10_000, ..small() };
    let mut limits = Limits::new(settings);
    let subnet = |n: u64| v6(0x2001_0db8_0001_0000 | n, 1);
    // Four for each network, logged in, from sixteen /56s.
    let tickets: Vec<_> = (0..64).map(|n| enter(&mut limits, subnet(n << 8 & 0xf00 | n))).collect();
    assert_eq!(refused(limits.admit(START, subnet(0xffff))), Refusal::NetworkFull);
    tickets.into_iter().for_each(|ticket| limits.closed(ticket));

    let mut limits =
        Limits::new(Settings { new_connections: rate(5, 60), connections_per_network: 10_000, ..settings });
    let came = (0..1_000).filter(|n| !matches!(limits.admit(START, subnet(spread(*n))), Admission::Refused(_))).count();
    assert_eq!(came, 5 * 16);
    let second = START + Duration::from_secs(1);
    let came =
        (0..1_000).filter(|n| !matches!(limits.admit(second, subnet(spread(*n))), Admission::Refused(_))).count();
    assert_eq!(came, 16, "sixteen times one a second");
    assert!(matches!(limits.admit(START, v6(7, 1)), Admission::Accepted(_)));
}

#[test]
fn guessing_from_all_networks_of_a_48_is_refused_to_it_alone() {
    let subnet = |n: u64| v6(0x2001_0db8_0001_0000 | n, 1);
    let mut logins = Logins::new(small());
    let guessed = |logins: &mut Logins, account: &dyn Fn(u64) -> String| {
        (0..2_000).filter(|n| fail(logins, START, subnet(spread(*n)), &account(*n)).is_ok()).count()
    };
    // Two at one account, six at all, for each network; sixteen times as many for the whole.
    assert_eq!(guessed(&mut logins, &|_| "romeo@example.org".into()), 2 * 16);
    assert_eq!(guessed(&mut logins, &|n| format!("{n}@example.org")), (6 - 2) * 16);
    let mut logins = Logins::new(small());
    let own = (0..2_000).filter(|n| fail(&mut logins, START, subnet(*n & 0xff), "romeo@example.org").is_ok()).count();
    assert_eq!(own, 2 * 4, "those of one /56");
    assert!(fail(&mut logins, START, v6(0x2001_0db8_0002_0000, 1), "romeo@example.org").is_ok());
}

#[test]
fn a_right_password_is_given_back_to_wide_networks_too() {
    let mut logins = Logins::new(small());
    for n in 0..1_000 {
        let Attempt::After(_, pending) = logins.attempt(START, v6(0x2001_0db8_0001_0000 | n, 1), "romeo@example.org")
        else {
            panic!("{n} is refused");
        };
        logins.succeeded(pending);
    }
}

#[test]
fn no_flood_makes_more_be_remembered_than_the_bounds() {
    let mut limits = Limits::new(Settings { new_connections: rate(5, 60), ..Settings::default() });
    let mut logins = Logins::new(Settings::default());
    let (mut lines, mut most) = (Lines::default(), (0, 0));
    for n in 0..100_000u64 {
        let address = v6(n << 16 | n, 1);
        match limits.admit(START, address) {
            Admission::Accepted(mut ticket) | Admission::AcceptedDropping(mut ticket, _) => {
                let _ = limits.logged_in(&mut ticket);
                limits.closed(ticket);
            }
            other => panic!("{n}: {other:?}"),
        }
        if let Attempt::After(_, pending) = logins.attempt(START, address, &format!("{n}@x")) {
            logins.succeeded(pending);
        }
        guess(&mut logins, address, &format!("{n}@x"), 1);
        let _ = lines.line(START, address);
        most = (most.0.max(limits.entries()), most.1.max(logins.entries()));
    }
    assert!(most.0 <= 32_768 + 2 * 8_192, "{most:?}");
    assert!(most.1 <= 32_768 + 65_536 + 2 * (8_192 + 16_384) + 32_768 + 65_536 + 16_384, "{most:?}");
    assert!(most.0 > 32_768 && most.1 > 166_000, "the bounds are reached: {most:?}");
    let left_out = lines.left_out();
    assert_eq!(left_out.networks.len(), 256);
    assert_eq!(left_out.networks.values().sum::<u64>() + left_out.others, 100_000 - 1_000, "of lines in all");
}

#[test]
fn a_flood_of_many_networks_does_not_keep_others_waiting() {
    // 80 networks open ten connections each second and say nothing, as many as the defaults let them.
    let mut limits =
        Limits::new(Settings { new_connections: rate(600, 600), half_open_per_network: 600, ..Settings::default() });
    let (mut inside, mut others, mut longest) = (BTreeMap::new(), BTreeMap::new(), Duration::ZERO);
    let mut came = 0;
    for tick in 0..4_000u64 {
        let now = START + Duration::from_millis(5 * tick);
        let arrive = |limits: &mut Limits, address: IpAddr| match limits.admit(now, address) {
            Admission::Accepted(ticket) => Some(Ok(ticket)),
            Admission::AcceptedDropping(ticket, _) => Some(Ok(ticket)),
            Admission::Waits(id, _) => Some(Err(id)),
            Admission::Later => panic!("the listener has to wait"),
            Admission::Refused(_) => None,
        };
        // Four of the flood in each tick: 800 in a second.
        for n in 0..4 {
            let network = u32::try_from((4 * tick + n) % 80).expect("small");
            if let Some(Ok(ticket)) = arrive(&mut limits, v4(network)) {
                inside.insert(ticket.id(), ticket);
            }
        }
        // Ten others in a second, each once.
        if tick % 20 == 0 {
            match arrive(&mut limits, v4(1_000 + u32::try_from(tick).expect("small"))) {
                Some(Err(id)) => drop(others.insert(id, now)),
                Some(Ok(mut ticket)) => {
                    came += 1;
                    assert!(limits.logged_in(&mut ticket));
                    limits.closed(ticket);
                }
                None => panic!("refused"),
            }
        }
        while let Some((id, mut ticket, dropped)) = limits.let_in(now) {
            if let Some(dropped) = dropped.and_then(|id| inside.remove(&id)) {
                limits.closed(dropped);
            }
            if let Some(since) = others.remove(&id) {
                longest = longest.max(now - since);
                came += 1;
                assert!(limits.logged_in(&mut ticket));
                limits.closed(ticket);
            } else {
                inside.insert(ticket.id(), ticket);
            }
        }
        assert!(limits.tired(now).iter().all(|id| !others.contains_key(id)));
        assert!(limits.half_open() <= 1_000 && limits.waiting() <= 1_024);
    }
    assert_eq!((came, others.len()), (200, 0));
    assert!(longest <= Duration::from_millis(100), "{longest:?}");
}

#[test]
fn those_of_known_networks_go_first_and_take_the_places_of_strangers() {
    let grace = Duration::from_secs(2);
    let mut limits = Limits::new(Settings { grace, unequal_grace: grace, ..small() });
    let known = enter(&mut limits, v4(77));
    limits.closed(known);
    let _full: Vec<_> = (0..5).map(|n| accept(&mut limits, v4(n)).0).collect();
    let waits = |limits: &mut Limits, n| match limits.admit(START, v4(n)) {
        Admission::Waits(id, gone) => (id, gone),
        other => panic!("{n} does not wait: {other:?}"),
    };
    let strangers: Vec<_> = (10..13).map(|n| waits(&mut limits, n)).collect();
    // The room is full: for one more stranger the listener waits, one of a network that is there already is refused.
    assert!(matches!(limits.admit(START, v4(13)), Admission::Later));
    assert_eq!(refused(limits.admit(START, v4(12))), Refusal::Crowded);
    let (welcome, gone) = waits(&mut limits, 77);
    assert_eq!(gone, Some(strangers[2].0), "the newest of the strangers");
    let order: Vec<_> = std::iter::from_fn(|| limits.let_in(START + grace)).map(|(id, ..)| id).collect();
    assert_eq!(order, [welcome, strangers[0].0, strangers[1].0]);
}

#[test]
fn the_network_with_most_in_the_room_gives_up_a_place() {
    let grace = Duration::from_secs(2);
    let mut limits = Limits::new(Settings { grace, unequal_grace: grace, ..small() });
    let _full: Vec<_> = (0..5).map(|n| accept(&mut limits, v4(n)).0).collect();
    let flood: Vec<_> = (0..3).map(|_| limits.admit(START, v4(9))).collect();
    let Some(Admission::Waits(newest, None)) = flood.last() else { panic!("{flood:?}") };
    let Admission::Waits(_, Some(gone)) = limits.admit(START, v4(10)) else { panic!("it is kept out") };
    assert_eq!(gone, *newest);
    // Who waits for too long is closed, and the room is free again.
    assert!(limits.tired(START + LONGEST - Duration::from_millis(1)).is_empty());
    assert_eq!((limits.tired(START + LONGEST).len(), limits.waiting()), (3, 0));
}

#[test]
fn at_one_account_so_many_try_at_once_and_those_who_were_there_before_try_all_the_same() {
    let mut logins = Logins::new(Settings { failed_logins_anywhere: None, ..small() });
    let after = |attempt| match attempt {
        Attempt::After(delay, pending) => (delay, pending),
        other => panic!("not admitted: {other:?}"),
    };
    let owner = after(logins.attempt(START, v4(1), "romeo@example.org")).1;
    logins.succeeded(owner);
    let mut trying: Vec<_> = (100..116).map(|n| after(logins.attempt(START, v4(n), "romeo@example.org")).1).collect();
    assert!(matches!(logins.attempt(START, v4(200), "romeo@example.org"), Attempt::Busy));
    assert!(matches!(logins.attempt(START, v4(200), "juliet@example.org"), Attempt::After(..)));
    let owner = after(logins.attempt(START, v4(1), "romeo@example.org")).1;
    logins.failed(owner);
    logins.failed(trying.remove(0));
    let late = after(logins.attempt(START, v4(200), "romeo@example.org")).1;
    assert!(matches!(logins.attempt(START, v4(201), "romeo@example.org"), Attempt::Busy));
    // Who asks and then says nothing does not keep others out for long.
    let later = START + Duration::from_secs(10);
    assert!(matches!(logins.attempt(later, v4(201), "romeo@example.org"), Attempt::After(..)));
    trying.into_iter().chain([late]).for_each(|pending| logins.failed(pending));
}

#[test]
fn the_owner_is_not_delayed_where_he_has_logged_in_before() {
    let mut logins = Logins::new(small());
    let Attempt::After(_, pending) = logins.attempt(START, v4(1_000_000), "romeo@example.org") else {
        panic!("refused")
    };
    logins.succeeded(pending);
    for n in 0..1_000 {
        let _ = fail(&mut logins, START, v4(n), "romeo@example.org");
    }
    assert_eq!(fail(&mut logins, START, v4(1_000), "romeo@example.org"), Ok(Duration::from_secs(5)));
    assert_eq!(fail(&mut logins, START, v4(1_000_000), "romeo@example.org"), Ok(Duration::ZERO));
}

#[test]
fn behind_a_proxy_that_names_nobody_failures_at_some_accounts_refuse_no_others() {
    for address in
        [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()]
    {
        let mut logins = Logins::new(small());
        for n in 0..1_000 {
            assert!(fail(&mut logins, START, address, &format!("{n}@example.org")).is_ok());
        }
        assert!(!logins.refuses(START, address, "romeo@example.org"));
        assert!(fail(&mut logins, START, address, "romeo@example.org").is_ok());
        assert!(fail(&mut logins, START, address, "romeo@example.org").is_ok());
        assert!(fail(&mut logins, START, address, "romeo@example.org").is_err(), "too many at one account");
    }
}

#[test]
fn a_network_has_so_many_lines_in_the_log_and_the_others_are_counted() {
    let mut lines = Lines::default();
    assert!((0..10).all(|_| lines.line(START, v6(7, 1)) == Line::Write));
    assert_eq!(lines.line(START, v6(7, 2)), Line::Count(true));
    assert_eq!(lines.line(START, v6(7, 3)), Line::Count(false));
    assert_eq!(lines.line(START, v4(1)), Line::Write);
    assert_eq!(lines.left_out(), LeftOut { networks: [(v6(7, 1).into(), 2)].into(), others: 0 });
    assert_eq!(lines.left_out(), LeftOut::default());
    assert_eq!(lines.line(START + Duration::from_secs(6), v6(7, 1)), Line::Write, "ten a minute");
    assert_eq!(lines.line(START + Duration::from_secs(6), v6(7, 1)), Line::Count(true));
}

#[test]
fn a_network_is_written_as_operators_write_it() {
    let levels: Vec<_> = Network::from(v6(0x2001_0db8_0001_0203, 9)).levels().map(|(n, _)| n.to_string()).collect();
    assert_eq!(levels, ["2001:db8:1:203::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
    assert_eq!(Network::from(IpAddr::from([192, 0, 2, 1])).to_string(), "192.0.2.1");
}
