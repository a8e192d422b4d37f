//! Maps the server's types to those that `provider/sql/values.rs` can parse.

use crate::provider::sql::values::{self, ScalarType};
use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

/// Returns a column's value.
pub(super) fn parse_column_value(text: Option<&str>, column_type: &Type) -> Value {
    values::parse_value(text, &to_scalar_type(column_type))
}

fn to_scalar_type(column_type: &Type) -> ScalarType {
    match (column_type, column_type.kind()) {
        (&Type::INT2_VECTOR | &Type::OID_VECTOR, Kind::Array(element)) => {
            ScalarType::Vector(Box::new(to_scalar_type(element)))
        }
        // Boxes are the one type whose text has commas of its own.
        (&Type::BOX_ARRAY, Kind::Array(element)) => ScalarType::Array(Box::new(to_scalar_type(element)), ';'),
        (_, Kind::Array(element)) => ScalarType::Array(Box::new(to_scalar_type(element)), ','),
        (_, Kind::Domain(base)) => to_scalar_type(base),
        _ => map_plain_type(column_type),
    }
}

fn map_plain_type(column_type: &Type) -> ScalarType {
    match *column_type {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::NUMERIC => ScalarType::Integer,
        Type::FLOAT4 | Type::FLOAT8 => ScalarType::Float,
        Type::BOOL => ScalarType::Bool,
        Type::TIMESTAMPTZ => ScalarType::Moment,
        Type::JSON | Type::JSONB => ScalarType::Json,
        _ => ScalarType::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_read_by_their_type() {
        for (text, of, expected) in [
            ("-7", Type::INT8, json!(-7)),
            ("4294967295", Type::OID, json!(4_294_967_295_u32)),
            ("12", Type::NUMERIC, json!(12)),
            ("12.50", Type::NUMERIC, json!("12.50")),
            ("99999999999999999999", Type::NUMERIC, json!("99999999999999999999")),
            ("NaN", Type::FLOAT8, json!("NaN")),
            ("-Infinity", Type::FLOAT4, json!("-Infinity")),
            ("1.5", Type::FLOAT8, json!(1.5)),
            ("f", Type::BOOL, json!(false)),
            ("2026-11-20 03:00:00.5+00", Type::TIMESTAMPTZ, json!("2026-11-20T03:00:00.5Z")),
            ("infinity", Type::TIMESTAMPTZ, json!("infinity")),
            ("0044-03-15 00:00:00+00 BC", Type::TIMESTAMPTZ, json!("0044-03-15 00:00:00+00 BC")),
            ("2026-11-20 03:00:00", Type::TIMESTAMP, json!("2026-11-20 03:00:00")),
            ("{\"a\": [1, null]}", Type::JSONB, json!({"a": [1, null]})),
            ("\\x00ff", Type::BYTEA, json!("\\x00ff")),
        ] {
            assert_eq!(parse_column_value(Some(text), &of), expected, "{text}");
        }
        assert_eq!(parse_column_value(None, &Type::INT4), Value::Null);
    }

    #[test]
    fn arrays_nest_and_quote() {
        for (text, of, expected) in [
            ("{}", Type::INT4_ARRAY, json!([])),
            ("{1,NULL,3}", Type::INT4_ARRAY, json!([1, null, 3])),
            ("{{1,2},{3,4}}", Type::INT8_ARRAY, json!([[1, 2], [3, 4]])),
            ("[0:1]={7,8}", Type::INT4_ARRAY, json!([7, 8])),
            (
                r#"{"a,b","NULL","say \"x\\y\"",plain}"#,
                Type::TEXT_ARRAY,
                json!(["a,b", "NULL", "say \"x\\y\"", "plain"]),
            ),
            (r#"{"{\"a\": 1}",NULL}"#, Type::JSONB_ARRAY, json!([{"a": 1}, null])),
            ("{(1,1),(0,0);(2,2),(0,0)}", Type::BOX_ARRAY, json!(["(1,1),(0,0)", "(2,2),(0,0)"])),
            ("1 2", Type::INT2_VECTOR, json!([1, 2])),
            ("{broken", Type::INT4_ARRAY, json!("{broken")),
        ] {
            assert_eq!(parse_column_value(Some(text), &of), expected, "{text}");
        }
    }
}
