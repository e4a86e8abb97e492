//! HTTP/2 floods: memory, processor time and a good client beside each.
