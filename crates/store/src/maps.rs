//! The numbers of maps.

use crate::shape::{Loading, MapId, Result, StoreError};

/// The first free number for a new map.
pub(crate) fn next(maps: &[(MapId, Box<str>)], loading: Loading) -> Result<MapId> {
    let first = match loading {
        Loading::WithOwner => 1,
        Loading::Cold => MapId::COLD,
    };
    let taken = maps.iter().map(|(id, _)| *id).filter(|id| id.loading() == loading);
    let next = taken.max().map_or(Some(first), |MapId(n)| n.checked_add(1)).map(MapId);
    next.filter(|id| id.loading() == loading && id.0 < u16::MAX).ok_or(StoreError::Bug("too many maps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_map_counts_in_its_own_range_and_ends_there() {
        let mut maps = Vec::new();
        for (loading, expected) in [(Loading::WithOwner, 1), (Loading::Cold, 0x4000), (Loading::WithOwner, 2)] {
            let id = next(&maps, loading).unwrap();
            assert_eq!((id, id.loading()), (MapId(expected), loading));
            maps.push((id, "name".into()));
        }
        maps.push((MapId(MapId::COLD - 1), "last".into()));
        assert!(matches!(next(&maps, Loading::WithOwner), Err(StoreError::Bug(_))));
    }
}
