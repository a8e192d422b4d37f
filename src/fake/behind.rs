//! The real database behind a project: a copy of its world, and the project's own once somebody has written into it what
//! the world cannot follow.

use super::{backups::Nowhere, materialise, project::Project};
use crate::{
    base::moment::Span,
    provider::{
        Result, Security as _, Sql as _,
        model::Key,
        postgres::stand_in::{Login, Ran, StandIn},
        sim::Sim,
    },
};

/// How long a role lives, in seconds.
pub(super) const LIVES: u32 = 300;

/// How long the world may take over a statement.
const PATIENCE: Span = Span::seconds(30);

/// What is behind a project.
#[derive(Default)]
pub(super) struct Behind {
    stand_in: Option<StandIn>,
    /// What it was filled with.
    filled: Option<String>,
    /// Whether it answers for the project, and its world no more.
    answers: bool,
}

impl Behind {
    /// Returns the folder and the port by which it is connected to.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed.
    pub(super) fn address(&mut self) -> Result<(String, u16)> {
        let stand_in = self.stand_in()?;
        Ok((stand_in.host().display().to_string(), stand_in.port()))
    }

    /// Lets somebody in. What he finds is the project as it is now.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed, or what it refuses.
    pub(super) async fn login(&mut self, project: &Project, read_only: bool) -> Result<Login> {
        self.catch_up(project).await?;
        let login = self.stand_in()?.login(read_only, LIVES).await?;
        self.answers |= !read_only;
        Ok(login)
    }

    /// Lets nobody in any more.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn lock(&mut self) -> Result<()> {
        match &mut self.stand_in {
            Some(stand_in) => stand_in.lock().await,
            None => Ok(()),
        }
    }

    /// Returns whether it answers for the project.
    pub(super) fn answers(&self) -> bool {
        self.answers
    }

    /// Runs a script, in the project as it is now. What is written is written in its world too, under `key`; where that
    /// cannot follow, it answers no more.
    ///
    /// # Errors
    /// What the database refuses.
    pub(super) async fn run(
        &mut self,
        project: &Project,
        script: &str,
        read_only: bool,
        key: &Key,
    ) -> Result<Ran> {
        self.catch_up(project).await?;
        let ran = self.stand_in()?.run(script, read_only).await?;
        if ran.wrote && !self.answers {
            let sim = project.sim()?;
            match sim.execute(carried(script), PATIENCE, key, &Nowhere).await {
                Ok(_) => self.filled = Some(now(&sim).await?),
                Err(_) => self.answers = true,
            }
        }
        Ok(ran)
    }

    /// Makes it what the world of the project is, unless it is that already.
    async fn catch_up(&mut self, project: &Project) -> Result<()> {
        if self.answers {
            return Ok(());
        }
        let script = now(&project.sim()?).await?;
        if self.filled.as_ref() != Some(&script) {
            self.stand_in()?.refill(&script).await?;
            self.filled = Some(script);
        }
        Ok(())
    }

    fn stand_in(&mut self) -> Result<&mut StandIn> {
        match &mut self.stand_in {
            Some(stand_in) => Ok(stand_in),
            empty => Ok(empty.insert(StandIn::new()?)),
        }
    }
}

/// Returns the script that makes what a world holds now.
async fn now(sim: &Sim) -> Result<String> {
    Ok(materialise::script(&sim.tables()?, &sim.policies().await?))
}

/// Returns the statement that a block executes as a text, or else the script itself.
fn carried(script: &str) -> &str {
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
        assert_eq!(carried(block), "delete from t");
        assert_eq!(carried("delete from t"), "delete from t");
    }
}
