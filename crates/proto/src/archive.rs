//! XEP-0313: Message Archive Management, its elements; XEP-0441: the preferences.
//!
//! Queries of an archive, and its answers. A query is parsed completely: callers see values, never XML.
//!
//! Limits: 1,000 addresses in each list of preferences; those of data forms

use std::collections::BTreeSet;

use crate::datetime::Timestamp;
use crate::element::{Element, el};
use crate::error::StanzaError;
use crate::form::{Field, FieldType, Form, FormType};
use crate::jid::Jid;
use crate::ns;
use crate::rsm;

/// Maximum number of addresses in each of the two preference lists.
pub const MAX_JIDS: usize = 1_000;

/// A query of an archive (§4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// identifies the results for the requester
    pub queryid: Option<String>,
    /// the node of a pubsub archive (§6.1.3)
    pub node: Option<String>,
    /// which messages
    pub filter: Filter,
    /// which part of those
    pub page: rsm::Request,
    /// the last message of the page comes first (§4.3.4)
    pub flip: bool,
}

/// The filter of a query (§4.1). All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// to or from this address (§4.1.1)
    pub with: Option<Jid>,
    /// not earlier (§4.1.2)
    pub start: Option<Timestamp>,
    /// not later (§4.1.2)
    pub end: Option<Timestamp>,
    /// before this one (§4.1.3)
    pub before_id: Option<String>,
    /// after this one (§4.1.3)
    pub after_id: Option<String>,
    /// these (§4.1.3); empty if all
    pub ids: Vec<String>,
    /// whether messages of rooms are included (§4.1.4)
    pub groupchat: Option<bool>,
}

impl Query {
    /// Parses `<query/>`. Unknown children are ignored.
    ///
    /// # Errors
    /// The error for the requester: `feature-not-implemented` for an unknown field (§4.1.5), `jid-malformed` for an invalid
    /// address, `bad-request` otherwise.
    pub fn read(query: &Element) -> Result<Query, StanzaError> {
        if !query.is(ns::MAM, "query") {
            return Err(wrong("not a query"));
        }
        let text = |name: &str| query.get(name).map(str::to_owned);
        let filter = only(query, ns::DATA_FORMS, "x")?.map(Filter::read).transpose()?;
        let page = only(query, ns::RSM, "set")?.map(rsm::Request::read).transpose()?;
        Ok(Query {
            queryid: text("queryid"),
            node: text("node"),
            filter: filter.unwrap_or_default(),
            page: page.unwrap_or_default(),
            flip: query.has(ns::MAM, "flip-page"),
        })
    }

    /// `<query/>`.
    pub fn element(&self) -> Element {
        let form = (self.filter != Filter::default()).then(|| self.filter.element());
        let page = (self.page != rsm::Request::default()).then(|| self.page.element());
        el("query", ns::MAM)
            .attr_opt("queryid", self.queryid.as_ref())
            .attr_opt("node", self.node.as_ref())
            .children(form)
            .children(page)
            .children(self.flip.then(|| el("flip-page", ns::MAM)))
    }
}

impl Filter {
    fn read(x: &Element) -> Result<Filter, StanzaError> {
        let form = Form::read(x)?;
        if form.kind != FormType::Submit || form.form_type() != Some(ns::MAM.as_str()) {
            return Err(wrong("the form is not one of this protocol, filled in"));
        }
        let mut filter = Filter::default();
        for field in &form.fields {
            match field.var.as_deref() {
                None | Some("FORM_TYPE") => {}
                Some("with") => filter.with = value(field)?.map(jid).transpose()?,
                Some("start") => filter.start = value(field)?.map(not_before).transpose()?,
                Some("end") => filter.end = value(field)?.map(moment).transpose()?,
                Some("before-id") => filter.before_id = value(field)?.map(str::to_owned),
                Some("after-id") => filter.after_id = value(field)?.map(str::to_owned),
                Some("ids") => filter.ids.clone_from(&field.values),
                Some("include-groupchat") => {
                    filter.groupchat = match value(field)? {
                        None => None,
                        Some(_) => Some(field.boolean().ok_or_else(|| wrong("not a boolean"))?),
                    }
                }
                // §4.1.5
                Some(_) => return Err(StanzaError::feature_not_implemented().with_text("unknown field")),
            }
        }
        Ok(filter)
    }

