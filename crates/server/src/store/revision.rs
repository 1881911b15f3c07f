//! Revisions: what a change presupposes of the row it changes. They are compared inside the transaction that
//! makes the change, so nothing can come between.

use super::{Result, StoreError};

/// What a change presupposes of the row's revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the last write wins.
    #[default]
    Any,
    /// That it is one of these; none of them when the client named something that is no revision.
    OneOf(Vec<i64>),
}

impl Expected {
    /// Holds the row's revision against what is expected.
    ///
    /// # Errors
    /// [`StoreError::OtherRevision`].
    pub fn check(&self, current: i64) -> Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(revisions) if revisions.contains(&current) => Ok(()),
            Self::OneOf(_) => Err(StoreError::OtherRevision { current }),
        }
    }
}
