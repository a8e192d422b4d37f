//! Edits of a runbook's text, as a person makes them between a stop and `resume --edited`: a statement is taken out, a
//! note is put in, two neighbours change places.
//!
//! Statements are found by a scanner that knows texts, comments and brackets, and nothing else of the language. Where it
//! is mistaken about the end of a statement, the edited text does not parse, and is not played.

use std::ops::Range;

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EditKind {
    /// A statement is taken out.
    Remove,
    /// A note is put in before a statement: it reads nothing and changes nothing.
    Add,
    /// A statement is moved behind the next one.
    Move,
}

/// Every kind of edit.
pub(super) const EDIT_KINDS: [EditKind; 3] = [EditKind::Remove, EditKind::Add, EditKind::Move];

impl EditKind {
    /// Returns the word for it, in the names of scenarios and in the table of a report.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Remove => "edit-remove",
            Self::Add => "edit-add",
            Self::Move => "edit-move",
        }
    }
}

/// One edit of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextEdit {
    pub(super) kind: EditKind,
    /// What names it among the edits of its text: `edit-remove-12`, where 12 is the line of its statement.
    pub(super) name: String,
    /// What was done to which statement, in words.
    pub(super) words: String,
    /// The statement that was taken out or moved, or before which a note was put in.
    pub(super) statement: String,
    /// The whole text, edited.
    pub(super) text: String,
}

/// What is put in.
const PUT_IN: &str = "note(\"put in while the run stood still\"); ";

/// The words with which statements begin that are no part of what a run does, or without which it is no runbook.
const KEPT_WORDS: &[&str] = &["const", "import", "export", "fn", "private"];

/// The words with which statements begin that end with a block.
const BLOCK_WORDS: &[&str] = &["if", "for", "while", "loop", "do", "switch", "try", "fn", "private"];

/// The words that go on with a statement after its block.
const GOING_ON_WORDS: &[&str] = &["else", "catch", "while", "until"];

/// The longest excerpt of a statement that an edit shows.
const EXCERPT_CHARS: usize = 60;

/// Returns every edit of a text: of the statements at its top level and of those in the blocks of its closures.
pub(super) fn list_edits(text: &str) -> Vec<TextEdit> {
    let mut edits: Vec<TextEdit> = Vec::new();
    for block in find_blocks(text) {
        for (nth, own) in block.iter().enumerate() {
            let next = block.get(nth + 1).filter(|next| is_editable(&text[(*next).clone()]));
            if !is_editable(&text[own.clone()]) {
                continue;
            }
            let made = [
                Some(remove_statement(text, own)),
                Some(insert_note_before(text, own)),
                next.map(|next| swap_statements(text, own, next)),
            ];
            for mut edit in made.into_iter().flatten() {
                let same =
                    edits.iter().filter(|known| strip_statement_number(&known.name) == edit.name).count();
                if same > 0 {
                    edit.name = format!("{}.{}", edit.name, same + 1);
                }
                edits.push(edit);
            }
        }
    }
    edits
}

/// Returns the name of an edit without the number of its statement among those of its line.
fn strip_statement_number(name: &str) -> &str {
    name.split_once('.').map_or(name, |(name, _)| name)
}

fn remove_statement(text: &str, own: &Range<usize>) -> TextEdit {
    let line = line_number_at(text, own.start);
    let words = format!("the statement of line {line} is taken out: `{}`", excerpt(&text[own.clone()]));
    let edited = [&text[..own.start], &text[own.end..]].concat();
    new_edit(EditKind::Remove, line, words, &text[own.clone()], edited)
}

fn insert_note_before(text: &str, own: &Range<usize>) -> TextEdit {
    let line = line_number_at(text, own.start);
    let words = format!("a note is put in at line {line}, before `{}`", excerpt(&text[own.clone()]));
    let edited = [&text[..own.start], PUT_IN, &text[own.start..]].concat();
    new_edit(EditKind::Add, line, words, &text[own.clone()], edited)
}

fn swap_statements(text: &str, own: &Range<usize>, next: &Range<usize>) -> TextEdit {
    let (line, next_line) = (line_number_at(text, own.start), line_number_at(text, next.start));
    let (first, second) = (&text[own.clone()], &text[next.clone()]);
    let words = format!(
        "the statement of line {line} is moved behind that of line {next_line}: `{}` behind `{}`",
        excerpt(first),
        excerpt(second)
    );
    let end = if second.ends_with([';', '}']) { "" } else { ";" };
    let edited =
        [&text[..own.start], second, end, &text[own.end..next.start], first, &text[next.end..]].concat();
    new_edit(EditKind::Move, line, words, first, edited)
}

