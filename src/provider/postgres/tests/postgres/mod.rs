//! One lab a test.

mod branches;
mod deletions;
mod in_place;
mod job_ends;
mod labs;
mod moments;
mod restore_points;
mod statements;
mod traps;
mod unreadable_backups;

use super::test_lab;
