//! Whether tests start PostgreSQL here: `REDRILL_TEST_POSTGRES` is `0` to skip them, `1` to fail where it is missing.
//!
//! The integration tests include this file, so it names nothing of the crate.

use std::{env, io::Write as _, thread};

/// Returns whether a test may start PostgreSQL. `installed` is the reason where it cannot.
///
/// # Panics
/// PostgreSQL is missing, and `REDRILL_TEST_POSTGRES` is `1`.
pub(crate) fn postgres_or_skip(installed: Result<(), String>) -> bool {
    let wanted = env::var("REDRILL_TEST_POSTGRES").unwrap_or_default();
    let Err(reason) = decide_start(&wanted, installed) else { return true };
    assert!(wanted != "1", "REDRILL_TEST_POSTGRES=1, and PostgreSQL cannot be started: {reason}");
    let thread = thread::current();
    // Written past the harness, which would keep it to itself.
    let line = format!("skipped {}: {reason}\n", thread.name().unwrap_or("a test"));
    drop(std::io::stderr().write_all(line.as_bytes()));
    false
}

fn decide_start(wanted: &str, installed: Result<(), String>) -> Result<(), String> {
    if wanted == "0" { Err("REDRILL_TEST_POSTGRES=0".to_owned()) } else { installed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_skips_what_is_installed() {
        let missing = || Err("it is not installed".to_owned());
        assert_eq!(decide_start("", Ok(())), Ok(()));
        assert_eq!(decide_start("1", Ok(())), Ok(()));
        assert_eq!(decide_start("1", missing()), missing());
        assert_eq!(decide_start("0", Ok(())), Err("REDRILL_TEST_POSTGRES=0".to_owned()));
    }
}
