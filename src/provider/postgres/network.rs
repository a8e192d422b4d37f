//! The capability `Network`: who may connect, by `pg_hba.conf`. The file belongs to the administrator and is only read.
//!
//! The first rule that matches a connection decides, so a list of ranges cannot express all that the rules say;
//! a warning is given where it does not.

use super::{
    loaded_files::is_loaded_sql,
    sql::{self, Database},
};
use crate::provider::{
    Error, Network, Result,
    model::{AllowedRange, Ban, NetworkRestrictions, SslEnforcement},
};
use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;
use tokio_postgres::SimpleQueryRow;

/// Selects the rules for connections over the network, in their order.
const RULES_SQL: &str = "
    select line_number, type, address, netmask, auth_method, error, null as file_name
    from pg_hba_file_rules where type is distinct from 'local' order by line_number";

/// The same from PostgreSQL 16 on, where a file may include others.
const RULES_WITH_INCLUDED_SQL: &str = "
    select line_number, type, address, netmask, auth_method, error, file_name
    from pg_hba_file_rules where type is distinct from 'local' order by rule_number, file_name, line_number";

/// Selects the file that the rules are in.
const FILES_SQL: &str = "select current_setting('hba_file')";

/// The same from PostgreSQL 16 on: every file that has a line.
const FILES_WITH_INCLUDED_SQL: &str = "
    select current_setting('hba_file') union select file_name from pg_hba_file_rules where file_name is not null";

/// Returns what selects whether the server has loaded the files as they are now, and where it listens.
fn state_sql(files: &str) -> String {
    format!(
        "select (select bool_and(coalesce({}, false))
                 from ({files}) file(name), pg_stat_file(file.name, true) f) as applied,
                current_setting('listen_addresses') as listens, current_setting('ssl') as ssl",
        is_loaded_sql("f")
    )
}

#[async_trait]
impl Network for Database {
    async fn allowed_ranges(&self) -> Result<NetworkRestrictions> {
        let rules = HbaRules::load_rules(self).await?;
        let status = if rules.applied { "applied" } else { "stored" };
        let (ranges, mut warnings) = rules.admitted_ranges_with_warnings();
        if !accepts_remote_clients(&rules.listens) {
            let on = if rules.listens.is_empty() { "no address" } else { &rules.listens };
            warnings.push(format!("the server listens on {on}, so nobody connects from elsewhere"));
        }
        if !rules.applied {
            warnings.push(
                "`pg_hba.conf` is not seen to be what the server goes by: it was changed since, or just before it was read, or \
                 has a bad line; `select pg_reload_conf()` has it read again"
                    .into(),
            );
        }
        let ranges = ranges.into_iter().map(|cidr| AllowedRange { cidr, status: status.into() }).collect();
        Ok(NetworkRestrictions { ranges, applied: rules.applied, warnings })
    }

    async fn change_ranges(&self, _: &[IpNet], _: &[IpNet]) -> Result<NetworkRestrictions> {
        Err(hba_read_only_error())
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        Err(bans_unsupported_error())
    }

    async fn unban(&self, _: &[IpAddr]) -> Result<()> {
        Err(bans_unsupported_error())
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        let rules = HbaRules::load_rules(self).await?;
        let in_the_clear = rules.admitting_rules().any(|rule| rule.kind != "hostssl");
        Ok(SslEnforcement { enforced: rules.ssl && !in_the_clear, applied: rules.applied })
    }

    async fn set_ssl_enforcement(&self, _: bool) -> Result<SslEnforcement> {
        Err(hba_read_only_error())
    }
}

fn hba_read_only_error() -> Error {
    Error::unsupported(
        "`pg_hba.conf` is the administrator's, and redrill only reads it",
        "edit it on the server's host, and have it read again with `select pg_reload_conf()`",
    )
}

fn bans_unsupported_error() -> Error {
    Error::unsupported(
        "PostgreSQL shuts nobody out after failed attempts",
        "see what guards the server's host, such as its firewall",
    )
}

/// Returns whether the server listens to anybody but its own host.
fn accepts_remote_clients(listens: &str) -> bool {
    listens.split(',').map(str::trim).any(|name| !["", "localhost", "127.0.0.1", "::1"].contains(&name))
}

/// The rules, and what the server makes of them.
struct HbaRules {
    rules: Vec<HbaRule>,
    /// Whether the server has loaded them.
    applied: bool,
    /// The value of `listen_addresses`.
    listens: String,
    ssl: bool,
}

