//! Which log counts, against a model of raft.

mod model;
mod safety;
mod snaps;
