//! What unit tests of every room share: whether PostgreSQL runs here.

mod skip;

use crate::provider::postgres::lab;

/// Returns whether a test may start PostgreSQL; where it may not, says why the test is skipped.
pub(crate) fn postgres_or_skip() -> bool {
    skip::postgres_or_skip(lab::check_installed().map_err(|error| error.to_string()))
}
