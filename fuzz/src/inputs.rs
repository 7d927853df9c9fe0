//! The sequence of inputs of one seed: made by the grammar, or from the corpus, half of them changed.

use std::path::Path;

use crate::make;
use crate::random::Random;

/// The inputs that belong to a seed.
pub struct Inputs {
    random: Random,
    corpus: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Inputs {
    /// From the beginning.
    pub fn new(seed: u64) -> Inputs {
        Inputs { random: Random::new(seed), corpus: corpus(), last: b"<message/>".to_vec() }
    }

    /// The next one; there is no end to them.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let odd = [0, 1, 3, 10, 30][random.below(5)];
        let fresh = match random.below(8) {
            0 => make::header(random, odd),
            1..5 => make::stanza(random, odd),
            _ => self.corpus[random.below(self.corpus.len())].clone(),
        };
        let input = if random.one_in(2) { make::mutate(random, &fresh, &self.last) } else { fresh };
        if input.len() < 4000 {
            self.last.clone_from(&input);
        }
        input
    }
}

/// The inputs in `corpus/xml`, in the order of their names.
pub fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/xml");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().filter_map(|file| std::fs::read(file).ok()).collect();
    assert!(!inputs.is_empty(), "no corpus");
    inputs
}
