//! What `hookgate send` makes: the example in the source's own form, or what was given as it is.

use super::*;
use crate::sample::Sample;

fn sent(setup: &Setup, recipe: Recipe) -> Result<Sample, String> {
    let at = Now::read().wall;
    make(&setup.shop, &Recipe { at, ..recipe })
}

async fn accepted(setup: &Setup, sample: &Sample) -> Account {
    let inbound = sample.inbound();
    let mut account = Account::default();
    let arrival = Arrival {
        head: inbound.head,
        body: Full::new(inbound.body),
    };
    let decision = setup.pipeline.receive(arrival, Now::read(), &mut account);
    let decision = decision.await;
    assert!(
        matches!(decision, Ok(Outcome::Accepted(..))),
        "{decision:?}"
    );
    assert_eq!(account.quarantined, None);
    account
}

fn payload(bytes: &'static [u8]) -> Recipe {
    Recipe {
        payload: Some(Bytes::from_static(bytes)),
        ..Recipe::default()
    }
}

#[test]
fn a_given_payload_is_sent_as_it_is() {
    for (shop, given) in [
        (
            "provider = \"stripe\"",
            &b"{\"type\": \"a\", \"id\":\"evt_fixed\"}\n"[..],
        ),
        (
            "provider = \"meta\"\nconfig = { verify_token = \"v\" }",
            b"{\"object\":\"page\"}",
        ),
        (GITHUB, b"\xff{"),
    ] {
        let setup = setup("", shop);
        let sample = sent(&setup, payload(given)).unwrap();
        assert_eq!(sample.body, given);
        assert!(sample.written.is_empty(), "{:?}", sample.written);
    }
    let setup = setup("", GITHUB);
    let id = |sample: Sample| sample.headers["x-github-delivery"].clone();
    let [one, two] = [(); 2].map(|()| id(sent(&setup, payload(b"{}")).unwrap()));
    assert_ne!(one, two, "each is a delivery");
    let typed = Recipe {
        event_type: Some("push".to_owned()),
        ..payload(b"\xff{")
    };
    assert_eq!(sent(&setup, typed).unwrap().body, &b"\xff{"[..]);
}

#[test]
fn what_a_scheme_needs_in_a_given_payload_is_written_and_told() {
    let setup = setup("", "provider = \"mailgun\"");
    let sample = sent(&setup, payload(b"{\"b\": 1.0, \"a\": {}}")).unwrap();
    let text = String::from_utf8(sample.body.to_vec()).unwrap();
    assert!(
        text.starts_with("{\"b\": 1.0, \"a\": {},\"signature\":{\"timestamp\":"),
        "{text}"
    );
    let places =
        ["timestamp", "token", "signature"].map(|name| format!("body member /signature/{name}"));
    assert_eq!(sample.written, places);
}

#[test]
fn a_given_query_is_sent_as_it_is() {
    let query = |text: &str| Recipe {
        query: Some(text.to_owned()),
        ..Recipe::default()
    };
    let getter = "methods = [\"GET\"]\nevent_id = \"query:id\"\n\
                  verify = { algorithm = \"token\", signature = \"header:X-Token\" }";
    let by_query = "event_id = \"query:id\"\n\
                    verify = { algorithm = \"token\", signature = \"query:token\" }";
    for (shop, given, target) in [
        (getter, "id=9&x=a%20b&y", "/shop?id=9&x=a%20b&y"),
        (by_query, "token=old&id=9", "/shop?token=s3cr3t&id=9"),
        (by_query, "id=9&x=a%20b", "/shop?id=9&x=a%20b&token=s3cr3t"),
    ] {
        let setup = setup("", shop);
        assert_eq!(sent(&setup, query(given)).unwrap().target, target);
    }
}

