//! A question about keys as one half-open span, the same for every backend.

use crate::shape::MapQuery;

/// From this key on (included) up to that one (excluded; `None`: no end).
pub(crate) type Span = (Vec<u8>, Option<Vec<u8>>);

/// The keys a query is about, or `None` if there can be none.
pub(crate) fn of_keys(query: &MapQuery) -> Option<Span> {
    let end = after_prefix(query.prefix);
    let (from, to) = match query.past {
        Some(past) if query.descending => {
            let past = past.to_vec();
            let to = if end.as_ref().is_some_and(|end| *end < past) { end } else { Some(past) };
            (query.prefix.to_vec(), to)
        }
        Some(past) => (after_key(past).max(query.prefix.to_vec()), end),
        None => (query.prefix.to_vec(), end),
    };
    let empty = to.as_ref().is_some_and(|to| *to <= from);
    (!empty).then_some((from, to))
}

/// The first key above this one.
pub(crate) fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key above all that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(prefix: &[u8], past: Option<&[u8]>, descending: bool) -> Option<Span> {
        of_keys(&MapQuery { prefix, past, descending, limit: 1 })
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(span(b"ab", None, false), Some((b"ab".to_vec(), Some(b"ac".to_vec()))));
        assert_eq!(span(b"a\xff", None, false), Some((b"a\xff".to_vec(), Some(b"b".to_vec()))));
        assert_eq!(span(b"\xff\xff", None, true), Some((b"\xff\xff".to_vec(), None)));
        assert_eq!(span(b"", None, false), Some((vec![], None)));
    }

    #[test]
    fn a_page_goes_on_past_the_last_key() {
        assert_eq!(span(b"a", Some(b"ab"), false), Some((b"ab\0".to_vec(), Some(b"b".to_vec()))));
        assert_eq!(span(b"a", Some(b"ab"), true), Some((b"a".to_vec(), Some(b"ab".to_vec()))));
    }

    #[test]
    fn a_key_outside_the_prefix_gives_all_of_it_or_nothing() {
        assert_eq!(span(b"b", Some(b"a"), false), Some((b"b".to_vec(), Some(b"c".to_vec()))));
        assert_eq!(span(b"b", Some(b"c"), false), None);
        assert_eq!(span(b"b", Some(b"d"), true), Some((b"b".to_vec(), Some(b"c".to_vec()))));
        assert_eq!(span(b"b", Some(b"a"), true), None);
        assert_eq!(span(b"b", Some(b"b"), true), None);
    }
}
