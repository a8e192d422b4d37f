//! What a provider writes down before it goes on, kept in memory.

use crate::{
    base::lock::lock_unpoisoned,
    provider::{Accept, Code, Error, Result},
};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Mutex;

/// Keeps what it is given, in order; or can keep nothing.
#[derive(Default)]
pub(crate) struct MemoryRecorder {
    records: Mutex<Vec<Value>>,
    is_full: bool,
}

impl MemoryRecorder {
    /// Returns a recorder that cannot write anything down.
    pub(crate) fn full() -> Self {
        Self { is_full: true, ..Self::default() }
    }

    pub(crate) fn list_records(&self) -> Vec<Value> {
        lock_unpoisoned(&self.records).clone()
    }

    /// Returns the only record.
    pub(crate) fn only_record(&self) -> Value {
        let records = self.list_records();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].clone()
    }
}

#[async_trait]
impl Accept for MemoryRecorder {
    async fn accepted(&self, what: Value) -> Result<()> {
        if self.is_full {
            return Err(Error::new(Code::NoDiskSpace, "no room for the record"));
        }
        lock_unpoisoned(&self.records).push(what);
        Ok(())
    }
}
