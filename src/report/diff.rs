//! What differs between two texts of a runbook.

use crate::journal::Source;
use similar::TextDiff;
use std::collections::BTreeSet;

/// Returns a unified difference, file by file; nothing where there is none.
pub fn diff_sources(recorded: &[Source], now: &[Source]) -> Option<String> {
    let text = |sources: &[Source], path: &str| {
        sources
            .iter()
            .find(|source| source.path == path)
            .map_or_else(String::new, |source| source.text.clone())
    };
    let paths: BTreeSet<&str> = recorded.iter().chain(now).map(|source| source.path.as_str()).collect();
    let parts = paths.into_iter().filter_map(|path| {
        let (before, after) = (text(recorded, path), text(now, path));
        let (from, to) = (format!("{path} (recorded)"), format!("{path} (now)"));
        let differs = before != after;
        differs.then(|| TextDiff::from_lines(&before, &after).unified_diff().header(&from, &to).to_string())
    });
    let text: String = parts.collect();
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_file(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn only_what_differs_is_shown() {
        let recorded = [source_file("a.rhai", "one\ntwo\n"), source_file("./lib", "same\n")];
        let now =
            [source_file("a.rhai", "one\n2\n"), source_file("./lib", "same\n"), source_file("./new", "x\n")];
        assert_eq!(diff_sources(&recorded, &recorded), None);
        insta::assert_snapshot!(diff_sources(&recorded, &now).expect("differs"), @"
        --- ./new (recorded)
        +++ ./new (now)
        @@ -0,0 +1 @@
        +x
        --- a.rhai (recorded)
        +++ a.rhai (now)
        @@ -1,2 +1,2 @@
         one
        -two
        +2
        ");
    }
}