fn new_edit(kind: EditKind, line: usize, words: String, statement: &str, text: String) -> TextEdit {
    TextEdit { kind, name: format!("{}-{line}", kind.word()), words, statement: statement.to_owned(), text }
}

/// Returns the number of the line of a place in a text, from 1.
fn line_number_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns a statement in one line, cut where it is long.
fn excerpt(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches(';');
    if line.chars().count() <= EXCERPT_CHARS {
        return line.to_owned();
    }
    line.chars().take(EXCERPT_CHARS).chain(['…']).collect()
}

/// Returns whether a statement may be edited.
fn is_editable(statement: &str) -> bool {
    !KEPT_WORDS.contains(&first_word(statement))
}

/// Returns the word with which a text begins.
fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Returns where the statements of a text stand, block by block: the top level first, then the block of each closure that
/// does something in a run.
fn find_blocks(text: &str) -> Vec<Vec<Range<usize>>> {
    let mut scanner = StatementScanner { text, at: 0, blocks: Vec::new() };
    let top = scanner.scan_statements();
    [top].into_iter().chain(scanner.blocks).collect()
}

struct StatementScanner<'a> {
    text: &'a str,
    at: usize,
    /// The blocks of closures that were found so far.
    blocks: Vec<Vec<Range<usize>>>,
}

