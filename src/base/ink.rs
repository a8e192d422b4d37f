//! ANSI colour for text, on or off.

/// Paints text, or leaves it plain. The printing side decides which; code that builds text only uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Painter {
    welcome: bool,
}

impl Painter {
    /// Leaves text as it is.
    pub const PLAIN: Painter = Painter { welcome: false };

    /// Returns a painter that colours text if `welcome`.
    pub const fn new(welcome: bool) -> Self {
        Self { welcome }
    }

    /// Returns a title, a name.
    pub fn bold(self, text: &str) -> String {
        self.paint_ansi("1", text)
    }

    /// Returns dim text, for secondary detail.
    pub fn dim(self, text: &str) -> String {
        self.paint_ansi("2", text)
    }

    /// Returns red text, for failures.
    pub fn red(self, text: &str) -> String {
        self.paint_ansi("1;31", text)
    }

    /// Returns green text, for successes.
    pub fn green(self, text: &str) -> String {
        self.paint_ansi("32", text)
    }

    /// Returns yellow text, for warnings.
    pub fn yellow(self, text: &str) -> String {
        self.paint_ansi("33", text)
    }

    fn paint_ansi(self, code: &str, text: &str) -> String {
        if self.welcome { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ink_leaves_no_mark() {
        assert_eq!(Painter::PLAIN.red("error:"), "error:");
        assert_eq!(Painter::new(true).green("✓"), "\u{1b}[32m✓\u{1b}[0m");
    }
}
