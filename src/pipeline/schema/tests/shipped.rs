//! The schemas in `schemas/`, with the payloads in `tests/payloads/`.

use std::collections::BTreeSet;

use super::*;

/// For each folder of payloads, and for each source of `gateway.toml`, where its schemas are.
const PROVIDERS: [(&str, &str); 5] = [
    ("github", "schemas/github"),
    ("orders", "schemas/order.json"),
    ("shopify", "schemas/shopify"),
    ("slack", "schemas/slack"),
    ("stripe", "schemas/stripe"),
];

/// Provider, payload, pointer, and how the detail begins. Each payload is wrong in one way.
const INVALID: &[(&str, &str, &str, &str)] = &[
    (
        "github",
        "issues--sender_without_login",
        "/sender",
        r#""login" is required"#,
    ),
    ("github", "ping--body_is_list", "", "must be of type object"),
    (
        "github",
        "pull_request--head_without_sha",
        "/pull_request/head",
        r#""sha" is required"#,
    ),
    (
        "github",
        "pull_request--missing_action",
        "",
        r#""action" is required"#,
    ),
    (
        "github",
        "pull_request--number_is_string",
        "/number",
        "must be of type integer",
    ),
    (
        "github",
        "pull_request--unknown_state",
        "/pull_request/state",
        "must be one of",
    ),
    (
        "github",
        "push--commit_without_author",
        "/commits/0",
        r#""author" is required"#,
    ),
    (
        "github",
        "push--commits_is_object",
        "/commits",
        "must be of type array",
    ),
    ("github", "push--missing_ref", "", r#""ref" is required"#),
    (
        "github",
        "push--repository_without_owner",
        "/repository/full_name",
        "must match the pattern",
    ),
    (
        "github",
        "push--short_after",
        "/after",
        "must match the pattern",
    ),
    (
        "orders",
        "order.created--local_time",
        "/occurred_at",
        "must match the pattern",
    ),
    (
        "orders",
        "order.created--missing_event_id",
        "",
        r#""event_id" is required"#,
    ),
    (
        "orders",
        "order.created--no_items",
        "/order/items",
        "must have at least 1 items",
    ),
    (
        "orders",
        "order.created--quantity_is_zero",
        "/order/items/0/quantity",
        "must be at least 1",
    ),
    (
        "orders",
        "order.created--total_is_decimal",
        "/order/total",
        "must be of type integer",
    ),
    (
        "orders",
        "order.created--unknown_event",
        "/event",
        "must be one of",
    ),
    (
        "shopify",
        "orders.create--currency_in_lower_case",
        "/currency",
        "must match the pattern",
    ),
    (
        "shopify",
        "orders.create--customer_without_id",
        "/customer",
        r#""id" is required"#,
    ),
    (
        "shopify",
        "orders.create--missing_line_items",
        "",
        r#""line_items" is required"#,
    ),
    (
        "shopify",
        "orders.create--negative_quantity",
        "/line_items/1/quantity",
        "must be at least 0",
    ),
    (
        "shopify",
        "orders.create--total_price_is_number",
        "/total_price",
        "must be of type string",
    ),
    (
        "shopify",
        "orders.fulfilled--empty",
        "",
        "must have at least 1 properties",
    ),
    (
        "slack",
        "app_mention--authorization_without_user",
        "/authorizations/0",
        r#""user_id" is required"#,
    ),
    (
        "slack",
        "app_mention--event_time_is_text",
        "/event_time",
        "must be of type integer",
    ),
    (
        "slack",
        "app_mention--event_without_type",
        "/event",
        r#""type" is required"#,
    ),
    (
        "slack",
        "app_mention--missing_event_id",
        "",
        r#""event_id" is required"#,
    ),
    (
        "slack",
        "app_mention--unknown_envelope",
        "/type",
        "must be one of",
    ),
    (
        "slack",
        "block_actions--payload_without_type",
        "",
        r#""type" is required"#,
    ),
    (
        "slack",
        "weather--command_without_slash",
        "/command",
        "must match the pattern",
    ),
    (
        "stripe",
        "checkout.session.completed--metadata_holds_number",
        "/data/object/metadata/order",
        "must be of type string",
    ),
    (
        "stripe",
        "checkout.session.completed--missing_data",
        "",
        r#""data" is required"#,
    ),
    (
        "stripe",
        "checkout.session.completed--unknown_mode",
        "/data/object/mode",
        "must be one of",
    ),
    (
        "stripe",
        "customer.subscription.updated--created_is_text",
        "/created",
        "must be of type integer",
    ),
    (
        "stripe",
        "customer.subscription.updated--foreign_id",
        "/id",
        "must match the pattern",
    ),
    (
        "stripe",
        "invoice.paid--amount_is_decimal",
        "/data/object/amount_paid",
        "must be of type integer",
    ),
    (
        "stripe",
        "invoice.paid--foreign_object",
        "/data/object/id",
        "must match the pattern",
    ),
];

fn shipped(path: &str) -> SchemaSet {
    SchemaSet::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Payloads by name. A name is the event type's file name, `--`, and what is special about it.
fn payloads(provider: &str, kind: &str) -> Vec<(String, Value)> {
    let folder = format!(
        "{}/tests/payloads/{provider}/{kind}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut payloads = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        payloads.push((
            name,
            serde_json::from_slice(&fs::read(&file).unwrap()).unwrap(),
        ));
    }
    payloads
}

