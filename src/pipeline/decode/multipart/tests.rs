//! What senders write, and what could be read in two ways.

use super::*;

const TYPE: &str = "multipart/form-data; boundary=\"b-1\"";

fn text(name: &str, text: &str) -> Part {
    Part {
        name: name.to_owned(),
        content: Content::Text(text.to_owned()),
    }
}

fn one(head: &str, content: &str) -> Result<Vec<Part>, String> {
    let body = format!("--b-1\r\n{head}\r\n\r\n{content}\r\n--b-1--\r\n");
    read(TYPE, body.as_bytes())
}

#[test]
fn fields_and_files() {
    let body = b"--b-1\r\ncontent-disposition: form-data; name=\"a b\"\r\n\r\n\r\n\
                 --b-1\r\nContent-Disposition: form-data; name=x\r\n\
                 Content-Type: text/plain\r\n\r\n\r\n--b-\xff\r\n\
                 --b-1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\\\"b\\c;d\"\r\n\
                 Content-Type: image/png\r\n\r\n\x00\xff\r\n--b-1--";
    let file = Content::File {
        name: "a\"b\\c;d".to_owned(),
        content_type: "image/png".to_owned(),
        bytes: 2,
    };
    let expected = [
        text("a b", ""),
        text("x", "\r\n--b-\u{fffd}"),
        Part {
            name: "f".to_owned(),
            content: file,
        },
    ];
    assert_eq!(read(TYPE, body).unwrap(), expected);
    assert_eq!(read(TYPE, b"--b-1--").unwrap(), []);
    let extended = "Content-Disposition: form-data; name=f; filename*=UTF-8''na%C3%AFve";
    let parts = one(extended, "x").unwrap();
    assert!(
        matches!(&parts[0].content, Content::File { name, .. } if name == "na\u{ef}ve"),
        "{parts:?}"
    );
}

#[track_caller]
fn refused(result: Result<Vec<Part>, String>, words: &str) {
    let why = result.unwrap_err();
    assert!(why.contains(words), "{why}");
}

#[test]
fn what_is_doubtful_is_not_taken() {
    let plain = "Content-Disposition: form-data; name=a";
    for (head, words) in [
        ("X-A: 1", "has no Content-Disposition"),
        ("Content-Disposition: attachment; name=a", "not form-data"),
        ("Content-Disposition: form-data", "has no name"),
        (
            "Content-Disposition: form-data; name=a; name=b",
            "`name` is there twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a",
            "a quote has no end",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"b",
            "goes on behind its quotes",
        ),
        (
            "Content-Disposition: form-data; name",
            "a parameter has no value",
        ),
        (
            "Content-Disposition: form-data; name=\"a\\b\"",
            "a backslash",
        ),
        (&format!("{plain}\r\n{plain}"), "content-disposition twice"),
        (
            &format!("{plain}\r\nContent-Transfer-Encoding: base64"),
            "Transfer-Encoding",
        ),
        (&format!("{plain}\nX: 1"), "without a carriage return"),
        (
            &format!("{plain}\r\nno header"),
            "no list of 16 header fields",
        ),
        (
            &format!("{plain}\r\n{}", "X: 1\r\n".repeat(20)),
            "no list of 16 header fields",
        ),
        (
            &format!("{plain}\r\nX: {}", "x".repeat(9_000)),
            "no head of 8192 bytes",
        ),
    ] {
        refused(one(head, "x"), words);
        refused(one(head, "x"), "part 1: ");
    }
    assert_eq!(one(plain, "x").unwrap(), [text("a", "x")]);
    let whole = format!("--b-1\r\n{plain}\r\n\r\nx\r\n--b-1--\r\n");
    for (from, to, words) in [
        (
            "--b-1\r\n",
            "preamble\r\n--b-1\r\n",
            "does not begin with its boundary",
        ),
        (
            "--b-1--\r\n",
            "--b-1--\r\nmore",
            "more behind the last boundary",
        ),
        (
            "--b-1--\r\n",
            "--b-1x--\r\n",
            "part 2: its boundary does not end the line",
        ),
        ("--b-1--\r\n", "", "part 1: no boundary ends it"),
    ] {
        refused(read(TYPE, whole.replacen(from, to, 1).as_bytes()), words);
    }
    let many = "--b-1\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(1_001);
    refused(read(TYPE, many.as_bytes()), "more than 1000 parts");
}

#[test]
fn a_boundary_is_said_once_and_is_short() {
    for (content_type, words) in [
        ("multipart/form-data", "has no boundary"),
        ("multipart/form-data; boundary=", "has no boundary"),
        ("multipart/form-data; boundary=a; boundary=b", "there twice"),
        ("multipart/form-data; boundary=\"a ", "a quote has no end"),
        ("multipart/form-data; boundary=\"a \"", "has no boundary"),
        (
            &format!("multipart/form-data; boundary={}", "x".repeat(71)),
            "has no boundary",
        ),
    ] {
        refused(read(content_type, b"--a--"), words);
    }
    assert_eq!(
        read("multipart/form-data; charset=x; Boundary=a ", b"--a--").unwrap(),
        []
    );
}
