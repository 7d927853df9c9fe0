//! Shrinking: finds a shorter story with the same failure, by replaying the run without some of its steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use vorpal_core::module::Module;

use super::{Plan, Wrong, play};
use crate::world::Secrets;

/// Maximum number of replays of a run.
const TRIES: usize = 600;

/// A run that fails by the same rule, with as few steps as can be found quickly.
pub fn shrink(plan: &Plan, first: Wrong, modules: &'static [&'static Module], secrets: &Arc<Secrets>) -> (Plan, Wrong) {
    let (mut best, mut last) = (plan.clone(), first);
    if let Some(step) = last.step {
        best.steps = step + 1;
    }
    let mut tries = 0;
    let mut size = best.steps.div_ceil(2);
    while size > 0 && tries < TRIES {
        let mut shorter = false;
        let mut at = 0;
        while at < best.steps && tries < TRIES {
            let cut: BTreeSet<usize> =
                (at..(at + size).min(best.steps)).filter(|step| !best.skip.contains(step)).collect();
            at += size;
            if cut.is_empty() {
                continue;
            }
            tries += 1;
            let mut plan = best.clone();
            plan.skip.extend(cut);
            if let Err(wrong) = play(&plan, modules, secrets)
                && wrong.rule == last.rule
            {
                if let Some(step) = wrong.step {
                    plan.steps = step + 1;
                    plan.skip.retain(|skipped| skipped <= &step);
                }
                (best, last, shorter) = (plan, wrong, true);
            }
        }
        size = if size == 1 && shorter { 1 } else { size / 2 };
    }
    (best, last)
}

/// Numbers as they are written in `SKIP`: `3,7-12`.
pub fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => parts.push((number, number)),
        }
    }
    let part = |(from, to): &(usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Parses the output of [`ranges`]; invalid numbers are left out.
pub fn parse_ranges(text: &str) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.trim().parse::<usize>(), to.trim().parse::<usize>()) {
            numbers.extend(from..=to);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_read_as_it_is_written() {
        let numbers: BTreeSet<usize> = [1, 2, 3, 7, 9, 10].into();
        assert_eq!(ranges(&numbers), "1-3,7,9-10");
        assert_eq!(parse_ranges(&ranges(&numbers)), numbers);
    }
}
