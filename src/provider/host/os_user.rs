//! OS users, as the machine's user database has them.

use crate::base::{lock::lock_unpoisoned, program::run_program};
use crate::provider::{Code, Error, Result};
use std::{collections::BTreeMap, process::Command, sync::Mutex};

/// An OS user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider) struct OsUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl OsUser {
    /// Returns the user with this name or number. Each is looked up once: every poll of a job asks for its user.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(in crate::provider) fn look_up(name_or_uid: &str) -> Result<Self> {
        static KNOWN: Mutex<BTreeMap<String, OsUser>> = Mutex::new(BTreeMap::new());
        let known = || lock_unpoisoned(&KNOWN);
        if let Some(owner) = known().get(name_or_uid) {
            return Ok(owner.clone());
        }
        let owner = Self::ask_getent(name_or_uid)?;
        known().insert(name_or_uid.to_owned(), owner.clone());
        Ok(owner)
    }

    fn ask_getent(name_or_uid: &str) -> Result<Self> {
        let unknown =
            || Error::new(Code::NotFound, format!("there is no OS user `{name_or_uid}` on this machine"));
        let mut getent = Command::new("getent");
        getent.args(["passwd", name_or_uid]);
        let found = run_program(getent).map_err(|_| unknown())?;
        let line = String::from_utf8_lossy(&found.stdout).into_owned();
        let mut fields = line.trim_end().split(':');
        let name = fields.next().filter(|name| !name.is_empty()).ok_or_else(unknown)?;
        let (uid, gid) = (fields.nth(1), fields.next());
        match (uid.and_then(|n| n.parse().ok()), gid.and_then(|n| n.parse().ok())) {
            (Some(uid), Some(gid)) => Ok(Self { name: name.into(), uid, gid }),
            _ => Err(unknown()),
        }
    }

    /// Returns the user that this process runs as.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the user database has no entry for us.
    pub(in crate::provider) fn current_user() -> Result<Self> {
        Self::look_up(&rustix::process::geteuid().as_raw().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = OsUser::look_up("root").expect("there is always a root");
        assert_eq!(root, OsUser::look_up("0").expect("and it is number 0"));
        assert_eq!(OsUser::look_up("no such user").expect_err("unknown").code, Code::NotFound);
    }
}
