//! What is JSON and what is not, decided exactly, and delivered byte for byte.
