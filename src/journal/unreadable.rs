//! What is recorded and does not read as what this program writes.

/// Something recorded that this version of the program cannot read. Whoever asked for it stops: a default in its place
/// would be something that nobody recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what is recorded of {subject} does not read: {what}; it was written by redrill {version}")]
pub struct UnreadableRecord {
    /// What the record is about: the name of a call, or words.
    pub subject: String,
    /// What does not read, and why.
    pub what: String,
    /// The version of the program that wrote it.
    pub version: String,
}

impl UnreadableRecord {
    /// Returns what to do now.
    pub fn hint(&self) -> String {
        format!("nothing was done with it; redrill {}, which wrote it, can go on from there", self.version)
    }
}
