//! A primary: its log, what it holds after each entry, and its databases.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_syncer::entry;
use etcd_syncer::ids::{LeaseId, MemberId, RaftIndex, Term};
use etcd_syncer::install::Target;
use etcd_syncer::learner::Handout;
use etcd_syncer::range::KeyRange;
use etcd_syncer::resolve::{
    DigestKey, Password, Position, PrimaryState, Resolution, Resolved, Value, Values,
};
use prost::Message;
use raft::eraftpb::ConfState;

use super::process::settings;
use crate::snapshot::build::{Bucket, Shape, build};
use crate::snapshot::history::{History, bucket_key};

/// Keys with their values and leases.
pub(crate) type Content = BTreeMap<Bytes, (Bytes, LeaseId)>;

/// The primary after one entry.
#[derive(Clone)]
pub(crate) struct After {
    pub(crate) state: PrimaryState,
    pub(crate) content: Content,
    pub(crate) voters: Vec<MemberId>,
    pub(crate) learners: Vec<MemberId>,
}

/// A primary. Its log begins at index 1.
pub(crate) struct Primary {
    pub(crate) log: Vec<Handout>,
    /// By index; the first one is before all entries.
    pub(crate) after: Vec<After>,
    folder: tempfile::TempDir,
}

/// etcd's record of a user.
#[derive(Clone, PartialEq, Message)]
struct StoredUser {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    password: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
    #[prost(message, optional, tag = "4")]
    options: Option<StoredOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOptions {
    #[prost(bool, tag = "1")]
    no_password: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRole {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

impl Primary {
    /// Applies the log; of those indices there are databases.
    pub(crate) fn new(log: Vec<Handout>, databases: &[u64]) -> Self {
        let state = PrimaryState::new(settings(DigestKey::new(&[7; 32]), 1), Position::START);
        let first = After {
            state,
            content: Content::new(),
            voters: Vec::new(),
            learners: Vec::new(),
        };
        let mut primary = Self {
            log: Vec::new(),
            after: vec![first],
            folder: tempfile::tempdir().unwrap(),
        };
        let mut history = History {
            revision: 1,
            ..History::default()
        };
        for handout in log {
            primary.apply(&handout, &mut history);
            let index = handout.entry.index;
            primary.log.push(handout);
            if databases.contains(&index.0) {
                let built = build(&Shape::ETCD, &primary.buckets(&history, index));
                std::fs::write(primary.path(index), built.file).unwrap();
            }
        }
        primary
    }

    pub(crate) fn at(&self, index: RaftIndex) -> &After {
        &self.after[usize::try_from(index.0).unwrap()]
    }

    pub(crate) fn last(&self) -> &After {
        self.after.last().unwrap()
    }

    /// The entries behind one index up to another.
    pub(crate) fn entries(&self, behind: RaftIndex, up_to: u64) -> Vec<Handout> {
        let some = self.log.iter();
        let some = some.filter(|one| one.entry.index > behind && one.entry.index.0 <= up_to);
        some.cloned().collect()
    }

    /// The database at an index.
    pub(crate) fn database(&self, index: u64) -> Target {
        let index = RaftIndex(index);
        let after = self.at(index);
        Target {
            path: self.path(index),
            index,
            term: Term(1),
            voters: after.voters.clone(),
            learners: after.learners.clone(),
        }
    }

    fn path(&self, index: RaftIndex) -> std::path::PathBuf {
        self.folder.path().join(format!("{index}.db"))
    }

    fn apply(&mut self, handout: &Handout, history: &mut History) {
        let mut after = self.last().clone();
        let resolved = resolve(&mut after, handout);
        history.revision = resolved.revision.0;
        let mut sub = 0;
        for range in &resolved.changes.deletes {
            for key in keys_in(&after.content, range) {
                after.content.remove(&key);
                history.delete(&key, &mut sub);
            }
        }
        for put in &resolved.changes.puts {
            let value = match &put.value {
                Value::Given(value) => value.clone(),
                Value::Kept => after.content[&put.key].0.clone(),
            };
            after
                .content
                .insert(put.key.clone(), (value.clone(), put.lease));
            history.put(&put.key, value.to_vec(), put.lease.0, &mut sub);
        }
        let compacted = after.state.position().compact_revision.0;
        history.scheduled = Some(compacted).filter(|revision| *revision > 0);
        if let Some(members) = &handout.members {
            let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
            after.voters = ids(&members.voters);
            after.learners = ids(&members.learners);
            after.state.set_voters(after.voters.len());
        }
        self.after.push(after);
    }

    fn buckets(&self, history: &History, index: RaftIndex) -> Vec<Bucket> {
        let state = &self.at(index).state;
        let auth = state.auth();
        let of = |name: &str, elements: Vec<_>| (name.as_bytes().to_vec(), elements);
        let mut leases: Vec<_> = state
            .leases()
            .map(|(id, lease)| {
                let (id, ttl) = (id.0, lease.ttl());
                let stored = StoredLease { id, ttl };
                (id.to_be_bytes().to_vec(), stored.encode_to_vec())
            })
            .collect();
        leases.sort();
        let users = auth.users().iter().map(|(name, user)| {
            let password = match &user.password {
                Password::Hash(hash) => hash.expose().to_vec(),
                Password::None | Password::Clear(_) | Password::Digest(_) => Vec::new(),
            };
            let no_password = password.is_empty();
            let stored = StoredUser {
                name: name.clone().into_bytes(),
                password,
                roles: user.roles.clone(),
                options: Some(StoredOptions { no_password }),
            };
            (name.clone().into_bytes(), stored.encode_to_vec())
        });
        let roles = auth.roles().keys().map(|name| {
            let name = name.clone().into_bytes();
            (name.clone(), StoredRole { name }.encode_to_vec())
        });
        let number = |number: u64| number.to_be_bytes().to_vec();
        let mut meta = vec![(b"consistent_index".to_vec(), number(index.0))];
        if let Some(revision) = history.scheduled {
            let at = bucket_key(revision, 0, b"");
            meta.push((b"scheduledCompactRev".to_vec(), at));
        }
        meta.push((b"term".to_vec(), number(1)));
        let flags = vec![
            (b"authEnabled".to_vec(), vec![u8::from(auth.is_enabled())]),
            (b"authRevision".to_vec(), number(auth.revision())),
        ];
        vec![
            of("alarm", Vec::new()),
            of("auth", flags),
            of("authRoles", roles.collect()),
            of("authUsers", users.collect()),
            of(
                "cluster",
                vec![(b"clusterVersion".to_vec(), b"3.6.0".to_vec())],
            ),
            of("key", history.records.clone().into_iter().collect()),
            of("lease", leases),
            of("members", Vec::new()),
            of("members_removed", Vec::new()),
            of("meta", meta),
        ]
    }
}

fn resolve(after: &mut After, handout: &Handout) -> Resolved {
    let entry = entry::decode(&handout.entry).unwrap();
    let resolution = match after.state.resolve(&entry).unwrap() {
        Resolution::NeedsValues(wanted) => {
            let mut values = Values::default();
            for key in wanted {
                let value = after.content.get(&key).map(|(value, _)| value.clone());
                values.insert(key, value);
            }
            after.state.resolve_with(&entry, &values).unwrap()
        }
        done @ Resolution::Done(_) => done,
    };
    match resolution {
        Resolution::Done(resolved) => resolved,
        Resolution::NeedsValues(_) => panic!("all that it asked for is known"),
    }
}

fn keys_in(content: &Content, range: &KeyRange) -> Vec<Bytes> {
    let keys = content.keys().filter(|key| range.contains(key));
    keys.cloned().collect()
}

/// Says that an entry changed the members.
pub(crate) fn with_members(mut handout: Handout, voters: &[u64], learners: &[u64]) -> Handout {
    handout.members = Some(ConfState::from((voters.to_vec(), learners.to_vec())));
    handout
}
