//! Requests that ask for several things, cut down to the first.

use serde_json::Value;

/// The setting that is none: what a change of settings says of the restart.
const RESTART_FIELD: &str = "restart_database";

/// Returns the body of a request with the first part of what it asks for: of ranges those to add, of settings and of bans
/// the first. A body of another request is returned as it is.
pub(super) fn keep_first_part_of_body(path: &str, mut body: Value) -> Value {
    let Some(fields) = body.as_object_mut() else { return body };
    if path.ends_with("/network-restrictions") && fields.contains_key("add") {
        fields.remove("remove");
    } else if path.ends_with("/config/database/postgres") {
        let first = fields.keys().find(|name| *name != RESTART_FIELD).cloned();
        fields.retain(|name, _| name == RESTART_FIELD || Some(name) == first.as_ref());
    } else if path.ends_with("/network-bans")
        && let Some(addresses) = fields.get_mut("ipv4_addresses").and_then(Value::as_array_mut)
    {
        addresses.truncate(1);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_is_the_first_part() {
        for (path, body, left) in [
            ("/p/network-restrictions", json!({ "add": 1, "remove": 2 }), json!({ "add": 1 })),
            ("/p/network-restrictions", json!({ "remove": 2 }), json!({ "remove": 2 })),
            (
                "/p/config/database/postgres",
                json!({ "max_connections": 1, "restart_database": false, "work_mem": 2 }),
                json!({ "max_connections": 1, "restart_database": false }),
            ),
            ("/p/network-bans", json!({ "ipv4_addresses": [1, 2] }), json!({ "ipv4_addresses": [1] })),
            ("/p/pause", json!(null), json!(null)),
        ] {
            assert_eq!(keep_first_part_of_body(path, body), left);
        }
    }
}