fn event_type(payload: &str) -> &str {
    payload.split_once("--").unwrap().0
}

#[test]
fn valid_payloads_satisfy_the_schema_of_their_type() {
    for (provider, path) in PROVIDERS {
        let schemas = shipped(path);
        let payloads = payloads(provider, "valid");
        assert!(payloads.len() >= 2, "{provider}");
        for (name, json) in payloads {
            let checked = schemas.check(Some(event_type(&name)), &json);
            let by = checked.unwrap_or_else(|found| panic!("{provider}/{name}: {found:?}"));
            assert!(by.is_some(), "{provider}/{name} was not checked");
        }
    }
}

#[test]
fn invalid_payloads_are_refused_for_what_is_wrong_with_them() {
    let mut listed: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (provider, path) in PROVIDERS {
        let schemas = shipped(path);
        let payloads = payloads(provider, "invalid");
        assert!(payloads.len() >= 3, "{provider}");
        for (name, json) in payloads {
            let (_, row, pointer, detail) = INVALID
                .iter()
                .find(|(of, row, _, _)| *of == provider && *row == name)
                .unwrap_or_else(|| panic!("{provider}/{name} is not in the table"));
            listed.insert((provider, row));
            let found = schemas.check(Some(event_type(&name)), &json).unwrap_err();
            assert_eq!(found.len(), 1, "{provider}/{name}: {found:?}");
            assert_eq!(found[0].pointer, *pointer, "{provider}/{name}: {found:?}");
            assert!(
                found[0].detail.starts_with(detail),
                "{provider}/{name}: {found:?}"
            );
        }
    }
    assert_eq!(listed.len(), INVALID.len(), "a row has no payload");
}

#[test]
fn each_schema_introduces_itself_and_can_be_used_alone() {
    let mut ids = BTreeSet::new();
    for (_, path) in PROVIDERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let files: Vec<_> = match fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![path],
        };
        for file in files {
            let schema: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            assert_eq!(
                schema["$schema"],
                "https://json-schema.org/draft/2020-12/schema"
            );
            for key in ["title", "description"] {
                assert!(schema[key].is_string(), "{}: {key}", file.display());
            }
            let id = schema["$id"].as_str().unwrap().to_owned();
            assert!(id.starts_with("urn:hookgate:schema:"), "{id}");
            assert!(ids.insert(id), "{}: its $id is another's", file.display());
            SchemaSet::load(&file).unwrap();
        }
    }
}

#[test]
fn the_configuration_to_start_from_uses_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml");
    let config: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let sources = config["sources"].as_table().unwrap();
    let used: Vec<_> = sources
        .iter()
        .map(|(name, source)| (name.as_str(), source["schema"].as_str().unwrap()))
        .collect();
    let shipped: BTreeSet<_> = PROVIDERS.into_iter().collect();
    assert_eq!(BTreeSet::from_iter(used), shipped);
}
