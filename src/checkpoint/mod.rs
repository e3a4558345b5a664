//! What the standby durably holds, and what the primary may be told of it.

mod ack;
mod place;
mod record;

pub use ack::{Ack, AckGate};
pub use place::Place;
pub use record::{Basis, Checkpoint, Error, Phase};
