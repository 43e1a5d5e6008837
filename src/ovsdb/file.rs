//! Database files and dumps, as values.
