//! The capability `Replicas`: the standbys of a cluster, as its server lists them. They are made and removed on their own
//! hosts.

use super::sql::{self, Database};
use crate::{
    base::moment::Span,
    provider::{
        Error, Replicas, Result,
        model::{CallKey, Job, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;

/// Selects the servers that receive WAL; a running backup and `pg_receivewal` are none.
const STANDBYS_SQL: &str = "
    select coalesce(nullif(application_name, ''), 'pid ' || pid) as name, state,
           host(client_addr) as host, (extract(epoch from replay_lag) * 1000)::bigint as lag_ms
    from pg_stat_replication
    where state <> 'backup' and application_name not in ('pg_basebackup', 'pg_receivewal')
    order by backend_start, pid";

/// The standbys of one cluster.
pub(super) struct Standbys {
    pub target: String,
    pub database: Database,
}

#[async_trait]
impl Replicas for Standbys {
    async fn list(&self) -> Result<Vec<Replica>> {
        let client = self.database.address.connect().await?;
        let rows = sql::fetch_rows(&client, STANDBYS_SQL).await?;
        let shown = |row: &tokio_postgres::SimpleQueryRow| Replica {
            id: row.get("name").unwrap_or_default().to_owned(),
            target: self.target.clone(),
            region: None,
            status: match row.get("state") {
                Some("streaming") => "ready".into(),
                Some("startup" | "catchup") => "preparing".into(),
                other => other.unwrap_or("unknown").to_owned(),
            },
            host: row.get("host").map(str::to_owned),
            // The client's port is not the one that the standby listens on.
            port: None,
            lag: row.get("lag_ms").and_then(|ms| ms.parse().ok()).map(Span::from_millis),
            key: None,
        };
        Ok(rows.iter().map(shown).collect())
    }

    async fn create(&self, _: &ReplicaRequest, _: &CallKey) -> Result<Job> {
        Err(Error::unsupported(
            format!("a standby of `{}` is made on its own host", self.target),
            "make it there with `pg_basebackup --write-recovery-conf`, or make a branch to read from",
        ))
    }

    async fn delete(&self, _: &str) -> Result<()> {
        Err(Error::unsupported(
            format!("a standby of `{}` is removed on its own host", self.target),
            "stop it there, and drop its replication slot here",
        ))
    }
}

#[cfg(test)]
mod tests {
    mod postgres {
        use super::super::{super::test_cluster::TestCluster, *};
        use std::{ffi::OsStr, fs, process::Stdio, time::Duration};

        #[tokio::test]
        async fn a_standby_is_listed_while_it_streams() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let standbys = Standbys { target: "orders".into(), database: cluster.database() };
            assert_eq!(standbys.list().await.expect("they are listed"), []);
            let folder = tempfile::Builder::new().prefix("rd-").tempdir_in("/var/tmp").expect("a folder");
            cluster.programs.chown_to_owner(folder.path()).expect("the folder is given away");
            let data = folder.path().join("data");
            let socket = cluster.socket();
            let args =
                ["-h", socket.to_str().expect("UTF-8"), "-U", "postgres", "-R", "--checkpoint=fast", "-D"];
            let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
            args.push(data.as_os_str());
            cluster.programs.run("pg_basebackup", &args).await.expect("a copy");
            let log = fs::File::create(folder.path().join("log")).expect("a log");
            let mut command = cluster.programs.command("setpriv");
            command
                .args(["--pdeathsig", "QUIT"])
                .arg(cluster.programs.bin.join("postgres"))
                .arg("-D")
                .arg(&data);
            command.args(["-c", "listen_addresses=", "-c", "cluster_name=reader"]);
            command.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
            let mut standby = command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
            let mut listed = Vec::new();
            for _ in 0..600 {
                listed = standbys.list().await.expect("they are listed");
                if listed.iter().any(|r| r.status == "ready") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let pid = rustix::process::Pid::from_child(&standby);
            rustix::process::kill_process(pid, rustix::process::Signal::QUIT).ok();
            drop(standby.wait());
            let shown: Vec<(&str, &str)> =
                listed.iter().map(|r| (r.id.as_str(), r.status.as_str())).collect();
            assert_eq!(
                shown,
                [("reader", "ready")],
                "{}",
                fs::read_to_string(folder.path().join("log")).unwrap_or_default()
            );
            assert_eq!(
                standbys.delete("reader").await.expect_err("not from here").code,
                crate::provider::Code::Unsupported
            );
        }
    }
}
