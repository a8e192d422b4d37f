//! The environment of unit tests: a state folder with what is configured there, and a lab where PostgreSQL is wanted.

mod lab;
mod skip;
mod tunnel;

pub(crate) use lab::TestLab;
pub(crate) use tunnel::{Kept, Tunnel};

use crate::{
    base::clock::{Clock, SystemClock},
    config::{self, Config, Locations, SANDBOX},
    provider::{Fleet, OpenContext, Provider, postgres, sim::Sim},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// Returns whether a test may start PostgreSQL; where it may not, says why the test is skipped.
pub(crate) fn postgres_or_skip() -> bool {
    skip::postgres_or_skip(postgres::lab::check_installed().map_err(|error| error.to_string()))
}

/// Copies a folder as `cp -r` does.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("reads") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// A folder with an empty configuration and a state folder, both removed with it.
pub(crate) struct TestEnv {
    folder: TempDir,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a folder"), 0o700)
    }

    /// Makes the folder on `/var/tmp`, open to other users as `mode` says: PostgreSQL runs as one of them.
    pub(crate) fn on_shared_disk(mode: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("rd-").tempdir_in("/var/tmp");
        Self::in_folder(folder.expect("a folder"), mode)
    }

    fn in_folder(folder: TempDir, mode: u32) -> Self {
        let env = Self { folder };
        fs::create_dir(env.state_folder()).expect("a folder");
        for path in [env.folder.path(), &env.state_folder()] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours to set");
        }
        // A configuration of the checkout or above is nobody's business here.
        fs::write(env.config_file(), "").expect("written");
        env
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Puts a copy in the place of the state folder: at the same path, and another place.
    pub(crate) fn copy_state(&self) {
        let (state, before) = (self.state_folder(), self.path("state-before"));
        fs::rename(&state, &before).expect("moved");
        copy_folder(&before, &state);
        fs::remove_dir_all(&before).expect("removed");
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join(config::FILE_NAME)
    }

    /// Returns the path of something beside the configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads the configuration as a new process does.
    pub(crate) fn load_config(&self) -> Config {
        let locations = Locations { config: Some(self.config_file()), state: Some(self.state_folder()) };
        config::load_config(&locations).expect("the configuration reads")
    }

    /// Opens the targets as a new process does.
    pub(crate) fn open_fleet(&self) -> Fleet {
        Fleet::new(Arc::new(self.load_config()), Arc::new(SystemClock))
    }

    pub(crate) fn open_target(&self, name: &str) -> Arc<dyn Provider> {
        self.open_fleet().open_target(name).expect("it is a target")
    }

    /// Returns the kinds of what took effect in the sandbox, in order, as its world has them.
    pub(crate) fn sandbox_effects(&self) -> Vec<String> {
        let config = self.load_config();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let base: &Path = &config.base;
        let opening = OpenContext {
            target: &config.targets[SANDBOX],
            base,
            file: None,
            state: &config.state,
            clock: &clock,
        };
        let effects = Sim::open(&opening).expect("the world opens").effect_log().expect("its log");
        effects.into_iter().map(|effect| effect.kind).collect()
    }
}
