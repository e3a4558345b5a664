//! Reads a whole database, but for the values of its keys.

use std::collections::BTreeMap;

use super::bbolt::{Bucket, Database, Element, Order, PageSource, Walker};
use super::contents::{Cluster, Compaction, Contents, Raft};
use super::error::Error;
use super::keys::{Collector, LiveKeys, Reputs, ValueAt};
use super::store::{self, Flaw, Record, RecordKey};
use crate::ids::{LeaseId, RaftIndex, Revision, Term};
use crate::resolve::AuthState;

/// Reads everything but the values of keys, in one pass over the file.
///
/// Bucket `key`, which is nearly all of a large file, is read from its begin to its end. See
/// [`LiveKeys`] for the memory that keys take; the other buckets are small, and are kept whole.
///
/// # Errors
/// The first thing that is not as etcd and bbolt write it.
pub fn read<S: PageSource>(source: S) -> Result<Contents, Error> {
    let database = Database::open(source)?;
    let (walker, buckets) = database.buckets()?;
    let buckets = buckets.into_iter().map(|named| (named.name, named.bucket));
    let mut buckets = Buckets {
        walker,
        unread: buckets.collect(),
    };
    let (raft, storage_version, compaction) = buckets.meta()?;
    let cluster = Cluster {
        storage_version,
        ..buckets.cluster()?
    };
    let leases = buckets.leases()?;
    let auth = buckets.auth()?;
    let mut alarms = Vec::new();
    buckets.each("alarm", Order::Key, |element| {
        alarms.push(store::alarm(element.key, element.value)?);
        Ok(())
    })?;
    alarms.sort_unstable();
    let keyspace = buckets.keyspace(compaction.revision())?;
    let first = Revision(1);
    let revision = first.max(keyspace.last).max(compaction.revision());
    let has_lease = |id| leases.binary_search_by_key(&id, |lease| lease.id).is_ok();
    let named = keyspace.keys.iter().map(|key| key.lease);
    let orphans = named
        .filter(|id| *id != LeaseId(0) && !has_lease(*id))
        .count();
    Ok(Contents {
        database: *database.meta(),
        raft,
        cluster,
        revision,
        compaction,
        records: keyspace.records,
        keys: keyspace.keys,
        orphans: orphans.try_into().unwrap_or(u64::MAX),
        leases,
        auth,
        alarms,
        reputs: keyspace.reputs,
        unknown_buckets: buckets.unread.into_keys().collect(),
    })
}

/// Reads only where in the primary's log a database stands.
///
/// # Errors
/// As [`read`], of what is passed.
pub fn position<S: PageSource>(source: S) -> Result<Raft, Error> {
    let database = Database::open(source)?;
    let (walker, buckets) = database.buckets()?;
    let buckets = buckets.into_iter().map(|named| (named.name, named.bucket));
    let mut buckets = Buckets {
        walker,
        unread: buckets.collect(),
    };
    let (raft, _, _) = buckets.meta()?;
    Ok(raft)
}

/// Reads only of which cluster a database is, and what it says of releases.
///
/// # Errors
/// As [`read`], of what is passed.
pub fn cluster<S: PageSource>(source: S) -> Result<Cluster, Error> {
    let database = Database::open(source)?;
    let (walker, buckets) = database.buckets()?;
    let buckets = buckets.into_iter().map(|named| (named.name, named.bucket));
    let mut buckets = Buckets {
        walker,
        unread: buckets.collect(),
    };
    let (_, storage_version, _) = buckets.meta()?;
    Ok(Cluster {
        storage_version,
        ..buckets.cluster()?
    })
}

/// The buckets that were not read yet.
struct Buckets<'a, S> {
    walker: Walker<'a, S>,
    unread: BTreeMap<Box<[u8]>, Bucket>,
}

struct Keyspace {
    keys: LiveKeys,
    reputs: Reputs,
    records: u64,
    /// The revision of the newest record.
    last: Revision,
}

