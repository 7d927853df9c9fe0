//! The examples of the specifications, and what they forbid.

use super::*;
use crate::parse::parse_fragment;
use crate::rsm::{Ends, Page, Place};

fn form(fields: &str) -> String {
    format!(
        "<x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>{fields}</x>"
    )
}

fn query(attrs: &str, inner: &str) -> Result<Query, StanzaError> {
    let xml = format!("<query xmlns='urn:xmpp:mam:2'{attrs}>{inner}</query>");
    Query::read(&parse_fragment(&xml).expect("xml"))
}

fn filter(fields: &str) -> Result<Filter, StanzaError> {
    query("", &form(fields)).map(|query| query.filter)
}

fn field(var: &str, value: &str) -> String {
    format!("<field var='{var}'><value>{value}</value></field>")
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn condition<T: std::fmt::Debug>(result: Result<T, StanzaError>) -> String {
    result.expect_err("an error").to_xml()
}

#[test]
fn the_queries_of_the_specification_are_read() {
    // Examples 2, 6, 7, 10, 11, 12, 20, 23, 24.
    let plain = query(" queryid='f27'", "").expect("a query");
    assert_eq!(plain, Query { queryid: Some("f27".into()), ..Query::default() });

    let with = filter(&field("with", "juliet@capulet.lit")).expect("a filter");
    assert_eq!(with, Filter { with: Some(Jid::parse("juliet@capulet.lit").expect("a jid")), ..Filter::default() });

    let span = field("start", "2010-06-07T00:00:00Z") + &field("end", "2010-07-07T13:23:54Z");
    let span = filter(&span).expect("a filter");
    assert_eq!((span.start, span.end), (Some(time("2010-06-07T00:00:00Z")), Some(time("2010-07-07T13:23:54Z"))));

    let between = filter(&(field("after-id", "28482-98726-73623") + &field("before-id", "09af3-cc343-b409f")));
    let between = between.expect("a filter");
    assert_eq!(between.after_id.as_deref(), Some("28482-98726-73623"));
    assert_eq!(between.before_id.as_deref(), Some("09af3-cc343-b409f"));

    let ids = "<field var='ids'><value>a</value><value>b</value></field>";
    assert_eq!(filter(ids).expect("a filter").ids, ["a", "b"]);

    assert_eq!(filter(&field("include-groupchat", "true")).expect("a filter").groupchat, Some(true));
    assert_eq!(filter(&field("include-groupchat", "0")).expect("a filter").groupchat, Some(false));

    let set =
        "<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><after>09af3-cc343-b409f</after></set><flip-page/>";
    let page = query("", &(form(&field("start", "2010-08-07T00:00:00Z")) + set)).expect("a query");
    assert!(page.flip);
    assert_eq!(page.page, rsm::Request { max: Some(10), place: Place::After("09af3-cc343-b409f".into()) });
}

#[test]
fn what_is_written_is_read_again() {
    let full = Query {
        queryid: Some("q<1>".into()),
        node: Some("n".into()),
        filter: Filter {
            with: Some(Jid::parse("a@b/c").expect("a jid")),
            start: Some(time("2010-06-07T00:00:00.5Z")),
            end: Some(time("2011-06-07T00:00:00Z")),
            before_id: Some("b".into()),
            after_id: Some("a".into()),
            ids: vec!["x".into(), "y".into()],
            groupchat: Some(false),
        },
        page: rsm::Request { max: Some(3), place: Place::Last },
        flip: true,
    };
    for query in [full, Query::default()] {
        let xml = query.element().to_string_in("");
        assert_eq!(Query::read(&parse_fragment(&xml).expect("xml")), Ok(query));
    }
}

#[test]
fn what_is_asked_wrongly_has_the_error_of_its_kind() {
    assert!(
        condition(filter(&field("{http://example.com/}free-text-search", "Juliet")))
            .contains("feature-not-implemented")
    );
    assert!(condition(filter(&field("with", "@"))).contains("jid-malformed"));
    for fields in [
        field("start", "yesterday"),
        field("end", "2010-08-07"),
        field("include-groupchat", "maybe"),
        "<field var='with'><value>a@b</value><value>c@d</value></field>".into(),
    ] {
        assert!(condition(filter(&fields)).contains("bad-request"), "{fields}");
    }
    for inner in [
        "<x xmlns='jabber:x:data' type='submit'/>".to_owned(),
        form("").replace("urn:xmpp:mam:2", "urn:xmpp:mam:1"),
        form("").replace("submit", "cancel"),
        form("") + &form(""),
        "<set xmlns='http://jabber.org/protocol/rsm'/><set xmlns='http://jabber.org/protocol/rsm'/>".into(),
    ] {
        assert!(condition(query("", &inner)).contains("bad-request"), "{inner}");
    }
}

#[test]
fn a_field_that_was_not_filled_in_says_nothing() {
    let empty = "<field var='with'/><field var='start'><value/></field><field var='ids'/>";
    assert_eq!(filter(empty), Ok(Filter::default()));
}

#[test]
fn a_start_between_two_milliseconds_is_the_later_one() {
    let start = |text: &str| filter(&field("start", text)).expect("a filter").start.expect("a start");
    assert_eq!(start("2010-06-07T00:00:00.1230001Z"), time("2010-06-07T00:00:00.124Z"));
    assert_eq!(start("2010-06-07T00:00:00.1230000Z"), time("2010-06-07T00:00:00.123Z"));
    let end = filter(&field("end", "2010-06-07T00:00:00.1239Z")).expect("a filter").end;
    assert_eq!(end, Some(time("2010-06-07T00:00:00.123Z")));
}

#[test]
fn the_fields_that_are_told_are_those_that_are_read() {
    let form = fields();
    let form = form.find(ns::DATA_FORMS, "x").expect("a form");
    let form = Form::read(form).expect("a form");
    for field in form.fields.iter().filter_map(|field| field.var.as_deref()).filter(|var| *var != "FORM_TYPE") {
        assert!(filter(&format!("<field var='{field}'/>")).is_ok(), "{field}");
    }
    assert!(form.fields.iter().all(|field| !field.required));
    assert!(fields().to_string_in("").contains(
        "<validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate>"
    ));
}

#[test]
fn the_ends_of_the_specification_are_written() {
    let ends = Ends { first: "23452-4534-1".into(), index: Some(0), last: "390-2342-22".into() };
    let fin = Fin { complete: true, page: Page { ends: Some(ends), count: Some(16) } };
    let xml = fin.element().to_string_in("");
    assert_eq!(
        xml,
        "<fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='http://jabber.org/protocol/rsm'>\
         <first index='0'>23452-4534-1</first><last>390-2342-22</last><count>16</count></set></fin>"
    );
    assert_eq!(Fin::read(&parse_fragment(&xml).expect("xml")), Ok(fin));

    let first = End { id: "YWxwaGEg".into(), time: time("2008-08-22T21:09:04Z") };
    let last = End { id: "b21lZ2Eg".into(), time: time("2020-04-20T14:34:21Z") };
    assert_eq!(
        metadata(Some((&first, &last))).to_string_in(""),
        "<metadata xmlns='urn:xmpp:mam:2'><start id='YWxwaGEg' timestamp='2008-08-22T21:09:04Z'/>\
         <end id='b21lZ2Eg' timestamp='2020-04-20T14:34:21Z'/></metadata>"
    );
    assert_eq!(metadata(None).to_string_in(""), "<metadata xmlns='urn:xmpp:mam:2'/>");
}

fn prefs(xml: &str) -> Result<Prefs, StanzaError> {
    Prefs::read(&parse_fragment(xml).expect("xml"))
}

#[test]
fn the_preferences_of_the_specification_are_read_and_written() {
    let xml = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>romeo@montague.lit</jid></always>\
               <never><jid>montague@montague.lit</jid></never></prefs>";
    assert_eq!(prefs(xml).expect("preferences").element().to_string_in(""), xml);
    let bare = prefs("<prefs xmlns='urn:xmpp:mam:2' default='never'/>").expect("preferences");
    assert_eq!(bare, Prefs { default: Rule::Never, ..Prefs::default() });
    for bad in ["", " default='sometimes'"] {
        assert!(condition(prefs(&format!("<prefs xmlns='urn:xmpp:mam:2'{bad}/>"))).contains("bad-request"));
    }
    let odd = "<prefs xmlns='urn:xmpp:mam:2' default='never'><always><jid>@</jid></always></prefs>";
    assert!(condition(prefs(odd)).contains("jid-malformed"));
    let many = |n: usize| {
        let jids: String = (0..n).map(|n| format!("<jid>u{n}@b</jid>")).collect();
        prefs(&format!("<prefs xmlns='urn:xmpp:mam:2' default='never'><never>{jids}</never></prefs>"))
    };
    assert!(many(MAX_JIDS).is_ok());
    assert!(condition(many(MAX_JIDS + 1)).contains("resource-constraint"));
}

#[test]
fn an_address_is_matched_as_it_is_listed() {
    let set = |jids: &[&str]| jids.iter().map(|jid| Jid::parse(jid).expect("a jid")).collect::<BTreeSet<_>>();
    let wants = |default, always: &[&str], never: &[&str], peer: &str| {
        let prefs = Prefs { default, always: set(always), never: set(never) };
        prefs.wants(&Jid::parse(peer).expect("a jid"), || peer.starts_with("friend@"))
    };
    assert!(wants(Rule::Always, &[], &[], "a@b/c") && !wants(Rule::Never, &[], &[], "a@b/c"));
    assert!(wants(Rule::Roster, &[], &[], "friend@b/c") && !wants(Rule::Roster, &[], &[], "a@b/c"));
    // §2.3.1: one with a resource is compared as it is, one without stands for all.
    assert!(wants(Rule::Never, &["a@b"], &[], "a@b/c") && wants(Rule::Never, &["a@b/c"], &[], "a@b/c"));
    assert!(!wants(Rule::Never, &["a@b/c"], &[], "a@b") && !wants(Rule::Never, &["a@b/c"], &[], "a@b/d"));
    assert!(!wants(Rule::Always, &[], &["a@b"], "a@b/c") && wants(Rule::Always, &[], &["a@b/d"], "a@b/c"));
    assert!(!wants(Rule::Always, &["a@b"], &["a@b/c"], "a@b/c"));
}
