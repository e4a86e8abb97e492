//! Bodies of 1 to 100 KiB, in JSON as senders write it and not as we would: escapes, umlauts,
//! blanks, numbers with too many digits. What is delivered must be the same bytes.

use fastrand::Rng;

/// Shortest and longest body, in KiB. Lengths between are equally likely on a logarithmic scale:
/// most are short, and each power of two has its share.
const KIB_MIN: f64 = 1.0;
const KIB_MAX: f64 = 100.0;

/// What texts are made of. A parser and a printer between sender and consumer would change most.
const PIECES: [&str; 12] = [
    "lorem ipsum ",
    "\\u00e9",
    "\u{e9}\u{e8}",
    "\\/",
    "\\\\n",
    "\u{1f980}",
    "\\ud83e\\udd80",
    "0123456789",
    "  ",
    "</script>",
    "\\t",
    "abcdefghijklmnopqrstuvwxyz",
];

/// Where the ids stand that a source reads from the body, beside other things that a body holds.
pub(crate) fn body(id: &str, number: u64, dice: &mut Rng) -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 KiB and 100 KiB"
    )]
    let bytes = (KIB_MIN * (KIB_MAX / KIB_MIN).powf(dice.f64()) * 1024.0) as usize;
    let mut text = format!(
        "{{\"id\":\"{id}\", \"type\" : \"order.paid\",\n\t\"event\":{{\"name\":\"order.paid\"}},\
         \"n\":{number},\"amount\":10.50000000000000000001,\"e\":1E+2,\"text\":\""
    );
    while text.len() + 2 < bytes {
        text.push_str(PIECES[dice.usize(..PIECES.len())]);
    }
    text.push_str("\"}");
    text.into_bytes()
}
