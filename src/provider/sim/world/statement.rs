//! One SQL statement as it was written, and what of it the simulator does itself instead of SQLite.
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
    RowSecurity { table: String, on: bool },
}

/// A statement that PostgreSQL runs only outside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct LoneStatement {
    /// Its first words, in capitals, as the server names it.
    pub name: String,
    /// What the simulator does instead.
    pub stand_in: StandIn,
}

/// What the simulator does for a statement that PostgreSQL runs only outside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) enum StandIn {
    /// Nothing: it changes no rows.
    Nothing,
    /// The same statement, which need not be concurrent.
    Statement(String),
    /// It is refused, with what to do instead.
    Refusal(&'static str),
}

impl LoneStatement {
    /// Reads a statement; `None` for one that runs inside a transaction too.
    pub(in crate::provider::sim) fn parse(text: &str) -> Option<Self> {
        let tokens = tokenize(text);
        let starts_with = |words: &[&str]| {
            tokens.len() >= words.len()
                && words.iter().zip(&tokens).all(|(word, token)| token.is_keyword(word))
        };
        let lone = |name: &str, stand_in| Some(Self { name: name.to_uppercase(), stand_in });
        if starts_with(&["vacuum"]) {
            return lone("vacuum", StandIn::Nothing);
        }
        for words in [["create", "database"], ["drop", "database"]] {
            if starts_with(&words) {
                return lone(&words.join(" "), StandIn::Refusal("a simulated target has one database"));
            }
        }
        if starts_with(&["alter", "system"]) {
            return lone("alter system", StandIn::Refusal("set it with `db::config::set`"));
        }
        let is_index = starts_with(&["create", "index"])
            || starts_with(&["create", "unique", "index"])
            || starts_with(&["drop", "index"])
            || starts_with(&["reindex"]);
        let concurrent = tokens.iter().take(4).find(|t| t.is_keyword("concurrently")).filter(|_| is_index)?;
        let same = format!("{}{}", &text[..concurrent.start], &text[concurrent.end..]);
        let name = format!("{} INDEX CONCURRENTLY", tokens[0].text.to_uppercase());
        lone(&name.replace("REINDEX INDEX", "REINDEX"), StandIn::Statement(same))
    }
}

/// A word, quoted or not, or any other character, and where it starts and ends.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    kind: TokenKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Word,
    Quoted,
    Literal,
    Symbol,
}

impl Statement {
    /// Reads a statement; SQLite says later whether it is SQL at all.
    pub(in crate::provider::sim) fn parse(text: &str) -> Self {
        let sql = strip_public_schema(text);
        let tokens = tokenize(&sql);
        if let Some((table, on)) = parse_row_security(&tokens) {
            return Statement::RowSecurity { table, on };
        }
        match emptied_table(&tokens) {
            Some(table) => Statement::Plain {
                sql: format!("delete from \"{}\"", table.replace('"', "\"\"")),
                empties: Some(table),
            },
            None => Statement::Plain { sql, empties: None },
        }
    }

    /// Returns whether the statement writes rows, so that their count means anything.
    pub(super) fn counts_rows(&self) -> bool {
        let Statement::Plain { sql, .. } = self else { return false };
        let tokens = tokenize(sql);
        let first = tokens.first();
        first.is_some_and(|t| {
            ["insert", "update", "delete", "replace", "with"].iter().any(|w| t.is_keyword(w))
        })
    }
}

/// Returns whether a text holds nothing but white space, comments and semicolons.
pub(in crate::provider::sim) fn is_blank(text: &str) -> bool {
    tokenize(text).iter().all(|t| t.is_keyword(";"))
}

impl Token<'_> {
    fn is_keyword(&self, word: &str) -> bool {
        self.kind != TokenKind::Literal
            && self.kind != TokenKind::Quoted
            && self.text.eq_ignore_ascii_case(word)
    }

    /// Returns the name that a word or a quoted identifier stands for.
    fn identifier_name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_lowercase()),
            TokenKind::Quoted => Some(self.text[1..self.text.len() - 1].replace("\"\"", "\"")),
            TokenKind::Literal | TokenKind::Symbol => None,
        }
    }
}

