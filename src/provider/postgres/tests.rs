//! The whole thing, for real: a lab of its own for every test.

mod branches;
mod in_place;
mod labs;
mod moments;
mod stage;
mod traps;
