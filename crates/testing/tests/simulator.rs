//! The server at random, by a thousand seeds: SEEDS=5000 plays more of them, SEED=110 one.

use vorpal_testing::simulator::{Plan, play};

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(default),
    }
}

fn run(test: &str, default: u64, plan: impl Fn(u64) -> Plan) {
    let (mut messages, mut wrong) = (0, Vec::new());
    for seed in seeds(default) {
        let plan = plan(seed);
        let result = std::panic::catch_unwind(|| play(plan, vorpal_modules::ALL));
        match result.unwrap_or_else(|_| Err(format!("seed {seed}: a panic"))) {
            Ok(count) => messages += count,
            Err(why) => wrong.push((seed, why)),
        }
    }
    if let Some((seed, why)) = wrong.first() {
        let all: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
        panic!("{why}\n\nseeds that fail: {all:?}\nSEED={seed} cargo test -p vorpal-testing --test simulator {test}");
    }
    assert!(messages > 0);
    println!("{messages} messages");
}

#[test]
fn promises_hold_while_clients_come_and_go() {
    run("promises_hold_while_clients_come_and_go", 400, |seed| Plan {
        seed,
        steps: 200,
        accounts: 2,
        failures: seed % 2 == 1,
        crashes: false,
    });
}

#[test]
fn promises_hold_over_crashes() {
    run("promises_hold_over_crashes", 600, |seed| Plan {
        seed,
        steps: 300,
        accounts: 2 + (seed % 2) as usize,
        failures: seed % 2 == 1,
        crashes: true,
    });
}
