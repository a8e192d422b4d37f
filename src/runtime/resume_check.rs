//! What is looked at before a run is taken up again: the text that it is to go on with, its parameters, its targets.

use super::{
    refusal::Refusal,
    runbook::{ResolvedParams, Runbook},
    runs::{Runtime, admit_and_compare_text},
};
use crate::journal::{self, Journal, RunFold};
use serde_json::Value;
use std::collections::BTreeSet;

impl Runtime {
    /// Refuses a resume that could not be done, before anything is asked of the process that has the run now.
    ///
    /// # Errors
    /// [`Refusal`]: what [`Runtime::resume_run`] would say of the runbook and of what is configured.
    pub fn check_could_resume(
        &self,
        journal: &Journal,
        run: &str,
        fold: &RunFold,
        runbook: &Runbook,
        confirmed: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        admit_and_compare_text(journal, run, fold, runbook)?;
        let params = self.resolve_params_to_resume(journal, run, fold, runbook)?.values;
        self.check_targets_and_confirmations(runbook, &params, confirmed)
    }

    /// Returns the parameters with which a run is resumed by a runbook: those that it has, and the presets of those that an
    /// edited text adds. What another edit has added, under which nothing has taken effect, is forgotten with that.
    ///
    /// # Errors
    /// [`Refusal`]: an added one has no preset, or one that the run has is of another type by now.
    pub fn resolve_params_to_resume(
        &self,
        journal: &Journal,
        run: &str,
        fold: &RunFold,
        runbook: &Runbook,
    ) -> Result<ResolvedParams, Refusal> {
        let summary = journal.summarize_run(run)?;
        let recorded = journal.read_sources(run, fold.source_edition())?;
        if journal::digest_sources(&runbook.sources()) == journal::digest_sources(&recorded) {
            return self.complete_params(runbook, fold.complete_params(&summary.params));
        }
        let known = fold.complete_params_without_trial(&summary.params);
        let recorded = Runbook::from_recorded(&summary.runbook, recorded)?;
        runbook.check_kept_params(&recorded, &known, &self.config)?;
        self.complete_params(runbook, known)
    }

    /// Returns parameters with the presets of those that are missing.
    ///
    /// # Errors
    /// [`Refusal`]: one of them has no preset.
    pub(super) fn complete_params(
        &self,
        runbook: &Runbook,
        params: Value,
    ) -> Result<ResolvedParams, Refusal> {
        runbook.add_presets_of_new_params(params, &self.config, &|targets| self.read_target_time(targets))
    }
}
