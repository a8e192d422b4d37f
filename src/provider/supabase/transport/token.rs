//! The access token: what the target says, else where the official command line keeps it.
//!
//! `SUPABASE_ACCESS_TOKEN`, then the entry of the keyring, then the file `access-token` in `SUPABASE_HOME`
//! (`~/.supabase`); the order is that of `supabase/cli` (`internal/utils/access_token.go`).

use super::{environment::Environment, keyring};
use crate::{
    base::secret::{Secret, SecretRef},
    provider::{Code, Error, Result},
};
use std::path::PathBuf;

/// The environment variable that holds a token.
const TOKEN_VARIABLE: &str = "SUPABASE_ACCESS_TOKEN";

/// A token, and where it was found, for people.
#[derive(Debug)]
pub(super) struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Where it was found.
    pub from: String,
}

/// Returns the token: what `reference` refers to, else the first of the places where there is one.
///
/// # Errors
/// [`Code::Invalid`] for a reference that leads nowhere or a token that cannot be one; [`Code::Denied`] with every
/// place that was looked at.
pub(super) async fn find_token(
    reference: Option<&SecretRef>,
    environment: &Environment,
) -> Result<AccessToken> {
    if let Some(reference) = reference {
        let secret =
            reference.read_secret().map_err(|e| Error::new(Code::Invalid, format!("`token`: {e}")))?;
        return validate_token(secret.expose_secret(), format!("`{reference}`"));
    }
    if let Some(token) = environment.var(TOKEN_VARIABLE) {
        return validate_token(&token, format!("`{TOKEN_VARIABLE}`"));
    }
    let mut looked = vec![format!("`{TOKEN_VARIABLE}` is not set")];
    match keyring::read_keyring_token(environment).await {
        Ok(token) => return validate_token(&token, "the keyring".into()),
        Err(why) => looked.push(format!("the keyring: {why}")),
    }
    match read_token_file(environment) {
        Ok((token, path)) => return validate_token(&token, format!("`{}`", path.display())),
        Err(why) => looked.push(why),
    }
    Err(Error::new(Code::Denied, format!("there is no access token for Supabase: {}", looked.join("; "))).with_hint(
        format!("make one at https://supabase.com/dashboard/account/tokens and set `{TOKEN_VARIABLE}`, or write `token = \"env:NAME\"` or `\"file:PATH\"` under the target"),
    ))
}

fn read_token_file(environment: &Environment) -> Result<(String, PathBuf), String> {
    let home = environment.var("SUPABASE_HOME").map(PathBuf::from).or_else(|| {
        let home = environment.var("HOME").or_else(|| environment.var("USERPROFILE"))?;
        Some(PathBuf::from(home).join(".supabase"))
    });
    let path = home.ok_or("no home folder is known")?.join("access-token");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(format!("`{}` is empty", path.display())),
        Ok(text) => Ok((text, path)),
        Err(e) => Err(format!("`{}`: {e}", path.display())),
    }
}

/// Returns a token that can be sent. The forms of tokens have changed before, so the platform alone judges them.
fn validate_token(token: &str, from: String) -> Result<AccessToken> {
    let token = token.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Error::new(Code::Invalid, format!("what {from} holds is no access token"))
            .with_hint("an access token is one word, `sbp_…`"));
    }
    Ok(AccessToken { secret: Secret::new(token), from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        let vars: Vec<_> = vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Environment::new(move |name| vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
    }

    #[tokio::test]
    async fn supabase_token_is_the_references_then_the_variables_then_the_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("UTF-8");
        fs::write(folder.path().join("access-token"), "from-file\n").expect("written");
        fs::write(folder.path().join("mine"), "from-reference\n").expect("written");
        let all = environment(&[(TOKEN_VARIABLE, " from-variable "), ("SUPABASE_HOME", home)]);
        let reference = SecretRef::parse(&format!("file:{home}/mine")).expect("a reference");
        for (reference, environment, expected) in [
            (Some(&reference), all.clone(), "from-reference"),
            (None, all, "from-variable"),
            (None, environment(&[("SUPABASE_HOME", home), ("SUPABASE_NO_KEYRING", "1")]), "from-file"),
        ] {
            let found = find_token(reference, &environment).await.expect(expected);
            assert_eq!(found.secret.expose_secret(), expected);
            assert!(!format!("{found:?}").contains(expected));
        }
    }

    #[tokio::test]
    async fn supabase_a_missing_token_says_where_was_looked() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("UTF-8");
        let error = find_token(None, &environment(&[("HOME", home), ("SUPABASE_NO_KEYRING", "1")])).await;
        let error = error.expect_err("nowhere");
        assert_eq!(error.code, Code::Denied);
        for place in [TOKEN_VARIABLE, "SUPABASE_NO_KEYRING", ".supabase/access-token"] {
            assert!(error.message.contains(place), "{error}");
        }
    }

    #[tokio::test]
    async fn supabase_what_cannot_be_a_token_is_refused_without_being_repeated() {
        for wrong in ["two hunter2 words", "hunter2\nhunter2"] {
            let error = find_token(None, &environment(&[(TOKEN_VARIABLE, wrong)])).await.expect_err(wrong);
            assert_eq!(error.code, Code::Invalid);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
