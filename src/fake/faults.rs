//! What goes wrong because somebody asked for it.
//!
//! A rule names requests by method and path, counts those that it fits, and says what becomes of one of them or of all.

use crate::{
    base::moment::Span,
    provider::{Code, Error, Result},
};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The method; every one when it is left out.
    pub method: Option<String>,
    /// The path, in which a `*` stands for one part: `/v1/projects/*/branches`.
    pub path: String,
    /// Which of the requests that it fits, from 1; all of them when it is left out.
    pub nth: Option<u64>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It takes effect, and is answered after so long.
    Late(Span),
    /// The connection is closed before it takes effect.
    CutBefore,
    /// It takes effect, and the connection is closed.
    CutAfter,
    /// It is never answered, and takes no effect.
    SilentBefore,
    /// It takes effect, and is never answered.
    SilentAfter,
    /// It takes no effect, and is answered with this status.
    Status(u16),
    /// It takes effect, and is answered with this status all the same.
    StatusAfter(u16),
}

/// A list of rules as a file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rule: Vec<Rule>,
}

/// The rules, each with how many requests it has fitted.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<(Rule, u64)>>);

impl Rule {
    /// Reads a file of rules: `[[rule]]` with `method`, `path`, `nth` and `fate`.
    ///
    /// # Errors
    /// [`Code::Invalid`] with the line.
    pub fn read(text: &str) -> Result<Vec<Rule>> {
        let written: Written = toml::from_str(text).map_err(|e| {
            Error::new(Code::Invalid, format!("the faults cannot be read: {}", e.message())).hint(
                "write `[[rule]]`, `path = \"/v1/projects/*/branches\"`, `fate = \"cut-after\"` or `fate = { status = 500 }`",
            )
        })?;
        Ok(written.rule)
    }

    fn fits(&self, method: &str, path: &str) -> bool {
        let parts = |text: &'_ str| text.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (parts(&self.path), parts(path));
        self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(our, their)| our == "*" || our == their)
    }
}

impl Faults {
    /// Returns the list of these rules.
    pub(super) fn of(rules: &[Rule]) -> Self {
        Self(Mutex::new(rules.iter().map(|rule| (rule.clone(), 0)).collect()))
    }

    /// Adds a rule, which counts from now on.
    pub(super) fn add(&self, rule: Rule) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((rule, 0));
    }

    /// Returns what becomes of a request, by the first rule that says so. Every rule that it fits counts it.
    pub(super) fn fate(&self, method: &str, path: &str) -> Option<Fate> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fate = None;
        for (rule, fitted) in rules.iter_mut().filter(|(rule, _)| rule.fits(method, path)) {
            *fitted += 1;
            if rule.nth.is_none_or(|nth| nth == *fitted) {
                fate = fate.or(Some(rule.fate));
            }
        }
        fate
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
        let faults = Faults::of(&Rule::read(text).expect("rules"));
        let branches = "/v1/projects/abc/branches";
        assert_eq!(faults.fate("POST", branches), None);
        assert_eq!(faults.fate("GET", branches), None);
        assert_eq!(faults.fate("POST", branches), Some(Fate::CutAfter));
        assert_eq!(faults.fate("POST", branches), None);
        assert_eq!(faults.fate("GET", "/v1/projects"), Some(Fate::Status(500)));
        assert_eq!(faults.fate("GET", "/v1/projects/abc"), Some(Fate::Late(Span::seconds(2))));
        let wrong = Rule::read("[[rule]]\npath = \"/\"\nfate = \"away\"").expect_err("no fate");
        assert_eq!(wrong.code, Code::Invalid);
    }
}
