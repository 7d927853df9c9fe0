//! `vorpal-fuzz xml <inputs> [seed]`: runs so many inputs and stops at the first disagreement, made as short as it can be.
//!
//! Deterministic: one seed is one sequence of inputs. `corpus/` is where mutation starts from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use vorpal_fuzz::make;
use vorpal_fuzz::random::Random;
use vorpal_fuzz::xml::{Seen, check};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1..).unwrap_or_default() {
        [what, count, seed @ ..] if what == "xml" => {
            let seed = seed.first().and_then(|s| s.parse().ok()).unwrap_or(1);
            xml(count.parse().unwrap_or(0), seed)
        }
        [what, path] if what == "xml-file" => match std::fs::read(path).map(|input| judge(&input, 1)) {
            Ok(result) => {
                println!("{result:?}");
                if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => usage(&error.to_string()),
        },
        _ => usage("usage: vorpal-fuzz xml <inputs> [seed] | vorpal-fuzz xml-file <file>"),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// A panic is a disagreement like any other.
fn judge(input: &[u8], seed: u64) -> Result<Seen, String> {
    catch_unwind(AssertUnwindSafe(|| check(input, &mut Random::new(seed)))).unwrap_or_else(|_| Err("panic".to_owned()))
}

fn xml(count: u64, seed: u64) -> ExitCode {
    let corpus = corpus();
    let mut random = Random::new(seed);
    let mut last = b"<message/>".to_vec();
    let (mut parsed, mut plain, mut headers) = (0u64, 0u64, 0u64);
    for n in 0..count {
        let odd = [0, 1, 3, 10, 30][random.below(5)];
        let fresh = match random.below(8) {
            0 => make::header(&mut random, odd),
            1..5 => make::stanza(&mut random, odd),
            _ => corpus[random.below(corpus.len())].clone(),
        };
        let input = if random.one_in(2) { make::mutate(&mut random, &fresh, &last) } else { fresh };
        match judge(&input, n) {
            Ok(seen) => {
                parsed += u64::from(seen.parsed);
                plain += u64::from(seen.plain);
                headers += u64::from(seen.header);
            }
            Err(said) => return report(n, input, &said),
        }
        if input.len() < 4000 {
            last = input;
        }
    }
    println!(
        "{count} inputs, seed {seed}: {parsed} stanzas, {plain} of them plain, {headers} stream headers; no disagreement"
    );
    ExitCode::SUCCESS
}

/// The inputs in `corpus/xml`, in the order of their names.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/xml");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    assert!(!inputs.is_empty(), "no corpus");
    inputs
}

fn report(n: u64, mut input: Vec<u8>, said: &str) -> ExitCode {
    // The same property: what stands before the first colon.
    let property = |said: &str| said.split(':').next().unwrap_or_default().to_owned();
    let wanted = property(said);
    let mut size = input.len();
    while size > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            match judge(&shorter, n) {
                Err(said) if property(&said) == wanted => input = shorter,
                _ => at += size,
            }
        }
        size /= 2;
    }
    let said = judge(&input, n).err().unwrap_or_default();
    println!("disagreement at input {n}: {said}\n  {}", input.escape_ascii());
    ExitCode::FAILURE
}
