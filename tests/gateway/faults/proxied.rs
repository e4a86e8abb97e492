//! Who the client is, as told by proxies: believed from those that are trusted only.
