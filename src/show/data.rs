//! Data as text: one value, as a table for people or as JSON, YAML or CSV for programs.

use super::{table, trouble::Trouble};
use crate::base::value;
use serde_json::Value;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
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
/// What a format cannot hold.
pub fn text(
    value: &Value,
    columns: &[String],
    format: Format,
    width: Option<u16>,
) -> Result<Option<String>, Trouble> {
    let text = match format {
        Format::Table if is_empty(value) => String::new(),
        Format::Table => table::render(value, columns, width),
        Format::Json => value::plain(value).to_string(),
        Format::Yaml => yaml(&value::plain(value))?,
        Format::Csv => csv(&value::plain(value), columns)?,
    };
    Ok(Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty()))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn yaml(value: &Value) -> Result<String, Trouble> {
    serde_yaml_ng::to_string(value)
        .map_err(|e| Trouble::usage(format!("this cannot be written as YAML: {e}")))
}

/// Returns one line a row, and before them the names of the columns; nothing for an empty list without known columns.
fn csv(value: &Value, columns: &[String]) -> Result<String, Trouble> {
    let rows: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let columns = table::columns(&rows, columns);
    let mut to = csv::Writer::from_writer(Vec::new());
    let wrong = |e: &dyn std::fmt::Display| Trouble::usage(format!("this cannot be written as CSV: {e}"));
    if columns.is_empty() && !rows.is_empty() {
        to.write_record(["value"]).map_err(|e| wrong(&e))?;
    } else if !columns.is_empty() {
        to.write_record(&columns).map_err(|e| wrong(&e))?;
    }
    for row in rows {
        let cells: Vec<String> = match row.as_object() {
            Some(fields) => columns.iter().map(|c| fields.get(c).map_or(String::new(), raw)).collect(),
            None => vec![raw(row)],
        };
        to.write_record(&cells).map_err(|e| wrong(&e))?;
    }
    let bytes = to.into_inner().map_err(|e| wrong(&e))?;
    String::from_utf8(bytes).map_err(|e| wrong(&e))
}

/// Returns a cell for programs: text as it is, nothing as nothing, everything else as JSON.
fn raw(value: &Value) -> String {
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
        let text = csv(&value, &["b".into()]).expect("text");
        insta::assert_snapshot!(text, @r#"
        b,a,c
        1,"x,y",
        ,"say ""hi""","[1,2]"
        "#);
    }

    #[test]
    fn an_empty_list_has_its_header_where_it_is_known() {
        assert_eq!(csv(&json!([]), &["id".into()]).expect("text"), "id\n");
        assert_eq!(csv(&json!([]), &[]).expect("text"), "");
        assert_eq!(csv(&json!(7), &[]).expect("text"), "value\n7\n");
    }

    #[test]
    fn yaml_has_no_tags() {
        let value = value::plain(&json!({"at": {"$moment": "2026-11-20T01:00:00Z"}, "n": null}));
        insta::assert_snapshot!(yaml(&value).expect("text"), @"
        at: 2026-11-20T01:00:00Z
        n: null
        ");
    }
}
