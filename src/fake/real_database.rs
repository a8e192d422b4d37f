//! The real database of a project: a copy of its world until a write that the simulator cannot follow.
//!
//! From then on the real database answers for the project, and the world no longer does.

use super::world_script;
use crate::{
    base::moment::Span,
    provider::{
        Result, Security as _, Sql as _,
        model::CallKey,
        postgres::platform_cluster::{PlatformCluster, RoleLogin, ScriptResult},
        sim::Sim,
    },
};

/// How long a login role is valid, in seconds.
pub(super) const LOGIN_TTL_SECONDS: u32 = 300;

/// The time limit for a statement in the world.
const WORLD_TIMEOUT: Span = Span::from_secs(30);

/// The real database of a project; its cluster is made on first use.
#[derive(Default)]
pub(super) struct RealDatabase {
    cluster: Option<PlatformCluster>,
    /// The script that filled the cluster.
    filled_with: Option<String>,
    /// Whether the real database answers for the project and its world no longer does.
    authoritative: bool,
}

impl RealDatabase {
    /// Returns the folder of the socket and the port.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed.
    pub(super) fn socket_address(&mut self) -> Result<(String, u16)> {
        let cluster = self.ensure_cluster()?;
        Ok((cluster.socket_folder().display().to_string(), cluster.port()))
    }

    /// Grants a login role on the project as it is now.
    ///
    /// After a role that may write, the real database answers for the project.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed, or what it refuses.
    pub(super) async fn grant_login(&mut self, world: &Sim, read_only: bool) -> Result<RoleLogin> {
        self.copy_world_if_changed(world).await?;
        let login = self.ensure_cluster()?.grant_login(read_only, LOGIN_TTL_SECONDS).await?;
        self.authoritative |= !read_only;
        Ok(login)
    }

    /// Revokes the login roles.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn revoke_logins(&mut self) -> Result<()> {
        match &mut self.cluster {
            Some(cluster) => cluster.revoke_logins().await,
            None => Ok(()),
        }
    }

    /// Returns whether the real database answers for the project.
    pub(super) fn answers_for_project(&self) -> bool {
        self.authoritative
    }

    /// Runs a script in the project as it is now.
    ///
    /// A write is repeated in the world under `key`; where the
    /// simulator cannot follow, the real database answers from then on.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn run_script(
        &mut self,
        world: &Sim,
        script: &str,
        read_only: bool,
        key: &CallKey,
    ) -> Result<ScriptResult> {
        self.copy_world_if_changed(world).await?;
        let ran = self.ensure_cluster()?.run_script(script, read_only).await?;
        if ran.wrote && !self.authoritative {
            match world.execute(unwrap_do_block(script), WORLD_TIMEOUT, key).await {
                Ok(_) => self.filled_with = Some(render_world_script(world).await?),
                Err(_) => self.authoritative = true,
            }
        }
        Ok(ran)
    }

    /// Refills the database from the world, if the world has changed.
    async fn copy_world_if_changed(&mut self, world: &Sim) -> Result<()> {
        if self.authoritative {
            return Ok(());
        }
        let script = render_world_script(world).await?;
        if self.filled_with.as_ref() != Some(&script) {
            self.ensure_cluster()?.replace_content(&script).await?;
            self.filled_with = Some(script);
        }
        Ok(())
    }

    fn ensure_cluster(&mut self) -> Result<&mut PlatformCluster> {
        match &mut self.cluster {
            Some(cluster) => Ok(cluster),
            empty => Ok(empty.insert(PlatformCluster::new()?)),
        }
    }
}

/// Returns the SQL script that recreates the world's current content.
async fn render_world_script(world: &Sim) -> Result<String> {
    Ok(world_script::render_script(&world.export_tables()?, &world.policies().await?))
}

/// Returns the statement inside an `execute $tag$…$tag$` of a `do` block, or else the script itself.
fn unwrap_do_block(script: &str) -> &str {
    let inner = || {
        let (_, rest) = script.split_once("execute $")?;
        let (tag, rest) = rest.split_once('$')?;
        Some(rest.split_once(&format!("${tag}$"))?.0)
    };
    inner().unwrap_or(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_do_block_is_unwrapped() {
        let block = "do $a$ begin perform f(); execute $b$delete from t$b$; end $a$";
        assert_eq!(unwrap_do_block(block), "delete from t");
        assert_eq!(unwrap_do_block("delete from t"), "delete from t");
    }
}
