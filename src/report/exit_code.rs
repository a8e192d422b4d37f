//! The exit codes: what a shell learns of how a command ended.

/// The runbook failed.
pub const FAILED: u8 = 1;
/// Usage, configuration or check error: nothing was done.
pub const USAGE: u8 = 2;
/// The run waits for somebody.
pub const WAITING: u8 = 3;
/// It is unknown whether a call took effect.
pub const UNDECIDED: u8 = 4;
/// The runbook or a target does not match the record.
pub const MISMATCH: u8 = 5;
/// Refused by policy.
pub const REFUSED: u8 = 6;
/// A bug in redrill.
pub const BUG: u8 = 70;
/// It is done, and not everything could be written to stdout.
pub const OUTPUT: u8 = 74;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;
