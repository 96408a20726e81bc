//! Tree errors and their errno.
