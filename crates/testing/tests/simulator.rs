//! The server at random, by many seeds. `SEEDS=10000 cargo test --profile sim -p vorpal-testing --test simulator` plays more of
//! them, `FROM=20000` from there on, `SEED=110` one, `STEPS=1500` longer ones; with `TRACE=1` the stories tell
//! what the server decides; with `QUIET=1` no operator plays, as in the stories of `REGRESSIONS`. See docs/decisions/0009.

#![expect(clippy::disallowed_methods, reason = "threads share the seeds, and it says how fast they play")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vorpal_testing::simulator::shrink::{parse_ranges, ranges, shrink};
use vorpal_testing::simulator::{Plan, Tally, Wrong, play};
use vorpal_testing::world::Secrets;

/// Seeds that once found something, with their steps: always played. Why they failed stands in docs/decisions/0009. They were found
/// before the operator took part, and are played without.
const REGRESSIONS: [(u64, usize); 34] = [
    (1, 300),
    (8, 300),
    (9, 1_500),
    (19, 1_500),
    (29, 1_500),
    (46, 300),
    (76, 300),
    (100, 300),
    (254, 300),
    (296, 300),
    (320, 300),
    (339, 1_500),
    (459, 1_500),
    (529, 1_500),
    (745, 300),
    (781, 300),
    (1_070, 300),
    (1_089, 1_500),
    (1_515, 300),
    (1_872, 300),
    (2_995, 300),
    (3_070, 300),
    (6_155, 300),
    (10_139, 1_500),
    (10_660, 300),
    (13_174, 300),
    (14_122, 300),
    (14_332, 300),
    (18_238, 300),
    (24_809, 1_500),
    (40_757, 300),
    (47_172, 300),
    (51_899, 1_500),
    (55_119, 1_500),
];

/// The same, of those that the operator takes part in.
const OF_THE_OPERATOR: [(u64, usize); 25] = [
    (9, 1_500),
    (18, 300),
    (68, 300),
    (166, 300),
    (427, 300),
    (478, 300),
    (612, 300),
    (791, 300),
    (879, 1_500),
    (918, 300),
    (2_458, 300),
    (4_697, 300),
    (4_883, 300),
    (4_899, 1_500),
    (5_469, 1_500),
    (5_943, 300),
    (6_277, 300),
    (8_439, 1_500),
    (8_604, 300),
    (10_233, 300),
    (11_342, 300),
    (14_039, 1_500),
    (17_319, 1_500),
    (18_739, 1_500),
    (19_979, 1_500),
];

/// So many seeds fail before no more are played, unless ENOUGH says otherwise.
const ENOUGH: u64 = 20;

/// So many passwords are in use, one after the other.
const PASSWORDS: usize = 5;

/// So many lines of a story are shown.
const SHOWN: usize = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Whether the stories tell what the server decides.
fn traced() -> bool {
    std::env::var_os("TRACE").is_some()
}

/// One seed in so many plays five times as many steps.
fn steps(seed: u64) -> usize {
    match number("STEPS") {
        Some(steps) => steps as usize,
        None if seed % 10 == 9 => 1_500,
        None => 300,
    }
}

fn play_all(plans: impl Iterator<Item = Plan> + Send) {
    std::panic::set_hook(Box::new(|_| {}));
    let secrets = Arc::new(Secrets::several(PASSWORDS));
    let began = std::time::Instant::now();
    let plans = Mutex::new(plans);
    let found: Mutex<Vec<(Plan, Wrong)>> = Mutex::default();
    let sum: Mutex<Tally> = Mutex::default();
    let (played, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let enough = number("ENOUGH").unwrap_or(ENOUGH);
    let jobs = number("JOBS").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(plan) = plans.lock().expect("nobody panics").next() else { return };
                    let result = play(&plan, vorpal_modules::ALL, &secrets);
                    played.fetch_add(1, Ordering::Relaxed);
                    match result {
                        Ok(tally) => {
                            let mut sum = sum.lock().expect("nobody panics");
                            sum.messages += tally.messages;
                            sum.crashes += tally.crashes;
                            sum.resumptions += tally.resumptions;
                            sum.orders += tally.orders;
                            sum.deletions += tally.deletions;
                        }
                        Err(wrong) => {
                            let mut found = found.lock().expect("nobody panics");
                            found.push((plan, wrong));
                            if found.len() as u64 >= enough {
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    let sum = *sum.lock().expect("nobody panics");
    println!(
        "{} seeds in {:.1} s: {} messages, {} crashes, {} resumptions, {} orders, {} accounts deleted",
        played.load(Ordering::Relaxed),
        began.elapsed().as_secs_f32(),
        sum.messages,
        sum.crashes,
        sum.resumptions,
        sum.orders,
        sum.deletions
    );
    let mut found = found.into_inner().expect("nobody panics");
    found.sort_by_key(|(plan, _)| plan.seed);
    if found.is_empty() {
        assert!(sum.messages > 0, "nothing was played");
        return;
    }
    report(found, &secrets);
}

/// One story for each rule that was broken, as short as it gets, and how to play it again.
fn report(found: Vec<(Plan, Wrong)>, secrets: &Arc<Secrets>) {
    let mut text = String::new();
    let mut told = BTreeSet::new();
    for (plan, wrong) in &found {
        let _ = writeln!(text, "seed {}: {}: {}", plan.seed, wrong.rule, wrong.why);
    }
    for (plan, first) in found {
        if !told.insert(first.rule) {
            continue;
        }
        let (plan, wrong) = if number("SHRINK") == Some(0) {
            (plan, first)
        } else {
            shrink(&plan, first, vorpal_modules::ALL, secrets)
        };
        let from = wrong.story.len().saturating_sub(SHOWN);
        let _ = writeln!(text, "\n=== {}\n{}\n=== {}", wrong.rule, wrong.story[from..].join("\n"), wrong.why);
        let skip = if plan.skip.is_empty() { String::new() } else { format!("SKIP={} ", ranges(&plan.skip)) };
        let quiet = if plan.quiet { "QUIET=1 " } else { "" };
        let _ = writeln!(
            text,
            "SEED={} STEPS={} {skip}{quiet}cargo test --profile sim -p vorpal-testing --test simulator promises",
            plan.seed, plan.steps
        );
    }
    panic_with(&text);
}

fn panic_with(text: &str) {
    let _ = std::panic::take_hook();
    panic!("{text}");
}

#[test]
fn promises_hold_whatever_happens() {
    let skip = std::env::var("SKIP").map(|text| parse_ranges(&text)).unwrap_or_default();
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("FROM").unwrap_or(0);
            from..from + number("SEEDS").unwrap_or(200)
        }
    };
    play_all(seeds.map(move |seed| Plan {
        seed,
        steps: steps(seed),
        skip: skip.clone(),
        quiet: std::env::var_os("QUIET").is_some(),
        traced: traced(),
    }));
}

#[test]
fn promises_hold_where_they_once_did_not() {
    let plan = |quiet| {
        move |&(seed, steps): &(u64, usize)| Plan { seed, steps, skip: BTreeSet::new(), quiet, traced: traced() }
    };
    play_all(REGRESSIONS.iter().map(plan(true)).chain(OF_THE_OPERATOR.iter().map(plan(false))));
}
