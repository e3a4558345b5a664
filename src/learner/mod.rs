//! A raft learner that holds its log in memory until the standby has it.
//!
//! What the caller of [`Node`] owes it, in this order:
//!
//! 1. Feed it each append and heartbeat ([`Node::handle_message`]), appends in the order of their
//!    index where they can be had so.
//! 2. After each input, take everything that [`Node::poll_message`], [`Node::poll_handout`] and
//!    [`Node::poll_event`] yield. Messages may go out at once: nothing in them speaks of an index
//!    above the durable one.
//! 3. Once the standby holds the effects of the handed-out entries up to an index, say so
//!    ([`Node::handle_durable`]); that sets acknowledgements free.
//! 4. After any error say nothing more to the primary. An answer could be a false promise.
//!
//! A node whose log the primary's log no longer reaches back to ends with the snapshot that the
//! leader sends ([`End::Snapshot`]). Once the standby holds the snapshot's state, a new node is cut
//! there, and the learner around it begins with that snapshot ([`Learner::beginning_with`]).
//!
//! Deliberately absent: a clock tick, so it never campaigns; a vote, so it never elects.

mod awaiting;
mod convert;
mod error;
mod inlet;
mod lag;
mod log;
mod logger;
mod membership;
mod node;
mod run;
mod terms;
#[cfg(test)]
mod tests;

pub use convert::{Error as ConvertError, conf_state_to_raft};
pub use error::Error;
pub use inlet::{Counts, Inlet};
pub use log::Cut;
pub use membership::{Error as MembershipError, MemberChange, Membership};
pub use node::{Event, Handout, Node, Offered, Taken, check_snapshot};
pub use run::{End, Learner, View};
