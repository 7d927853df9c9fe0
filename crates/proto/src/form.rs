//! XEP-0004: Data Forms, with the field types of §3.3 and the `FORM_TYPE` of XEP-0068.
//!
//! A form is parsed once into this type, with every rule of §3 checked; callers see values, never XML.
//!
//! Limits: 256 fields, 256 values or options in a field, 64 KiB of text in total.

use crate::element::{Element, el};
use crate::error::StanzaError;
use crate::ns;

/// Maximum number of fields of a form.
pub const MAX_FIELDS: usize = 256;

/// Maximum number of values, or of options, of a field.
pub const MAX_VALUES: usize = 256;

/// Maximum total length of the title, the instructions, and the descriptions and values of all fields, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// What a form is for (§3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormType {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Not filled in.
    Cancel,
    /// The result of something.
    Result,
}

/// What a field holds (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum FieldType {
    Boolean,
    Fixed,
    Hidden,
    JidMulti,
    JidSingle,
    ListMulti,
    ListSingle,
    TextMulti,
    TextPrivate,
    #[default]
    TextSingle,
}

const FORM_TYPES: [(&str, FormType); 4] = [
    ("form", FormType::Form),
    ("submit", FormType::Submit),
    ("cancel", FormType::Cancel),
    ("result", FormType::Result),
];

const FIELD_TYPES: [(&str, FieldType); 10] = [
    ("boolean", FieldType::Boolean),
    ("fixed", FieldType::Fixed),
    ("hidden", FieldType::Hidden),
    ("jid-multi", FieldType::JidMulti),
    ("jid-single", FieldType::JidSingle),
    ("list-multi", FieldType::ListMulti),
    ("list-single", FieldType::ListSingle),
    ("text-multi", FieldType::TextMulti),
    ("text-private", FieldType::TextPrivate),
    ("text-single", FieldType::TextSingle),
];

fn name_of<T: PartialEq + Copy>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}

fn value_of<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    table.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// A field (§3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// its name; only `fixed` fields have none
    pub var: Option<String>,
    /// its type; often missing in a submitted form
    pub kind: Option<FieldType>,
    /// its label
    pub label: Option<String>,
    /// its description
    pub desc: Option<String>,
    /// must be filled in
    pub required: bool,
    /// its values
    pub values: Vec<String>,
    /// its options: label and value
    pub options: Vec<(Option<String>, String)>,
}

/// A data form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// what it is for
    pub kind: FormType,
    /// its title
    pub title: Option<String>,
    /// its instructions
    pub instructions: Vec<String>,
    /// its fields
    pub fields: Vec<Field>,
}

impl Field {
    /// A field with one value or several.
    pub fn new(var: &str, kind: FieldType, values: impl IntoIterator<Item = impl Into<String>>) -> Field {
        let values = values.into_iter().map(Into::into).collect();
        Field { var: Some(var.into()), kind: Some(kind), values, ..Field::default() }
    }

    /// §3.3: `1` and `true`, `0` and `false`. Nothing else is a boolean.
    pub fn boolean(&self) -> Option<bool> {
        match self.values.as_slice() {
            [value] if value == "1" || value == "true" => Some(true),
            [value] if value == "0" || value == "false" => Some(false),
            _ => None,
        }
    }

