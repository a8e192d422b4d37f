mod postgres;

use super::*;
use std::collections::BTreeSet;

#[test]
fn every_check_has_an_id_of_its_own_and_words() {
    let mut seen = BTreeSet::new();
    for spec in CHECK_GROUPS.iter().copied().flatten() {
        assert!(seen.insert(spec.id), "{} is there twice", spec.id);
        assert!(!spec.category.is_empty() && !spec.sql.is_empty(), "{}", spec.id);
        assert!(!spec.fix.is_empty() || spec.sql.contains("as fix"), "{} says no way out", spec.id);
    }
    assert_eq!(seen.len(), 57);
}