#[tokio::test]
async fn an_example_becomes_xml_of_one_root() {
    let verify =
        "verify = { algorithm = \"token\", signature = \"header:X-Token\" }\nformat = \"xml\"";
    for places in [
        "",
        "event_id = \"json:/order/@id\"\nevent_type = \"json:/order/kind\"",
    ] {
        let setup = setup("", &format!("{verify}\n{places}"));
        let account = accepted(&setup, &sent(&setup, Recipe::default()).unwrap()).await;
        assert_eq!(account.event_id.is_some(), !places.is_empty());
        assert_eq!(account.event_type.is_some(), !places.is_empty());
    }
}

#[test]
fn the_place_of_a_fetched_key_is_filled_in_as_the_source_wants_it() {
    let url = "https://api-na.myconnectwise.net/key";
    let setup = open(
        &format!(
            "[server]\ntls = \"off\"\n[sources.shop]\nprovider = \"connectwise\"\n\
             [sources.shop.config]\nkey_url = [\"{url}\"]"
        ),
        "",
    );
    let setup = setup.unwrap_or_else(|what| panic!("{what}"));
    let recipe = Recipe {
        signing_key: Some(crate::secret::Secret::new(b"key".to_vec())),
        ..Recipe::default()
    };
    let sample = sent(&setup, recipe).unwrap();
    let json: Value = serde_json::from_slice(&sample.body).unwrap();
    assert_eq!(json["Metadata"]["key_url"], url);
}

#[test]
fn an_example_keeps_the_order_of_its_keys() {
    for (shop, begin) in [
        ("provider = \"stripe\"", "{\"id\":\"evt_"),
        (
            "provider = \"calendly\"",
            "{\"event\":\"order.created\",\"event_id\":",
        ),
    ] {
        let sample = sent(&setup("", shop), Recipe::default()).unwrap();
        let text = String::from_utf8(sample.body.to_vec()).unwrap();
        assert!(text.starts_with(begin), "{text}");
        let sorted: Value = serde_json::from_str(&text).unwrap();
        assert_ne!(text, sorted.to_string());
    }
}

#[tokio::test]
async fn examples_are_what_their_sources_are_for() {
    let meta = setup("", "provider = \"meta\"\nconfig = { verify_token = \"v\" }");
    let sample = sent(&meta, Recipe::default()).unwrap();
    let inbound = sample.inbound();
    meta.receive(inbound.head, Full::new(inbound.body))
        .await
        .unwrap();
    let other = Recipe {
        event_type: Some("page.messages".to_owned()),
        ..Recipe::default()
    };
    assert!(sent(&meta, other).unwrap_err().contains("--file"));
    let json: Value = serde_json::from_slice(&sample.body).unwrap();
    assert_eq!(json["object"], "page");
    assert_eq!(json["entry"][0]["changes"][0]["field"], "feed");

    let grid = setup("", "provider = \"eventgrid-cloudevents\"");
    let sample = sent(&grid, Recipe::default()).unwrap();
    for name in ["ce-id", "ce-source", "ce-specversion", "ce-type"] {
        assert!(sample.headers.contains_key(name), "{name}");
    }
    let account = accepted(&grid, &sample).await;
    assert_eq!(account.event_type.as_deref(), Some("order.created"));

    let routes = setup("", "provider = \"mailgun-routes\"");
    let sample = sent(&routes, Recipe::default()).unwrap();
    let text = String::from_utf8(sample.body.to_vec()).unwrap();
    assert!(text.contains("&token=") && !text.contains("%0A"), "{text}");

    for provider in ["github", "slack"] {
        let source = setup("", &format!("provider = \"{provider}\""));
        let mut headers = HeaderMap::new();
        let form = "application/x-www-form-urlencoded";
        headers.insert("content-type", form.parse().unwrap());
        let recipe = Recipe {
            headers,
            ..Recipe::default()
        };
        let sample = sent(&source, recipe).unwrap();
        assert!(sample.body.starts_with(b"payload=%7B"), "{provider}");
        accepted(&source, &sample).await;
    }
}
