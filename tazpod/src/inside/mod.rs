//! A vault that is unlocked in a container: the way to this program there, and the two copies of its archive, which are kept as those
//! of two machines are. Knows no command line.

pub mod call;
pub mod copies;

use serde::{Deserialize, Serialize};

use crate::remote::Description;

/// How it stands inside, as the program there tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Whether it is unlocked there.
    pub unlocked: bool,
    /// The archive; `None`: there is none yet.
    pub archive: Option<Description>,
}

/// The argument by which the program outside speaks to the one inside.
pub const HIDDEN: &str = "__inside";
/// The flag by which a program that was entered is found again.
pub const SESSION: &str = "--session";
/// The archive as it comes in: what a folder is called that somebody brought one to by hand.
pub const INCOMING: &str = "vault.tar.aes";
/// The archive as it goes out.
pub const OUTGOING: &str = "outgoing.tar.aes";
