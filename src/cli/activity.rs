//! Progress of what is running: a status line for a person, a plain line every few seconds for a log.

use crate::base::lock::lock_unpoisoned;
use crate::{
    base::terminal,
    provider::model::Progress,
    report::{format_bytes, format_seconds},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread,
    time::{Duration, Instant},
};

/// How often the status line is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(120);
/// How long an item runs before it is shown.
const DISPLAY_DELAY: Duration = Duration::from_secs(1);
/// The time between two log lines of the same item.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The items that are running, by name. A background thread shows those that run longer than a second.
pub(super) struct Activity(Arc<Mutex<Vec<ActivityItem>>>);

struct ActivityItem {
    name: String,
    text: String,
    progress: Option<Progress>,
    started_at: Instant,
    logged_at: Option<Instant>,
}

impl Activity {
    /// Returns an activity without items, and starts the thread that shows them.
    pub(super) fn new() -> Self {
        let items = Arc::default();
        let shared = Arc::downgrade(&items);
        // Without the thread, only the progress is missing.
        drop(thread::Builder::new().name("progress".into()).spawn(move || show_items_until_dropped(&shared)));
        Self(items)
    }

    /// Adds an item; `text` is what is shown of it.
    pub(super) fn start_item(&self, name: &str, text: String) {
        self.lock_items().push(ActivityItem {
            name: name.into(),
            text,
            progress: None,
            started_at: Instant::now(),
            logged_at: None,
        });
    }

    /// Updates the progress of an item.
    pub(super) fn update_progress(&self, name: &str, progress: &Progress) {
        if let Some(item) = self.lock_items().iter_mut().find(|item| item.name == name) {
            item.progress = Some(progress.clone());
        }
    }

    /// Removes an item.
    pub(super) fn finish_item(&self, name: &str) {
        let mut items = self.lock_items();
        items.retain(|item| item.name != name);
        if items.is_empty() {
            terminal::clear_status();
        }
    }

    fn lock_items(&self) -> MutexGuard<'_, Vec<ActivityItem>> {
        lock_unpoisoned(&self.0)
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        terminal::clear_status();
    }
}

/// Shows the running items until the activity is dropped.
fn show_items_until_dropped(shared: &Weak<Mutex<Vec<ActivityItem>>>) {
    let is_log = !terminal::is_stderr_terminal();
    loop {
        thread::sleep(REDRAW_INTERVAL);
        let Some(items) = shared.upgrade() else { return };
        let mut items = lock_unpoisoned(&items);
        for item in items.iter_mut().filter(|item| item.started_at.elapsed() >= DISPLAY_DELAY) {
            if !is_log {
                terminal::show_status(&item.render_line());
            } else if item.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                item.logged_at = Some(Instant::now());
                terminal::print_message(&format!("… {}", item.render_line()));
            }
        }
    }
}

impl ActivityItem {
    fn render_line(&self) -> String {
        let progress =
            self.progress.as_ref().map(|p| format!(": {}", render_progress(p))).unwrap_or_default();
        format!(
            "{}{progress} ({})",
            self.text,
            format_seconds(self.started_at.elapsed().as_secs_f64().floor())
        )
    }
}

/// Formats progress: the phase, the amount done, and the percentage where the total is known.
fn render_progress(progress: &Progress) -> String {
    let Progress { phase, done, total, unit, .. } = progress;
    let amount = |n: u64| if *unit == "bytes" { format_bytes(n) } else { format!("{n} {unit}") };
    let progress = match (done, total) {
        (Some(done), Some(total)) if *total > 0 => {
            let percent = u128::from(*done) * 100 / u128::from(*total);
            format!(" {} of {} ({percent} %)", amount(*done), amount(*total))
        }
        (Some(done), _) => format!(" {}", amount(*done)),
        _ => String::new(),
    };
    format!("{phase}{progress}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_what_is_known() {
        assert_eq!(render_progress(&Progress::with_phase("replaying WAL")), "replaying WAL");
        assert_eq!(
            render_progress(&Progress::with_bytes("copying", 1 << 20, Some(4 << 20))),
            "copying 1.0 MiB of 4.0 MiB (25 %)"
        );
        assert_eq!(render_progress(&Progress::with_bytes("copying", 512, None)), "copying 512 B");
    }
}
