//! Tests of the vault with real files.
