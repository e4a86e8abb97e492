//! The broker raises its memory alarm while webhooks come in: nothing hangs, nothing is lost.
