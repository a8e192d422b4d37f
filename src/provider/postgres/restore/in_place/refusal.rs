//! The refusal of a restore in place.

use crate::provider::{Code, Error};
use std::path::Path;

/// Returns the error for data that cannot be restored in place.
pub(super) fn not_in_place_error(data: &Path, why: &str) -> Error {
    Error::new(Code::Refused, format!("`{}` cannot be restored in place: {why}", data.display()))
        .with_hint("restore into a branch with `into`, and carry over what is needed")
}
