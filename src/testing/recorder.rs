//! What a provider writes down before it goes on, kept in memory.

use crate::{
    base::lock::lock_unpoisoned,
    provider::{Accept, Result},
};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Mutex;

/// Keeps what it is given, in order.
#[derive(Default)]
pub(crate) struct MemoryRecorder {
    records: Mutex<Vec<Value>>,
}

impl MemoryRecorder {
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
        lock_unpoisoned(&self.records).push(what);
        Ok(())
    }
}
