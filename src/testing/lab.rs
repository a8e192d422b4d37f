//! A lab of a test.

use super::{TestEnv, Tunnel, postgres_or_skip};
use crate::{
    config::{Config, LAB},
    provider::{Provider, postgres::lab},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// A lab that is taken down at the end of the test, however the test ends.
pub(crate) struct TestLab {
    pub(crate) env: TestEnv,
}

impl TestLab {
    /// Makes a lab and starts it; `None` where the test is skipped.
    pub(crate) async fn start_lab() -> Option<Self> {
        Self::start_lab_with_mode(0o755).await
    }

    /// Makes a lab whose state folder has these permissions.
    pub(crate) async fn start_lab_with_mode(mode: u32) -> Option<Self> {
        if !postgres_or_skip() {
            return None;
        }
        let lab = Self { env: TestEnv::on_shared_disk(mode) };
        let status = lab::start_lab(&lab.state_folder()).await.expect("the lab comes up");
        assert_eq!(status.status, "up");
        Some(lab)
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.env.state_folder()
    }

    /// Opens a tunnel to the lab's server, and returns it with a configuration in which the lab is reached through it.
    pub(crate) async fn open_tunnel(&self) -> (Tunnel, Config) {
        let mut config = self.env.load_config();
        let lab = config.targets.get_mut(LAB).expect("the lab is up");
        let socket = lab.settings["host"].as_str().expect("a folder").to_owned();
        let tunnel = Tunnel::open(Path::new(&socket)).await;
        lab.settings.insert("host".into(), "127.0.0.1".into());
        lab.settings.insert("port".into(), i64::from(tunnel.port()).into());
        (tunnel, config)
    }

    /// Opens the lab as a new process does.
    pub(crate) fn open_target(&self) -> Arc<dyn Provider> {
        self.env.open_target(LAB)
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let state = self.state_folder();
        // The test may be inside of a runtime, which must not wait for another one.
        let down = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(lab::remove_lab(&state)).expect("the lab goes down");
        });
        down.join().expect("the lab goes down");
    }
}
