//! The paths that name calls: what they say of where a call was made.

use crate::journal::EDIT_GATE;

/// The path of clean-up calls, which no step can have.
pub const CLEAN_UP_PATH: &str = "//end";

/// Returns whether two calls are in different forks of one `parallel` or `each`: their paths part at a fork's number.
pub fn are_in_different_forks(call: &str, other: &str) -> bool {
    let parts = call.split('/').zip(other.split('/')).find(|(own, other)| own != other);
    parts.is_some_and(|(own, other)| is_fork(own) && is_fork(other))
}

/// Returns whether a call is in a fork of some `parallel` or `each`.
pub(super) fn is_in_fork(call: &str) -> bool {
    call.split('/').any(is_fork)
}

/// Returns the name of the gate of an edition of the sources: all forks wait at one.
pub(super) fn name_edit_gate(edition: u32) -> String {
    format!("/{EDIT_GATE}#{edition}")
}

pub(super) fn is_edit_gate_name(call: &str) -> bool {
    call.strip_prefix('/').and_then(|own| own.split_once('#')).is_some_and(|(op, _)| op == EDIT_GATE)
}

/// Returns whether a part of a path is the number of a fork.
fn is_fork(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_other_forks_are_told_from_those_that_come_later() {
        for (call, other, are_apart) in [
            ("/parallel#0/0/sleep#0", "/parallel#0/1/backup::list#0", true),
            ("/parallel#0/0/sleep#0", "/parallel#0/0/backup::list#0", false),
            ("/parallel#0/0/sleep#0", "/parallel#0/forks#0", false),
            ("/each#0/0/step#0/sleep#0", "/each#0/10/sleep#0", true),
            ("/each#0/0/each#0/1/sleep#0", "/each#0/0/each#0/2/sleep#0", true),
            ("/sleep#0", "/backup::list#0", false),
            ("/each#0/1/sleep#0", "//end/defer#0/branch::delete#0", false),
        ] {
            assert_eq!(are_in_different_forks(call, other), are_apart, "{call} {other}");
        }
    }
}
