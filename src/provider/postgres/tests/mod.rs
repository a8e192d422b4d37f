//! Tests of the whole provider on real clusters.

mod postgres;
mod stage;
