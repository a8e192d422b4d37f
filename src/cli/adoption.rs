//! What is said when a state folder is taken over.

use crate::{base::terminal, journal::Adoption};

/// Says who took the state over, from where, and what that means for its runs.
pub(super) fn announce_adoption(adoption: &Adoption) {
    for line in describe_adoption(adoption) {
        terminal::print_message(&line);
    }
}

fn describe_adoption(adoption: &Adoption) -> Vec<String> {
    let Adoption { by, from, to, rolled_back, open, gone, .. } = adoption;
    let here = format!("it acts here from now on, on {} in `{}`", to.host, to.path.display());
    let before = match from {
        Some(from) if from != to => format!(
            "it acted on {}, in `{}`, since {}, and must not go on there; ",
            from.host,
            from.path.display(),
            from.at
        ),
        _ => String::new(),
    };
    let mut lines = vec![format!("{by} took the state folder over: {before}{here}")];
    if *rolled_back && !open.is_empty() {
        lines.push(format!(
            "what these runs did since may not be known; every effect is looked for before it is made: {}",
            open.join(", ")
        ));
    }
    if !gone.is_empty() {
        lines.push(format!(
            "the journal has nothing of these runs, nor of what they left: {}; the branches that a target marks as made by \
             one of them are in the column `run` of `redrill branch list`, with `-t` and the target",
            gone.join(", ")
        ));
    }
    lines
}
