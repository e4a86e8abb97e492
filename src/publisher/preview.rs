//! Messages as people read them, for the demo: those that came, and those that would be.

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::message::{self, Shape};
use crate::delivery::Delivery;

/// What the message of a delivery would say, with the names of a configuration that changes
/// nothing.
///
/// # Errors
///
/// Why this delivery can never be a message.
pub fn preview(delivery: &Delivery) -> Result<Vec<(String, String)>, String> {
    let shape = Shape::usual()?;
    Ok(printable(
        &shape.message(delivery, message::FIRST_ATTEMPT)?.properties,
    ))
}

/// Properties and headers, by name.
pub fn printable(properties: &BasicProperties) -> Vec<(String, String)> {
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    let own = [
        ("message_id", text(properties.message_id())),
        ("type", text(properties.kind())),
        ("content_type", text(properties.content_type())),
        ("content_encoding", text(properties.content_encoding())),
        ("app_id", text(properties.app_id())),
        (
            "timestamp",
            properties.timestamp().map(|seconds| seconds.to_string()),
        ),
        (
            "delivery_mode",
            properties.delivery_mode().map(|mode| mode.to_string()),
        ),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let headers = properties.headers().iter().flat_map(|table| table.inner());
    own.chain(headers.map(|(name, value)| (name.to_string(), scalar(value))))
        .collect()
}

fn scalar(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::LongUInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
