//! Secrets that cannot leak by accident: no `Display`, no `Serialize`, no `Deref`.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Bytes that prove who somebody is. `Debug` prints `[secret]`; the memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes ownership of the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes themselves. Call this only where a key is made or a connection is opened.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret with the name an operator knows it by. Only the label is ever logged or published.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The operator's label, or the variable or file name it came from.
    pub label: Arc<str>,
    /// The secret.
    pub secret: Secret,
}
