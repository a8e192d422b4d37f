//! One lab a test.

mod branches;
mod in_place;
mod labs;
mod moments;
mod traps;

use super::test_lab;
