//! What all targets but the XML have in common: inputs of a seed, what they reached, and how a failing one is made short.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use crate::make::mutate;
use crate::random::Random;

/// How often inputs got where: the proof that a run has tested something.
#[derive(Default, Debug)]
pub struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    /// Once more.
    pub fn here(&mut self, place: &'static str) {
        *self.0.entry(place).or_default() += 1;
    }

    /// How often.
    pub fn count(&self, place: &str) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

/// Something that takes bytes, and what must hold of it.
pub trait Target {
    /// Its name, and that of its folder in `corpus/`.
    const NAME: &'static str;

    /// Places that some input of every long run must get to.
    const MUST: &'static [&'static str];

    /// Changes one of our own inputs in a way that bytes do not show; mostly [`mutate`].
    fn change(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        mutate(random, input, other)
    }

    /// An input of the grammar.
    fn make(&self, random: &mut Random) -> Vec<u8>;

    /// Tries one. `random` is the same for the same number of the input.
    ///
    /// # Errors
    /// What does not hold: the name of the property, a colon, the rest.
    fn check(&self, input: &[u8], random: &mut Random, reached: &mut Reached) -> Result<(), String>;
}

/// Runs so many inputs of a seed, after all of the corpus.
pub fn run<T: Target>(target: &T, count: u64, seed: u64) -> ExitCode {
    let corpus = corpus(T::NAME);
    let mut random = Random::new(seed);
    let mut last = corpus[0].clone();
    let mut reached = Reached::default();
    for n in 0..count {
        let input = match usize::try_from(n).ok().and_then(|n| corpus.get(n)) {
            Some(input) => input.clone(),
            None => {
                let fresh = match random.below(8) {
                    0 => corpus[random.below(corpus.len())].clone(),
                    _ => target.make(&mut random),
                };
                if random.one_in(2) { target.change(&mut random, &fresh, &last) } else { fresh }
            }
        };
        if let Err(said) = judge(target, &input, n, &mut reached) {
            return report(target, n, input, &said);
        }
        if input.len() < 4000 {
            last = input;
        }
    }
    let places: Vec<String> = reached.0.iter().map(|(place, n)| format!("{place} {n}")).collect();
    println!("{count} inputs, seed {seed}: {}", places.join(", "));
    match T::MUST.iter().find(|place| count >= 100_000 && reached.count(place) == 0) {
        Some(place) => {
            println!("no input got to `{place}`: this run has not tested it");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// The files in the folder of the corpus, in the order of their names.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    assert!(!inputs.is_empty(), "no corpus");
    inputs
}

fn judge<T: Target>(target: &T, input: &[u8], n: u64, reached: &mut Reached) -> Result<(), String> {
    let check = AssertUnwindSafe(|| target.check(input, &mut Random::new(n), reached));
    catch_unwind(check).unwrap_or_else(|_| Err("panic".to_owned()))
}

fn report<T: Target>(target: &T, n: u64, mut input: Vec<u8>, said: &str) -> ExitCode {
    let property = |said: &str| said.split(':').next().unwrap_or_default().to_owned();
    let wanted = property(said);
    let mut scrap = Reached::default();
    // Long inputs may be slow ones: short enough is good enough.
    let (mut size, mut tries) = (input.len(), 5000);
    while size > 0 {
        let mut at = 0;
        while at < input.len() && tries > 0 {
            tries -= 1;
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            match judge(target, &shorter, n, &mut scrap) {
                Err(said) if property(&said) == wanted => input = shorter,
                _ => at += size,
            }
        }
        size /= 2;
    }
    let said = judge(target, &input, n, &mut scrap).err().unwrap_or_default();
    println!("disagreement at input {n}: {said}\n  {}", input.escape_ascii());
    ExitCode::FAILURE
}
