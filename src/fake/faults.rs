//! Fault rules: which requests fail, and how.
//!
//! A rule matches requests by method and path, counts them, and applies a fault to one of them or to all. Every time in
//! a fault is real time, whatever the server's speed.

use crate::base::lock::lock_unpoisoned;
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result},
};
use serde::Deserialize;
use std::sync::Mutex;

/// A fault and the requests that it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The method; every one when it is left out.
    pub method: Option<String>,
    /// The path; a `*` matches one segment: `/v1/projects/*/branches`.
    pub path: String,
    /// The number of the match that the fault is applied to, from 1; every match when it is left out.
    pub nth: Option<u64>,
    pub fate: FaultAction,
}

/// The fault that is applied to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultAction {
    /// The request takes effect and is answered after this time.
    Late(Span),
    /// The connection is closed before the request takes effect.
    CutBefore,
    /// The request takes effect, and the connection is closed.
    CutAfter,
    /// The request is never answered, and takes no effect.
    SilentBefore,
    /// The request takes effect, and is never answered.
    SilentAfter,
    /// The request takes no effect, and is answered with this status.
    Status(u16),
    /// The request takes effect, and is answered with this status all the same.
    StatusAfter(u16),
    /// The request is answered at once, with the status or by closing the connection, and takes effect after this time,
    /// whether or not its sender is still there.
    LandsLater { after: Span, status: Option<u16> },
    /// The request is answered at once as if it had taken effect, and takes effect after this time.
    AcknowledgedLater { after: Span },
    /// The read is answered as it was this long ago: writes since then are not in it. It holds for reads without
    /// parameters and body whose path names the project only; others and writes are served as ever.
    Stale(Span),
    /// The first part of the request takes effect, and is answered with what holds then: of ranges those to add, of
    /// settings and of bans the first. Other requests are served as ever.
    Partial,
    /// The request takes effect, and is answered with its status and a body of another shape.
    Odd(OddBody),
}

/// A body that no endpoint is documented to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OddBody {
    #[serde(rename = "null")]
    Null,
    #[serde(rename = "[]")]
    EmptyList,
    #[serde(rename = "{}")]
    EmptyObject,
    /// A page for people, as a proxy in between sends it.
    #[serde(rename = "text/html")]
    Html,
}

/// A file of fault rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultsToml {
    rule: Vec<FaultRule>,
}

/// The rules, each with the number of its matches.
#[derive(Debug, Default)]
pub(super) struct FaultRules(Mutex<Vec<(FaultRule, u64)>>);

impl FaultRule {
    /// Parses a file of rules: `[[rule]]` with `method`, `path`, `nth` and `fate`.
    ///
    /// # Errors
    /// [`Code::Invalid`] with the line.
    pub fn parse_rules(text: &str) -> Result<Vec<FaultRule>> {
        let written: FaultsToml = toml::from_str(text).map_err(|e| {
            Error::new(Code::Invalid, format!("the faults cannot be read: {}", e.message())).with_hint(
                "write `[[rule]]`, `path = \"/v1/projects/*/branches\"`, `fate = \"cut-after\"` or `fate = { status = 500 }`; CONTRIBUTING.md has every fate",
            )
        })?;
        Ok(written.rule)
    }

    fn matches_request(&self, method: &str, path: &str) -> bool {
        let parts = |text: &'_ str| text.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (parts(&self.path), parts(path));
        self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(our, their)| our == "*" || our == their)
    }
}

impl FaultRules {
    /// Creates the list from these rules, none of them matched yet.
    pub(super) fn from_rules(rules: &[FaultRule]) -> Self {
        Self(Mutex::new(rules.iter().map(|rule| (rule.clone(), 0)).collect()))
    }

    /// Adds a rule, which counts from now on.
    pub(super) fn add_rule(&self, rule: FaultRule) {
        lock_unpoisoned(&self.0).push((rule, 0));
    }

    /// Returns the fault of the first rule that applies. Every rule that matches counts the request.
    pub(super) fn count_and_find_fault(&self, method: &str, path: &str) -> Option<FaultAction> {
        let mut rules = lock_unpoisoned(&self.0);
        let mut action = None;
        for (rule, matches) in rules.iter_mut().filter(|(rule, _)| rule.matches_request(method, path)) {
            *matches += 1;
            if rule.nth.is_none_or(|nth| nth == *matches) {
                action = action.or(Some(rule.fate));
            }
        }
        action
    }

