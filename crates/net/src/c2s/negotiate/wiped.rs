//! Data that may contain a password is overwritten when it is not needed any more.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use vorpal_proto::element::Element;
use zeroize::Zeroize;

/// An element that may contain a password.
pub(in crate::c2s) struct Wiped(pub Element);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl Deref for Wiped {
    type Target = Element;

    fn deref(&self) -> &Element {
        &self.0
    }
}

/// Overwrites a frame that may contain a password. `rest` follows it in the same allocation; it is moved to a separate one, so that
/// nothing else refers to the frame. False if something else does.
pub(in crate::c2s) fn wipe(frame: Bytes, rest: &mut BytesMut) -> bool {
    *rest = BytesMut::from(&rest[..]);
    let Ok(mut frame) = frame.try_into_mut() else { return false };
    frame.zeroize();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_wiped_also_if_something_follows_it() {
        for rest in ["", "<r/>", "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><iq"] {
            let mut input = BytesMut::from(format!("<auth>secret</auth>{rest}").as_bytes());
            let frame = input.split_to(19).freeze();
            assert!(wipe(frame, &mut input), "{rest}");
            assert_eq!(input, rest);
        }
    }

    #[test]
    fn a_frame_that_somebody_else_holds_stays() {
        let frame = Bytes::from(b"<auth>secret</auth>".to_vec());
        assert!(!wipe(frame.clone(), &mut BytesMut::new()));
        assert_eq!(frame, "<auth>secret</auth>");
    }
}