/// One rule.
struct HbaRule {
    /// Its line and file, for messages.
    place: String,
    kind: String,
    address: String,
    netmask: Option<String>,
    method: String,
    error: Option<String>,
}

impl HbaRules {
    async fn load_rules(database: &Database) -> Result<Self> {
        let client = database.address.connect().await?;
        let ask = "select current_setting('server_version_num')::int >= 160000";
        let has_included = sql::fetch_text(&client, ask).await?.as_deref() == Some("t");
        let (rules, files) = if has_included {
            (RULES_WITH_INCLUDED_SQL, FILES_WITH_INCLUDED_SQL)
        } else {
            (RULES_SQL, FILES_SQL)
        };
        let rules: Vec<HbaRule> =
            sql::fetch_rows(&client, rules).await?.iter().map(HbaRule::from_row).collect();
        let state = sql::fetch_rows(&client, &state_sql(files)).await?;
        let state = |name: &str| state.first().and_then(|row| row.get(name)).unwrap_or_default().to_owned();
        Ok(Self {
            // The server ignores the whole file when one line is bad.
            applied: state("applied") == "t" && rules.iter().all(|rule| rule.error.is_none()),
            listens: state("listens"),
            ssl: state("ssl") == "on",
            rules,
        })
    }

    fn admitting_rules(&self) -> impl Iterator<Item = &HbaRule> {
        self.rules.iter().filter(|rule| rule.error.is_none() && rule.method != "reject")
    }

