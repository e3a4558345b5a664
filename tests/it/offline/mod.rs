//! Data directories that real members wrote, against what these members answer when they are
//! started again.

mod dumped;
mod joined;
mod load;
mod mutations;
mod resolved;
mod restored;
mod stopped;
mod three;

use anyhow::Result;
use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::offline::{DataDir, Recovery};

use crate::harness::Cluster;

/// What these members' data directories are together.
fn recovery(cluster: &Cluster, members: &[usize]) -> Result<Recovery> {
    let open = |member: &usize| -> Result<DataDir> {
        Ok(DataDir::open(cluster.data_dir(*member)?, None)?)
    };
    let dirs = members.iter().map(open).collect::<Result<Vec<_>>>()?;
    Ok(Recovery::of(dirs)?)
}

/// A checkpoint of an empty standby.
fn at_the_beginning(primary: ClusterId) -> Checkpoint {
    Checkpoint {
        primary,
        member: MemberId(1),
        index: RaftIndex(0),
        term: Term(0),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: 0,
        batch: 0,
        ledger: Place::empty([1; 32]),
        ending_lease: LeaseId(0),
    }
}
