//! Backups of a project: our own dumps and the platform's, side by side.

use super::{Supabase, platform};
use crate::provider::{
    Accept, Backups, Error, Result,
    model::{
        Backup, BackupRequest, Deleted, Event, EventQuery, Job, Key, Mark, RestoreRequest, Verification,
        Window,
    },
};
use async_trait::async_trait;

#[async_trait]
impl Backups for Supabase {
    async fn list(&self) -> Result<Vec<Backup>> {
        let mut backups = self.platform_backups().await?;
        backups.extend(self.dumps().list()?.iter().map(super::dumps::Dump::backup));
        backups.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(backups)
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        if platform::number(id).is_none() {
            return Ok(self.dumps().get(id)?.backup());
        }
        let found = self.platform_backups().await?.into_iter().find(|backup| backup.id == id);
        found.ok_or_else(|| self.no_backup(id))
    }

    async fn create(&self, request: &BackupRequest, key: &Key) -> Result<Job> {
        self.create_dump(request, key).await
    }

    async fn plan_delete(&self, id: &str) -> Result<Deleted> {
        if platform::number(id).is_some() {
            self.get(id).await?;
            return Err(platform::untouchable(
                id,
                "delete",
                "it goes by itself when its time is over; dumps of `backup::create` can be deleted",
            ));
        }
        let bytes = self.dumps().get(id)?.backup().bytes;
        let window = self.kept().await?.bounds();
        let earliest = window.map(|(earliest, _)| platform::moment(earliest)).transpose()?;
        Ok(Deleted {
            id: id.into(),
            also: Vec::new(),
            bytes,
            earliest_before: earliest,
            earliest_after: earliest,
        })
    }

    async fn delete(&self, plan: &Deleted, _: &Key) -> Result<()> {
        self.dumps().discard(&plan.id)
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        if platform::number(id).is_some() {
            self.get(id).await?;
            return Err(platform::untouchable(
                id,
                "read",
                "restore it into a branch, when it is the latest, and look at that; or verify a dump of `backup::create`",
            ));
        }
        let major = self.dumps().get(id)?.server_major;
        self.dumps().verify(id, &self.programs_for(major)?).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &Key, intent: &dyn Accept) -> Result<Job> {
        match &request.into {
            Some(name) => self.restore_into(request, name, key, intent).await,
            None => self.restore_in_place(request, key, intent).await,
        }
    }

    async fn window(&self) -> Result<Window> {
        self.recovery_window().await
    }

    async fn events(&self, _: &EventQuery) -> Result<Vec<Event>> {
        Err(Error::unsupported(
            "the platform shows its archive to nobody, so that the moment of a drop cannot be found in it",
            "look for the statement in the project's logs, and restore to the second before it",
        ))
    }

    async fn mark(&self, name: &str, _: &Key) -> Result<Mark> {
        self.make_mark(name).await
    }

    async fn find_mark(&self, name: &str, _: &Key) -> Result<Option<Mark>> {
        self.made_mark(name).await
    }
}
