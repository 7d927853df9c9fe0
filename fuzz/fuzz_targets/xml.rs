//! The same property under libFuzzer, which looks for new paths through the code. On a stable compiler:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Cllvm-args=-sanitizer-coverage-trace-compares" cargo run --release --features libfuzzer --bin libfuzzer-xml \
//!   --target x86_64-unknown-linux-gnu -- found corpus/xml -dict=xml.dict
//! ```
#![no_main]

use vorpal_fuzz::random::Random;
use vorpal_fuzz::xml::check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(said) = check(input, &mut Random::new(1)) {
        panic!("{said}");
    }
});
