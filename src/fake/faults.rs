//! Fault rules: which requests fail, and how.
//!
//! A rule matches requests by method and path, counts them, and applies a fault to one of them or to all.

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
#[serde(rename_all = "kebab-case")]
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
                "write `[[rule]]`, `path = \"/v1/projects/*/branches\"`, `fate = \"cut-after\"` or `fate = { status = 500 }`",
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
    pub(super) fn decide_action(&self, method: &str, path: &str) -> Option<FaultAction> {
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
        assert_eq!(faults.decide_action("POST", branches), None);
        assert_eq!(faults.decide_action("GET", branches), None);
        assert_eq!(faults.decide_action("POST", branches), Some(FaultAction::CutAfter));
        assert_eq!(faults.decide_action("POST", branches), None);
        assert_eq!(faults.decide_action("GET", "/v1/projects"), Some(FaultAction::Status(500)));
        assert_eq!(
            faults.decide_action("GET", "/v1/projects/abc"),
            Some(FaultAction::Late(Span::from_secs(2)))
        );
        let wrong = FaultRule::parse_rules("[[rule]]\npath = \"/\"\nfate = \"away\"").expect_err("no fate");
        assert_eq!(wrong.code, Code::Invalid);
    }
}
