//! The command-line tool around `vaultfs`.

fn main() {}
