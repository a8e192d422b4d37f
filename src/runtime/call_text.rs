//! The texts of calls and definitions in a script: what a person wrote, without comments and layout.

use std::collections::BTreeMap;

/// Returns the text of the call whose name stands at a line and column, both from 1: without comments, and with no more
/// space than its words need, so that another layout is the same text. Nothing where no call stands.
pub(super) fn read_call_text(source: &str, line: usize, column: usize) -> Option<String> {
    let rest = source.split('\n').skip(line.checked_sub(1)?).collect::<Vec<_>>().join("\n");
    read_until(rest.chars().skip(column.checked_sub(1)?).collect(), End::Call)
}

/// Returns the texts of the calls of a function in a script, in the same form.
pub(super) fn find_call_texts(source: &str, name: &str) -> Vec<String> {
    let calls = source.match_indices(name).filter(|(at, _)| {
        let rest = &source[at + name.len()..];
        !source[..*at].ends_with(is_part_of_word) && rest.trim_start().starts_with('(')
    });
    calls.filter_map(|(at, _)| read_until(source[at..].chars().collect(), End::Call)).collect()
}

/// Returns a script in the same form; nothing where its end stands inside a text or a bracket.
pub(super) fn read_script_text(source: &str) -> Option<String> {
    read_until(source.chars().collect(), End::Script)
}

/// Returns the functions and constants of a script that was read, by name, each with its text: functions of one name differ by
/// their parameters. A text is missing where it cannot be read.
pub(super) fn list_definitions(script: &str) -> BTreeMap<String, Option<String>> {
    let mut definitions = BTreeMap::new();
    for (keyword, next, end) in [("fn", '(', End::Body), ("const", '=', End::Statement)] {
        let is_word = |at: usize| !script[..at].ends_with(is_part_of_word);
        for (at, _) in script.match_indices(keyword).filter(|(at, _)| is_word(*at)) {
            let Some(name) = read_name_after_keyword(&script[at + keyword.len()..], next) else { continue };
            let text = read_until(script[at..].chars().collect(), end);
            let known = definitions.entry(name.to_owned()).or_insert_with(|| Some(String::new()));
            *known = known.take().zip(text).map(|(known, text)| known + &text);
        }
    }
    definitions
}

/// Returns the name that stands behind `fn` or `const`; a function of one type names the type before it.
fn read_name_after_keyword(rest: &str, next: char) -> Option<&str> {
    let (is_quoted, rest) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((_, rest)) => (true, rest),
        None => (false, rest),
    };
    let head = rest.split(next).next().filter(|_| is_quoted || rest.starts_with(' '))?;
    let name = head.trim_start().rsplit('.').next()?;
    (!name.is_empty() && name.chars().all(is_part_of_word)).then_some(name)
}

/// Returns the code of a text that was read: what stands in quotes is left out there, unless it can be a name.
pub(super) fn read_code(text: &str) -> Option<String> {
    let mut scanner = Scanner::at_start(text.chars().collect());
    scanner.takes_names_only = true;
    scanner.read_until(End::Script).then_some(scanner.text)
}

/// Returns whether a character can be part of a name.
pub(super) fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a text ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the parenthesis with which everything is closed.
    Call,
    /// At the brace with which everything is closed: the parameters of a function stand before its body.
    Body,
    /// At the `;` behind it.
    Statement,
    /// With the script.
    Script,
}

impl End {
    /// Returns whether a text ends with a bracket with which everything is closed; nothing where it goes on.
    fn is_at(self, bracket: char) -> Option<bool> {
        match (self, bracket) {
            (Self::Statement | Self::Script, _) | (Self::Body, ')') => None,
            (Self::Call, ')') | (Self::Body, '}') => Some(true),
            _ => Some(false),
        }
    }
}

/// Reads to an end, if it is there.
fn read_until(chars: Vec<char>, end: End) -> Option<String> {
    let mut scanner = Scanner::at_start(chars);
    scanner.read_until(end).then_some(scanner.text)
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    text: String,
    /// Whether of what stands in quotes only what can be a name is taken over.
    takes_names_only: bool,
}

