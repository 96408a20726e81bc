//! What was noticed on opening an archive, in words.

use vaultfs::format::ReadWarning;

/// Tells it to a user.
pub fn words(warning: &ReadWarning) -> String {
    match warning {
        ReadWarning::DroppedPassphraseFile => {
            "dropped .vault_pass, the plaintext passphrase that the old tool left in the vault".to_owned()
        }
        ReadWarning::KeptPassphraseFile => {
            "there is a .vault_pass in the vault that is not its passphrase; it was kept".to_owned()
        }
        ReadWarning::TornEnd { bytes, kept: Some(name) } => format!(
            "the last write to the archive was cut off: what there is of it ({bytes} B) was moved to {name}, and nothing that was saved is lost"
        ),
        ReadWarning::TornEnd { bytes, kept: None } => {
            format!(
                "the last write to the archive was cut off: what there is of it ({bytes} B) is left out, and nothing that was saved is lost"
            )
        }
        ReadWarning::RollbackAccepted => {
            "the archive does not follow from what this machine has seen; that was accepted".to_owned()
        }
        ReadWarning::UnprovenMaker => {
            "this machine has not seen this vault with its present key, and an identity cannot tell who made an archive: whoever \
             knows the public half can. Put nothing into it unless you know where it comes from"
                .to_owned()
        }
        ReadWarning::NoWitness { reason } => format!(
            "this machine cannot note down what it knows of the archive ({reason}): until it can, an older copy put in its place is \
             not noticed, and a write that a crash cut off counts as damage"
        ),
        ReadWarning::SelfSymlink(path) => format!("{path} is a symbolic link to itself; it was kept"),
    }
}
