//! The development container: a pure description of what is wanted, then calls to the engine, then an interactive shell. The only
//! folder that imports bollard; knows no command line and no vault, only the folder that the vault's view is mounted in.

mod accounts;
mod build_context;
mod builds;
mod credentials;
pub mod endpoint;
mod engine;
mod error;
mod feed;
mod files;
mod greeting;
mod guard;
mod home;
mod ignore;
pub mod inside;
pub mod interactive;
mod lifecycle;
mod linked;
mod logs;
mod mapping;
mod networks;
mod program;
mod programs;
mod pulls;
mod request;
mod session;
mod shared;
mod short;
mod spec;
mod terminal;

pub use builds::build;
pub use engine::{Engine, Patience};
pub use error::ContainerError;
pub use feed::{Told, ask, feed};
pub use guard::run_hidden_process;
pub use home::VAULT;
pub use lifecycle::{Found, State, create, find, remove, start, start_new, stop};
pub use logs::{Follow, logs};
pub use mapping::{Mapped, discard, map};
pub use programs::programs;
pub use pulls::{Pulled, pull};
pub use shared::{Place, prepare};
pub use spec::{ContainerSpec, HomePlan, Host};