    /// The only value.
    pub fn single(&self) -> Option<&str> {
        match self.values.as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    fn element(&self) -> Element {
        let text = |name: &'static str, text: &str| el(name, ns::DATA_FORMS).text(text);
        let options = self.options.iter().map(|(label, value)| {
            el("option", ns::DATA_FORMS).attr_opt("label", label.as_ref()).child(text("value", value))
        });
        el("field", ns::DATA_FORMS)
            .attr_opt("var", self.var.as_ref())
            .attr_opt("type", self.kind.map(|kind| name_of(&FIELD_TYPES, kind)))
            .attr_opt("label", self.label.as_ref())
            .children(self.desc.iter().map(|desc| text("desc", desc)))
            .children(self.required.then(|| el("required", ns::DATA_FORMS)))
            .children(self.values.iter().map(|value| text("value", value)))
            .children(options)
    }

    fn read(field: &Element, budget: &mut usize) -> Result<Field, StanzaError> {
        let mut text = |element: &Element| text_within(budget, element);
        let kind =
            field.get("type").map(|name| value_of(&FIELD_TYPES, name).ok_or_else(|| wrong("unknown field type")));
        let mut read = Field {
            var: field.get("var").map(str::to_owned),
            kind: kind.transpose()?,
            label: field.get("label").map(str::to_owned),
            ..Field::default()
        };
        for child in field.elements() {
            match child.name() {
                _ if child.ns() != ns::DATA_FORMS.as_str() => {}
                "value" => read.values.push(text(child)?),
                "desc" => read.desc = Some(text(child)?),
                "required" => read.required = true,
                "option" => {
                    let value = child.find(ns::DATA_FORMS, "value").ok_or_else(|| wrong("an option has a value"))?;
                    read.options.push((child.get("label").map(str::to_owned), text(value)?));
                }
                _ => {}
            }
        }
        if read.values.len() > MAX_VALUES || read.options.len() > MAX_VALUES {
            return Err(wrong("a field has too many values"));
        }
        // §3.2: every field except a fixed one has a name.
        if read.var.is_none() && read.kind != Some(FieldType::Fixed) {
            return Err(wrong("a field has a name"));
        }
        let single = matches!(
            read.kind,
            Some(
                FieldType::Boolean
                    | FieldType::JidSingle
                    | FieldType::ListSingle
                    | FieldType::TextPrivate
                    | FieldType::TextSingle
            )
        );
        if single && read.values.len() > 1 {
            return Err(wrong("this type of field has one value"));
        }
        Ok(read)
    }
}

impl Form {
    /// A form without fields.
    pub fn new(kind: FormType) -> Form {
        Form { kind, title: None, instructions: Vec::new(), fields: Vec::new() }
    }

    /// A form whose fields are those of a registered type (XEP-0068 §3).
    pub fn of_type(kind: FormType, form_type: &str) -> Form {
        let mut form = Form::new(kind);
        form.fields.push(Field::new("FORM_TYPE", FieldType::Hidden, [form_type]));
        form
    }

    /// The same form with one more field.
    pub fn field(mut self, field: Field) -> Form {
        self.fields.push(field);
        self
    }

    /// The field of this name.
    pub fn get(&self, var: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.var.as_deref() == Some(var))
    }

    /// The registered type of its fields (XEP-0068 §3): in a submitted form of whatever type, in others only if hidden.
    pub fn form_type(&self) -> Option<&str> {
        let field = self.get("FORM_TYPE")?;
        let counts = self.kind == FormType::Submit || field.kind == Some(FieldType::Hidden);
        field.single().filter(|_| counts)
    }

    /// `<x/>` (§3.1).
    pub fn element(&self) -> Element {
        let text = |name: &'static str, text: &str| el(name, ns::DATA_FORMS).text(text);
        el("x", ns::DATA_FORMS)
            .attr("type", name_of(&FORM_TYPES, self.kind))
            .children(self.title.iter().map(|title| text("title", title)))
            .children(self.instructions.iter().map(|line| text("instructions", line)))
            .children(self.fields.iter().map(Field::element))
    }

