//! "Did you mean": the nearest of a list of names.

/// Returns the known name nearest to `wrong`, if it is close enough to be a typo of it.
pub fn nearest_name<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Returns "did you mean `x`?", or the list of what there is.
pub fn suggest_name_or_list_known<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest_name(wrong, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => match known.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>() {
            none if none.is_empty() => "there are none".into(),
            list => format!("there is {}", list.join(", ")),
        },
    }
}

/// Parses serde's "unknown field `x`, expected one of `a`, `b`" and returns a hint for it.
///
/// Serde offers nothing but this sentence; its wording has been stable since 1.0.
pub fn hint_for_unknown_field(message: &str) -> Option<String> {
    let (_, rest) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (wrong, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(suggest_name_or_list_known(wrong, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["restore", "list", "create"];
        assert_eq!(nearest_name("restor", known), Some("restore"));
        assert_eq!(nearest_name("lits", known), Some("list"));
        assert_eq!(nearest_name("xyzzy", known), None);
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
