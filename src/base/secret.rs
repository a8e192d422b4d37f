//! Secrets by reference: the reference may be shown and recorded, the secret may not.

use super::mask::MASK;
use std::fmt;

/// Where a secret is: `env:NAME` or `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef(String);

/// A secret's value. Prints as `•••` and does not serialize.
#[derive(Clone)]
pub struct Secret(String);

/// Why a secret cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A literal value where a reference belongs. The value is not repeated.
    #[error("a secret is given as a reference, never as its value")]
    NotAReference,
    /// The reference is well formed, but nothing readable is behind it.
    #[error("the secret `{reference}` cannot be read: {why}")]
    Missing {
        /// The reference as it was given.
        reference: String,
        why: String,
    },
}

impl SecretRef {
    /// Parses `env:NAME` or `file:PATH`.
    ///
    /// # Errors
    /// [`Error::NotAReference`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("env" | "file", rest)) if !rest.is_empty() => Ok(Self(text.into())),
            _ => Err(Error::NotAReference),
        }
    }

    /// Reads the secret that the reference points to; the trailing line end of a file is cut off.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn read_secret(&self) -> Result<Secret, Error> {
        let missing = |why: String| Error::Missing { reference: self.0.clone(), why };
        match self.0.split_once(':') {
            Some(("env", name)) => std::env::var(name).map(Secret).map_err(|e| missing(e.to_string())),
            Some(("file", path)) => std::fs::read_to_string(path)
                .map(|text| Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|e| missing(e.to_string())),
            _ => Err(Error::NotAReference),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Secret {
    /// Wraps a secret that was not read through a reference.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one place that must send it.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
