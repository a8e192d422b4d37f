//! Tests of the whole provider on real clusters.

mod postgres;
mod test_lab;