impl<S: PageSource> Buckets<'_, S> {
    /// Reads a bucket, which every database of etcd has.
    fn each(
        &mut self,
        name: &'static str,
        order: Order,
        mut visit: impl FnMut(Element<'_>) -> Result<(), Flaw>,
    ) -> Result<(), Error> {
        let bucket = self.unread.remove(name.as_bytes());
        let bucket = bucket.ok_or(Error::NoBucket(name))?;
        self.walker.walk(bucket, order, |element| {
            visit(element).map_err(|flaw| Error::Record {
                bucket: name,
                at: element.value_at,
                flaw,
            })
        })
    }

    fn meta(&mut self) -> Result<(Raft, Option<String>, Compaction), Error> {
        let mut raft = Raft::default();
        let mut storage_version = None;
        let mut compaction = Compaction::default();
        self.each("meta", Order::Key, |Element { key, value, .. }| {
            match key {
                b"consistent_index" => {
                    raft.index = RaftIndex(store::u64_be("the consistent index", value)?);
                }
                b"term" => raft.term = Some(Term(store::u64_be("the term", value)?)),
                b"confState" => raft.conf_state = Some(store::conf_state(value)?),
                b"storageVersion" => {
                    storage_version = Some(store::text("the storage version", value)?);
                }
                b"scheduledCompactRev" => {
                    compaction.scheduled = Some(RecordKey::parse_main(value)?);
                }
                b"finishedCompactRev" => {
                    compaction.finished = Some(RecordKey::parse_main(value)?);
                }
                _ => return Err(UNKNOWN_RECORD),
            }
            Ok(())
        })?;
        Ok((raft, storage_version, compaction))
    }

    fn cluster(&mut self) -> Result<Cluster, Error> {
        let mut cluster = Cluster::default();
        self.each("members", Order::Key, |element| {
            cluster
                .members
                .push(store::member(element.key, element.value)?);
            Ok(())
        })?;
        cluster.members.sort_by_key(|member| member.id);
        self.each("members_removed", Order::Key, |element| {
            cluster.removed.push(store::removed_member(element.key)?);
            Ok(())
        })?;
        cluster.removed.sort_unstable();
        self.each("cluster", Order::Key, |Element { key, value, .. }| {
            match key {
                b"clusterVersion" => {
                    cluster.version = Some(store::text("the cluster version", value)?);
                }
                b"downgrade" => cluster.downgrade = Some(store::downgrade(value)?),
                _ => return Err(UNKNOWN_RECORD),
            }
            Ok(())
        })?;
        Ok(cluster)
    }

    /// The leases, ascending: as their keys do, but for negative ids.
    fn leases(&mut self) -> Result<Vec<store::Lease>, Error> {
        let mut leases = Vec::new();
        self.each("lease", Order::Key, |element| {
            leases.push(store::lease(element.key, element.value)?);
            Ok(())
        })?;
        leases.sort_unstable_by_key(|lease| lease.id);
        Ok(leases)
    }

    fn auth(&mut self) -> Result<AuthState, Error> {
        let (mut is_enabled, mut revision) = (false, 0);
        self.each("auth", Order::Key, |Element { key, value, .. }| {
            match (key, value) {
                (b"authEnabled", [0]) => is_enabled = false,
                (b"authEnabled", [1]) => is_enabled = true,
                (b"authRevision", _) => revision = store::u64_be("the auth revision", value)?,
                (_, _) => return Err(UNKNOWN_RECORD),
            }
            Ok(())
        })?;
        // A member that finds none begins with 1.
        let mut auth = AuthState::new(is_enabled, revision.max(1));
        self.each("authUsers", Order::Key, |element| {
            let (name, user) = store::user(element.key, element.value)?;
            auth.insert_user(name, user);
            Ok(())
        })?;
        self.each("authRoles", Order::Key, |element| {
            let (name, role) = store::role(element.key, element.value)?;
            auth.insert_role(name, role);
            Ok(())
        })?;
        Ok(auth)
    }

    fn keyspace(&mut self, compact_revision: Revision) -> Result<Keyspace, Error> {
        let mut collector = Collector::new(compact_revision);
        let mut records = 0_u64;
        let mut last = Revision(0);
        self.each("key", Order::File, |element| {
            let at = RecordKey::parse(element.key)?;
            records += 1;
            last = last.max(at.main);
            // `snapshot restore --bump-revision` leaves this to raise the revision.
            if element.value.is_empty() && !at.is_tombstone {
                return Ok(());
            }
            let record = Record::decode(element.value)?;
            let offset = element.value_at + u64::try_from(record.value_at).unwrap_or(u64::MAX);
            let value = ValueAt {
                offset,
                bytes: record.value_bytes.try_into().map_err(|_| LONG_VALUE)?,
            };
            collector.take(at, &record, value)
        })?;
        let (keys, reputs) = collector.finish();
        Ok(Keyspace {
            keys,
            reputs,
            records,
            last,
        })
    }
}

const UNKNOWN_RECORD: Flaw = Flaw::Unknown("no known release of etcd writes it");
const LONG_VALUE: Flaw = Flaw::Range("the length of a value");
