//! Logging in to a project's database for a few minutes, without knowing its password.
//!
//! - The platform creates a role `cli_login_<role>` that inherits nothing; `<role>` is the role to
//!   switch to after login.
//! - Each login changes the password; a connection that is open already stays.
//! - The password reaches a program in its environment, never as an argument, and is written down nowhere.

use crate::provider::{
    Code, Error, Result,
    supabase::{branches::BranchDetails, project::Supabase, requests},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::ffi::{OsStr, OsString};

/// The prefix of a temporary role's name.
const TEMPORARY_ROLE_PREFIX: &str = "cli_login_";
/// The only database of a project.
const DATABASE_NAME: &str = "postgres";
/// The port of a project's own database.
const DEFAULT_PORT: u16 = 5432;

/// A login to a database. Has no `Debug`: it holds a password.
pub(in crate::provider::supabase) struct Login {
    host: String,
    port: u16,
    user: String,
    become_role: Option<String>,
    password: String,
}

#[derive(Deserialize)]
struct LoginRole {
    role: String,
    password: String,
}

impl Login {
    /// Returns the arguments of a PostgreSQL program.
    pub(in crate::provider::supabase) fn program_args(&self) -> Vec<OsString> {
        let mut args = vec![
            format!("--host={}", self.host),
            format!("--port={}", self.port),
            format!("--username={}", self.user),
            format!("--dbname={DATABASE_NAME}"),
            "--no-password".into(),
        ];
        args.extend(self.become_role.iter().map(|role| format!("--role={role}")));
        args.into_iter().map(OsString::from).collect()
    }

    /// Returns the environment of a PostgreSQL program.
    pub(in crate::provider::supabase) fn program_environment(&self) -> [(&str, &OsStr); 3] {
        [
            ("PGPASSWORD", OsStr::new(&self.password)),
            // Anything that leaves this machine must be encrypted.
            ("PGSSLMODE", OsStr::new(if is_this_machine(&self.host) { "prefer" } else { "require" })),
            ("PGCONNECT_TIMEOUT", OsStr::new("30")),
        ]
    }
}

impl Supabase {
    /// Logs in to the project itself: at the address that the target gives, else at the platform's.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn log_in_read_only(&self) -> Result<Login> {
        let host = match &self.database.host {
            Some(host) => host.clone(),
            None => self.fetch_project_details().await?.database.host.ok_or_else(|| {
                Error::new(
                    Code::Unavailable,
                    format!("the platform does not say where the database of `{}` is", self.display_name()),
                )
                .with_hint("say it with `db_host` of the target")
            })?,
        };
        self.request_login(&self.reference, host, self.database.port.unwrap_or(DEFAULT_PORT), true).await
    }

    /// Logs in to a branch, to write.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn log_in_to_branch(
        &self,
        reference: &str,
        details: &BranchDetails,
    ) -> Result<Login> {
        self.request_login(reference, details.db_host.clone(), details.db_port, false).await
    }

    async fn request_login(
        &self,
        reference: &str,
        host: String,
        port: u16,
        read_only: bool,
    ) -> Result<Login> {
        let path = format!("/v1/projects/{reference}/cli/login-role");
        let answer = self
            .api
            .send_write_for_answer(Method::POST, &path, Some(&json!({ "read_only": read_only })))
            .await;
        let answer: LoginRole = match answer {
            Ok(answer) => requests::decode_answer(answer, &path)?,
            // At worst this set a password that nobody knows, so asking again is safe.
            Err(e) if e.code == Code::Unknown => {
                let why = e.message;
                return Err(Error::new(
                    Code::Unavailable,
                    format!("no login to the database could be had: {why}"),
                ));
            }
            Err(e) => return Err(e),
        };
        let become_role = answer.role.strip_prefix(TEMPORARY_ROLE_PREFIX).map(str::to_owned);
        // The pooler serves many projects, and is told which by the user's name.
        let is_pooler = host.ends_with(".pooler.supabase.com");
        let user = if is_pooler { format!("{}.{reference}", answer.role) } else { answer.role };
        Ok(Login { host, port, user, become_role, password: answer.password })
    }
}

/// Returns whether a host is this machine.
fn is_this_machine(host: &str) -> bool {
    host.starts_with('/') || ["localhost", "127.0.0.1", "::1"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_an_argument() {
        let login = Login {
            host: "db.example.com".into(),
            port: 5432,
            user: "cli_login_postgres".into(),
            become_role: Some("postgres".into()),
            password: "hush".into(),
        };
        assert!(login.program_args().iter().all(|arg| !arg.to_string_lossy().contains("hush")));
        assert!(login.program_args().contains(&OsString::from("--role=postgres")));
        assert_eq!(login.program_environment()[1].1, "require");
        assert!(is_this_machine("/var/run/postgresql") && !is_this_machine("db.example.com"));
    }
}
