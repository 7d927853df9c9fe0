//! `vorpal-fuzz xml <inputs> [seed]`: runs so many inputs and stops at the first disagreement, made as short as it can be.
//!
//! `vorpal-fuzz xml-list <inputs> [seed]`: prints what passes through and what we write, with our tree, for `others.py`.
//!
//! `vorpal-fuzz jid|sasl|form|stanza|archive|budget <inputs> [seed]`: the same for addresses, logins, data forms, stanzas, archives and
//! what inputs become; says at the
//! end how often it got where, and fails if there is a place it never got to.
//!
//! Logging in as a whole is tried by `INPUTS=100000 cargo test --release -p vorpal-net --test negotiation`.
//!
//! Deterministic: one seed is one sequence of inputs. `corpus/` is where mutation starts from.

use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use vorpal_fuzz::inputs::Inputs;
use vorpal_fuzz::random::Random;
use vorpal_fuzz::xml::{Seen, check};
use vorpal_fuzz::{archive, budget, form, jid, run, sasl, stanza, tree};
use vorpal_proto::parse::{Limits, StreamContext, parse_element};
use vorpal_proto::scan::scan;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1..).unwrap_or_default() {
        [what, count, seed @ ..] if what == "xml" => {
            let seed = seed.first().and_then(|s| s.parse().ok()).unwrap_or(1);
            xml(count.parse().unwrap_or(0), seed)
        }
        [what, count, seed @ ..] if what == "xml-list" => {
            let seed = seed.first().and_then(|s| s.parse().ok()).unwrap_or(1);
            list(count.parse().unwrap_or(0), seed)
        }
        [what, count, seed @ ..] if ["jid", "sasl", "form", "stanza", "archive", "budget"].contains(&what.as_str()) => {
            let seed = seed.first().and_then(|s| s.parse().ok()).unwrap_or(1);
            let count = count.parse().unwrap_or(0);
            match what.as_str() {
                "jid" => run::run(&jid::Jids, count, seed),
                "sasl" => run::run(&sasl::Logins::default(), count, seed),
                "form" => run::run(&form::Forms, count, seed),
                "archive" => run::run(&archive::Archives, count, seed),
                "budget" => run::run(&budget::Budgets, count, seed),
                _ => run::run(&stanza::Stanzas::default(), count, seed),
            }
        }
        [what, path] if what == "xml-file" => match std::fs::read(path).map(|input| judge(&input, 1)) {
            Ok(result) => {
                println!("{result:?}");
                if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => usage(&error.to_string()),
        },
        _ => usage(
            "usage: vorpal-fuzz xml|xml-list|jid|sasl|form|stanza|archive|budget <inputs> [seed] | vorpal-fuzz xml-file <file>",
        ),
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
    let mut inputs = Inputs::new(seed);
    let (mut parsed, mut plain, mut headers) = (0u64, 0u64, 0u64);
    for n in 0..count {
        let input = inputs.next();
        match judge(&input, n) {
            Ok(seen) => {
                parsed += u64::from(seen.parsed);
                plain += u64::from(seen.plain);
                headers += u64::from(seen.header);
            }
            Err(said) => return report(n, input, &said),
        }
    }
    println!(
        "{count} inputs, seed {seed}: {parsed} stanzas, {plain} of them plain, {headers} stream headers; no disagreement"
    );
    ExitCode::SUCCESS
}

fn list(count: u64, seed: u64) -> ExitCode {
    let mut inputs = Inputs::new(seed);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for _ in 0..count {
        let input = inputs.next();
        let Ok(element) = parse_element(&input, &StreamContext::default(), &Limits::DEFAULT) else { continue };
        let mut tree = String::new();
        tree::ours(&element).dump(&mut tree);
        let written = element.to_string_in("jabber:client");
        let plain = scan(&input, &Limits::DEFAULT).map(|_| ("plain", &input[..]));
        let kind = if element.is_portable() { "portable" } else { "odd" };
        for (kind, frame) in plain.into_iter().chain([(kind, written.as_bytes())]) {
            let line = writeln!(out, "{kind} {} {}", hex(&tree::document(frame)), hex(tree.as_bytes()));
            if line.is_err() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
