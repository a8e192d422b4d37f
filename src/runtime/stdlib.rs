//! The library for scripts that is part of the program.

/// Every module of the library: its import path and its text.
pub(super) const MODULES: &[(&str, &str)] = &[("std/dr@1", include_str!("../../stdlib/dr@1.rhai"))];

/// Returns the text of a library module.
pub(super) fn find_module_text(path: &str) -> Option<&'static str> {
    MODULES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}
