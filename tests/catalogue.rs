//! Rules over the whole catalogue that need more than its values: its examples run, and its page is current.

use crate::env::CliEnv;
use redrill::ops;

#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/operations.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == ops::reference::render_reference(),
        "docs/reference/operations.md is not what `redrill reference` prints: write it anew"
    );
}

#[test]
fn the_table_of_landings_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/DURABILITY.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let table = ops::reference::render_landing_limits();
    assert!(
        page.contains(&format!("<!-- landings -->\n{table}<!-- /landings -->")),
        "docs/DURABILITY.md has another table than what the providers state:\n{table}"
    );
}

/// Every example is run, in one runbook after another on one sandbox, with every right.
#[test]
fn every_example_runs() {
    let areas = ["backup", "branch", "db", "network", "security", "project", "supabase"];
    let needs: Vec<_> = areas
        .iter()
        .flat_map(|area| ["read", "create", "change", "destroy"].map(|effect| format!("\"{area}.{effect}\"")))
        .collect();
    let env = CliEnv::new();
    for op in ops::all_operations() {
        for example in op.examples {
            let text =
                format!("const RUNBOOK = #{{ title: \"t\", needs: [{}] }};\n{example}\n", needs.join(", "));
            env.write_file("example.rhai", &text);
            let done = env.run_cli(&["run", "example.rhai"]);
            assert_eq!(done.code, 0, "{}: {example}\n{done}", op.path());
        }
    }
}
