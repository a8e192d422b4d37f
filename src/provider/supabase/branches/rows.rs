//! The branches of a project as the platform lists them, found by their names, and deleted.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{Branch, CallKey},
        supabase::{project::Supabase, requests, statuses, transport::unreadable_answer_error},
    },
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

/// A branch, as the list of a project's branches shows it.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::provider::supabase) struct BranchRow {
    pub id: String,
    /// Its name, with the key of the call that made it.
    pub name: String,
    pub project_ref: String,
    parent_project_ref: String,
    is_default: bool,
    persistent: bool,
    /// The status of its workflow.
    pub status: String,
    created_at: String,
    pub(super) preview_project_status: Option<String>,
}

/// Details of a branch's own project. The response also holds its database password and JWT secret, so only
/// these fields are decoded and the rest is dropped.
#[derive(Deserialize)]
pub(in crate::provider::supabase) struct BranchDetails {
    /// The status, in the platform's word.
    pub status: String,
    pub db_host: String,
    pub db_port: u16,
    /// The server's version.
    #[serde(default)]
    pub postgres_version: String,
}

impl BranchRow {
    /// Returns whether the row is the project itself.
    fn is_project_itself(&self) -> bool {
        self.is_default || self.project_ref == self.parent_project_ref
    }

    /// Returns whether a call made it under this name. One that was made before keys were marked, and somebody else's, has
    /// its full name only.
    fn was_made_under_name(&self, name: &str) -> bool {
        CallKey::split_name_and_key(&self.name).is_some_and(|(made_as, _)| made_as == name)
    }

    /// Converts the row to the provider-neutral branch.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the creation time cannot be parsed.
    pub(in crate::provider::supabase) fn to_branch(
        &self,
        target: &str,
        details: Option<&BranchDetails>,
    ) -> Result<Branch> {
        let project = details.map(|i| i.status.as_str()).or(self.preview_project_status.as_deref());
        let created_at = Moment::parse(&self.created_at)
            .map_err(|e| unreadable_answer_error("`…/branches`", &format!("branch `{}`: {e}", self.name)))?;
        Ok(Branch {
            name: self.name.clone(),
            id: self.project_ref.clone(),
            target: target.into(),
            status: statuses::map_branch_status(&self.status, project),
            created_at,
            backup: None,
            reached: None,
            timeline: None,
            unseen: None,
            host: details.map(|i| i.db_host.clone()),
            port: details.map(|i| i.db_port),
            temporary: false,
            run: None,
            key: CallKey::split_name_and_key(&self.name).map(|(_, key)| key),
        })
    }
}

/// Returns the name of a branch that `key` makes.
///
/// # Errors
/// [`Code::Invalid`] for a name with other characters, or too many.
pub(in crate::provider::supabase) fn build_full_branch_name(name: &str, key: &CallKey) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if name.is_empty() || name.len() > 40 || !name.chars().all(fits) {
        return Err(Error::new(Code::Invalid, format!("a branch cannot be called `{name}`"))
            .with_hint("use up to 40 letters, digits, `-`, `_` and `.`"));
    }
    Ok(key.append_key_to_name(name))
}

impl Supabase {
    /// Returns every branch, the project itself left out, oldest first.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn list_branch_rows(&self) -> Result<Vec<BranchRow>> {
        let listed = self.get_project_resource("/branches").await;
        // A project that is not found does not say that a branch of it is gone.
        let mut rows: Vec<BranchRow> = listed.map_err(|e| match e.code {
            Code::NotFound => Error { code: Code::Refused, ..e },
            _ => e,
        })?;
        rows.retain(|row| !row.is_project_itself() && row.project_ref != self.reference);
        rows.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
        Ok(rows)
    }

    /// Returns a branch by its full name, or by the name that it was made under.
    ///
    /// # Errors
    /// [`Code::NotFound`], with the full names; [`Code::Conflict`] when several go by the name: two that were made under it, or
    /// one of ours and somebody else's that is called so in full.
    pub(super) async fn find_branch_row(&self, name: &str) -> Result<BranchRow> {
        let rows = self.list_branch_rows().await?;
        let is_marked = CallKey::split_name_and_key(name).is_some();
        let goes_by = |row: &&BranchRow| row.name == name || !is_marked && row.was_made_under_name(name);
        let called: Vec<&BranchRow> = rows.iter().filter(goes_by).collect();
        match called[..] {
            [row] => Ok(row.clone()),
            [] => {
                let names: Vec<_> = rows.iter().map(|row| format!("`{}`", row.name)).collect();
                let hint = if names.is_empty() {
                    "it has no branches".into()
                } else {
                    format!("give the full name of one: {}", names.join(", "))
                };
                Err(Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", self.target))
                    .with_hint(hint))
            }
            _ => {
                let names: Vec<_> = called.iter().map(|row| format!("`{}`", row.name)).collect();
                Err(Error {
                    retryable: false,
                    ..Error::new(
                        Code::Conflict,
                        format!("several branches go by `{name}`: {}", names.join(", ")),
                    )
                }
                .with_hint("name ours in full, with its key; change any other in the dashboard"))
            }
        }
    }

    /// Fetches the details of a branch's own project; `None` while the platform does not find it yet.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn fetch_branch_details(
        &self,
        reference: &str,
    ) -> Result<Option<BranchDetails>> {
        let path = format!("/v1/branches/{reference}");
        match self.api.get(&path).await {
            Ok(answer) => requests::decode_answer(answer, &path).map(Some),
            Err(e) if e.code == Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns the row of a branch, which must still exist.
    pub(super) async fn find_existing_row(&self, branch: &Branch) -> Result<BranchRow> {
        let rows = self.list_branch_rows().await?;
        rows.into_iter()
            .find(|row| row.project_ref == branch.id)
            .ok_or_else(|| Error::new(Code::NotFound, format!("branch `{}` is gone", branch.name)))
    }

    /// Asks for a branch to be deleted; that it is gone is no error. Whoever asks looks when it is.
    ///
    /// # Errors
    /// [`Code::Refused`] for the project itself, and what the API says.
    pub(in crate::provider::supabase) async fn delete_branch(&self, reference: &str) -> Result<()> {
        let rows: Vec<BranchRow> = self.get_project_resource("/branches").await?;
        let row = rows.into_iter().find(|row| row.project_ref == reference);
        if reference == self.reference || row.as_ref().is_some_and(BranchRow::is_project_itself) {
            return Err(Error::new(Code::Refused, format!("`{reference}` is the project itself")));
        }
        let path = format!("/v1/branches/{reference}");
        let is_persistent = row.is_some_and(|row| row.persistent);
        if is_persistent {
            self.api.send_write(Method::PATCH, &path, Some(&json!({ "persistent": false }))).await?;
        }
        // Also where the list does not show it: the list may lag behind.
        match self.api.send_write(Method::DELETE, &path, None).await {
            Err(e) if e.code == Code::NotFound => {}
            Err(e) if is_persistent => return Err(e.with_side_effects()),
            deleted => deleted?,
        }
        self.stop_and_remove_load(reference);
        Ok(())
    }
}
