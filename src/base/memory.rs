//! The memory that this process has allocated: what a script may take is a share of it.

use cap::Cap;
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Returns how many bytes the process has allocated and not freed.
pub fn allocated_bytes() -> usize {
    ALLOCATOR.allocated()
}
