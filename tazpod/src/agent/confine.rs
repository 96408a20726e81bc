//! Confines the agent with Landlock to the few folders that it needs. Where the kernel has no Landlock it runs without.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

/// Allows the files below some folders, reading what is or lies below some `readable` paths, and nothing else of the file system; no
/// signals to processes outside. Must be called before the first thread is started. Returns whether the kernel enforces it.
///
/// # Errors
/// A folder cannot be opened, or the kernel refuses the rules.
pub fn confine(folders: &[&Path], readable: &[&str]) -> Result<bool, String> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .map_err(|error| error.to_string())?;
    for folder in folders {
        let descriptor = PathFd::new(folder).map_err(|error| error.to_string())?;
        let rule = PathBeneath::new(descriptor, AccessFs::from_all(abi));
        ruleset = ruleset.add_rule(rule).map_err(|error| error.to_string())?;
    }
    // Not every system has each of them.
    for descriptor in readable.iter().filter_map(|path| PathFd::new(path).ok()) {
        let rule = PathBeneath::new(descriptor, AccessFs::ReadFile);
        ruleset = ruleset.add_rule(rule).map_err(|error| error.to_string())?;
    }
    let status = ruleset.restrict_self().map_err(|error| error.to_string())?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
