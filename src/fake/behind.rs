//! The real database of a project: a copy of its world until a write that the simulator cannot follow.
//! From then on it answers for the project, and the world no longer does.

use super::{backups::NullRecorder, materialise, project::Project};
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
    stand_in: Option<PlatformCluster>,
    /// The script that filled the cluster.
    filled: Option<String>,
    /// Whether the real database answers for the project and its world no longer does.
    answers: bool,
}

impl RealDatabase {
    /// Returns the folder of the socket and the port.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed.
    pub(super) fn socket_address(&mut self) -> Result<(String, u16)> {
        let stand_in = self.cluster_mut()?;
        Ok((stand_in.socket_folder().display().to_string(), stand_in.port()))
    }

    /// Grants a login role on the project as it is now.
    /// After one that may write, the real database answers for the project.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed, or what it refuses.
    pub(super) async fn grant_login(&mut self, project: &Project, read_only: bool) -> Result<RoleLogin> {
        self.copy_world_if_changed(project).await?;
        let login = self.cluster_mut()?.grant_login(read_only, LOGIN_TTL_SECONDS).await?;
        self.answers |= !read_only;
        Ok(login)
    }

    /// Revokes the login roles.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn revoke_logins(&mut self) -> Result<()> {
        match &mut self.stand_in {
            Some(stand_in) => stand_in.revoke_logins().await,
            None => Ok(()),
        }
    }

    /// Returns whether the real database answers for the project.
    pub(super) fn is_authoritative(&self) -> bool {
        self.answers
    }

    /// Runs a script in the project as it is now. A write is repeated in the world under `key`; where the
    /// simulator cannot follow, the real database answers from then on.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn run_script(
        &mut self,
        project: &Project,
        script: &str,
        read_only: bool,
        key: &CallKey,
    ) -> Result<ScriptResult> {
        self.copy_world_if_changed(project).await?;
        let ran = self.cluster_mut()?.run_script(script, read_only).await?;
        if ran.wrote && !self.answers {
            let sim = project.simulated_database()?;
            match sim.execute(unwrap_do_block(script), WORLD_TIMEOUT, key, &NullRecorder).await {
                Ok(_) => self.filled = Some(render_world(&sim).await?),
                Err(_) => self.answers = true,
            }
        }
        Ok(ran)
    }

    /// Refills the database from the world, if that has changed.
    async fn copy_world_if_changed(&mut self, project: &Project) -> Result<()> {
        if self.answers {
            return Ok(());
        }
        let script = render_world(&project.simulated_database()?).await?;
        if self.filled.as_ref() != Some(&script) {
            self.cluster_mut()?.replace_content(&script).await?;
            self.filled = Some(script);
        }
        Ok(())
    }

    fn cluster_mut(&mut self) -> Result<&mut PlatformCluster> {
        match &mut self.stand_in {
            Some(stand_in) => Ok(stand_in),
            empty => Ok(empty.insert(PlatformCluster::new()?)),
        }
    }
}

/// Returns the SQL script that recreates the world's current content.
async fn render_world(sim: &Sim) -> Result<String> {
    Ok(materialise::render_script(&sim.export_tables()?, &sim.policies().await?))
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
    fn a_block_carries_a_statement() {
        let block = "do $a$ begin perform f(); execute $b$delete from t$b$; end $a$";
        assert_eq!(unwrap_do_block(block), "delete from t");
        assert_eq!(unwrap_do_block("delete from t"), "delete from t");
    }
}
