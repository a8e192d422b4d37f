//! The documents whose commands need a lab, run whole.

use crate::{
    docs::{list_documents, needs_lab, run_commands},
    env::postgres_or_skip,
};

#[test]
fn every_command_in_a_document_with_a_lab_runs() {
    let with_lab: Vec<_> = list_documents()
        .into_iter()
        .filter(|(_, commands)| commands.iter().any(|command| needs_lab(command)))
        .collect();
    assert!(with_lab.iter().any(|(document, _)| *document == "README.md"), "the README shows the lab");
    if !postgres_or_skip() {
        return;
    }
    for (document, commands) in with_lab {
        run_commands(document, commands.iter());
    }
}