impl StatementScanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Takes one character; returns it.
    fn take(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Returns the statements from here to the bracket that closes their block, or to the end of the text.
    fn scan_statements(&mut self) -> Vec<Range<usize>> {
        let mut statements = Vec::new();
        loop {
            self.skip_blank();
            let start = self.at;
            if self.rest().is_empty() || self.rest().starts_with([')', ']', '}']) {
                return statements;
            }
            let known = self.blocks.len();
            let is_kept = !is_editable(self.rest());
            self.skip_statement();
            if is_kept {
                self.blocks.truncate(known);
            }
            statements.push(start..self.at);
        }
    }

    /// Goes behind one statement.
    fn skip_statement(&mut self) {
        let start = self.at;
        let word = first_word(self.rest()).to_owned();
        let ends_with_block = BLOCK_WORDS.contains(&word.as_str()) || self.rest().starts_with('{');
        while let Some(c) = self.rest().chars().next() {
            match c {
                ';' => {
                    self.take();
                    return;
                }
                // The block in which it stands is closed: the last one has no `;`.
                ')' | ']' | '}' => break,
                '{' => {
                    self.skip_bracket();
                    let end = self.at;
                    self.skip_blank();
                    if ends_with_block && !GOING_ON_WORDS.contains(&first_word(self.rest())) {
                        self.at = end;
                        return;
                    }
                }
                _ => self.skip_part(),
            }
        }
        // The space behind the last statement is no part of it.
        self.at = start + self.text[start..self.at].trim_end().len();
    }

    /// Goes behind a comment, a text, everything in a bracket, or one other character.
    fn skip_part(&mut self) {
        let rest = self.rest();
        match rest.chars().next() {
            Some('/') if rest.starts_with("//") || rest.starts_with("/*") => self.skip_blank(),
            Some('#') if rest.starts_with("#{") => {
                self.take();
                self.skip_bracket();
            }
            Some('#') => self.skip_raw_text(),
            Some(quote @ ('"' | '\'')) => self.skip_quoted(quote),
            Some('`') => self.skip_interpolated(),
            Some('(' | '[' | '{') => self.skip_bracket(),
            _ => drop(self.take()),
        }
    }

    /// Goes behind the bracket that closes the one here. What a closure does is a block of statements.
    fn skip_bracket(&mut self) {
        let is_closure = self.rest().starts_with('{') && self.text[..self.at].trim_end().ends_with('|');
        self.take();
        if is_closure {
            let block = self.scan_statements();
            self.blocks.push(block);
        }
        while !self.rest().is_empty() {
            if self.rest().starts_with([')', ']', '}']) {
                self.take();
                return;
            }
            self.skip_part();
        }
    }

    /// Goes behind space and comments, also those with others in them.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.skip_comment();
            } else if rest.starts_with(char::is_whitespace) {
                self.take();
            } else {
                return;
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0;
        while !self.rest().is_empty() {
            let (opens, closes) = (self.rest().starts_with("/*"), self.rest().starts_with("*/"));
            depth += i32::from(opens) - i32::from(closes);
            self.take();
            if opens || closes {
                self.take();
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Goes behind a text in which a backslash keeps the quote after it.
    fn skip_quoted(&mut self, quote: char) {
        self.take();
        while let Some(c) = self.take() {
            match c {
                '\\' => drop(self.take()),
                c if c == quote => return,
                _ => {}
            }
        }
    }

    /// Goes behind a text in back-quotes, which may hold code.
    fn skip_interpolated(&mut self) {
        self.take();
        while !self.rest().is_empty() {
            if self.rest().starts_with("${") {
                self.take();
                self.skip_bracket();
            } else if self.take() == Some('`') {
                return;
            }
        }
    }

    /// Goes behind a text like `#"…"#`, or one character where none is.
    fn skip_raw_text(&mut self) {
        let hashes = self.rest().len() - self.rest().trim_start_matches('#').len();
        let opening = format!("{}\"", "#".repeat(hashes));
        if !self.rest().starts_with(&opening) {
            self.take();
            return;
        }
        let closing = format!("\"{}", "#".repeat(hashes));
        let body = &self.rest()[opening.len()..];
        let end = body.find(&closing).map_or(body.len(), |end| end + closing.len());
        self.at += opening.len() + end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"//! A text; with "everything" in it.
const RUNBOOK = #{ title: "t; {" };
import "std/dr@1" as dr;
fn helper(db) { [1].map(|x| { note("a"); x }); note("b") }
let db = params.db; // behind; it
step("one", || { note("}"); note(`a ${ if true { "}" } else { "b" } } b;`); });
if true { note("c"); } else { note("d"); }
/* a /* nested; */ comment; */
note(#"raw "; text"#);
each([1, 2], |x| { note('"'); /* ; */ backup::list(db) });
backup::list(db)
"##;

    fn texts_of(block: &[Range<usize>]) -> Vec<&str> {
        block.iter().map(|own| &TEXT[own.clone()]).collect()
    }

    #[test]
    fn statements_are_found_whatever_is_in_them() {
        let blocks = find_blocks(TEXT);
        let top = texts_of(&blocks[0]);
        assert_eq!(top.len(), 9, "{top:#?}");
        assert_eq!(top[3], "let db = params.db;");
        assert_eq!(top[5], "if true { note(\"c\"); } else { note(\"d\"); }");
        assert_eq!(top[6], "note(#\"raw \"; text\"#);");
        assert_eq!(top[8], "backup::list(db)");
        let inner: Vec<_> = blocks[1..].iter().map(|block| texts_of(block)).collect();
        assert_eq!(
            inner,
            [
                vec!["note(\"}\");", "note(`a ${ if true { \"}\" } else { \"b\" } } b;`);"],
                vec!["note('\"');", "backup::list(db)"],
            ],
            "a function's closures are its own"
        );
    }

    #[test]
    fn every_edit_is_named_by_its_line_and_told_in_words() {
        let edits = list_edits(TEXT);
        let find =
            |name: &str| edits.iter().find(|edit| edit.name == name).unwrap_or_else(|| panic!("{name}"));
        let removed = find("edit-remove-9");
        assert!(!removed.text.contains("raw") && removed.text.contains("nested"), "{}", removed.text);
        assert_eq!(removed.words, "the statement of line 9 is taken out: `note(#\"raw \"; text\"#)`");
        let added = find("edit-add-6.2");
        assert!(added.text.contains("|| { note(\"put in while"), "{}", added.text);
        let moved = find("edit-move-10");
        assert!(moved.text.contains("text\"#);\nbackup::list(db);\neach([1, 2]"), "{}", moved.text);
        assert!(!edits.iter().any(|edit| edit.name.starts_with("edit-remove-2")), "the header is kept");
        assert!(!edits.iter().any(|edit| edit.name.starts_with("edit-remove-4")), "functions are kept");
    }

    #[test]
    fn a_text_that_ends_in_the_middle_is_scanned_to_its_end() {
        for text in ["step(\"", "a ${", "`${", "/* ", "#\"", "|| {", "if x {", ")", "note(a;", "#{", "ä; ö"]
        {
            let edits = list_edits(text);
            assert!(edits.iter().all(|edit| edit.text != text), "{text}");
        }
    }
}
