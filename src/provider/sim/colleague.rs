//! A colleague: somebody else who changes another element of the same list, or another setting, while a call is at work
//! there. What a colleague does is in the world's log under kinds of its own.

use super::target::Sim;
use crate::provider::{Code, Result};
use ipnet::IpNet;
use serde_json::Map;
use std::net::Ipv4Addr;

/// The range that the colleague lets connect: of a network that is kept for examples.
pub const COLLEAGUE_RANGE: &str = "192.0.2.77/32";
/// The setting that the colleague overrides, and with what.
pub const COLLEAGUE_SETTING: (&str, &str) = ("deadlock_timeout", "2s");
/// How the kinds of what the colleague did begin, in the log of effects.
pub const COLLEAGUE_KINDS: &str = "colleague.";

/// When the colleague acts, seen from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColleagueTurn {
    /// Right before it is served: what it was planned on is no longer all there is.
    Before,
    /// Right after it was served: the next look shows more than the request made.
    After,
}

impl Sim {
    /// Changes, as the colleague, another element of what a request of this name changes. Where the target takes no
    /// change, nobody gets one through.
    pub(super) fn change_as_colleague(&self, request: &str) -> Result<()> {
        let (name, value) = COLLEAGUE_SETTING;
        let changed = match request {
            "allow" => {
                let range = IpNet::new_assert(Ipv4Addr::new(192, 0, 2, 77).into(), 32);
                self.change_allowed_ranges("colleague.allow", &[range], &[])
            }
            "set" => {
                let values = Map::from_iter([(name.to_owned(), value.into())]);
                self.override_settings("colleague.set", &values)
            }
            _ => Ok(()),
        };
        changed.or_else(|e| if e.code == Code::Refused { Ok(()) } else { Err(e) })
    }
}
