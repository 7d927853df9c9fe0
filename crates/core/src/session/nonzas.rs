//! The elements of stream management that the kernel writes (XEP-0198 §3, §5).

/// `<enabled/>`: with a token if the session can be resumed, and for how many seconds it is kept then.
pub(crate) fn enabled(token: Option<&str>, max: u64) -> Vec<u8> {
    match token {
        Some(token) => format!("<enabled xmlns='urn:xmpp:sm:3' id='{token}' resume='true' max='{max}'/>").into_bytes(),
        None => b"<enabled xmlns='urn:xmpp:sm:3'/>".to_vec(),
    }
}

/// `<resumed/>`: the token that was resumed, and how many stanzas of the client were handled.
pub(crate) fn resumed(token: &str, h: u32) -> Vec<u8> {
    format!("<resumed xmlns='urn:xmpp:sm:3' previd='{token}' h='{h}'/>").into_bytes()
}
