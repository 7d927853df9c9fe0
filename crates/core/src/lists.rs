//! Lists that are empty nearly always, of which each account and each session has some: while they are, they have no memory.

use std::collections::VecDeque;

/// Appends. Room for one is enough to begin with; a list makes room for four by itself.
pub(crate) fn push_one<T>(list: &mut VecDeque<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push_back(item);
}

/// Gives the memory of a list back if it is empty.
pub(crate) fn give_back<T>(list: &mut VecDeque<T>) {
    if list.is_empty() {
        *list = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_has_no_memory_and_one_item_has_room_for_one() {
        let mut list = VecDeque::new();
        push_one(&mut list, 1);
        assert_eq!(list.capacity(), 1);
        give_back(&mut list);
        assert_eq!(list, [1]);
        push_one(&mut list, 2);
        assert_eq!(list, [1, 2]);
        list.clear();
        give_back(&mut list);
        assert_eq!(list.capacity(), 0);
    }
}
