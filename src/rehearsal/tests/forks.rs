//! Branches of `parallel` and `each`, which run at once.

use super::{FaultSelection, broken_by_faults, run_scenarios, write_runbook};

const NEEDS: &str = r#""backup.create", "branch.create", "db.change", "db.destroy", "network.change""#;

/// Returns the violations of runs of these statements in which nothing goes wrong, in every order of its branches.
fn list_broken(body: &str) -> Vec<String> {
    broken_by_faults(&write_runbook(NEEDS, body), FaultSelection::NONE, 0..0, None)
}

/// Returns the names of the scenarios of these statements in which branches go in another order than listed.
fn list_orders(body: &str) -> Vec<String> {
    let all = run_scenarios(&write_runbook(NEEDS, body), FaultSelection::NONE, 0..0, None);
    all.into_iter().map(|(id, ..)| id).filter(|id| id.starts_with("order:")).collect()
}

const TWO_SETTINGS: &str = r#"parallel([
    || db::config::set(db, #{ work_mem: "8MB" }),
    || db::config::set(db, #{ work_mem: "16MB" }),
]);"#;

#[test]
fn branches_that_set_one_thing_differently_are_found() {
    let rows = r#"backup::create(db);
    each(["a", "b"], |name| db::execute(db, `update customers set name = '${name}' where id = 1`));"#;
    let tls = r"each([true, false], |enforced| network::ssl::set(db, enforced));";
    let nested = format!("each([1], |n| {{ {TWO_SETTINGS} }});");
    for (body, path, thing) in [
        (TWO_SETTINGS, "/parallel#0", "sandbox/settings"),
        (rows, "/each#0", "sandbox/database/customers"),
        (tls, "/each#0", "sandbox/switches"),
        (&nested, "/each#0/0/parallel#0", "sandbox/settings"),
    ] {
        let broken = list_broken(body);
        let ends = format!(", where the branches of {path} go in the reverse order");
        let is_it = |line: &String| {
            let (id, what) = line.split_once(": same-world: another world: ").unwrap_or_default();
            id.starts_with("order:") && what.starts_with(thing) && what.ends_with(&ends)
        };
        assert!(!broken.is_empty() && broken.iter().all(is_it), "{body}: {broken:?}");
    }
}

#[test]
fn a_race_that_the_first_and_the_last_branch_do_not_tell_is_found() {
    let parallel = r#"parallel([
        || db::config::set(db, #{ work_mem: "8MB" }),
        || db::config::set(db, #{ work_mem: "16MB" }),
        || db::config::set(db, #{ work_mem: "8MB" }),
    ]);"#;
    let each = r#"each(["8MB", "16MB", "8MB"], |size| db::config::set(db, #{ work_mem: size }));"#;
    for (body, native) in [(parallel, "parallel"), (each, "each")] {
        let ends = format!(", where the branch /{native}#0/1 goes last");
        let broken = list_broken(body);
        let is_it = |line: &String| {
            line.starts_with("order:2:1-last: same-world: another world: sandbox/settings")
                && line.ends_with(&ends)
        };
        assert!(!broken.is_empty() && broken.iter().all(is_it), "{body}: {broken:?}");
    }
}

#[test]
fn at_most_eight_branches_between_go_last_once() {
    let list = |count: usize| {
        let body = "each(list, |size| db::config::set(db, #{ work_mem: `${size}MB` }));";
        let items: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
        list_orders(&format!("let list = [{}]; {body}", items.join(", ")))
    };
    assert_eq!(list(4), ["order:2:last-first", "order:2:1-last", "order:2:2-last"]);
    let spread = [1, 3, 5, 7, 9, 11, 13, 15].map(|branch| format!("order:2:{branch}-last"));
    assert_eq!(list(18)[1..], spread);
}

#[test]
fn a_branch_that_needs_what_another_does_is_found() {
    let body = r#"parallel([
        || branch::create(db, #{ into: "copy" }),
        || db::execute("sandbox/copy", "delete from order_items"),
    ]);"#;
    let broken = list_broken(body);
    let says = "order:2:last-first: same-end: nothing failed, and the run is failed instead of succeeded";
    assert!(broken.iter().any(|line| line.starts_with(says)), "{broken:?}");
    let body = r#"parallel([|| backup::create(db), || db::execute(db, "delete from order_items")]);"#;
    let broken = list_broken(body);
    assert!(broken.iter().any(|line| line.starts_with("order:2:last-first: guard:")), "{broken:?}");
}

#[test]
fn a_backup_that_races_with_what_it_saves_is_found() {
    let body = r#"approve("rows?");
    parallel([
        || backup::create(db, #{ label: "before" }),
        || db::execute(db, "delete from order_items where line = 2"),
    ]);"#;
    let broken = list_broken(body);
    let is_it = |line: &String| {
        line.starts_with("order:3:last-first: same-world: another world: sandbox/backups: ")
            && line.contains("before: completed, ")
    };
    assert!(broken.len() == 2 && broken.iter().all(is_it), "{broken:?}");
}

#[test]
fn rows_that_come_in_another_order_are_no_other_world() {
    let body = r#"backup::create(db);
    db::execute(db, "create table notes (name text primary key)");
    each(["one", "two", "three"], |name| db::execute(db, `insert into notes values ('${name}')`));"#;
    assert_eq!(list_orders(body).len(), 2);
    assert_eq!(list_broken(body), Vec::<String>::new());
}

#[test]
fn branches_that_change_different_things_keep_every_invariant() {
    let body = r#"let copy = branch::create(db, #{ into: "copy" });
    parallel([
        || { backup::create(db, #{ label: "one" }); network::restrictions::add(db, "203.0.113.0/24"); },
        || { backup::create(db, #{ label: "two" }); network::restrictions::add(db, "198.51.100.0/24"); },
        || each(["name", "email"], |column| db::execute(copy, `update customers set ${column} = 'x' where id = 1`)),
    ]);
    each(["8MB", "16MB"], #{ limit: 1 }, |size| db::config::set(db, #{ work_mem: size }));"#;
    assert_eq!(list_broken(body), Vec::<String>::new());
    assert_eq!(
        list_orders(body),
        ["order:9:last-first", "order:4:last-first", "order:4:1-last", "order:7:last-first"]
    );
}

#[test]
fn branches_that_only_look_have_no_order() {
    assert_eq!(list_orders("parallel([|| backup::list(db), || db::health(db)]);"), Vec::<String>::new());
}
