//! Users, roles and what they may do, as the primary's auth store holds and judges them.

mod former;
mod interval;
mod order;
mod permitted;
mod requests;
mod state;
mod tree;

#[cfg(test)]
mod tests;

pub use former::FormerParts;
pub(super) use former::FormerRecords;
pub(super) use permitted::{Access, Refusal, Right};
pub(super) use requests::{AdminRequest, AuthUpdate, decide};
pub use state::{AuthChange, AuthState, Login, Password, Permission, Role, User};

/// The user and the role that auth cannot be enabled without, and that may do everything.
const ROOT: &str = "root";
