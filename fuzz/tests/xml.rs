//! A short run of the fuzzer, for every commit.

use vorpal_fuzz::inputs::{Inputs, corpus};
use vorpal_fuzz::random::Random;
use vorpal_fuzz::xml::{Seen, check};

#[test]
fn nobody_disagrees_about_the_corpus() {
    for input in corpus() {
        check(&input, &mut Random::new(1)).unwrap_or_else(|said| panic!("{said}\n{}", input.escape_ascii()));
    }
}

#[test]
fn nobody_disagrees_about_twenty_thousand_inputs_of_all_kinds() {
    let (mut inputs, mut all) = (Inputs::new(7), Vec::new());
    for n in 0..20_000 {
        let input = inputs.next();
        all.push(check(&input, &mut Random::new(n)).unwrap_or_else(|said| panic!("{said}\n{}", input.escape_ascii())));
    }
    // Enough of each kind, or the run would prove nothing.
    let count = |of: fn(&Seen) -> bool| all.iter().filter(|seen| of(seen)).count();
    assert!(count(|seen| seen.plain) > 2_000);
    assert!(count(|seen| seen.parsed && !seen.plain) > 1_000);
    assert!(count(|seen| seen.header) > 500);
    assert!(count(|seen| !seen.parsed && !seen.header) > 5_000);
}
