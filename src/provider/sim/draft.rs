//! A world before it is made: its text, what happened in it besides, and what time it is there.
//!
//! It is made anew from its beginning after every change, so that backups, restore points and rows are as if everything
//! had happened in the order of its times.

use super::{
    config::{check_world_text, read_world_text},
    target::Sim,
    template::WorldTemplate,
    world::WorldStart,
};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::{Moment, Span},
    },
    provider::{Code, Error, OpenContext, Result},
};
use std::sync::Arc;

/// A world that can still be prepared.
#[derive(Debug, Clone)]
pub struct WorldDraft {
    target: String,
    protect: bool,
    id: String,
    text: String,
    /// From when the times of its text count back.
    anchor: Moment,
    /// How much time has passed since.
    passed: Span,
    /// What was committed besides, with the times of it.
    statements: Vec<(Moment, String)>,
}

impl WorldDraft {
    /// Begins the world that a target's settings name, now, under the identity `id`; reads nothing of the state folder.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn from_config(opening: &OpenContext<'_>, id: &str) -> Result<Self> {
        Ok(Self {
            target: opening.target.name.clone(),
            protect: opening.target.protect,
            id: id.into(),
            text: read_world_text(opening)?,
            anchor: opening.clock.now(),
            passed: Span::ZERO,
            statements: vec![],
        })
    }

    /// Returns what time it is there.
    pub fn now(&self) -> Moment {
        self.anchor.saturating_add(self.passed)
    }

    /// Replaces the world by that of a text; what was added before goes with the old one.
    ///
    /// # Errors
    /// What the text lacks; `origin` names it.
    pub fn replace_with_text(&mut self, text: String, origin: &str) -> Result<()> {
        check_world_text(&text, origin)?;
        self.text = text;
        self.statements.clear();
        Ok(())
    }

    /// Adds a statement that was committed at a moment.
    ///
    /// # Errors
    /// The moment is still to come, or the history does not run with the statement; then it is not added.
    pub fn add_statement(&mut self, at: Moment, sql: &str) -> Result<()> {
        let now = self.now();
        if at > now {
            return Err(Error::new(
                Code::Invalid,
                format!("{at} is still to come in the world of `{}`, where it is {now}", self.target),
            )
            .with_hint(
                "write a moment of the past, such as `-10m`, or let time pass with `world::advance`",
            ));
        }
        self.statements.push((at, sql.to_owned()));
        self.build().map(drop).map_err(|e| {
            self.statements.pop();
            let hint = e.hint.clone().unwrap_or_else(|| {
                "statements run by their times: a table may not be there yet, or a later statement may need what this one takes away".into()
            });
            Error::new(Code::Invalid, format!("at {at} in the world of `{}`: {}", self.target, e.message))
                .with_hint(hint)
        })
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// It would come to a moment that nobody can give; then none passes.
    pub fn advance_by(&mut self, span: Span) -> Result<()> {
        let now = self.now().saturating_add(span).require_plausible();
        now.map_err(|e| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint()))?;
        self.passed = Span(self.passed.0.saturating_add(span.max(Span::ZERO).0));
        Ok(())
    }

    /// Makes the world.
    ///
    /// # Errors
    /// What its text lacks, or a statement that does not run.
    pub fn build(&self) -> Result<WorldTemplate> {
        let beginning = WorldStart { anchor: self.anchor, statements: &self.statements };
        WorldTemplate::from_text_and_history(
            (&self.target, self.protect),
            &self.text,
            &self.id,
            &beginning,
            Arc::new(VirtualClock::starting_at(self.anchor)),
        )
    }

    /// Makes the world, and opens it as it is at a moment, which is not before its own now.
    ///
    /// # Errors
    /// As [`WorldDraft::build`].
    pub fn open_world(&self, at: Moment) -> Result<Sim> {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(at.max(self.now())));
        self.build()?.copy_world(clock)
    }
}
