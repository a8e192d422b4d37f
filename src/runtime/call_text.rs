//! The text of one call in a script: what a person wrote between its name and its closing parenthesis.

/// Returns the text of the call whose name stands at a line and column, both from 1: without comments, and with no more
/// space than its words need, so that another layout is the same text. Nothing where no call stands.
pub(super) fn read_call_text(source: &str, line: usize, column: usize) -> Option<String> {
    let rest = source.split('\n').skip(line.checked_sub(1)?).collect::<Vec<_>>().join("\n");
    read_until_closed(rest.chars().skip(column.checked_sub(1)?).collect(), ')')
}

/// Returns the texts of the calls of a function in a script, in the same form.
pub(super) fn find_call_texts(source: &str, name: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let calls = source.match_indices(name).filter(|(at, _)| {
        let rest = &source[at + name.len()..];
        !source[..*at].ends_with(is_part) && rest.trim_start().starts_with('(')
    });
    calls.filter_map(|(at, _)| read_until_closed(source[at..].chars().collect(), ')')).collect()
}

/// Returns the texts of the functions and constants of a script that have this name, in the same form: functions of one name
/// differ by their parameters.
pub(super) fn find_definition_texts(source: &str, name: &str) -> Vec<String> {
    let is_named = |at: usize, keyword: &str, next: char| {
        let rest = &source[at + keyword.len()..];
        let named = rest.trim_start().strip_prefix(name).map(str::trim_start);
        rest.starts_with(char::is_whitespace) && named.is_some_and(|rest| rest.starts_with(next))
    };
    let find = |keyword: &'static str, next, closing| {
        let found = source.match_indices(keyword).filter(move |(at, _)| is_named(*at, keyword, next));
        found.filter_map(move |(at, _)| read_until_closed(source[at..].chars().collect(), closing))
    };
    find("fn", '(', '}').chain(find("const", '=', ';')).collect()
}

/// Reads to the bracket `closing` with which everything is closed, or to the `;` behind it.
fn read_until_closed(chars: Vec<char>, closing: char) -> Option<String> {
    let mut scanner = Scanner { chars, at: 0, text: String::new() };
    scanner.read_until_closed(closing).then_some(scanner.text)
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    text: String,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Takes one character over as it is.
    fn take(&mut self) {
        self.text.extend(self.peek(0));
        self.at += 1;
    }

    /// Reads to the bracket with which everything is closed, or to the `;` behind it; returns whether it is `closing`.
    fn read_until_closed(&mut self, closing: char) -> bool {
        let mut open: Vec<char> = Vec::new();
        while let Some(c) = self.peek(0) {
            match (open.last(), c) {
                // Inside a text in back-quotes, which may hold code.
                (Some('`'), '`') => {
                    self.take();
                    open.pop();
                }
                (Some('`'), '$') if self.peek(1) == Some('{') => {
                    self.take();
                    self.take();
                    open.push('{');
                }
                (Some('`'), _) => self.take(),
                (_, '"' | '\'') => self.read_quoted(c),
                (_, '/') if self.peek(1) == Some('/') => self.skip_line(),
                (_, '/') if self.peek(1) == Some('*') => self.skip_comment(),
                (_, '`' | '(' | '[' | '{') => {
                    self.take();
                    open.push(c);
                }
                (None, ';') if closing == ';' => return true,
                (_, ')' | ']' | '}') => {
                    self.take();
                    open.pop();
                    match (open.is_empty(), c) {
                        (true, c) if c == closing => return true,
                        (true, _) if closing == ';' => {}
                        // The parameters of a function stand before its body.
                        (true, ')') if closing == '}' => {}
                        (true, _) => return false,
                        (false, _) => {}
                    }
                }
                (_, c) if c.is_whitespace() => self.skip_space(),
                _ => self.take(),
            }
        }
        false
    }

    fn read_quoted(&mut self, quote: char) {
        self.take();
        while let Some(c) = self.peek(0) {
            self.take();
            match c {
                '\\' => self.take(),
                c if c == quote => return,
                _ => {}
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    /// Skips a comment; they nest.
    fn skip_comment(&mut self) {
        let mut depth = 0_u32;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => (self.at, depth) = (self.at + 2, depth + 1),
                ('*', Some('/')) => (self.at, depth) = (self.at + 2, depth - 1),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips space; a blank stays between two words.
    fn skip_space(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if is_word(self.text.chars().last()) && is_word(self.peek(0)) {
            self.text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{find_definition_texts, read_call_text};

    #[test]
    fn the_text_of_a_call_ends_where_the_call_does() {
        for (source, text) in [
            ("defer(|| branch::delete(copy)); more(1)", "defer(||branch::delete(copy))"),
            ("defer( ||\n  // why )\n  f( a,  b ) /* ) /* ) */ */ )", "defer(||f(a,b))"),
            ("defer(|| note(\") \\\" )\"))", "defer(||note(\") \\\" )\"))"),
            ("defer(|| note(`) ${ f(`)` ) } )`))", "defer(||note(`) ${f(`)`)} )`))"),
            ("defer(|| { let x = 'a'; x })", "defer(||{let x='a';x})"),
        ] {
            assert_eq!(read_call_text(source, 1, 1).as_deref(), Some(text), "{source}");
        }
        let source = "const N = [ (1), `;` ]; fn g() { 1 } fn undo( a, b ) {\n  f(a); // }\n}\nundo(1); fn undo() { N }";
        assert_eq!(find_definition_texts(source, "undo"), ["fn undo(a,b){f(a);}", "fn undo(){N}"]);
        assert_eq!(find_definition_texts(source, "N"), ["const N=[(1),`;`]"]);
        assert_eq!(find_definition_texts(source, "f"), Vec::<String>::new());
        assert_eq!(read_call_text("a;\n  defer(f)", 2, 3).as_deref(), Some("defer(f)"));
        for (source, line, column) in [("defer(f", 1, 1), ("x", 3, 1), ("x", 0, 0), ("} defer(f)", 1, 1)] {
            assert_eq!(read_call_text(source, line, column), None, "{source}");
        }
    }
}
