//! What every provider that makes restore points is held to: the same is made, found and refused, in the same words.

use super::describe_place;
use crate::{
    base::{
        clock::SystemClock,
        moment::{Moment, Span},
        value,
    },
    provider::{
        Backups, Code, Error, Provider, Result,
        model::{
            BackupRequest, Branch, CallKey, Job, JobStatus, RecoveryPoint, RecoveryTarget, RestorePoint,
            RestoreRequest,
        },
    },
};
use serde_json::Value;

/// How often a job is looked at before it counts as stuck.
const LOOKS_MAX: u32 = 600;

/// A target without backups, held to the contract.
pub(in crate::provider) struct HeldTarget<'a> {
    pub name: &'a str,
    pub provider: &'a dyn Provider,
    /// The pause between two looks at a job.
    pub pause: Span,
}

impl HeldTarget<'_> {
    /// Holds the target to the contract.
    pub(in crate::provider) async fn hold_contract(&self) {
        self.execute("create table steps (id integer not null)").await;
        self.finish(
            self.backups().create(&BackupRequest::default(), &key("BACKUP0001")).await.expect("accepted"),
        )
        .await;
        self.execute("insert into steps values (1)").await;
        self.hold_names().await;
        let weekly = self.hold_making().await;
        self.execute("insert into steps values (2)").await;
        self.hold_refusals(&weekly).await;
        self.hold_places(&weekly).await;
        self.hold_next_timeline(&weekly).await;
    }

    /// Refuses what cannot name a restore point.
    async fn hold_names(&self) {
        for (name, why) in [
            ("", "`` cannot name a restore point: it is empty"),
            ("a\nb", "`a\\nb` cannot name a restore point: it has a control character"),
            (&"x".repeat(64), "cannot name a restore point: it has 64 bytes"),
            (&"é".repeat(32), "cannot name a restore point: it has 64 bytes"),
        ] {
            let error = self.mark(name, "NAME000001").await.expect_err("is no name");
            assert_eq!(error.code, Code::Invalid, "{error:?}");
            assert!(error.message.ends_with(why) && error.hint.is_some(), "{error:?}");
        }
    }

    /// Makes a restore point, which its key finds, and whose name is taken from then on.
    async fn hold_making(&self) -> RestorePoint {
        let made = self.mark("weekly", "MARK000001").await.expect("is made");
        assert!(made.name == "weekly" && made.lsn.is_some() && made.timeline.is_some(), "{made:?}");
        assert_eq!(self.mark("weekly", "MARK000001").await.as_ref(), Ok(&made), "the same call again");
        let found = self.backups().find_restore_point("weekly", &key("MARK000001")).await;
        assert_eq!(found, Ok(Some(made.clone())));
        assert_eq!(self.backups().find_restore_point("weekly", &key("MARK000009")).await, Ok(None));
        self.hold_taken(&made).await;
        made
    }

    async fn hold_taken(&self, made: &RestorePoint) {
        let error = self.mark(&made.name, "MARK000002").await.expect_err("is taken");
        let place = describe_place(made);
        assert_eq!((error.code, error.retryable), (Code::Conflict, false), "{error:?}");
        assert_eq!(
            error.message,
            format!("there is already a restore point `{}`, {place}; none was made", made.name)
        );
        assert_eq!(self.backups().find_restore_point(&made.name, &key("MARK000002")).await, Ok(None));
    }

    /// Refuses what is nowhere, before anything is made.
    async fn hold_refusals(&self, weekly: &RestorePoint) {
        let history = format!("the history of `{}` holds no", self.name);
        let nowhere = |point: RestorePoint| {
            let message = format!("{history} restore point `{}` {}", point.name, describe_place(&point));
            (RecoveryTarget::Point(point), None, Code::NotFound, message)
        };
        let after = Moment::parse("2999-01-01T00:00:00Z").expect("a moment");
        let lsn = |text: &str| RecoveryTarget::Lsn(text.into());
        let xid = |text: &str| RecoveryTarget::Xid(text.into());
        let name = |text: &str| RecoveryTarget::Name(text.into());
        let placeless = RestorePoint { lsn: None, timeline: None, ..weekly.clone() };
        let cases = [
            (name("weekli"), None, Code::NotFound, format!("{history} restore point `weekli`")),
            (name(""), None, Code::NotFound, format!("{history} restore point ``")),
            (xid("x"), None, Code::Invalid, "`x` is no transaction id".into()),
            (xid("-1"), None, Code::Invalid, "`-1` is no transaction id".into()),
            (xid("0"), None, Code::NotFound, format!("{history} commit of transaction `0`")),
            (xid("4000000"), None, Code::NotFound, format!("{history} commit of transaction `4000000`")),
            (lsn("nonsense"), None, Code::Invalid, "`nonsense` is no place in the WAL".into()),
            (lsn("0/+1"), None, Code::Invalid, "`0/+1` is no place in the WAL".into()),
            (lsn("FFFFFFFF/0"), None, Code::TargetAfterWindow, String::new()),
            (lsn("0/10"), None, Code::TargetBeforeWindow, String::new()),
            (lsn("0/10"), Some(9), Code::NotFound, format!("`{}` has no timeline 9", self.name)),
            (name("weekly"), Some(9), Code::NotFound, format!("`{}` has no timeline 9", self.name)),
            (RecoveryTarget::Time(after), None, Code::TargetAfterWindow, String::new()),
            nowhere(RestorePoint { name: "monthly".into(), ..weekly.clone() }),
            nowhere(RestorePoint { timeline: Some(7), ..weekly.clone() }),
            nowhere(RestorePoint { lsn: Some("FFFF/10".into()), ..weekly.clone() }),
            (
                RecoveryTarget::Point(RestorePoint { lsn: Some("0/10".into()), ..weekly.clone() }),
                None,
                Code::TargetBeforeWindow,
                String::new(),
            ),
            (
                RecoveryTarget::Point(placeless),
                None,
                Code::Invalid,
                "the restore point `weekly` says no place in the WAL".into(),
            ),
        ];
        for (at, timeline, code, message) in cases {
            let shown = format!("{at:?} on {timeline:?}");
            let error = self.restore(at, timeline, Some("refused")).await.expect_err(&shown);
            assert_eq!(error.code, code, "{shown}: {error:?}");
            assert!(error.hint.is_some(), "{shown}: {error:?}");
            assert!(message.is_empty() || error.message == message, "{shown}: {error:?}, not {message}");
        }
        assert_eq!(self.provider.branches().expect("branches").list().await, Ok(Vec::new()));
    }

    /// Goes back to exactly there by the name, the place and the restore point itself.
    async fn hold_places(&self, weekly: &RestorePoint) {
        let lsn = weekly.lsn.clone().expect("a place");
        for (branch, at, timeline) in [
            ("named", RecoveryTarget::Name("weekly".into()), None),
            ("named-there", RecoveryTarget::Name("weekly".into()), weekly.timeline),
            ("placed", RecoveryTarget::Lsn(lsn), None),
            ("marked", RecoveryTarget::Point(weekly.clone()), None),
        ] {
            assert_eq!(self.restore_and_read_steps(at, timeline, branch).await, [1], "{branch}");
        }
    }

    /// After a restore in place the name is still taken, and means the restore point that it always meant.
    async fn hold_next_timeline(&self, weekly: &RestorePoint) {
        self.restore(RecoveryTarget::Point(weekly.clone()), None, None).await.expect("restored");
        self.execute("insert into steps values (30)").await;
        self.hold_taken(weekly).await;
        let next = self.mark("next", "MARK000003").await.expect("is made");
        assert_eq!(next.timeline, weekly.timeline.map(|timeline| timeline + 1));
        self.execute("insert into steps values (31)").await;
        for (branch, at, timeline, steps) in [
            ("again", RecoveryTarget::Name("weekly".into()), None, &[1][..]),
            ("again-next", RecoveryTarget::Name("weekly".into()), next.timeline, &[1]),
            ("next", RecoveryTarget::Point(next.clone()), None, &[1, 30]),
        ] {
            assert_eq!(self.restore_and_read_steps(at, timeline, branch).await, steps, "{branch}");
        }
        let error = self
            .restore(RecoveryTarget::Name("next".into()), weekly.timeline, Some("refused"))
            .await
            .expect_err("is not on the timeline before");
        assert_eq!(error.code, Code::NotFound, "{error:?}");
    }

    fn backups(&self) -> &dyn Backups {
        self.provider.backups().expect("backups")
    }

    async fn mark(&self, name: &str, with: &str) -> Result<RestorePoint> {
        self.backups().create_restore_point(name, &key(with)).await
    }

    async fn execute(&self, sql: &str) {
        let database = self.provider.sql().expect("SQL");
        // Each statement has a key of its own.
        let with = data_encoding::BASE32_NOPAD.encode(sql.as_bytes());
        database.execute(sql, Span::from_secs(10), &CallKey(with)).await.expect(sql);
    }

    /// Restores, and returns the branch if one was asked for.
    async fn restore(
        &self,
        at: RecoveryTarget,
        timeline: Option<u32>,
        into: Option<&str>,
    ) -> Result<Option<Branch>, Error> {
        let to = RecoveryPoint { at, inclusive: true, timeline };
        let request =
            RestoreRequest { backup: None, to, into: into.map(Into::into), temporary: false, run: None };
        let with = key(&format!("TO{}", into.unwrap_or("INPLACE")).to_uppercase().replace('-', ""));
        let job = self.backups().restore(&request, &with).await?;
        let done = self.finish(job).await;
        Ok(value::untag_as(&done, value::BRANCH_TAG)
            .map(|branch| serde_json::from_value(branch.clone()).expect("a branch")))
    }

    async fn restore_and_read_steps(
        &self,
        at: RecoveryTarget,
        timeline: Option<u32>,
        name: &str,
    ) -> Vec<i64> {
        let made = self.restore(at, timeline, Some(name)).await.expect(name).expect("a branch");
        assert_eq!(made.unseen, None, "{name}");
        let branches = self.provider.branches().expect("branches");
        let copy = branches.open(name).await.expect("opens");
        let ask = "select id from steps order by id";
        let rows = copy.sql().expect("SQL").query(ask, Span::from_secs(10)).await.expect("rows");
        branches.delete(&made.name, &made.id).await.expect("goes");
        rows.rows.iter().map(|row| row["id"].as_i64().expect("a number")).collect()
    }

    async fn finish(&self, job: Job) -> Value {
        for _ in 0..LOOKS_MAX {
            if let JobStatus::Done(value) = self.provider.poll_job(&job).await.expect("goes on") {
                return value;
            }
            self.provider.let_time_pass(&SystemClock, self.pause).await;
        }
        panic!("{job:?} does not end");
    }
}

fn key(text: &str) -> CallKey {
    CallKey(text.into())
}
