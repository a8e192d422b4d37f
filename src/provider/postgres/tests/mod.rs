//! Tests of the whole provider on real clusters, one lab per test.

mod branches;
mod in_place;
mod labs;
mod moments;
mod test_lab;
mod traps;
