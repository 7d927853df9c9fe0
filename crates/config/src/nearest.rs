//! The name that was probably meant.

/// Names longer than this are not compared: the cost is the product of the lengths.
const MAX_NAME: usize = 64;

/// The candidate that differs least from `name`; `None` if all differ in more than a third of it (at least two places).
///
/// Of equally near candidates, the first.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let name: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    let limit = (name.len() / 3).max(1);
    let near = candidates.into_iter().filter(|candidate| candidate.len() <= MAX_NAME);
    let (distance, found) = near.map(|candidate| (distance(&name, candidate), candidate)).min_by_key(|(d, _)| *d)?;
    (distance <= limit).then_some(found)
}

/// The number of letters to insert, drop, replace or swap with their neighbour.
fn distance(name: &[char], candidate: &str) -> usize {
    let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in name.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, j) + usize::from(a != b)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && name.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        let names = ["data", "durability", "hosts", "login_time"];
        for (slip, meant) in [
            ("durabilty", "durability"),
            ("host", "hosts"),
            ("Data", "data"),
            ("dtaa", "data"),
            ("DATE", "data"),
            ("login-time", "login_time"),
        ] {
            assert_eq!(nearest(slip, names), Some(meant), "{slip}");
        }
    }

    #[test]
    fn another_word_is_not_taken_for_a_slip() {
        for word in ["date_format", "x", "", "logout", &"data".repeat(20)] {
            assert_eq!(nearest(word, ["data", "durability", "hosts", "login_time"]), None, "{word}");
        }
    }

    #[test]
    fn the_distance_counts_insertions_losses_replacements_and_swaps() {
        let of = |a: &str, b| distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!((of("abc", "abc"), of("abc", ""), of("", "abc")), (0, 3, 3));
        assert_eq!((of("abc", "acb"), of("abc", "abcd"), of("abc", "bc"), of("abc", "axc")), (1, 1, 1, 1));
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