    /// Reads `<x/>`.
    ///
    /// # Errors
    /// `bad-request` with a text for the sender.
    pub fn read(x: &Element) -> Result<Form, StanzaError> {
        if !x.is(ns::DATA_FORMS, "x") {
            return Err(wrong("not a data form"));
        }
        let kind =
            x.get("type").and_then(|name| value_of(&FORM_TYPES, name)).ok_or_else(|| wrong("a form has a type"))?;
        let mut form = Form::new(kind);
        let mut budget = MAX_TEXT;
        for child in x.elements() {
            match child.name() {
                _ if child.ns() != ns::DATA_FORMS.as_str() => {}
                "title" => form.title = Some(text_within(&mut budget, child)?),
                "instructions" => form.instructions.push(text_within(&mut budget, child)?),
                "field" => form.fields.push(Field::read(child, &mut budget)?),
                _ => {}
            }
            if form.fields.len() > MAX_FIELDS || form.instructions.len() > MAX_FIELDS {
                return Err(wrong("too many fields"));
            }
        }
        // §3.2: names are unique; a second field of one name might be overlooked.
        let mut names: Vec<&str> = form.fields.iter().filter_map(|field| field.var.as_deref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(wrong("two fields have one name"));
        }
        Ok(form)
    }
}

/// The text of an element, charged to the rest of [`MAX_TEXT`].
fn text_within(budget: &mut usize, element: &Element) -> Result<String, StanzaError> {
    let content = element.content();
    *budget = budget.checked_sub(content.len()).ok_or_else(|| wrong("the form is too long"))?;
    Ok(content)
}

fn wrong(text: &'static str) -> StanzaError {
    StanzaError::bad_request(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse_fragment;

    #[test]
    fn what_is_written_is_read_again() {
        let mut form = Form::of_type(FormType::Form, "urn:example").field(Field {
            label: Some("Pick <one>".into()),
            desc: Some("why & how".into()),
            required: true,
            options: vec![(Some("A".into()), "a".into()), (None, "b".into())],
            ..Field::new("pick", FieldType::ListSingle, ["a"])
        });
        form.title = Some("T".into());
        form.instructions = vec!["one".into(), "two".into()];
        let text = form.element().to_string_in("");
        assert_eq!(Form::read(&parse_fragment(&text).expect("xml")), Ok(form.clone()));
        assert_eq!(form.form_type(), Some("urn:example"));
    }

    #[test]
    fn what_breaks_a_rule_is_a_bad_request() {
        let bad = [
            "<x xmlns='jabber:x:data'/>",
            "<x xmlns='jabber:x:data' type='other'/>",
            "<x xmlns='urn:other' type='form'/>",
            "<x xmlns='jabber:x:data' type='submit'><field><value>1</value></field></x>",
            "<x xmlns='jabber:x:data' type='submit'><field var='a' type='odd'/></x>",
            "<x xmlns='jabber:x:data' type='submit'><field var='a'/><field var='a'/></x>",
            "<x xmlns='jabber:x:data' type='submit'><field var='a' type='boolean'><value>1</value><value>0</value></field></x>",
            "<x xmlns='jabber:x:data' type='form'><field var='a' type='list-single'><option/></field></x>",
        ];
        for text in bad {
            assert!(Form::read(&parse_fragment(text).expect("xml")).is_err(), "{text}");
        }
        let many = "<field var='a'/>".repeat(MAX_FIELDS + 1);
        let many = format!("<x xmlns='jabber:x:data' type='form'>{many}</x>");
        assert!(Form::read(&parse_fragment(&many).expect("xml")).is_err());
    }

    #[test]
    fn all_text_counts_for_the_limit() {
        let read = |title: usize, value: usize| {
            let (title, value) = ("t".repeat(title), "v".repeat(value));
            let text = format!(
                "<x xmlns='jabber:x:data' type='form'><title>{title}</title><instructions>{title}</instructions>\
                 <field var='a'><value>{value}</value></field></x>"
            );
            Form::read(&parse_fragment(&text).expect("xml"))
        };
        assert!(read(20_000, MAX_TEXT - 40_000).is_ok());
        assert!(read(20_000, MAX_TEXT - 39_999).is_err());
        assert!(read(MAX_TEXT, 0).is_err());
    }

    #[test]
    fn a_boolean_is_one_of_four_words() {
        let field = |value: &str| Field::new("a", FieldType::Boolean, [value]).boolean();
        assert_eq!(
            [field("1"), field("true"), field("0"), field("false")],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(field("yes"), None);
    }
}
