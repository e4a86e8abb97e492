//! The mapping, and what is no XML or asks for more than a text.

use serde_json::json;

use super::*;

#[track_caller]
fn check(text: &str, expected: &Value) {
    assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
}

#[test]
fn elements_become_members() {
    check(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c -->\n<order id='7' s:t=\"a&amp;&#x62;\">\n\
         <item>a</item><item>b</item><?pi x?><note>x &lt; y &#38; <![CDATA[<z>]]></note><empty/></order>\n",
        &json!({"order": {
            "@id": "7", "@s:t": "a&b", "item": ["a", "b"], "note": "x < y & <z>", "empty": "",
        }}),
    );
    check(
        "<a b='1'> x </a>",
        &json!({"a": {"@b": "1", "#text": " x "}}),
    );
    check("<a>x<b/>y</a>", &json!({"a": {"b": "", "#text": "xy"}}));
    check("<a> \r\n </a>", &json!({"a": " \n "}));
    check(
        "<s:E><s:E><x/></s:E></s:E>",
        &json!({"s:E": {"s:E": {"x": ""}}}),
    );
    check(
        "<a><b><c/></b><b>x</b></a>",
        &json!({"a": {"b": [{"c": ""}, "x"]}}),
    );
}

#[track_caller]
fn refused(text: &str, words: &str) {
    let why = read(text).unwrap_err();
    assert!(why.ends_with(words), "{text}: {why}");
    assert!(why.starts_with("line "), "{why}");
}

#[test]
fn nothing_is_declared_expanded_or_fetched() {
    let declared = "a document type declaration is not taken";
    refused("<!DOCTYPE a><a/>", declared);
    refused(
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
        declared,
    );
    refused("<!DOCTYPE a SYSTEM \"http://127.0.0.1/\"><a/>", declared);
    refused("<a>&x;</a>", ENTITY);
    refused("<a b='&x;'/>", ENTITY);
    refused("<a>&lt</a>", ENTITY);
    refused("<a>& b</a>", ENTITY);
    refused("<a>&#0;</a>", CHARACTER);
    refused("<a>&#xfffe;</a>", CHARACTER);
    refused("<a>&#xd800;</a>", CHARACTER);
    refused("<a b='&#1;'/>", CHARACTER);
    refused("<a>\u{1}</a>", CHARACTER);
}

#[test]
fn what_is_not_well_formed_is_told_by_its_place() {
    assert_eq!(
        read("<a>\n <b></c>\n</a>").unwrap_err(),
        "line 2, column 5: an end tag is not that of the open element"
    );
    for (text, words) in [
        ("", "there is no element"),
        ("<!-- -->", "there is no element"),
        ("x", "text outside the root element"),
        ("<a/>x", "text outside the root element"),
        ("<a/>&amp;", "text outside the root element"),
        ("<a/><![CDATA[x]]>", "text outside the root element"),
        ("<a/><b/>", "a second root element"),
        ("<a>", "it ends within an element"),
        ("</a>", "an end tag has no start"),
        ("<a", "markup is malformed or has no end"),
        ("<a b=1/>", "an attribute is malformed or repeated"),
        ("<a b='1' b='2'/>", "an attribute is malformed or repeated"),
        ("<a b='<'/>", "an attribute is malformed or repeated"),
        ("<1/>", "a name has a character that names do not have"),
        (
            "<a><?xml version='1.0'?></a>",
            "the XML declaration does not come first",
        ),
        (
            "<?xml version='1.0' encoding='utf-16'?><a/>",
            "an encoding that is not UTF-8",
        ),
    ] {
        refused(text, words);
    }
    let nested = |depth| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    read(&nested(DEPTH_MAX)).unwrap();
    refused(&nested(DEPTH_MAX + 1), "it is nested too deeply");
}
