//! Random system calls, and the two places where they are made.

pub mod look;
pub mod operations;
pub mod pair;
pub mod random;