    fn element(&self) -> Element {
        let single = |var: &str, value: Option<String>| {
            value.map(|value| Field { kind: None, ..Field::new(var, FieldType::TextSingle, [value]) })
        };
        let fields = [
            single("with", self.with.as_ref().map(Jid::to_string)),
            single("start", self.start.map(|time| time.to_string())),
            single("end", self.end.map(|time| time.to_string())),
            single("before-id", self.before_id.clone()),
            single("after-id", self.after_id.clone()),
            (!self.ids.is_empty()).then(|| Field::new("ids", FieldType::ListMulti, self.ids.clone())),
            single("include-groupchat", self.groupchat.map(|on| on.to_string())),
        ];
        fields.into_iter().flatten().fold(Form::of_type(FormType::Submit, ns::MAM.as_str()), Form::field).element()
    }
}

/// The fields that [`Query::read`] supports, for requests of the form (§4.1.5).
pub fn fields() -> Element {
    let field = |var: &str, kind: &str| el("field", ns::DATA_FORMS).attr("type", kind).attr("var", var);
    let form_type = field("FORM_TYPE", "hidden").child(el("value", ns::DATA_FORMS).text(ns::MAM.as_str()));
    // Any value is allowed, and none is listed.
    let open = el("validate", ns::DATA_VALIDATE).attr("datatype", "xs:string").child(el("open", ns::DATA_VALIDATE));
    let form = el("x", ns::DATA_FORMS).attr("type", "form").children([
        form_type,
        field("with", "jid-single"),
        field("start", "text-single"),
        field("end", "text-single"),
        field("before-id", "text-single"),
        field("after-id", "text-single"),
        field("ids", "list-multi").child(open),
        field("include-groupchat", "boolean"),
    ]);
    el("query", ns::MAM).child(form)
}

/// The end of the results (§4.2, §4.3.2). Results are always stable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fin {
    /// there is no further page in this direction
    pub complete: bool,
    /// the page that was sent
    pub page: rsm::Page,
}

impl Fin {
    /// `<fin/>`.
    pub fn element(&self) -> Element {
        el("fin", ns::MAM).attr_opt("complete", self.complete.then_some("true")).child(self.page.element())
    }

    /// Reads `<fin/>`.
    ///
    /// # Errors
    /// `bad-request`: no result set, or one that contradicts itself.
    pub fn read(fin: &Element) -> Result<Fin, StanzaError> {
        let set = fin.find(ns::RSM, "set").filter(|_| fin.is(ns::MAM, "fin"));
        let page = rsm::Page::read(set.ok_or_else(|| wrong("an end without a result set"))?)?;
        Ok(Fin { complete: matches!(fin.get("complete"), Some("true" | "1")), page })
    }
}

/// One end of an archive: the id and the time of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// its id in the archive
    pub id: String,
    /// when it was sent or received
    pub time: Timestamp,
}

/// `<metadata/>`: the first and the last message of an archive; `None` if it is empty (§5).
pub fn metadata(ends: Option<(&End, &End)>) -> Element {
    let end = |name: &'static str, end: &End| el(name, ns::MAM).attr("id", &end.id).attr("timestamp", end.time);
    el("metadata", ns::MAM).children(ends.into_iter().flat_map(|(first, last)| [end("start", first), end("end", last)]))
}

/// Which messages are archived, if neither list has the address (XEP-0441 §2.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// messages with everybody
    #[default]
    Always,
    /// no messages
    Never,
    /// messages with contacts in the roster
    Roster,
}

impl Rule {
    /// All there are.
    pub const ALL: [Rule; 3] = [Rule::Always, Rule::Never, Rule::Roster];

