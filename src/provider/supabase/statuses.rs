//! Maps the platform's status words to ours. Their lists grow, so an unknown word is no error.

/// The platform's word for a project, or a branch, that is up.
pub(super) const ACTIVE_HEALTHY: &str = "ACTIVE_HEALTHY";

/// The platform's word for a project whose data is restored, or that comes back from a pause.
pub(super) const RESTORING: &str = "RESTORING";

/// Returns whether a project does not leave this status by itself.
pub(super) fn is_final_project_status(status: &str) -> bool {
    const FINAL: [&str; 6] =
        ["INIT_FAILED", "RESTORE_FAILED", "PAUSE_FAILED", "REMOVED", "INACTIVE", "GOING_DOWN"];
    FINAL.contains(&status)
}

/// Returns whether a project is switched off, or is about to be.
pub(super) fn is_project_off_or_pausing(status: &str) -> bool {
    ["PAUSING", "INACTIVE", "PAUSE_FAILED", "GOING_DOWN"].contains(&status)
}

/// Returns whether a project in this status is up, healthy or not, and takes requests.
pub(super) fn is_project_up(status: &str) -> bool {
    [ACTIVE_HEALTHY, "ACTIVE_UNHEALTHY"].contains(&status)
}

/// Maps the status of a project to `healthy`, `unhealthy` or `paused`, any other to lower case.
pub(super) fn map_project_status(status: &str) -> String {
    match status {
        ACTIVE_HEALTHY => "healthy".into(),
        "ACTIVE_UNHEALTHY" => "unhealthy".into(),
        "INACTIVE" => "paused".into(),
        other => other.to_lowercase(),
    }
}

/// Maps the status of a backup.
pub(super) fn map_backup_status(status: &str) -> String {
    match status {
        "COMPLETED" => "completed".into(),
        "PENDING" => "running".into(),
        "FAILED" | "CANCELLED" => "failed".into(),
        other => other.to_lowercase(),
    }
}

/// Maps the status of a branch from its workflow's status and, if known, its project's.
pub(super) fn map_branch_status(workflow: &str, project: Option<&str>) -> String {
    let word = match project {
        _ if workflow.ends_with("_FAILED") => "failed",
        Some("INACTIVE" | "PAUSING") => "stopped",
        Some(status) if is_final_project_status(status) => "failed",
        Some(ACTIVE_HEALTHY) | None if !is_workflow_running(workflow) => "ready",
        Some("ACTIVE_UNHEALTHY") => "unhealthy",
        _ => "preparing",
    };
    word.into()
}

/// Returns whether a branch's workflow is still running.
pub(super) fn is_workflow_running(workflow: &str) -> bool {
    ["CREATING_PROJECT", "RUNNING_MIGRATIONS"].contains(&workflow)
}

/// Maps the status of a replica.
pub(super) fn map_replica_status(status: &str) -> String {
    match status {
        ACTIVE_HEALTHY => "ready".into(),
        "COMING_UP" | "INIT_READ_REPLICA" => "preparing".into(),
        "INIT_READ_REPLICA_FAILED" | "INIT_FAILED" => "failed".into(),
        other => other.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supabase_t18_an_unknown_word_is_carried() {
        assert_eq!(map_backup_status("REWOUND"), "rewound");
        assert_eq!(map_replica_status("PROMOTING"), "promoting");
        assert_eq!(map_branch_status("SEEDED", Some(ACTIVE_HEALTHY)), "ready");
        assert_eq!(map_branch_status("FUNCTIONS_DEPLOYED", Some("PROMOTING")), "preparing");
        assert_eq!(map_branch_status("MIGRATIONS_FAILED", Some(ACTIVE_HEALTHY)), "failed");
        assert_eq!(map_branch_status("CREATING_PROJECT", Some(ACTIVE_HEALTHY)), "preparing");
    }
}
