//! Replicates an etcd cluster (the primary) into an independent one (the standby), as a raft
//! learner of the primary.
//!
//! # The way of an entry
//!
//! ```text
//!  primary leader
//!    | raft messages
//!  peer        HTTP server and dialers, codecs, the outbound filter          IO
//!    |
//!  learner     order, a raft node, the acknowledgement gate                  pure, but for its
//! task    |         committed entries, in order
//!  entry       bytes -> a typed operation                                    pure
//!    |
//!  resolve     operation + the primary's state -> its effect                 pure
//!    |
//!  plan        effects -> a batch                                            pure
//!    |
//!  standby     one guarded transaction for each batch                        IO
//!    |
//!  checkpoint  what is durable -> what may be acknowledged                   pure
//! ```
//!
//! [`pipeline`] is entry, resolve and plan as one object. [`apply`] is the task around it and the
//! standby; [`learner::Learner`] is the task around the raft node. [`app`] starts both, [`status`]
//! shows them on a thread of its own, and [`cli`] reads what a person wants.
//!
//! What a stream needs before its first entry is [`base`], whatever it comes from: [`app`] feeds it
//! from a running primary, [`replay`] from files that [`offline`] reads. [`capture`] writes one
//! kind of these files. Which entries count of a primary that is lost is known before anything is
//! written.
//!
//! # Invariants
//!
//! 1. The standby is the learner's disk. The learner keeps no state of its own that matters.
//! 2. Nothing above the durable index is acknowledged ([`checkpoint::AckGate`], and once more in
//!    [`peer::filter`]).
//! 3. Every write to the standby is fenced by the checkpoint, and written with it
//!    ([`standby::Writer`]). A lost answer is settled by reading the checkpoint.
//!    Users and roles, which no transaction carries, are brought from state to state before the
//!    checkpoint passes the entry that changed them ([`standby::Reconciler`]).
//! 4. A revision of the primary is never split over two transactions ([`plan`]).
//! 5. What an entry did is decided against the primary's state, never by trying it on the standby
//!    ([`resolve`]).
//! 6. What is not understood stops the stream. It is never skipped.
//! 7. What is received and not durable is bounded in bytes ([`learner::Inlet`]).
//! 8. Our keys in the standby are apart ([`reserved`]), and so are keys that are not in the
//!    stream's [`scope`]: neither is written, deleted or compared.
//! 9. Values, passwords and hashes are never shown: the types that hold them do not print them.
//!
//! Deliberately absent: a vote, a campaign, a proposal, a tick of raft's clock, a cache of values,
//! an automatic retry of writes.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod app;
pub mod apply;
pub mod backoff;
pub mod base;
pub mod base64;
pub mod capture;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod datadir;
pub mod entry;
pub mod exit;
pub mod halt;
pub mod ids;
pub mod install;
pub mod learner;
pub mod ledger;
pub mod offline;
pub mod pb;
pub mod peer;
pub mod pipeline;
pub mod plan;
pub mod primary;
pub mod range;
pub mod range_set;
pub mod replay;
pub mod reserved;
pub mod resolve;
pub mod resync;
pub mod scope;
pub mod secret;
pub mod session;
pub mod snapshot;
pub mod standby;
pub mod statefile;
pub mod status;
pub mod version;
pub mod wal;
pub mod wire;