/// Returns the table of `truncate [table] t` and of `delete from t`, when that is the whole statement.
fn emptied_table(tokens: &[Token<'_>]) -> Option<String> {
    let rest = match tokens {
        [first, second, rest @ ..] if first.is_keyword("delete") && second.is_keyword("from") => rest,
        [first, second, rest @ ..] if first.is_keyword("truncate") && second.is_keyword("table") => rest,
        [first, rest @ ..] if first.is_keyword("truncate") => rest,
        _ => return None,
    };
    match rest {
        [table] => table.identifier_name(),
        [table, end] if end.is_keyword(";") => table.identifier_name(),
        _ => None,
    }
}

fn parse_row_security(tokens: &[Token<'_>]) -> Option<(String, bool)> {
    let words: Vec<_> = tokens.iter().filter(|t| !t.is_keyword(";")).collect();
    let [alter, table, name, switch, row, level, security] = words.as_slice() else { return None };
    let shape = alter.is_keyword("alter") && table.is_keyword("table");
    let tail = row.is_keyword("row") && level.is_keyword("level") && security.is_keyword("security");
    let on = switch.is_keyword("enable");
    (shape && tail && (on || switch.is_keyword("disable")))
        .then(|| name.identifier_name().map(|n| (n, on)))?
}

/// Takes the schema `public` off every name: the simulator has no other.
fn strip_public_schema(text: &str) -> String {
    let tokens = tokenize(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for pair in tokens.windows(2) {
        let schema = pair[0].identifier_name().as_deref() == Some("public");
        if schema && pair[1].is_keyword(".") && pair[0].start >= at {
            out.push_str(&text[at..pair[0].start]);
            at = pair[1].end;
        }
    }
    out.push_str(&text[at..]);
    out
}

/// Returns the tokens of a text; comments and white space are none.
fn tokenize(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '\'' => (Some(TokenKind::Literal), quoted_length(rest, '\'')),
            '"' => (Some(TokenKind::Quoted), quoted_length(rest, '"')),
            c if is_word_char(c) => {
                (Some(TokenKind::Word), rest.find(|c| !is_word_char(c)).unwrap_or(rest.len()))
            }
            c => (Some(TokenKind::Symbol), c.len_utf8()),
        };
        if let Some(kind) = kind {
            found.push(Token { text: &rest[..length], start: at, end: at + length, kind });
        }
        at += length;
    }
    found.retain(|t| t.kind != TokenKind::Quoted || t.text.len() >= 2);
    found
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of a quoted text, in which the quote is doubled; an open one goes to the end.
fn quoted_length(text: &str, quote: char) -> usize {
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

/// Returns the beginning of a statement, on one line.
pub(in crate::provider::sim) fn shorten_sql(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
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
            assert_eq!(Statement::parse(text), plain("delete from \"orders\"", Some("orders")), "{text}");
        }
        for (word, on) in [("enable", true), ("DISABLE", false)] {
            let text = format!("ALTER TABLE public.orders {word} ROW LEVEL SECURITY;");
            assert_eq!(Statement::parse(&text), Statement::RowSecurity { table: "orders".into(), on });
        }
    }

    #[test]
    fn what_runs_only_outside_a_transaction_is_recognised() {
        let parse = |text: &str| LoneStatement::parse(text).map(|lone| (lone.name, lone.stand_in));
        let named = |name: &str, stand_in| Some((name.to_owned(), stand_in));
        assert_eq!(parse("VACUUM (analyze) orders"), named("VACUUM", StandIn::Nothing));
        let same = StandIn::Statement("create unique index  i on t (a)".into());
        assert_eq!(
            parse("create unique index concurrently i on t (a)"),
            named("CREATE INDEX CONCURRENTLY", same)
        );
        let same = StandIn::Statement("reindex index  i".into());
        assert_eq!(parse("reindex index concurrently i"), named("REINDEX CONCURRENTLY", same));
        assert!(matches!(parse("alter system set work_mem = 1"), Some((_, StandIn::Refusal(_)))));
        assert!(matches!(parse("create database b"), Some((_, StandIn::Refusal(_)))));
        for text in ["create index i on t (a)", "select 'vacuum'", "create table concurrently (a)", ""] {
            assert_eq!(parse(text), None, "{text}");
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
            assert_eq!(Statement::parse(text), plain(text, None), "{text}");
        }
        assert_eq!(
            Statement::parse("select * from public.orders join \"public\" . customers"),
            plain("select * from orders join  customers", None)
        );
    }
}
