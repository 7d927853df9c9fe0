//! XEP-0157: Contact Addresses for XMPP Services.
//!
//! Adds contact addresses of the operators, by role, to the server's disco#info.
//!
//! Hooks:  none
//! Stores: nothing
//! Config: `abuse`, `admin`, `feedback`, `sales`, `security`, `status`, `support`

use serde::{Deserialize, Deserializer};
use vorpal_config::{Setting, Shape, section};

use crate::prelude::*;

/// The module.
pub static MODULE: Module = Module { name: "server_contact_info", xeps: &[Xep(157, "1.1.1")], setup };

section! {
    /// Contact addresses of the server's operators, visible to everybody who queries the server (XEP-0157).
    pub(crate) struct Config in "modules.server_contact_info" {
        /// For reports of abuse.
        abuse: Vec<Uri> = Vec::new(), example ["mailto:abuse@example.org", "xmpp:abuse@example.org"];
        /// The administrators.
        admin: Vec<Uri> = Vec::new(), example ["mailto:xmpp@example.org", "xmpp:admin@example.org"];
        /// For feedback.
        feedback: Vec<Uri> = Vec::new(), example ["https://example.org/feedback"];
        /// For sales.
        sales: Vec<Uri> = Vec::new(), example ["mailto:sales@example.org"];
        /// For reports of vulnerabilities.
        security: Vec<Uri> = Vec::new(), example ["mailto:security@example.org"];
        /// Status page of the service.
        status: Vec<Uri> = Vec::new(), example ["https://status.example.org"];
        /// For help.
        support: Vec<Uri> = Vec::new(), example ["xmpp:help@muc.example.org?join"];
    }
}

fn setup(m: &mut Setup<'_>) -> Result {
    let config = m.config::<Config>()?;
    if config != Config::default() {
        let form = form(&config);
        m.disco_form(move || form.clone());
    }
    Ok(())
}

/// §3 and §7.1; a role without an address has no field.
fn form(config: &Config) -> Element {
    let field = |var: &str, type_: &str, values: &[&str]| {
        let values = values.iter().map(|value| el("value", ns::DATA_FORMS).text(value));
        el("field", ns::DATA_FORMS).attr("var", var).attr("type", type_).children(values)
    };
    let roles = [
        ("abuse-addresses", &config.abuse),
        ("admin-addresses", &config.admin),
        ("feedback-addresses", &config.feedback),
        ("sales-addresses", &config.sales),
        ("security-addresses", &config.security),
        ("status-addresses", &config.status),
        ("support-addresses", &config.support),
    ];
    let fields = roles.into_iter().filter(|(_, uris)| !uris.is_empty()).map(|(var, uris)| {
        let uris: Vec<&str> = uris.iter().map(|uri| uri.0.as_str()).collect();
        field(var, "list-multi", &uris)
    });
    let form = el("x", ns::DATA_FORMS).attr("type", "result");
    form.child(field("FORM_TYPE", "hidden", &[ns::SERVER_INFO.as_str()])).children(fields)
}

/// A URI with its scheme (RFC 3986 §3): what a client can make a link of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri(String);

impl Uri {
    fn parse(text: &str) -> std::result::Result<Uri, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        let mut letters = scheme.bytes();
        let named = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b));
        if !named || rest.is_empty() || !plain {
            return Err(format!("has to be {}, not {text:?}", Uri::expected()));
        }
        Ok(Uri(text.to_owned()))
    }
}

impl Setting for Uri {
    const SHAPE: Shape = Shape::Text;

    fn expected() -> String {
        "a URI with its scheme, such as \"mailto:admin@example.org\" or \"xmpp:admin@example.org\"".into()
    }

    fn to_toml(&self) -> Option<String> {
        self.0.to_toml()
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Uri, D::Error> {
        Uri::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_the_roles_that_have_addresses() {
        let uris = |uris: &[&str]| uris.iter().map(|uri| Uri::parse(uri).expect("a URI")).collect();
        let config = Config {
            abuse: uris(&["mailto:abuse@b", "xmpp:abuse@b"]),
            status: uris(&["https://status.b"]),
            ..Config::default()
        };
        assert_eq!(
            form(&config).to_string_in("jabber:client"),
            "<x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>\
             <field var='abuse-addresses' type='list-multi'>\
             <value>mailto:abuse@b</value><value>xmpp:abuse@b</value></field>\
             <field var='status-addresses' type='list-multi'><value>https://status.b</value></field></x>"
        );
    }

    #[test]
    fn an_address_without_a_scheme_is_refused() {
        for text in ["", "admin@example.org", "mailto:", ":x", "1a:b", "mailto:a b", "xmpp:a<b"] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
        for text in ["mailto:a@b", "xmpp:a@b?message", "https://b/?x=1#y", "tel:+123"] {
            assert!(Uri::parse(text).is_ok(), "{text}");
        }
    }
}