    /// The value of the attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Always => "always",
            Rule::Never => "never",
            Rule::Roster => "roster",
        }
    }

    /// The rule of this name.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// A user's archive preferences (XEP-0441 §2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefs {
    /// the rule for addresses in neither list
    pub default: Rule,
    /// archived in any case
    pub always: BTreeSet<Jid>,
    /// never archived
    pub never: BTreeSet<Jid>,
}

impl Prefs {
    /// Reads `<prefs/>`. A list that is missing is empty (§2.1.2, §2.1.3).
    ///
    /// # Errors
    /// `bad-request` without a rule, `jid-malformed`, `resource-constraint` for a list of more than [`MAX_JIDS`].
    pub fn read(prefs: &Element) -> Result<Prefs, StanzaError> {
        if !prefs.is(ns::MAM, "prefs") {
            return Err(wrong("not preferences"));
        }
        let default = prefs.get("default").and_then(Rule::from_name);
        Ok(Prefs {
            default: default.ok_or_else(|| wrong("the default is always, never or roster"))?,
            always: jids(only(prefs, ns::MAM, "always")?)?,
            never: jids(only(prefs, ns::MAM, "never")?)?,
        })
    }

    /// `<prefs/>`.
    pub fn element(&self) -> Element {
        let list = |name: &'static str, jids: &BTreeSet<Jid>| {
            el(name, ns::MAM).children(jids.iter().map(|jid| el("jid", ns::MAM).text(jid.as_str())))
        };
        el("prefs", ns::MAM)
            .attr("default", self.default.name())
            .children([list("always", &self.always), list("never", &self.never)])
    }

    /// Whether messages to or from this address are archived (§2.3). An address in both lists is not archived: a message that was
    /// archived against the user's wish cannot be undone. `in_roster` is called only for the rule of that name.
    pub fn wants(&self, peer: &Jid, in_roster: impl FnOnce() -> bool) -> bool {
        let named = |list: &BTreeSet<Jid>| list.contains(peer.as_str()) || list.contains(peer.bare_str());
        match self.default {
            _ if named(&self.never) => false,
            _ if named(&self.always) => true,
            Rule::Always => true,
            Rule::Never => false,
            Rule::Roster => in_roster(),
        }
    }
}

fn jids(list: Option<&Element>) -> Result<BTreeSet<Jid>, StanzaError> {
    let mut jids = BTreeSet::new();
    for element in list.into_iter().flat_map(Element::elements).filter(|e| e.is(ns::MAM, "jid")) {
        jids.insert(jid(&element.content())?);
        if jids.len() > MAX_JIDS {
            return Err(StanzaError::resource_constraint().with_text("too many addresses in a list"));
        }
    }
    Ok(jids)
}

/// The only child of this name.
fn only<'a>(parent: &'a Element, ns: ns::Ns, name: &str) -> Result<Option<&'a Element>, StanzaError> {
    let mut found = parent.elements().filter(|child| child.is(ns, name));
    let first = found.next();
    if found.next().is_some() { Err(wrong("something stands there twice")) } else { Ok(first) }
}

/// The value of a field; an empty value counts as not filled in.
fn value(field: &Field) -> Result<Option<&str>, StanzaError> {
    match field.values.as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        _ => Err(wrong("this field has one value")),
    }
}

fn jid(text: &str) -> Result<Jid, StanzaError> {
    Jid::parse(text.trim_matches([' ', '\t', '\n', '\r'])).map_err(|_| StanzaError::jid_malformed())
}

fn moment(text: &str) -> Result<Timestamp, StanzaError> {
    Timestamp::parse(text).map_err(|_| wrong("a time is not in the form of XEP-0082"))
}

/// The first millisecond that is not before the time in the text: [`moment`] truncates to milliseconds.
fn not_before(text: &str) -> Result<Timestamp, StanzaError> {
    let time = moment(text)?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let finer = fraction.bytes().take_while(u8::is_ascii_digit).skip(3).any(|digit| digit != b'0');
    Ok(if finer { time.plus(std::time::Duration::from_millis(1)) } else { time })
}

fn wrong(text: &'static str) -> StanzaError {
    StanzaError::bad_request(text)
}

#[cfg(test)]
mod tests;
