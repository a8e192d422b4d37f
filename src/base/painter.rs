//! ANSI colour for text, on or off.

/// A painter colours text, or leaves it plain. Whoever prints decides which; code that builds text only uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Painter {
    is_enabled: bool,
}

impl Painter {
    /// The painter that leaves text as it is.
    pub const PLAIN: Painter = Painter { is_enabled: false };

    /// Returns a painter that colours text if `is_enabled`.
    pub const fn new(is_enabled: bool) -> Self {
        Self { is_enabled }
    }

    /// Returns bold text, for titles and names.
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
        if self.is_enabled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_painter_leaves_text_as_it_is() {
        assert_eq!(Painter::PLAIN.red("error:"), "error:");
        assert_eq!(Painter::new(true).green("✓"), "\u{1b}[32m✓\u{1b}[0m");
    }
}
