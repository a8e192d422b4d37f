//! A value as text: a table for people; JSON, YAML or CSV for programs.

use super::{error::CliError, table};
use crate::base::value;
use serde_json::Value;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// YAML.
    Yaml,
    /// CSV with a header; what is nested is JSON.
    Csv,
}

/// Returns a value as text without a line end; nothing where there is nothing to write. `columns` is the order of its
/// fields (others come after), `width` that of the terminal, if it goes to one.
///
/// # Errors
/// The value cannot be written in this format.
pub fn render_data(
    value: &Value,
    columns: &[String],
    format: DataFormat,
    width: Option<u16>,
) -> Result<Option<String>, CliError> {
    let text = match format {
        DataFormat::Table if is_empty_list(value) => String::new(),
        DataFormat::Table => table::render_value(value, columns, width),
        DataFormat::Json => value::strip_tags(value).to_string(),
        DataFormat::Yaml => render_yaml(&value::strip_tags(value))?,
        DataFormat::Csv => render_csv(&value::strip_tags(value), columns)?,
    };
    Ok(Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty()))
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Returns YAML in which a text that could be read as something else, as `no` or a moment, is quoted.
fn render_yaml(value: &Value) -> Result<String, CliError> {
    serde_saphyr::to_string(value)
        .map_err(|e| CliError::usage(format!("this cannot be written as YAML: {e}")))
}

/// Returns one line a row, and before them the names of the columns; nothing for an empty list without known columns.
fn render_csv(value: &Value, columns: &[String]) -> Result<String, CliError> {
    let rows: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let columns = table::order_columns(&rows, columns);
    let mut to = csv::Writer::from_writer(Vec::new());
    let wrong = |e: &dyn std::fmt::Display| CliError::usage(format!("this cannot be written as CSV: {e}"));
    if columns.is_empty() && !rows.is_empty() {
        to.write_record(["value"]).map_err(|e| wrong(&e))?;
    } else if !columns.is_empty() {
        to.write_record(&columns).map_err(|e| wrong(&e))?;
    }
    for row in rows {
        let cells: Vec<String> = match row.as_object() {
            Some(fields) => {
                columns.iter().map(|c| fields.get(c).map_or(String::new(), render_csv_cell)).collect()
            }
            None => vec![render_csv_cell(row)],
        };
        to.write_record(&cells).map_err(|e| wrong(&e))?;
    }
    let bytes = to.into_inner().map_err(|e| wrong(&e))?;
    String::from_utf8(bytes).map_err(|e| wrong(&e))
}

/// Returns a cell for programs: text as it is, nothing as nothing, everything else as JSON.
fn render_csv_cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_quotes_what_it_must_and_keeps_the_order_of_columns() {
        let value = json!([{"b": 1, "a": "x,y"}, {"b": null, "a": "say \"hi\"", "c": [1, 2]}]);
        let text = render_csv(&value, &["b".into()]).expect("text");
        insta::assert_snapshot!(text, @r#"
        b,a,c
        1,"x,y",
        ,"say ""hi""","[1,2]"
        "#);
    }

    #[test]
    fn an_empty_list_has_its_header_where_it_is_known() {
        assert_eq!(render_csv(&json!([]), &["id".into()]).expect("text"), "id\n");
        assert_eq!(render_csv(&json!([]), &[]).expect("text"), "");
        assert_eq!(render_csv(&json!(7), &[]).expect("text"), "value\n7\n");
    }

    #[test]
    fn yaml_has_no_tags() {
        let value = value::strip_tags(&json!({"at": {"$moment": "2026-11-20T01:00:00Z"}, "n": null}));
        insta::assert_snapshot!(render_yaml(&value).expect("text"), @r#"
        at: "2026-11-20T01:00:00Z"
        "n": null
        "#);
    }

    #[test]
    fn yaml_quotes_a_text_that_could_be_read_as_something_else() {
        let misread = [
            "",
            "~",
            "null",
            "true",
            "no",
            "y",
            "Off",
            "1",
            "-1.5",
            "1e3",
            "0x1f",
            "0o17",
            "010",
            "1_000",
            "12:30:45",
            ".inf",
            "2026-11-20",
            "2026-11-20T01:00:00Z",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "[a]",
            "{a}",
            "?",
            "=",
            "<<",
            "---",
            " a",
            "a ",
            "\t",
            "\u{1b}[31m",
            "\r",
            "\0",
        ];
        for text in misread {
            let written = render_yaml(&json!({ "is": text })).expect("text");
            let quoted = written.strip_prefix("is: ").expect("the key").trim_end();
            assert!(quoted.starts_with(['"', '\'']) && quoted.ends_with(['"', '\'']), "{text:?}: {written}");
        }
        for text in ["a", "no longer", "a-b", "a:b", "orders#1", "café", "1st"] {
            assert_eq!(render_yaml(&json!({ "is": text })).expect("text"), format!("is: {text}\n"));
        }
    }

    #[test]
    fn yaml_keeps_lists_lines_and_what_is_empty() {
        let value = json!([{"id": "b1", "bytes": 10, "tags": ["eu", "no"], "none": [], "map": {}}, [1.5, [true]], "two\nlines\n"]);
        insta::assert_snapshot!(render_yaml(&value).expect("text"), @r#"
        - bytes: 10
          id: b1
          map: {}
          none: []
          tags:
          - eu
          - "no"
        - - 1.5
          - - true
        - |
          two
          lines
        "#);
    }
}
