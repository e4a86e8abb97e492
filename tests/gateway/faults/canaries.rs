//! Secrets planted everywhere never come out anywhere.
