//! How long a start takes on a large journal, and how much memory.
