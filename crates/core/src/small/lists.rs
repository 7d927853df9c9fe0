//! Lists that are empty nearly always, of which each account and each session has some. What fills them most of the time is one item
//! at a time: room for one is made first, and kept, so that a message costs no allocation; what was made for more is given back.

use std::collections::VecDeque;

/// Appends. By itself a list would make room for four.
pub(crate) fn push_one<T>(list: &mut VecDeque<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push_back(item);
}

/// Gives the memory of a list back if it is empty and has room for more than one.
pub(crate) fn give_back<T>(list: &mut VecDeque<T>) {
    if list.is_empty() && list.capacity() > 1 {
        *list = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_has_room_for_one_at_most() {
        let mut list = VecDeque::new();
        push_one(&mut list, 0);
        assert_eq!(list.pop_front(), Some(0));
        give_back(&mut list);
        assert_eq!(list.capacity(), 1);
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
