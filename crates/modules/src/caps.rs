//! XEP-0115: Entity Capabilities: the verification string, for `disco.rs`.
//!
//! A short hash of the disco#info result, so that a client that knows the hash need not query it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use vorpal_proto::element::{Element, el};
use vorpal_proto::ns;

/// §4: names this program, whichever its version and host.
const NODE: &str = "urn:uuid:ef15e273-2ce5-481a-923d-0434e0e7385f";

/// §6.3: what the stream says of the host whose disco#info this is.
pub(crate) fn feature(info: &Element) -> Element {
    el("c", ns::CAPS).attr("hash", "sha-1").attr("node", NODE).attr("ver", ver(info))
}

/// §6.2: whether a client asks for the disco#info behind the string.
pub(crate) fn is_node(node: &str, info: &Element) -> bool {
    node.strip_prefix(NODE).and_then(|rest| rest.strip_prefix('#')).is_some_and(|asked| asked == ver(info))
}

/// §5.1. All is sorted by octets, which is how strings compare here.
fn ver(info: &Element) -> String {
    let named = |name: &'static str| info.elements().filter(move |e| e.is(ns::DISCO_INFO, name));
    let mut identities: Vec<_> = named("identity")
        .map(|e| {
            let part = |name| e.get(name).unwrap_or_default();
            (part("category"), part("type"), e.lang().unwrap_or_default(), part("name"))
        })
        .collect();
    identities.sort_unstable();
    let mut features: Vec<&str> = named("feature").filter_map(|e| e.get("var")).collect();
    features.sort_unstable();
    let mut forms: Vec<_> = info.elements().filter_map(|form| Some((form_type(form)?, form))).collect();
    forms.sort_by(|(a, _), (b, _)| a.cmp(b));

    let mut text = String::new();
    for (category, type_, lang, name) in identities {
        text.extend([category, "/", type_, "/", lang, "/", name, "<"]);
    }
    for feature in features {
        text.extend([feature, "<"]);
    }
    for (form_type, form) in forms {
        text.extend([form_type.as_str(), "<"]);
        let mut fields: Vec<_> = fields(form).filter(|(var, _)| *var != FORM_TYPE).collect();
        fields.sort_by_key(|(var, _)| *var);
        for (var, field) in fields {
            text.extend([var, "<"]);
            let mut values = values(field);
            values.sort_unstable();
            values.iter().for_each(|value| text.extend([value, "<"]));
        }
    }
    STANDARD.encode(Sha1::digest(text.as_bytes()))
}

const FORM_TYPE: &str = "FORM_TYPE";

/// §5.4: a form whose type is not hidden does not count.
fn form_type(form: &Element) -> Option<String> {
    let (_, field) = fields(form).find(|(var, field)| *var == FORM_TYPE && field.get("type") == Some("hidden"))?;
    values(field).into_iter().next().filter(|_| form.is(ns::DATA_FORMS, "x"))
}

fn fields(form: &Element) -> impl Iterator<Item = (&str, &Element)> {
    form.elements().filter(|e| e.is(ns::DATA_FORMS, "field")).map(|e| (e.get("var").unwrap_or_default(), e))
}

fn values(field: &Element) -> Vec<String> {
    field.elements().filter(|e| e.is(ns::DATA_FORMS, "value")).map(Element::content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(lang: Option<&str>, name: &str) -> Element {
        let identity = el("identity", ns::DISCO_INFO).attr("category", "client").attr("type", "pc").attr("name", name);
        lang.into_iter().fold(identity, |identity, lang| identity.with_lang(lang))
    }

    /// In an order that is not sorted.
    fn features() -> impl Iterator<Item = Element> {
        let of = |ns: ns::Ns| el("feature", ns::DISCO_INFO).attr("var", ns.as_str());
        [ns::MUC, ns::DISCO_ITEMS, ns::CAPS, ns::DISCO_INFO].into_iter().map(of)
    }

    fn field(var: &str, type_: Option<&str>, values: &[&str]) -> Element {
        let values = values.iter().map(|value| el("value", ns::DATA_FORMS).text(value));
        el("field", ns::DATA_FORMS).attr("var", var).attr_opt("type", type_).children(values)
    }

    #[test]
    fn the_simple_example_of_section_5_2_gives_its_string() {
        let info = el("query", ns::DISCO_INFO).child(identity(None, "Exodus 0.9.1")).children(features());
        assert_eq!(ver(&info), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn the_complex_example_of_section_5_3_gives_its_string() {
        let form = el("x", ns::DATA_FORMS).attr("type", "result").children([
            field("software_version", None, &["0.11"]),
            field("ip_version", Some("text-multi"), &["ipv6", "ipv4"]),
            field("os", None, &["Mac"]),
            field("FORM_TYPE", Some("hidden"), &["urn:xmpp:dataforms:softwareinfo"]),
            field("software", None, &["Psi"]),
            field("os_version", None, &["10.5.1"]),
        ]);
        let plain = el("x", ns::DATA_FORMS).child(field("FORM_TYPE", None, &["not hidden"]));
        let info = el("query", ns::DISCO_INFO)
            .children([identity(Some("en"), "Psi 0.11"), identity(Some("el"), "Ψ 0.11")])
            .children(features())
            .children([plain, form]);
        assert_eq!(ver(&info), "q07IKJEyjvHSyhy//CH0CxmKi8w=");
        assert!(is_node(&format!("{NODE}#q07IKJEyjvHSyhy//CH0CxmKi8w="), &info));
        assert!(!is_node(&format!("{NODE}#QgayPKawpkPSDYmwT/WM94uAlu0="), &info));
        assert!(!is_node(NODE, &info) && !is_node("q07IKJEyjvHSyhy//CH0CxmKi8w=", &info));
    }
}
