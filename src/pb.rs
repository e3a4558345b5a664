//! The message types generated from `proto/`, and how those that hold values or secrets are shown.
//!
//! A `Debug` of a put, a compare, a log entry or a password request never prints the value, the
//! payload, the password or the hash: it prints lengths.

use std::fmt;

/// Raft messages and entries as etcd members exchange them.
pub mod raftpb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/raftpb.rs"));
}

/// Requests inside log entries.
pub mod etcdpb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/etcdpb.rs"));
}

/// Records of the write-ahead log and of `.snap` files.
pub mod storagepb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/storagepb.rs"));
}

/// Messages of a captured log.
pub mod capturepb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/capturepb.rs"));
}

/// The checkpoint record.
pub mod checkpointpb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/checkpointpb.rs"));
}

/// The records of the ledger.
pub mod ledgerpb {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::restriction
    )]
    include!(concat!(env!("OUT_DIR"), "/ledgerpb.rs"));
}

impl fmt::Debug for raftpb::Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("type", &self.r#type)
            .field("term", &self.term)
            .field("index", &self.index)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for raftpb::Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("metadata", &self.metadata)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for storagepb::Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("type", &self.r#type)
            .field("crc", &self.crc)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for storagepb::SnapFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapFile")
            .field("crc", &self.crc)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for etcdpb::PutRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutRequest")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("lease", &self.lease)
            .field("prev_kv", &self.prev_kv)
            .field("ignore_value", &self.ignore_value)
            .field("ignore_lease", &self.ignore_lease)
            .finish()
    }
}

impl fmt::Debug for etcdpb::Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use etcdpb::compare::TargetUnion;
        let mut shown = f.debug_struct("Compare");
        shown
            .field("result", &self.result)
            .field("target", &self.target)
            .field("key", &self.key);
        match &self.target_union {
            Some(TargetUnion::Value(value)) => shown.field("value_bytes", &value.len()),
            Some(
                TargetUnion::Version(n)
                | TargetUnion::CreateRevision(n)
                | TargetUnion::ModRevision(n)
                | TargetUnion::Lease(n),
            ) => shown.field("operand", n),
            None => shown.field("operand", &"none"),
        };
        shown.field("range_end", &self.range_end).finish()
    }
}

impl fmt::Debug for etcdpb::AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for etcdpb::AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateResponse")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for etcdpb::AuthUserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserAddRequest")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for etcdpb::AuthUserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserChangePasswordRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
