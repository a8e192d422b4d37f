//! The server asked from outside, through its own door.
