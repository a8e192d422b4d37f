//! The machine: its processes, disks and OS users, the programs that run on it, and files that are records.

pub(in crate::provider) mod disk;
pub(in crate::provider) mod os_user;
pub(in crate::provider) mod process;
pub(in crate::provider) mod programs;
pub(in crate::provider) mod record_file;
