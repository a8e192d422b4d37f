//! The fake Management API held against the documents of the real one.
//!
//! `REDRILL_OPENAPI` is the folder that has them, and `REDRILL_PRISM` the program that validates; without them the
//! tests say that they are skipped. Where the real API differs from its documents, `deviations.toml` says why.

mod examples;
pub mod prism;

use examples::EXAMPLES;
use redrill::fake::routes::ROUTES;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};

/// The complete document of the first version, and the one that has more endpoints and fewer statuses.
const DOCUMENTS: [&str; 2] = ["management-api-v1.2026-05-22.json", "management-api-v1-v2.derived.json"];

/// Returns the documents, or says why they are not compared with.
pub fn documents_or_skip() -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("REDRILL_OPENAPI").map(PathBuf::from) else {
        eprintln!("skipped: REDRILL_OPENAPI names no folder with the OpenAPI documents");
        return None;
    };
    Some(DOCUMENTS.iter().map(|name| folder.join(name)).collect())
}

fn read_document(document: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(document).unwrap()).unwrap()
}

/// Follows a reference within a document.
fn resolve_reference<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

#[test]
fn every_endpoint_has_an_example() {
    let driven: BTreeSet<_> = EXAMPLES.iter().map(|e| (e.method, e.path)).collect();
    let missing: Vec<_> =
        ROUTES.iter().map(|r| (r.method, r.path)).filter(|route| !driven.contains(route)).collect();
    assert!(missing.is_empty(), "without an example: {missing:?}");
}

#[test]
fn every_endpoint_is_in_a_document() {
    let Some(documents) = documents_or_skip() else { return };
    let documents: Vec<Value> = documents.iter().map(read_document).collect();
    for route in ROUTES {
        let method = route.method.to_lowercase();
        let is_there = documents.iter().any(|d| d["paths"][route.path].get(&method).is_some());
        // The newer settings call came after the complete document and is not in the other one.
        let is_later = (route.method, route.path) == ("PATCH", "/v1/projects/{ref}/config/database/postgres");
        assert!(is_there || is_later, "{} {} is in no document", route.method, route.path);
    }
}

#[test]
fn every_example_has_the_body_that_the_documents_want() {
    let Some(documents) = documents_or_skip() else { return };
    let documents: Vec<Value> = documents.iter().map(read_document).collect();
    let mut compared = 0;
    for example in EXAMPLES.iter().filter(|e| e.is_well_formed) {
        for document in &documents {
            let body = &document["paths"][example.path][example.method.to_lowercase()]["requestBody"];
            let schema = resolve_reference(
                document,
                &resolve_reference(document, body)["content"]["application/json"]["schema"],
            );
            let Some(fields) = schema["properties"].as_object() else { continue };
            let sent: Value = serde_json::from_str(example.body).unwrap_or_default();
            let what = format!("{} {}", example.method, example.path);
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for name in required.iter().filter_map(Value::as_str) {
                assert!(sent.get(name).is_some(), "{what}: `{name}` is required");
            }
            for name in sent.as_object().into_iter().flatten().map(|(name, _)| name) {
                assert!(fields.contains_key(name), "{what}: `{name}` is no field");
            }
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} bodies were compared");
}
