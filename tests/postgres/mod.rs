//! The tests that start PostgreSQL; a test holds that there are none elsewhere.

mod contract;
mod documents;
mod former_name;
mod kills;
mod requests;
mod undo;