    /// Returns the ranges that some rule admits, and a warning for each rule that a range cannot express.
    fn admitted_ranges_with_warnings(&self) -> (Vec<IpNet>, Vec<String>) {
        let (mut ranges, mut warnings) = (Vec::new(), Vec::new());
        for rule in &self.rules {
            let place = &rule.place;
            if let Some(error) = &rule.error {
                warnings.push(format!("{place} cannot be read: {error}"));
            } else if rule.method == "reject" {
                warnings.push(format!("{place} rejects `{}` before later lines", rule.address));
            } else {
                match rule.to_networks() {
                    Some(nets) => ranges.extend(nets),
                    None => {
                        warnings.push(format!("{place} admits `{}`, which is no range", rule.address));
                    }
                }
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        (ranges, warnings)
    }
}

impl HbaRule {
    fn from_row(row: &SimpleQueryRow) -> Self {
        let text = |name: &str| row.get(name).map(str::to_owned);
        let file = text("file_name").and_then(|path| path.rsplit('/').next().map(str::to_owned));
        Self {
            place: format!(
                "line {} of `{}`",
                text("line_number").unwrap_or_default(),
                file.unwrap_or_else(|| "pg_hba.conf".into())
            ),
            kind: text("type").unwrap_or_default(),
            address: text("address").unwrap_or_default(),
            netmask: text("netmask"),
            method: text("auth_method").unwrap_or_default(),
            error: text("error"),
        }
    }

    /// Returns the ranges of a rule; `None` for host names, `samehost` and `samenet`.
    fn to_networks(&self) -> Option<Vec<IpNet>> {
        if self.address == "all" {
            return Some(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
        }
        let (address, netmask) = (self.address.parse().ok()?, self.netmask.as_ref()?.parse().ok()?);
        Some(vec![IpNet::with_netmask(address, netmask).ok()?.trunc()])
    }
}

#[cfg(test)]
mod tests {
    mod postgres {
        use super::super::{super::test_cluster::TestCluster, *};
        use crate::provider::Code;
        use std::{
            fs,
            time::{Duration, SystemTime},
        };

        const FILE: &str = "local all all trust
host all all 10.0.0.0/8 scram-sha-256
host all all 2001:db8::/32 scram-sha-256
host all all 192.0.2.0/24 reject
host all all samenet md5
host all all office.example md5
";

        /// Has the server read its files until it is seen to have.
        async fn reload_until_applied(cluster: &TestCluster) -> NetworkRestrictions {
            for _ in 0..100 {
                cluster.run_statements(&["select pg_reload_conf()"]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let allowed = cluster.database().allowed_ranges().await.expect("ranges");
                if allowed.applied {
                    return allowed;
                }
            }
            panic!("it does not read them");
        }

        #[tokio::test]
        async fn a_file_that_was_put_back_with_its_old_time_is_not_applied() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let file = cluster.data().join("pg_hba.conf");
            fs::write(&file, "local all all trust\nhost all all 0.0.0.0/0 trust\n").expect("written");
            reload_until_applied(&cluster).await;
            fs::write(&file, "local all all trust\n").expect("written");
            let yesterday = SystemTime::now() - Duration::from_secs(86400);
            let put_back = fs::File::options().write(true).open(&file).expect("it opens");
            put_back.set_modified(yesterday).expect("as `cp -p` does");
            let db = cluster.database();
            let stored = db.allowed_ranges().await.expect("ranges");
            assert!(stored.ranges.is_empty() && !stored.applied, "{stored:?}");
            assert!(!db.ssl().await.expect("rules").applied);
        }

        /// From PostgreSQL 16 on; an earlier one is shown such a view.
        #[tokio::test]
        async fn every_file_that_is_included_counts() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            reload_until_applied(&cluster).await;
            let included = cluster.data().join("more.conf");
            fs::write(&included, "host all all 10.0.0.0/8 trust\n").expect("written");
            cluster.programs.chown_to_owner(&included).expect("it is given away");
            let client = cluster.connect().await;
            let view = format!(
                "create schema later; create view later.pg_hba_file_rules as
                 select n as rule_number, file_name, 7 as line_number, 'host' as type, '10.0.0.0' as address,
                        '255.0.0.0' as netmask, 'trust' as auth_method, null as error
                 from (values (2, '{}'), (1, current_setting('hba_file'))) as rules(n, file_name);
                 set search_path = later, pg_catalog",
                included.display()
            );
            client.batch_execute(&view).await.expect("a view");
            let rules = sql::fetch_rows(&client, RULES_WITH_INCLUDED_SQL).await.expect("rules");
            let places: Vec<String> = rules.iter().map(|row| HbaRule::from_row(row).place).collect();
            assert_eq!(places, ["line 7 of `pg_hba.conf`", "line 7 of `more.conf`"]);
            let applied = async || {
                let state =
                    sql::fetch_rows(&client, &state_sql(FILES_WITH_INCLUDED_SQL)).await.expect("a state");
                state[0].get("applied") == Some("t")
            };
            assert!(!applied().await, "the file is new");
            fs::remove_file(&included).expect("removed");
            assert!(!applied().await, "the file is gone");
        }

        #[tokio::test]
        async fn ranges_are_those_of_the_rules() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let (db, file) = (cluster.database(), cluster.data().join("pg_hba.conf"));
            tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
            fs::write(&file, FILE).expect("written");
            let stored = db.allowed_ranges().await.expect("ranges");
            let told = stored.warnings.join("; ");
            assert!(
                !stored.applied && told.contains("is not seen to be what the server goes by"),
                "{stored:?}"
            );
            let allowed = reload_until_applied(&cluster).await;
            let shown: Vec<String> =
                allowed.ranges.iter().map(|r| format!("{} {}", r.cidr, r.status)).collect();
            assert_eq!(shown, ["10.0.0.0/8 applied", "2001:db8::/32 applied"]);
            let told = allowed.warnings.join("; ");
            for part in [
                "line 4 of `pg_hba.conf` rejects `192.0.2.0`",
                "line 5 of `pg_hba.conf` admits `samenet`",
                "office.example",
                "listens on no address",
            ] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert!(!db.ssl().await.expect("rules").enforced);
            // A line for TLS on a server that has none is bad, and with it the whole file.
            fs::write(&file, format!("{FILE}hostssl all all all md5\n")).expect("written");
            assert!(!db.allowed_ranges().await.expect("ranges").applied);
            assert_eq!(
                db.change_ranges(&[], &[]).await.expect_err("it is read only").code,
                Code::Unsupported
            );
            assert_eq!(db.bans().await.expect_err("there are none").code, Code::Unsupported);
        }

        #[tokio::test]
        async fn a_rule_for_all_is_both_families() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            fs::write(
                cluster.data().join("pg_hba.conf"),
                "local all all trust\nhost all all all scram-sha-256\n",
            )
            .expect("written");
            let shown: Vec<String> = db
                .allowed_ranges()
                .await
                .expect("ranges")
                .ranges
                .iter()
                .map(|r| r.cidr.to_string())
                .collect();
            assert_eq!(shown, ["0.0.0.0/0", "::/0"]);
        }
    }
}
