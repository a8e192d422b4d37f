//! The entry that the official command line keeps in the keyring of the operating system, through the system's own
//! program for it: `secret-tool` on Linux, `security` on macOS.
//!
//! The command line writes with `go-keyring`, which encodes on macOS and says so in a prefix.

use super::environment::Environment;
use crate::base::program::run_program_async;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const SERVICE: &str = "Supabase CLI";
/// The name of the official command line's profile, and the account of its earlier versions.
const ACCOUNTS: &[&str] = &["supabase", "access-token"];
/// How long the keyring is waited for: it may prompt for a password that nobody enters.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the token of the first account that has one.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn read_keyring_token(environment: &Environment) -> Result<String, String> {
    if environment.var("SUPABASE_NO_KEYRING").is_some_and(|v| v != "0" && v != "false") {
        return Err("not looked at, because of `SUPABASE_NO_KEYRING`".into());
    }
    if is_wsl() {
        return Err("not looked at under WSL, as the official command line does not".into());
    }
    let name = keyring_program().ok_or("not looked at on this system")?;
    let program = find_on_path(environment, name).ok_or_else(|| format!("`{name}` is not installed"))?;
    for account in ACCOUNTS {
        if let Some(token) = read_account_token(&program, account).await? {
            return Ok(token);
        }
    }
    Err(format!("no entry `{SERVICE}`"))
}

const fn keyring_program() -> Option<&'static str> {
    if cfg!(target_os = "linux") {
        Some("secret-tool")
    } else if cfg!(target_os = "macos") {
        Some("security")
    } else {
        None
    }
}

fn keyring_arguments(account: &str) -> [&str; 5] {
    if cfg!(target_os = "macos") {
        ["find-generic-password", "-s", SERVICE, "-wa", account]
    } else {
        ["lookup", "service", SERVICE, "username", account]
    }
}

async fn read_account_token(program: &Path, account: &str) -> Result<Option<String>, String> {
    let name = program.display();
    let mut lookup = Command::new(program);
    lookup.args(keyring_arguments(account)).stdin(Stdio::null()).stderr(Stdio::null());
    let output = tokio::time::timeout(KEYRING_TIMEOUT, run_program_async(lookup))
        .await
        .map_err(|_| format!("`{name}` did not answer within {} s", KEYRING_TIMEOUT.as_secs()))?
        .map_err(|e| format!("`{name}` did not start: {e}"))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim() {
        "" => Ok(None),
        text => decode_keyring_entry(text).map(Some).ok_or_else(|| "the entry cannot be read".into()),
    }
}

/// Decodes an entry as `go-keyring` writes it.
fn decode_keyring_entry(text: &str) -> Option<String> {
    let bytes = if let Some(text) = text.strip_prefix("go-keyring-base64:") {
        BASE64.decode(text.as_bytes()).ok()?
    } else if let Some(text) = text.strip_prefix("go-keyring-encoded:") {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?
    } else {
        return Some(text.to_owned());
    };
    String::from_utf8(bytes).ok()
}

fn find_on_path(environment: &Environment, name: &str) -> Option<PathBuf> {
    let path = environment.var("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn is_wsl() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.to_lowercase().contains("wsl")
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    /// Asks a `secret-tool` whose body is `script`.
    async fn read_with(script: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let tool = folder.path().join("secret-tool");
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("executable");
        let path = folder.path().display().to_string();
        read_keyring_token(&Environment::new(move |name| (name == "PATH").then(|| path.clone()))).await
    }

    #[tokio::test]
    async fn supabase_keyring_is_asked_for_the_profile_and_then_for_the_old_account() {
        let told =
            r#"[ "$*" = "lookup service Supabase CLI username access-token" ] && echo sbp_old || exit 1"#;
        assert_eq!(read_with(told).await, Ok("sbp_old".into()));
        let told = r#"[ "$5" = supabase ] && echo go-keyring-base64:c2JwX25ldw== || echo sbp_old"#;
        assert_eq!(read_with(told).await, Ok("sbp_new".into()));
        assert_eq!(read_with("echo go-keyring-encoded:7362705f686578").await, Ok("sbp_hex".into()));
    }

    #[tokio::test]
    async fn supabase_keyring_that_has_nothing_or_hangs_is_no_obstacle() {
        assert_eq!(read_with("exit 1").await, Err("no entry `Supabase CLI`".into()));
        let why = read_with("exec sleep 60").await.expect_err("hangs");
        assert!(why.contains("did not answer within 3 s"), "{why}");
        let empty = Environment::new(|name| (name == "PATH").then(|| "/nonexistent".into()));
        assert_eq!(read_keyring_token(&empty).await, Err("`secret-tool` is not installed".into()));
    }
}
