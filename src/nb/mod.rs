//! Northbound rows as typed values, and the [`View`] with its indexes.

/// Every Northbound row that parsed, with the indexes the rules need.
#[derive(Debug, Default)]
pub struct View {}
