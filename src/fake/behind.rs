//! The real database behind a project: a copy of its world for whoever only reads, and the project's own once somebody
//! has written into it.

use super::{materialise, project::Project};
use crate::provider::{
    Result, Security as _,
    postgres::stand_in::{Login, Ran, StandIn},
};

/// How long a role lives, in seconds.
pub(super) const LIVES: u32 = 300;

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
        if !self.answers {
            let sim = project.sim()?;
            let script = materialise::script(&sim.tables()?, &sim.policies().await?);
            if self.filled.as_ref() != Some(&script) {
                self.stand_in()?.refill(&script).await?;
                self.filled = Some(script);
            }
        }
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

    /// Runs a script, if it answers for the project.
    pub(super) async fn run(&self, script: &str, read_only: bool) -> Option<Result<Ran>> {
        let stand_in = self.stand_in.as_ref().filter(|_| self.answers)?;
        Some(stand_in.run(script, read_only).await)
    }

    fn stand_in(&mut self) -> Result<&mut StandIn> {
        match &mut self.stand_in {
            Some(stand_in) => Ok(stand_in),
            empty => Ok(empty.insert(StandIn::new()?)),
        }
    }
}
