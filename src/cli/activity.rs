//! What goes on at this moment: a line at the bottom for a person, a plain line every few seconds for a log.

use crate::{
    base::terminal,
    provider::model::Progress,
    show::{table::size, took},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// How often the line turns.
const TICK: Duration = Duration::from_millis(120);
/// How long something takes before it is worth a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time between two plain lines.
const PAUSE: Duration = Duration::from_secs(5);

/// What goes on, by name. While anything does for longer than a second, somebody is told.
pub(super) struct Activity(Arc<Mutex<Vec<Going>>>);

struct Going {
    name: String,
    text: String,
    progress: Option<Progress>,
    began: Instant,
    told: Option<Instant>,
}

impl Activity {
    /// Returns an activity in which nothing goes on yet.
    pub(super) fn new() -> Self {
        let going = Arc::default();
        let watched = Arc::downgrade(&going);
        // Without a thread there is no progress, and everything else goes on.
        drop(thread::Builder::new().name("progress".into()).spawn(move || tell(&watched)));
        Self(going)
    }

    /// Begins something; `text` is what is shown of it.
    pub(super) fn begin(&self, name: &str, text: String) {
        self.going().push(Going {
            name: name.into(),
            text,
            progress: None,
            began: Instant::now(),
            told: None,
        });
    }

    /// Says how far something is.
    pub(super) fn progress(&self, name: &str, progress: &Progress) {
        if let Some(going) = self.going().iter_mut().find(|g| g.name == name) {
            going.progress = Some(progress.clone());
        }
    }

    /// Ends something.
    pub(super) fn end(&self, name: &str) {
        let mut going = self.going();
        going.retain(|g| g.name != name);
        if going.is_empty() {
            terminal::clear();
        }
    }

    fn going(&self) -> MutexGuard<'_, Vec<Going>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        terminal::clear();
    }
}

/// Tells what goes on, until nobody holds the activity any more.
fn tell(watched: &Weak<Mutex<Vec<Going>>>) {
    let lines = !terminal::watched();
    loop {
        thread::sleep(TICK);
        let Some(going) = watched.upgrade() else { return };
        let mut going = going.lock().unwrap_or_else(PoisonError::into_inner);
        for g in going.iter_mut().filter(|g| g.began.elapsed() >= PATIENCE) {
            if !lines {
                terminal::show(&g.line());
            } else if g.told.is_none_or(|at| at.elapsed() >= PAUSE) {
                g.told = Some(Instant::now());
                terminal::say(&format!("… {}", g.line()));
            }
        }
    }
}

impl Going {
    fn line(&self) -> String {
        let how = self.progress.as_ref().map(|p| format!(": {}", far(p))).unwrap_or_default();
        format!("{}{how} ({})", self.text, took(self.began.elapsed().as_secs_f64().floor()))
    }
}

/// Returns how far something is, in words.
fn far(progress: &Progress) -> String {
    let Progress { phase, done, total, unit, .. } = progress;
    let amount = |n: u64| if *unit == "bytes" { size(n) } else { format!("{n} {unit}") };
    let how = match (done, total) {
        (Some(done), Some(total)) if *total > 0 => {
            let percent = u128::from(*done) * 100 / u128::from(*total);
            format!(" {} of {} ({percent} %)", amount(*done), amount(*total))
        }
        (Some(done), _) => format!(" {}", amount(*done)),
        _ => String::new(),
    };
    format!("{phase}{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_says_what_is_known() {
        assert_eq!(far(&Progress::phase("replaying WAL")), "replaying WAL");
        assert_eq!(
            far(&Progress::bytes("copying", 1 << 20, Some(4 << 20))),
            "copying 1.0 MiB of 4.0 MiB (25 %)"
        );
        assert_eq!(far(&Progress::bytes("copying", 512, None)), "copying 512 B");
    }
}
