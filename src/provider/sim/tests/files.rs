use super::*;

#[test]
fn a_bad_world_says_where_and_what_to_do() {
    let head = "title = 't'\n[[history]]\nat = '-1h'\nsql = 'create table t (id int)'\n";
    let cases = [
        (
            "histroy = []\ntitle = 't'",
            "w.toml, line 1: unknown field `histroy`, expected one of",
            "did you mean `history`?",
        ),
        (
            &format!("{head}[[history]]\nat = 'soon'\nsql = 'select 1'"),
            "w.toml, line 6: `soon` is not a duration",
            "such as `-15m`",
        ),
        (
            &format!("{head}[[history]]\nat = '5m'\nsql = 'select 1'"),
            "w.toml, line 6: `5m` lies in the future",
            "such as `-15m`",
        ),
        (
            &format!("{head}[[history]]\nat = '-99999999h'\nsql = 'select 1'"),
            "w.toml, line 6: `-99999999h` is longer ago than `-18250d`",
            "such as `-15m`",
        ),
        (
            &format!("{head}[[history]]\nat = '-5m'\nsql = 'insert into x values (1)'"),
            "line 7: `insert into x values (1)`: the database refused the statement: no such table: x",
            "by their times",
        ),
        (&format!("backup_duration = '-4m'\n{head}"), "line 1: `-4m` is negative", "such as `4m`"),
        (
            &format!("{head}[[backups]]\nid = 'a'\nat = '-1m'\n[[backups]]\nid = 'a'\nat = '-2m'"),
            "line 9: two backups are called `a`",
            "something else",
        ),
        (
            &format!("{head}[[policies]]\ntable = 'tt'\nname = 'p'\ncommand = 'ALL'"),
            "line 6: the policy `p` is on `tt`, which never was a table",
            "did you mean `t`?",
        ),
        (
            &format!("{head}[[policies]]\ntable = 't'\nname = 'p'\ncommand = 'SELEC'"),
            "line 8: unknown variant `SELEC`",
            "did you mean `SELECT`?",
        ),
        (
            &format!("{head}[[findings]]\ncheck = 'x'\nobject = ''\ndetail = ''\nfix = ''"),
            "line 6: a finding belongs to the check `x`, which is not listed",
            "there are none",
        ),
        (
            &format!("{head}[[checks]]\ncheck = 'no_primary_key'\nlevel = 'info'\ncategory = 'X'"),
            "line 6: the check `no_primary_key` is worked out",
            "give the database the fault",
        ),
        ("retention = '7d'", "line 1: missing field `title`", "the built-in `sandbox` is an example"),
        ("title =", "w.toml, line 1:", ""),
    ];
    let state = tempfile::tempdir().expect("a folder");
    for (text, message, hint) in cases {
        std::fs::write(state.path().join("w.toml"), text).expect("it is written");
        let error = sim_on_disk(state.path(), "world = 'w.toml'").map(drop).expect_err(text);
        assert_eq!(error.code, Code::Invalid);
        assert!(error.message.contains(message), "{text}\n{error:?}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{text}\n{error:?}");
    }
    let error = sim_on_disk(state.path(), "wrold = 'sandbox'").map(drop).expect_err("unknown key");
    assert_eq!(error.hint.as_deref(), Some("did you mean `world`?"));
    let error = sim_on_disk(state.path(), "world = 'missing.toml'").map(drop).expect_err("no file");
    assert!(error.message.contains("`missing.toml` cannot be read"), "{error:?}");
}