impl Scanner {
    fn at_start(chars: Vec<char>) -> Self {
        Self { chars, at: 0, text: String::new(), takes_names_only: false }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Takes one character over as it is.
    fn take(&mut self) {
        self.text.extend(self.peek(0));
        self.at += 1;
    }

    /// Reads to an end; returns whether it is there.
    fn read_until(&mut self, end: End) -> bool {
        let mut open: Vec<char> = Vec::new();
        while let Some(c) = self.peek(0) {
            match (open.last(), c) {
                (Some('`'), _) => self.read_in_back_quotes(&mut open),
                (_, '"' | '\'') => self.read_quoted(c),
                (_, '#') if self.count_hashes() > 0 => self.read_raw(),
                (_, '/') if self.peek(1) == Some('/') => self.skip_line(),
                (_, '/') if self.peek(1) == Some('*') => self.skip_comment(),
                (_, '`' | '(' | '[' | '{') => {
                    self.take();
                    open.push(c);
                }
                (None, ';') if end == End::Statement => return true,
                (_, ')' | ']' | '}') => {
                    self.take();
                    open.pop();
                    if let Some(is_there) = end.is_at(c).filter(|_| open.is_empty()) {
                        return is_there;
                    }
                }
                (_, c) if c.is_whitespace() => self.skip_space(),
                _ => self.take(),
            }
        }
        end == End::Script && open.is_empty()
    }

    /// Reads on inside a text in back-quotes, which may hold code.
    fn read_in_back_quotes(&mut self, open: &mut Vec<char>) {
        match (self.peek(0), self.peek(1)) {
            (Some('`'), _) => {
                self.take();
                open.pop();
            }
            (Some('$'), Some('{')) => {
                self.take();
                self.take();
                open.push('{');
            }
            _ if self.takes_names_only => self.at += 1,
            _ => self.take(),
        }
    }

    fn read_quoted(&mut self, quote: char) {
        let start = self.at;
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' => self.at += 1,
                c if c == quote => break,
                _ => {}
            }
        }
        self.take_quoted(start, 1);
    }

    /// Returns how many `#` begin a raw text here, if one begins.
    fn count_hashes(&self) -> usize {
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) == Some('"') { hashes } else { 0 }
    }

    /// Reads a raw text: a backslash is one there, and as many `#` as began it end it.
    fn read_raw(&mut self) {
        let (start, hashes) = (self.at, self.count_hashes());
        let is_end = |rest: &[char]| {
            rest.first() == Some(&'"') && rest.iter().skip(1).take_while(|c| **c == '#').count() >= hashes
        };
        self.at += hashes + 1;
        while self.at < self.chars.len() && !is_end(&self.chars[self.at..]) {
            self.at += 1;
        }
        self.at += hashes + 1;
        self.take_quoted(start, hashes + 1);
    }

    /// Takes over what was read in quotes, which are `width` characters on either side.
    fn take_quoted(&mut self, start: usize, width: usize) {
        self.at = self.at.min(self.chars.len());
        let quoted = &self.chars[start..self.at];
        let inside = quoted.get(width..quoted.len().saturating_sub(width)).unwrap_or_default();
        if !self.takes_names_only || inside.iter().copied().all(is_part_of_word) {
            self.text.extend(quoted);
        } else {
            self.text.push_str("\"\"");
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
                break;
            }
        }
        self.skip_space();
    }

    /// Skips space; a blank stays between two words.
    fn skip_space(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let is_word = |c: Option<char>| c.is_some_and(is_part_of_word);
        if is_word(self.text.chars().last()) && is_word(self.peek(0)) {
            self.text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{list_definitions, read_call_text, read_code, read_script_text};

    #[test]
    fn the_text_of_a_call_ends_where_the_call_does() {
        for (source, text) in [
            ("defer(|| branch::delete(copy)); more(1)", "defer(||branch::delete(copy))"),
            ("defer( ||\n  // why )\n  f( a,  b ) /* ) /* ) */ */ )", "defer(||f(a,b))"),
            ("defer(|| note(\") \\\" )\"))", "defer(||note(\") \\\" )\"))"),
            ("defer(|| note(`) ${ f(`)` ) } )`))", "defer(||note(`) ${f(`)`)} )`))"),
            ("defer(|| { let x = 'a'; x })", "defer(||{let x='a';x})"),
            ("defer(|| note(#\"C:\\\"#)); more(1)", "defer(||note(#\"C:\\\"#))"),
            ("defer(|| note(##\") \"# /* \"##)); more(1)", "defer(||note(##\") \"# /* \"##))"),
            ("defer(|| #{ a: 1 }); more(1)", "defer(||#{a:1})"),
            (
                "defer(|| note(`a }\n  \" ' ${ #{ b: \"}`\", c: '`' }.b } {\n${ `${ 1 }` }`)); more(1)",
                "defer(||note(`a }\n  \" ' ${#{b:\"}`\",c:'`'}.b} {\n${`${1}`}`))",
            ),
            ("defer(|| note/* a */(let/* b */x))", "defer(||note(let x))"),
        ] {
            assert_eq!(read_call_text(source, 1, 1).as_deref(), Some(text), "{source}");
        }
        assert_eq!(read_call_text("a;\n  defer(f)", 2, 3).as_deref(), Some("defer(f)"));
        for (source, line, column) in [("defer(f", 1, 1), ("x", 3, 1), ("x", 0, 0), ("} defer(f)", 1, 1)] {
            assert_eq!(read_call_text(source, line, column), None, "{source}");
        }
    }

    #[test]
    fn definitions_are_found_however_they_are_written() {
        let source = "const N = [ (1), `;` ]; fn g() { 1 } private fn undo( a, b ) {\n  f(a); // }\n}\nundo(1); \
            fn /* the other */ undo() { N } fn int.twice() { #\"}\\\"# } fn \"A (B)\".odd() { 2 } const OPEN = 1";
        let script = read_script_text(source).expect("it is closed");
        let definitions = list_definitions(&script);
        for (name, text) in [
            ("undo", "fn undo(a,b){f(a);}fn undo(){N}"),
            ("N", "const N=[(1),`;`]"),
            ("twice", "fn int.twice(){#\"}\\\"#}"),
            ("odd", "fn\"A (B)\".odd(){2}"),
        ] {
            assert_eq!(definitions.get(name), Some(&Some(text.to_owned())), "{name}");
        }
        assert_eq!(definitions.get("OPEN"), Some(&None), "it has no end");
        assert!(!definitions.contains_key("f"));
        assert_eq!(read_script_text("fn f() { `${ "), None);
    }

    #[test]
    fn code_holds_of_quoted_texts_only_what_can_be_a_name() {
        for (text, code) in [
            ("Fn(\"undo\").call(db)", "Fn(\"undo\").call(db)"),
            ("note(\"call(me)\")", "note(\"\")"),
            ("note(#\"call(me)\"#)", "note(\"\")"),
            ("note(`call(me) ${f(1)}`)", "note(`${f(1)}`)"),
        ] {
            assert_eq!(read_code(text).as_deref(), Some(code), "{text}");
        }
    }
}
