//! One SQL statement as it was written, and what it is beside what SQLite makes of it.
//!
//! The simulator speaks SQLite's dialect with four additions that runbooks for PostgreSQL lean on: the schema prefix
//! `public.`, `TRUNCATE t`, `ALTER TABLE t ENABLE ROW LEVEL SECURITY` (and `DISABLE`), and `now()`.

/// What a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// Something for SQLite; `empties` names the table that loses every row.
    Plain {
        /// The text for SQLite.
        sql: String,
        /// The table whose rows all go: a `TRUNCATE`, or a `DELETE` without a condition.
        empties: Option<String>,
    },
    /// Row-level security of a table goes on or off.
    RowSecurity {
        /// The table.
        table: String,
        /// On or off.
        on: bool,
    },
}

/// A word, quoted or not, or any other character, and where it starts and ends.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Literal,
    Symbol,
}

impl Statement {
    /// Reads a statement; what is no SQL at all is left for SQLite to say.
    pub(super) fn read(text: &str) -> Self {
        let sql = without_schema(text);
        let tokens = tokens(&sql);
        if let Some((table, on)) = row_security(&tokens) {
            return Statement::RowSecurity { table, on };
        }
        match emptied(&tokens) {
            Some(table) => Statement::Plain {
                sql: format!("delete from \"{}\"", table.replace('"', "\"\"")),
                empties: Some(table),
            },
            None => Statement::Plain { sql, empties: None },
        }
    }

    /// Returns whether the statement's row count means anything: only for what writes rows.
    pub(super) fn counts_rows(&self) -> bool {
        let Statement::Plain { sql, .. } = self else { return false };
        let tokens = tokens(sql);
        let first = tokens.first();
        first.is_some_and(|t| ["insert", "update", "delete", "replace", "with"].iter().any(|w| t.is(w)))
    }
}

/// Returns whether a text holds nothing but white space, comments and semicolons.
pub(super) fn is_blank(text: &str) -> bool {
    tokens(text).iter().all(|t| t.is(";"))
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind != Kind::Literal && self.kind != Kind::Quoted && self.text.eq_ignore_ascii_case(word)
    }

    /// Returns the name that a word or a quoted identifier stands for.
    fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_lowercase()),
            Kind::Quoted => Some(self.text[1..self.text.len() - 1].replace("\"\"", "\"")),
            Kind::Literal | Kind::Symbol => None,
        }
    }
}

/// Returns the table of `truncate [table] t` and of `delete from t`, when that is the whole statement.
fn emptied(tokens: &[Token<'_>]) -> Option<String> {
    let rest = match tokens {
        [first, second, rest @ ..] if first.is("delete") && second.is("from") => rest,
        [first, second, rest @ ..] if first.is("truncate") && second.is("table") => rest,
        [first, rest @ ..] if first.is("truncate") => rest,
        _ => return None,
    };
    match rest {
        [table] => table.name(),
        [table, end] if end.is(";") => table.name(),
        _ => None,
    }
}

fn row_security(tokens: &[Token<'_>]) -> Option<(String, bool)> {
    let words: Vec<_> = tokens.iter().filter(|t| !t.is(";")).collect();
    let [alter, table, name, switch, row, level, security] = words.as_slice() else { return None };
    let shape = alter.is("alter") && table.is("table");
    let tail = row.is("row") && level.is("level") && security.is("security");
    let on = switch.is("enable");
    (shape && tail && (on || switch.is("disable"))).then(|| name.name().map(|n| (n, on)))?
}

/// Takes the schema `public` off every name: there is only one schema here.
fn without_schema(text: &str) -> String {
    let tokens = tokens(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for pair in tokens.windows(2) {
        let schema = pair[0].name().as_deref() == Some("public");
        if schema && pair[1].is(".") && pair[0].start >= at {
            out.push_str(&text[at..pair[0].start]);
            at = pair[1].end;
        }
    }
    out.push_str(&text[at..]);
    out
}

/// Returns the tokens of a text; comments and white space are none.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '\'' => (Some(Kind::Literal), quoted(rest, '\'')),
            '"' => (Some(Kind::Quoted), quoted(rest, '"')),
            c if is_word(c) => (Some(Kind::Word), rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
            c => (Some(Kind::Symbol), c.len_utf8()),
        };
        if let Some(kind) = kind {
            found.push(Token { text: &rest[..length], start: at, end: at + length, kind });
        }
        at += length;
    }
    found.retain(|t| t.kind != Kind::Quoted || t.text.len() >= 2);
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of a quoted text, in which the quote is doubled; an open one goes to the end.
fn quoted(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = text[at..].find(quote) {
        at += end + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(sql: &str, empties: Option<&str>) -> Statement {
        Statement::Plain { sql: sql.into(), empties: empties.map(Into::into) }
    }

    #[test]
    fn the_additions_are_recognised() {
        for text in [
            "TRUNCATE orders",
            "truncate table public.orders;",
            "delete from \"orders\" -- all",
            "DELETE FROM orders",
        ] {
            assert_eq!(Statement::read(text), plain("delete from \"orders\"", Some("orders")), "{text}");
        }
        for (word, on) in [("enable", true), ("DISABLE", false)] {
            let text = format!("ALTER TABLE public.orders {word} ROW LEVEL SECURITY;");
            assert_eq!(Statement::read(&text), Statement::RowSecurity { table: "orders".into(), on });
        }
    }

    #[test]
    fn the_rest_is_left_alone() {
        for text in [
            "delete from orders where id = 1",
            "select 'public.orders', \"a\"\"b\" from x",
            "insert into t values ('it''s -- /* not', 'über')",
            "truncate a, b",
            "",
            "'open",
            "\"",
        ] {
            assert_eq!(Statement::read(text), plain(text, None), "{text}");
        }
        assert_eq!(
            Statement::read("select * from public.orders join \"public\" . customers"),
            plain("select * from orders join  customers", None)
        );
    }
}
