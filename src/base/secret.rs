//! Secrets by reference. The reference may be shown and written down; what it refers to may not.

use std::fmt;

/// Where a secret is: `env:NAME` or `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(String);

/// A secret's value. Prints as `•••` and does not serialize.
#[derive(Clone)]
pub struct Secret(String);

/// Why a secret cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A literal value where a reference belongs. The value is not repeated.
    #[error("a secret is given as a reference, never as its value")]
    NotAReference,
    /// The reference is well formed and leads nowhere.
    #[error("the secret `{reference}` cannot be read: {why}")]
    Missing {
        /// The reference as it was given.
        reference: String,
        /// What was in the way.
        why: String,
    },
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// [`Error::NotAReference`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("env" | "file", rest)) if !rest.is_empty() => Ok(Self(text.into())),
            _ => Err(Error::NotAReference),
        }
    }

    /// Returns what the reference refers to, without the line end of a file.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn resolve(&self) -> Result<Secret, Error> {
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

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Secret {
    /// Returns a secret that was found by other means than a reference.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one place that must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}