    /// Returns whether a rule makes a read stale, now or at a later match; counts nothing.
    pub(super) fn makes_stale(&self, method: &str, path: &str) -> bool {
        let rules = lock_unpoisoned(&self.0);
        let mut stale = rules.iter().filter(|(rule, _)| matches!(rule.fate, FaultAction::Stale(_)));
        stale.any(|(rule, _)| rule.matches_request(method, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_by_method_path_and_number() {
        let text = r#"
            [[rule]]
            method = "POST"
            path = "/v1/projects/*/branches"
            nth = 2
            fate = "cut-after"
            [[rule]]
            path = "/v1/projects"
            fate = { status = 500 }
            [[rule]]
            path = "/v1/projects/*"
            fate = { late = "2s" }
        "#;
        let faults = FaultRules::from_rules(&FaultRule::parse_rules(text).expect("rules"));
        let branches = "/v1/projects/abc/branches";
        assert_eq!(faults.count_and_find_fault("POST", branches), None);
        assert_eq!(faults.count_and_find_fault("GET", branches), None);
        assert_eq!(faults.count_and_find_fault("POST", branches), Some(FaultAction::CutAfter));
        assert_eq!(faults.count_and_find_fault("POST", branches), None);
        assert_eq!(faults.count_and_find_fault("GET", "/v1/projects"), Some(FaultAction::Status(500)));
        assert_eq!(
            faults.count_and_find_fault("GET", "/v1/projects/abc"),
            Some(FaultAction::Late(Span::from_secs(2)))
        );
        for wrong in ["\"away\"", "{ lands-later = { status = 504 } }", "{ odd = \"xml\" }"] {
            let wrong = FaultRule::parse_rules(&format!("[[rule]]\npath = \"/\"\nfate = {wrong}"));
            assert_eq!(wrong.expect_err("no fate").code, Code::Invalid);
        }
    }

    #[test]
    fn every_fate_is_written_in_plain_words() {
        let (soon, later) = (Span::from_millis(300), Span::from_secs(4));
        for (written, fate) in [
            ("\"cut-before\"", FaultAction::CutBefore),
            ("{ status-after = 502 }", FaultAction::StatusAfter(502)),
            (
                "{ lands-later = { after = \"4s\", status = 504 } }",
                FaultAction::LandsLater { after: later, status: Some(504) },
            ),
            (
                "{ lands-later = { after = \"300ms\" } }",
                FaultAction::LandsLater { after: soon, status: None },
            ),
            ("{ acknowledged-later = { after = \"4s\" } }", FaultAction::AcknowledgedLater { after: later }),
            ("{ stale = \"4s\" }", FaultAction::Stale(later)),
            ("\"partial\"", FaultAction::Partial),
            ("{ odd = \"null\" }", FaultAction::Odd(OddBody::Null)),
            ("{ odd = \"[]\" }", FaultAction::Odd(OddBody::EmptyList)),
            ("{ odd = \"{}\" }", FaultAction::Odd(OddBody::EmptyObject)),
            ("{ odd = \"text/html\" }", FaultAction::Odd(OddBody::Html)),
        ] {
            let rules = FaultRule::parse_rules(&format!("[[rule]]\npath = \"/\"\nfate = {written}"));
            assert_eq!(rules.expect("a rule")[0].fate, fate);
        }
    }

    #[test]
    fn a_stale_rule_is_asked_for_without_being_counted() {
        let text = "[[rule]]\npath = \"/v1/projects/*\"\nnth = 1\nfate = { stale = \"4s\" }";
        let faults = FaultRules::from_rules(&FaultRule::parse_rules(text).expect("rules"));
        assert!(faults.makes_stale("GET", "/v1/projects/abc"));
        assert!(!faults.makes_stale("GET", "/v1/projects/abc/branches"));
        let first = faults.count_and_find_fault("GET", "/v1/projects/abc");
        assert_eq!(first, Some(FaultAction::Stale(Span::from_secs(4))), "the first match was still to come");
    }
}
