//! The body that is sent: an order, as `schemas/order.json` wants it, of exactly as many bytes as
//! asked for.

use serde_json::{Value, json};

/// What the body must look like. The gateway checks every one against it.
pub(crate) const SCHEMA: &str = include_str!("../../schemas/order.json");

/// The type of the event.
pub(crate) const EVENT_TYPE: &str = "order.created";

/// Length of a usual body.
pub(crate) const KIB: usize = 1024;

/// The order of a number, `bytes` long: as many items as fit, and a note for the rest.
pub(crate) fn order(number: usize, bytes: usize) -> Vec<u8> {
    let mut order = json!({
        "event": EVENT_TYPE,
        "event_id": format!("evt_{number:012}"),
        "occurred_at": "2026-06-01T12:00:00Z",
        "order": {
            "id": format!("ord_{number:012}"),
            "currency": "EUR",
            "total": 4200,
            "customer": { "id": "cus_000117", "email": "ada@example.com" },
            "items": [item(0)],
        },
        "note": "",
    });
    let length = |order: &Value| order.to_string().len();
    for n in 1.. {
        let with_one_more = {
            let mut order = order.clone();
            push(&mut order, item(n));
            order
        };
        if length(&with_one_more) > bytes {
            break;
        }
        order = with_one_more;
    }
    order["note"] = "x".repeat(bytes - length(&order)).into();
    order.to_string().into_bytes()
}

fn item(n: usize) -> Value {
    json!({ "sku": format!("SKU-{n:06}"), "quantity": 1 + n % 3, "unit_price": 700 })
}

fn push(order: &mut Value, item: Value) {
    order["order"]["items"]
        .as_array_mut()
        .expect("an array")
        .push(item);
}
