//! Settings that are lists of names: how their text is read, and written, as the server does.

use crate::provider::{Code, Error, Result};

/// Settings that are lists of names, and how the server reads one that is not quoted (`GUC_LIST_QUOTE` in PostgreSQL's
/// `guc_tables.c`). Quoted as one string, a list would become a single name.
const LIST_SETTINGS: &[(&str, Unquoted)] = &[
    ("local_preload_libraries", Unquoted::AsWritten),
    ("search_path", Unquoted::InLowerCase),
    ("session_preload_libraries", Unquoted::AsWritten),
    ("shared_preload_libraries", Unquoted::AsWritten),
    ("temp_tablespaces", Unquoted::InLowerCase),
    ("unix_socket_directories", Unquoted::AsWritten),
];

/// How a name without quotes is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unquoted {
    /// As an identifier of SQL: `Shop` is `shop`.
    InLowerCase,
    /// As a file, whose name may have spaces inside.
    AsWritten,
}

/// Returns the names in a setting that is a list of names; `None` for any other setting.
///
/// # Errors
/// [`Code::Invalid`] for a text that is no list, and for one with which the server would not start or let anybody in.
pub(super) fn split_list(setting: &str, text: &str) -> Result<Option<Vec<String>>> {
    let Some((_, unquoted)) = LIST_SETTINGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(setting))
    else {
        return Ok(None);
    };
    let invalid =
        |why: &str| Error::new(Code::Invalid, format!("`{text}` is no value of `{setting}`: {why}"));
    if text.trim().is_empty() {
        // `ALTER SYSTEM` has no empty list: it writes a list of one name that is empty.
        return match unquoted {
            Unquoted::InLowerCase => Ok(Some(vec![String::new()])),
            Unquoted::AsWritten => Err(invalid(EMPTY_NAME).with_hint(EMPTY_LIST_HINT)),
        };
    }
    let names = split_names(text, *unquoted).map_err(|why| invalid(why).with_hint(LIST_HINT))?;
    if *unquoted == Unquoted::AsWritten && names.iter().any(String::is_empty) {
        return Err(invalid(EMPTY_NAME).with_hint(EMPTY_LIST_HINT));
    }
    Ok(Some(names))
}

const EMPTY_NAME: &str =
    "`ALTER SYSTEM` would write an empty name, which the server takes for a file and does not find";
const EMPTY_LIST_HINT: &str =
    "take the override away, with nothing as the value; an empty list belongs in `postgresql.conf`";
const LIST_HINT: &str = "write names with commas in between; a name with other characters in double quotes";

fn split_names(text: &str, unquoted: Unquoted) -> Result<Vec<String>, &'static str> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let name;
        (name, rest) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => take_unquoted(rest, unquoted)?,
        };
        names.push(name);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(names);
        }
        rest = rest.strip_prefix(',').ok_or("there is no comma between two names")?.trim_start();
    }
}

/// Takes a name up to the quote that ends it, and returns it with what follows; two quotes are one.
fn take_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"').ok_or("a double quote is not closed")?;
        name += part;
        let Some(more) = after.strip_prefix('"') else { return Ok((name, after)) };
        name.push('"');
        rest = more;
    }
}

fn take_unquoted(text: &str, unquoted: Unquoted) -> Result<(String, &str), &'static str> {
    let ends = |c: char| c == ',' || unquoted == Unquoted::InLowerCase && c.is_ascii_whitespace();
    let (name, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    match unquoted {
        _ if name.is_empty() => Err("a name is empty"),
        Unquoted::InLowerCase => Ok((name.to_ascii_lowercase(), rest)),
        Unquoted::AsWritten => Ok((name.trim_end().to_owned(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_server_reads_it() {
        for (setting, text, names) in [
            ("search_path", "a,b", vec!["a", "b"]),
            ("Search_Path", " \"$user\" , Public,\"Shop\",\"a,b\"", vec!["$user", "public", "Shop", "a,b"]),
            ("search_path", "\"say \"\"hi\"\"\"", vec!["say \"hi\""]),
            ("search_path", "", vec![""]),
            ("temp_tablespaces", "\"\"", vec![""]),
            ("shared_preload_libraries", "Auto_explain ,x", vec!["Auto_explain", "x"]),
            ("unix_socket_directories", "/a b, /c", vec!["/a b", "/c"]),
        ] {
            let split = split_list(setting, text).expect("a list").expect("it is one");
            assert_eq!(split, names, "{setting} {text}");
        }
        assert_eq!(split_list("listen_addresses", "a,b"), Ok(None));
        for (setting, text) in [
            ("search_path", "a,"),
            ("search_path", "a,,b"),
            ("search_path", "a b"),
            ("search_path", "\"a"),
            ("search_path", "\"a\"b"),
            ("shared_preload_libraries", ""),
            ("unix_socket_directories", "\"\""),
            ("session_preload_libraries", "a,\"\""),
        ] {
            assert_eq!(split_list(setting, text).expect_err(text).code, Code::Invalid);
        }
    }
}
