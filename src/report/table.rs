//! Values as people read them: a list of objects as a table, one object as a list of its fields.
//!
//! What came out of a database cannot steer the terminal: control
//! characters are written out.

use super::quantities::format_bytes;
use crate::{
    base::value,
    ops::{self, spec::Field},
};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// Returns a value as text of at most `width` columns, where that is known. `order` is the order of its fields.
pub(super) fn render_value(value: &Value, order: &[String], width: Option<u16>) -> String {
    match &value::strip_tags(value) {
        Value::Array(items) if items.iter().all(Value::is_object) && !items.is_empty() => {
            render_rows(&items.iter().collect::<Vec<_>>(), order, width)
        }
        Value::Array(items) if items.is_empty() => "[]".into(),
        Value::Array(items) => items.iter().map(|item| render_cell("", item)).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) if !fields.is_empty() => render_object(fields, order, width),
        other => render_cell("", other),
    }
}

/// Returns the columns of some rows: those of `order` that any row has, or all of them where there are no rows, then
/// the others by name.
pub(super) fn order_columns(rows: &[&Value], order: &[String]) -> Vec<String> {
    let has = |name: &String| rows.is_empty() || rows.iter().any(|row| row.get(name).is_some());
    let mut columns: Vec<String> = order.iter().filter(|name| has(name)).cloned().collect();
    let mut others: Vec<&String> =
        rows.iter().filter_map(|row| row.as_object()).flat_map(Map::keys).collect();
    others.sort_unstable();
    for name in others {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    columns
}

/// Returns a list as a table. Empty columns are left out, unless all are empty.
fn render_rows(rows: &[&Value], order: &[String], width: Option<u16>) -> String {
    let all = order_columns(rows, order);
    let told = |name: &String| rows.iter().any(|row| !render_cell(name, &row[name.as_str()]).is_empty());
    let mut columns: Vec<&String> = all.iter().filter(|name| told(name)).collect();
    if columns.is_empty() {
        columns = all.iter().collect();
    }
    let mut left_out = Vec::new();
    if let Some(width) = width.filter(|_| is_catalogue_order(order)) {
        while columns.len() > 3 && required_width(rows, &columns) > usize::from(width) {
            left_out.extend(columns.pop());
        }
    }
    let table = render_grid(rows, &columns, width);
    if !left_out.is_empty() {
        left_out.reverse();
        let names: Vec<&str> = left_out.iter().map(|name| name.as_str()).collect();
        return format!(
            "{table}\n(not shown for want of room: {}; a wider terminal shows them, and JSON has them)",
            names.join(", ")
        );
    }
    table
}

/// Returns whether the catalogue decides which columns there are, and has put the most important first. Those of a
/// query are all wanted.
fn is_catalogue_order(order: &[String]) -> bool {
    let is_it = |fields: &[Field]| fields.iter().map(|field| field.name).eq(order.iter().map(String::as_str));
    !order.is_empty() && ops::all_operations().any(|op| is_it(op.returns.fields()))
}

/// Returns the terminal width that a table needs without wrapping.
fn required_width(rows: &[&Value], columns: &[&String]) -> usize {
    let widest = |name: &String| {
        let cells = rows.iter().map(|row| render_cell(name, &row[name.as_str()]).chars().count());
        cells.chain([name.chars().count()]).max().unwrap_or_default() + 2
    };
    columns.iter().map(|name| widest(name)).sum()
}

fn render_grid(rows: &[&Value], columns: &[&String], width: Option<u16>) -> String {
    let mut table = empty_table(width);
    table.set_header(columns.iter().map(|name| {
        let mut values = rows.iter().map(|row| &row[name.as_str()]).filter(|value| !value.is_null());
        let numbers = values.next().is_some_and(Value::is_number) && values.all(Value::is_number);
        let title = Cell::new(name);
        if numbers { title.set_alignment(CellAlignment::Right) } else { title }
    }));
    for row in rows {
        table.add_row(columns.iter().map(|name| build_cell(name, &row[name.as_str()])));
    }
    render_lines(&table)
}

/// Returns an object: its plain fields as a list of two columns, and what is itself a table below under its name.
fn render_object(fields: &Map<String, Value>, order: &[String], width: Option<u16>) -> String {
    let whole = Value::Object(fields.clone());
    let names = order_columns(&[&whole], order);
    let (nested, flat): (Vec<_>, Vec<_>) = names.iter().partition(|name| is_nested(&fields[name.as_str()]));
    let mut parts = Vec::new();
    let flat: Vec<_> = flat.into_iter().filter(|name| !fields[name.as_str()].is_null()).collect();
    if !flat.is_empty() {
        let mut table = empty_table(width);
        for name in flat {
            let value = &fields[name.as_str()];
            let none = value.as_array().is_some_and(Vec::is_empty);
            table.add_row([
                Cell::new(name),
                Cell::new(if none { "none".into() } else { render_cell(name, value) }),
            ]);
        }
        parts.push(render_lines(&table));
    }
    for name in nested {
        let inner = render_value(&fields[name.as_str()], order, width.map(|w| w.saturating_sub(2)));
        parts.push(format!("{name}:\n{}", indent_lines(&inner)));
    }
    parts.join("\n\n")
}

/// Returns whether a value needs lines of its own: a list of objects, or an object that holds one.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(Value::is_object),
        Value::Object(fields) => fields.values().any(is_nested),
        _ => false,
    }
}

