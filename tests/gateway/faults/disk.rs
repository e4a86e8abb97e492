//! Real system calls fail: synchronising, writing, renaming, opening; and a disk that is full.
