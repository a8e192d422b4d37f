//! A project: what its target says of it, its identity, and its status on the platform.

use super::{config::ConfiguredAddress, statuses::map_project_status, transport::ApiClient};
use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Code, Error, Result,
        model::{Branch, Identity, Project},
    },
};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc};

/// A Supabase project. A branch is one too: it has a reference and an API path of its own.
#[derive(Clone)]
pub(super) struct Supabase {
    pub(super) target: String,
    pub(super) protect: bool,
    /// The project reference that goes into API paths; for a branch, the branch's own.
    pub(super) reference: String,
    pub(super) branch: Option<Branch>,
    pub(super) api: Arc<ApiClient>,
    pub(super) clock: Arc<dyn Clock>,
    /// The folder of the dumps.
    pub(super) backups: PathBuf,
    /// The folder with the progress of long operations.
    pub(super) state: PathBuf,
    pub(super) database: ConfiguredAddress,
    /// How long a request that was not answered may still take effect, as is assumed.
    pub(super) landing_time: Span,
}

/// The platform's description of a project. Status words are kept unmapped, because new ones appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProjectState {
    /// The name of the project or branch.
    pub name: String,
    pub region: Option<String>,
    /// The organization's slug.
    pub organization: Option<String>,
    pub version: Option<String>,
    /// The platform's word for how it is: `ACTIVE_HEALTHY`.
    pub status: String,
}

impl Supabase {
    /// Returns the name under which the project was opened: `prod`, `prod/drill-rdaaaaaaaaaa`.
    pub(super) fn display_name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}", self.target, branch.name),
            None => self.target.clone(),
        }
    }

    /// Returns what the platform says of this project.
    ///
    /// A branch is a project of its own, but not everywhere: its reference is known at `/v1/branches`, and by most
    /// accounts unknown at `/v1/projects` (`terraform-provider-supabase`, `utils.go`). Both are tried.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn fetch_project_state(&self) -> Result<ProjectState> {
        let project = format!("/v1/projects/{}", self.reference);
        let branch = format!("/v1/branches/{}", self.reference);
        let (first, second) = if self.branch.is_some() { (branch, project) } else { (project, branch) };
        let answer = match self.api.get(&first).await {
            Err(not_found) if not_found.code == Code::NotFound => match self.api.get(&second).await {
                // The first error explains more.
                Err(e) if e.code == Code::NotFound => return Err(not_found),
                other => other?,
            },
            other => other?,
        };
        self.decode_project_state(&answer)
    }

    fn decode_project_state(&self, answer: &Value) -> Result<ProjectState> {
        let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let status = text(&answer["status"]).ok_or_else(|| {
            Error::new(Code::Unavailable, format!("the API does not say how project {} is", self.reference))
        })?;
        let name = self.branch.as_ref().map(|b| b.name.clone()).or_else(|| text(&answer["name"]));
        Ok(ProjectState {
            name: name.unwrap_or_else(|| self.reference.clone()),
            region: text(&answer["region"]),
            organization: text(&answer["organization_slug"]),
            version: text(&answer["database"]["version"]).or_else(|| text(&answer["postgres_version"])),
            status,
        })
    }

    pub(super) async fn fetch_identity(&self) -> Result<Identity> {
        let state = self.fetch_project_state().await?;
        Ok(Identity {
            id: format!("supabase:{}", self.reference),
            description: self.describe_project(&state),
        })
    }

    pub(super) async fn fetch_project(&self) -> Result<Project> {
        let state = self.fetch_project_state().await?;
        Ok(self.to_project(&state))
    }

    /// Returns the project as an item of `project list`.
    pub(super) fn to_project(&self, state: &ProjectState) -> Project {
        Project {
            name: self.display_name(),
            provider: "supabase".into(),
            status: map_project_status(&state.status),
            version: state.version.clone(),
            identity: self.describe_project(state),
            protect: self.protect,
        }
    }

    fn describe_project(&self, state: &ProjectState) -> String {
        let name = format!("{} ({})", state.name, self.reference);
        let organization = state.organization.as_ref().map(|slug| format!("organization {slug}"));
        let parts = [Some(name), state.region.clone(), organization];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::mock_api::{MockApi, MockReply, REF};
    use crate::provider::{Code, Provider as _};
    use serde_json::json;

    #[tokio::test]
    async fn supabase_project_says_who_it_is_and_where() {
        let server = MockApi::serve_replies(|_| {
            MockReply::from_json(
                200,
                &json!({"ref": REF, "name": "Shop", "region": "eu-central-1", "organization_slug": "acme",
                        "status": "ACTIVE_HEALTHY", "database": {"version": "15.8.1.085"}}),
            )
        })
        .await;
        let project = server.project().project().await.expect("a project");
        assert_eq!((project.name.as_str(), project.status.as_str()), ("prod", "healthy"));
        assert_eq!(project.version.as_deref(), Some("15.8.1.085"));
        assert_eq!(project.identity, format!("Shop ({REF}), eu-central-1, organization acme"));
        let identity = server.project().fetch_identity().await.expect("an identity");
        assert_eq!(identity.id, format!("supabase:{REF}"));
    }

    #[tokio::test]
    async fn supabase_a_branch_is_looked_for_in_both_places() {
        let server = MockApi::serve_replies(|seen| if seen.line.starts_with("GET /v1/branches") {
MockReply::from_json(
                200,
                &json!({"ref": REF, "status": "COMING_UP", "postgres_version": "17.4", "db_pass": "hunter2"}),
            )
} else {
MockReply::from_json(404, &json!({"message": "Project not found"}))
})
        .await;
        let project = server.project().project().await.expect("a branch");
        assert_eq!((project.status.as_str(), project.version.as_deref()), ("coming_up", Some("17.4")));
        assert!(!format!("{project:?}").contains("hunter2"));
        let server =
            MockApi::serve_replies(|_| MockReply::from_json(404, &json!({"message": "Project not found"})))
                .await;
        let error = server.project().project().await.expect_err("nowhere");
        assert!(error.code == Code::NotFound && error.message.contains("/v1/projects/"), "{error}");
    }

    #[tokio::test]
    async fn supabase_t18_a_status_that_nobody_knows_is_carried() {
        let server = MockApi::serve_replies(|_| {
            MockReply::from_json(200, &json!({"name": "Shop", "status": "PROMOTING_TWICE"}))
        })
        .await;
        assert_eq!(server.project().project().await.expect("a project").status, "promoting_twice");
    }
}
