//! What of a project goes into a dump, and what of a dump into a new branch.
//!
//! - The platform's own schemas are in every branch already, made by the platform, and may not be replaced by anybody
//!   else. Most are left out of the dump.
//! - Some have rows that a project's own tables refer to. Those rows are loaded, in an order that satisfies the
//!   references, and so is what people commonly add: triggers on users, policies on objects.

/// The platform's schemas that are left out of a dump.
const EXCLUDED_SCHEMAS: &[&str] = &[
    "_analytics",
    "_realtime",
    "_supavisor",
    "cron",
    "dbdev",
    "etl",
    "graphql",
    "graphql_public",
    "net",
    "pgbouncer",
    "pgmq",
    "pgsodium",
    "pgsodium_masks",
    "pgtle",
    "realtime",
    "repack",
    "supabase_functions",
    "supabase_migrations",
    "tiger",
    "tiger_data",
    "topology",
    "vault",
    "_timescaledb_*",
    "timescaledb_*",
];
/// The platform's schemas that are in a dump, and in every new branch already.
const PREINSTALLED_SCHEMAS: &[&str] = &["auth", "extensions", "storage"];
/// The tables there whose rows go into a branch, each after those it refers to. Sessions and tokens do not: a branch
/// must not honour them.
const COPIED_TABLES: &[(&str, &str)] = &[("auth", "users"), ("auth", "identities"), ("storage", "buckets")];

/// Returns the schemas that are left out of a dump, as patterns.
pub(super) fn excluded_schema_patterns() -> impl Iterator<Item = &'static str> {
    EXCLUDED_SCHEMAS.iter().copied()
}

/// Returns the schemas that are the platform's own and not the project's.
pub(in crate::provider::supabase) fn platform_schemas() -> impl Iterator<Item = &'static str> {
    EXCLUDED_SCHEMAS.iter().chain(PREINSTALLED_SCHEMAS).copied().filter(|name| !name.contains('*'))
}

/// Returns the part of a dump's table of contents that goes into a branch, in loading order.
pub(in crate::provider::supabase) fn select_branch_entries(contents: &str) -> String {
    let entries = || contents.lines().filter_map(TocEntry::parse_line);
    let rows = COPIED_TABLES
        .iter()
        .flat_map(|row| entries().filter(move |e| e.kind == "TABLE DATA" && (e.schema, e.name) == *row));
    let own: Vec<TocEntry<'_>> = entries().filter(TocEntry::belongs_in_branch).collect();
    // Before the first rows of the project's own, which may refer to these.
    let at = own.iter().position(|e| e.kind == "TABLE DATA").unwrap_or(own.len());
    let (before, after) = own.split_at(at);
    let lines = before.iter().copied().chain(rows).chain(after.iter().copied()).map(|entry| entry.line);
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// An entry of a table of contents: `3; 1259 16385 TABLE public orders postgres`.
#[derive(Clone, Copy)]
struct TocEntry<'a> {
    line: &'a str,
    kind: &'static str,
    schema: &'a str,
    name: &'a str,
    owner: &'a str,
}

/// The kinds of entries that have several words or matter to [`TocEntry::belongs_in_branch`].
const ENTRY_KINDS: &[&str] = &[
    "TABLE DATA",
    "TABLE ATTACH",
    "MATERIALIZED VIEW DATA",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "PUBLICATION",
    "SCHEMA",
    "EXTENSION",
    "COMMENT",
    "ACL",
    "TRIGGER",
    "POLICY",
];

impl<'a> TocEntry<'a> {
    /// Parses a line; `None` for a comment.
    fn parse_line(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once("; ")?;
        let rest = rest.trim_start();
        // The two numbers do not matter here.
        let rest = rest.splitn(3, ' ').nth(2)?;
        let kind = ENTRY_KINDS
            .iter()
            .copied()
            .find(|kind| rest.strip_prefix(kind).is_some_and(|r| r.starts_with(' ')));
        let rest = match kind {
            Some(kind) => rest[kind.len()..].trim_start(),
            None => rest,
        };
        let mut words = rest.split(' ');
        let (schema, name) = if kind.is_some() {
            (words.next()?, words.next()?)
        } else {
            // For an unlisted kind only the schema matters: it is the first word that is not all capitals.
            (
                words.find(|word| word.chars().any(|c| !c.is_ascii_uppercase()))?,
                words.next().unwrap_or_default(),
            )
        };
        let owner = line.rsplit(' ').next().unwrap_or_default();
        (!line.starts_with(';')).then_some(Self { line, kind: kind.unwrap_or_default(), schema, name, owner })
    }

    fn belongs_in_branch(&self) -> bool {
        match self.kind {
            // The platform's own, which only it may create.
            "EVENT TRIGGER" => false,
            "DEFAULT ACL" => self.owner == "postgres",
            "PUBLICATION" => !self.name.starts_with("supabase_"),
            "SCHEMA" => self.name != "public" && !PREINSTALLED_SCHEMAS.contains(&self.name),
            "COMMENT" | "ACL" if self.schema == "-" => {
                // `COMMENT - EXTENSION pgcrypto`, `ACL - SCHEMA auth`
                let about = self.line.rsplit(' ').nth(1).unwrap_or_default();
                self.name != "EXTENSION" && !PREINSTALLED_SCHEMAS.contains(&about)
            }
            "TRIGGER" if self.schema == "auth" => true,
            "POLICY" if self.schema == "storage" => true,
            _ => !PREINSTALLED_SCHEMAS.contains(&self.schema),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_platforms_stays_and_what_is_pointed_to_comes_first() {
        let contents = "\
;
; Archive created at 2026-11-20 03:00:00 UTC
;
6; 2615 16388 SCHEMA - auth supabase_admin
8; 2615 16389 SCHEMA - shop postgres
3; 3079 16390 EXTENSION - pgcrypto
4521; 0 0 COMMENT - EXTENSION pgcrypto
4522; 0 0 ACL - SCHEMA auth supabase_admin
4523; 0 0 ACL - SCHEMA public pg_database_owner
215; 1259 16400 TABLE auth users supabase_auth_admin
216; 1259 16401 TABLE public orders postgres
217; 1255 16402 FUNCTION auth uid() supabase_auth_admin
218; 1259 16403 MATERIALIZED VIEW shop totals postgres
3301; 0 16401 TABLE DATA public orders postgres
3300; 0 16400 TABLE DATA auth users supabase_auth_admin
3302; 0 16409 TABLE DATA auth sessions supabase_auth_admin
3303; 0 16408 TABLE DATA auth identities supabase_auth_admin
3190; 2606 16410 CONSTRAINT public orders orders_pkey postgres
3191; 2620 16411 TRIGGER auth users on_auth_user_created postgres
3192; 3256 16412 POLICY storage objects mine postgres
3193; 6104 16413 PUBLICATION - supabase_realtime postgres
3194; 6106 16414 PUBLICATION TABLE public supabase_realtime orders postgres
3195; 3466 16415 EVENT TRIGGER - issue_graphql_placeholder supabase_admin
3196; 826 16416 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES supabase_admin
";
        let kept: Vec<String> = select_branch_entries(contents)
            .lines()
            .map(|line| line.split(';').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            kept,
            ["8", "3", "4523", "216", "218", "3300", "3303", "3301", "3190", "3191", "3192", "3194"]
        );
    }
}
