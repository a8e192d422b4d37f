//! The platform's words for how things are, and ours. Every list of words is open: an unknown one is carried as it is.

/// The platform's word for a project, or a branch, that is up.
pub(super) const HEALTHY: &str = "ACTIVE_HEALTHY";

/// Returns whether a project that says this goes nowhere from there by itself.
pub(super) fn is_final(status: &str) -> bool {
    const FINAL: [&str; 6] =
        ["INIT_FAILED", "RESTORE_FAILED", "PAUSE_FAILED", "REMOVED", "INACTIVE", "GOING_DOWN"];
    FINAL.contains(&status)
}

/// Returns whether a project that says this can be asked to do something: it is up, well or not.
pub(super) fn is_settled(status: &str) -> bool {
    [HEALTHY, "ACTIVE_UNHEALTHY"].contains(&status)
}

/// Returns what a backup that says this is for us.
pub(super) fn of_backup(status: &str) -> String {
    match status {
        "COMPLETED" => "completed".into(),
        "PENDING" => "running".into(),
        "FAILED" | "CANCELLED" => "failed".into(),
        other => other.to_lowercase(),
    }
}

/// Returns what a branch is for us, whose workflow says `workflow` and whose project, where that is known, `project`.
pub(super) fn of_branch(workflow: &str, project: Option<&str>) -> String {
    let word = match project {
        _ if workflow.ends_with("_FAILED") => "failed",
        Some("INACTIVE" | "PAUSING") => "stopped",
        Some(status) if is_final(status) => "failed",
        Some(HEALTHY) | None if !is_working(workflow) => "ready",
        Some("ACTIVE_UNHEALTHY") => "unhealthy",
        _ => "preparing",
    };
    word.into()
}

/// Returns whether a branch's workflow has more to do.
pub(super) fn is_working(workflow: &str) -> bool {
    ["CREATING_PROJECT", "RUNNING_MIGRATIONS"].contains(&workflow)
}

/// Returns what a replica that says this is for us.
pub(super) fn of_replica(status: &str) -> String {
    match status {
        HEALTHY => "ready".into(),
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
        assert_eq!(of_backup("REWOUND"), "rewound");
        assert_eq!(of_replica("PROMOTING"), "promoting");
        assert_eq!(of_branch("SEEDED", Some(HEALTHY)), "ready");
        assert_eq!(of_branch("FUNCTIONS_DEPLOYED", Some("PROMOTING")), "preparing");
        assert_eq!(of_branch("MIGRATIONS_FAILED", Some(HEALTHY)), "failed");
        assert_eq!(of_branch("CREATING_PROJECT", Some(HEALTHY)), "preparing");
    }
}