fn indent_lines(text: &str) -> String {
    text.lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("  {line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns a table without the blank that stands before and after every line.
fn render_lines(table: &Table) -> String {
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn empty_table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

fn build_cell(name: &str, value: &Value) -> Cell {
    let cell = Cell::new(render_cell(name, value));
    if value.is_number() { cell.set_alignment(CellAlignment::Right) } else { cell }
}

/// Returns a value in one cell.
fn render_cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape_control(text),
        Value::Number(n) if name == "bytes" => n.as_u64().map_or_else(|| n.to_string(), format_bytes),
        Value::Array(items) => items.iter().map(|item| render_cell("", item)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| format!("{k} {}", render_cell(k, v))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Returns a text whose control characters are written out; line ends stay.
fn escape_control(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owned_names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_list_has_its_columns_in_order_and_leaves_out_what_is_empty() {
        let value = json!([
            {"$backup": {"id": "b1", "bytes": 1_572_864, "label": null, "restorable": ["branch", "in_place"]}},
            {"$backup": {"id": "b22", "bytes": 10, "label": null, "restorable": []}},
        ]);
        insta::assert_snapshot!(render_value(&value, &owned_names(&["id", "label", "bytes"]), None), @"
        id     bytes  restorable
        b1   1.5 MiB  branch, in_place
        b22     10 B
        ");
    }

    #[test]
    fn one_object_is_a_list_of_fields_with_its_tables_below() {
        let value = json!({
            "verdict": "fail",
            "summary": {"error": 1, "warn": 0},
            "findings": [{"check": "rls", "object": "orders"}],
            "added": {"error": 1, "findings": [{"check": "rls"}]},
        });
        insta::assert_snapshot!(render_value(&value, &owned_names(&["verdict", "summary", "findings"]), None), @"
        verdict  fail
        summary  error 1, warn 0

        findings:
          check  object
          rls    orders

        added:
          error  1

          findings:
            check
            rls
        ");
    }

    #[test]
    fn what_the_catalogue_has_last_gives_way_and_what_a_query_asks_for_does_not() {
        let value = json!([{"name": "before-deploy", "lsn": "0/3000148", "time": "2026-11-20T01:00:00Z"}]);
        let fields = ops::find_operation("backup::list").expect("is there").returns.fields();
        let known = owned_names(&fields.iter().map(|f| f.name).collect::<Vec<_>>());
        let backup =
            json!([{"id": "backup-vut5clsm6t", "label": "x", "status": "completed", "key": "vut5clsm6t"}]);
        insta::assert_snapshot!(render_value(&backup, &known, Some(40)), @"
        id                 label  status
        backup-vut5clsm6t  x      completed
        (not shown for want of room: key; a wider terminal shows them, and JSON has them)
        ");
        assert!(
            !render_value(&value, &owned_names(&["name", "lsn", "when"]), Some(20)).contains("not shown")
        );
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(render_cell("x", &json!("a\u{1b}[31mb\tc")), "a\\u{1b}[31mb\\tc");
    }
}
