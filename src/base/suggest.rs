//! "Did you mean": the nearest of a list of names.

/// Returns the name nearest to `wrong`, when one is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Returns "did you mean `x`?", or the list of what there is.
pub fn hint<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(wrong, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => match known.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>() {
            none if none.is_empty() => "there are none".into(),
            list => format!("there is {}", list.join(", ")),
        },
    }
}

/// Takes serde's "unknown field `x`, expected one of `a`, `b`" apart and returns the hint for it.
///
/// Serde keeps no more than this sentence of what it knew, and its wording has been stable since 1.0.
pub fn hint_for_unknown_field(message: &str) -> Option<String> {
    let (_, rest) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (wrong, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(hint(wrong, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["restore", "list", "create"];
        assert_eq!(nearest("restor", known), Some("restore"));
        assert_eq!(nearest("lits", known), Some("list"));
        assert_eq!(nearest("xyzzy", known), None);
    }

    #[test]
    fn serde_says_what_it_expected() {
        let message = "unknown field `dat_dir`, expected one of `data_dir`, `host`";
        assert_eq!(hint_for_unknown_field(message).as_deref(), Some("did you mean `data_dir`?"));
        assert_eq!(
            hint_for_unknown_field("unknown field `x`, expected `data_dir`").as_deref(),
            Some("there is `data_dir`")
        );
    }
}
