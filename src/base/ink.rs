//! Colour, where it is welcome.

/// Whether text is painted. Whoever prints decides ([`super::terminal::ink`]); whoever writes text only uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ink {
    welcome: bool,
}

impl Ink {
    /// No colour at all.
    pub const PLAIN: Ink = Ink { welcome: false };

    /// Returns ink that paints, or does not.
    pub const fn new(welcome: bool) -> Self {
        Self { welcome }
    }

    /// Returns a title, a name.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Returns what is there when one looks for it.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Returns what went wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Returns what went well.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Returns what somebody should look at.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.welcome { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ink_leaves_no_mark() {
        assert_eq!(Ink::PLAIN.red("error:"), "error:");
        assert_eq!(Ink::new(true).green("✓"), "\u{1b}[32m✓\u{1b}[0m");
    }
}
