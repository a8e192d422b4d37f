//! A statement outside a transaction, as `vacuum` has to be.
//!
//! It is sent as it was given, and alone: two statements in one request would be one transaction. Nothing tells afterwards
//! whether one without an answer has run. The platform does not say how many rows it touched either.

use super::{execute::is_certainly_not_committed, refusal::map_sql_refusal};
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result, model::SqlOutcome, sql::statement, supabase::project::Supabase},
};

/// Runs one statement outside a transaction.
///
/// # Errors
/// What the database says; [`Code::Unknown`] when no answer came.
pub(super) async fn run_statement(project: &Supabase, sql: &str, timeout: Span) -> Result<SqlOutcome> {
    let api = project.api.with_timeout(timeout);
    match project.execute_confirmed_write(&api, statement::require_single_statement(sql)?).await {
        Ok(()) => Ok(SqlOutcome { rows_affected: 0 }),
        Err(error) if is_certainly_not_committed(&error) => {
            Err(statement::add_partial_effects_to_error(map_sql_refusal(error)))
        }
        Err(error) => Err(Error::new(Code::Unknown, error.message)),
    }
}
