//! One event is one line in the log, whatever strangers write.
