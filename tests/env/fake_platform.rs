//! A fake platform of a test, with a PostgreSQL cluster behind each project.

use super::{CliEnv, postgres_or_skip};
use redrill::{
    fake::{FakeServer, ServerOptions, faults::FaultRule},
    provider::sim::NormalizedWorld,
};
use std::fs;

/// The token of every request to a fake platform.
pub const TOKEN: &str = "sbp_00112233445566778899aabbccddeeff00112233";

/// An environment in which the target `shop` is a project of a fake platform.
pub struct FakePlatform {
    pub env: CliEnv,
    pub server: FakeServer,
}

impl FakePlatform {
    /// Starts a platform on which nothing takes long; `None` where the test is skipped.
    pub fn start() -> Option<Self> {
        Self::start_with_faults("")
    }

    /// Starts a platform on which these things go wrong; `None` where the test is skipped.
    pub fn start_with_faults(rules: &str) -> Option<Self> {
        postgres_or_skip().then(|| Self::start_with_options(rules, true))
    }

    /// Starts a platform on which these things go wrong, and whose simulated worlds answer every query.
    pub fn start_simulated(rules: &str) -> Self {
        Self::start_with_options(rules, false)
    }

    fn start_with_options(rules: &str, postgres: bool) -> Self {
        let (env, server) = (CliEnv::new(), start_server_with_options(rules, postgres));
        write_shop_target(&env, &server, &server.url());
        Self { env, server }
    }

    /// Says how long a request that got no answer may take to land.
    pub fn set_landing_time(&self, span: &str) {
        let config = fs::read_to_string(self.env.path("redrill.toml")).unwrap();
        let set = |line: &str| match line.split_once(" = ") {
            Some(("landing_time", _)) => format!("landing_time = \"{span}\"\n"),
            _ => format!("{line}\n"),
        };
        self.env.write_file("redrill.toml", &config.lines().map(set).collect::<String>());
    }

    /// Returns the world behind the project.
    pub fn normalized_world(&self) -> NormalizedWorld {
        self.server
            .root_project_world(&self.server.list_root_references()[0])
            .unwrap()
            .normalized_world()
            .unwrap()
    }
}

/// Starts the server of a platform on which nothing takes long; `None` where the test is skipped.
pub fn start_server() -> Option<FakeServer> {
    postgres_or_skip().then(|| start_server_with_options("", true))
}

fn start_server_with_options(rules: &str, postgres: bool) -> FakeServer {
    let faults = if rules.is_empty() { Vec::new() } else { FaultRule::parse_rules(rules).unwrap() };
    let fast =
        ServerOptions { speed: 1000, per_minute: 100_000, postgres, faults, ..ServerOptions::default() };
    FakeServer::start(fast).unwrap()
}

/// Writes a configuration in which `shop` is the first project of `server`, reached at `url`.
pub fn write_shop_target(env: &CliEnv, server: &FakeServer, url: &str) {
    env.write_file("token", TOKEN);
    let entry = format!(
        "[targets.shop]\nprovider = \"supabase\"\nref = \"{}\"\napi_url = \"{url}\"\ntoken = \"file:{}\"\nlanding_time = \"1s\"\n",
        server.list_root_references()[0],
        env.path("token").display(),
    );
    env.write_file("redrill.toml", &entry);
}
