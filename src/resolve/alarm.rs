//! Alarms, and which layers of checks they put before the keyspace.
//!
//! From 3.6 on the layers follow from the set of alarms. Up to 3.5 they also depend on when each
//! member started: raising an alarm replaces all layers by its own, and clearing one brings the
//! plain ones back, while a member that starts adds the layers of all alarms to the plain ones.

use std::collections::BTreeSet;

use super::changes::AlarmChange;
use super::class::READ_ONLY;
use super::error::Problem;
use super::rules::Rules;
use crate::ids::MemberId;
use crate::pb::etcdpb::AlarmRequest;

/// The layers that a member puts before the keyspace. The one for the quota changes no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layers {
    /// Permissions are checked.
    pub(super) auth: bool,
    /// Nothing that takes space is let through.
    pub(super) capped: bool,
    /// Nothing that touches the keyspace or leases is let through.
    pub(super) corrupt: bool,
}

/// The raised alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(MemberId, i32)>,
    /// The layers of a member up to 3.5 that was up at the last change of them and since; None if
    /// that change is not known.
    online: Option<Layers>,
    /// Since that change a member was seen to start.
    restarts_seen: bool,
}

/// [`Alarms`] in parts, for a record of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmParts {
    /// The raised alarms: the member, and 1 no space, 2 corrupt, or another number.
    pub raised: BTreeSet<(MemberId, i32)>,
    /// Which checks a member up to 3.5 makes that was up at the last change of alarms and since:
    /// permissions, space, corruption. None if that is not known.
    pub online: Option<[bool; 3]>,
    /// Since that change a member was seen to start.
    pub restarts_seen: bool,
}

/// The layers that members may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    /// The first is the reference, if one can be told.
    pub(super) layers: Vec<Layers>,
    /// True if the first is what most members have.
    pub(super) is_decidable: bool,
}

impl Layers {
    const PLAIN: Self = Self {
        auth: true,
        capped: false,
        corrupt: false,
    };

    /// The one layer of a type of alarm.
    fn alone(kind: i32) -> Self {
        Self {
            auth: false,
            capped: kind == NO_SPACE,
            corrupt: kind == CORRUPT,
        }
    }
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            raised: BTreeSet::new(),
            online: Some(Layers::PLAIN),
            restarts_seen: false,
        }
    }
}

impl Alarms {
    /// The raised alarms, each with the member it was raised for and its type: 1 no space, 2
    /// corrupt.
    pub fn raised(&self) -> impl ExactSizeIterator<Item = (MemberId, i32)> {
        self.raised.iter().copied()
    }

    /// Alarms as [`Alarms::parts`] told them.
    #[must_use]
    pub fn of_parts(parts: AlarmParts) -> Self {
        let online = parts.online.map(|[auth, capped, corrupt]| Layers {
            auth,
            capped,
            corrupt,
        });
        Self {
            raised: parts.raised,
            online,
            restarts_seen: parts.restarts_seen,
        }
    }

    /// All that there is to store.
    #[must_use]
    pub fn parts(&self) -> AlarmParts {
        let layers = |online: Layers| [online.auth, online.capped, online.corrupt];
        AlarmParts {
            raised: self.raised.clone(),
            online: self.online.map(layers),
            restarts_seen: self.restarts_seen,
        }
    }

    /// Adds an alarm that was raised before the state was taken.
    pub(super) fn restore(&mut self, member: MemberId, kind: i32) {
        self.raised.insert((member, kind));
        self.online = None;
    }

    /// A member started: up to 3.5 it has the layers that follow from the set.
    pub(super) fn member_started(&mut self) {
        self.restarts_seen = true;
    }

    /// The primary runs another release from now on, so its members started.
    pub(super) fn release_changed(&mut self) {
        self.restarts_seen = true;
    }

    /// The layers that members may have now.
    pub(super) fn candidates(&self, rules: &Rules) -> Candidates {
        let by_set = self.layers_by_set();
        if rules.alarms_keep_layers {
            return Candidates {
                layers: vec![by_set],
                is_decidable: true,
            };
        }
        let mut layers = match self.online {
            Some(online) => vec![online, by_set],
            None => {
                let alone = [NO_SPACE, CORRUPT].into_iter();
                let alone = alone
                    .filter(|kind| self.is_raised(*kind))
                    .map(Layers::alone);
                alone.chain([Layers::PLAIN, by_set]).collect()
            }
        };
        layers.dedup();
        Candidates {
            layers,
            is_decidable: self.online.is_some() && !self.restarts_seen,
        }
    }

    fn layers_by_set(&self) -> Layers {
        Layers {
            auth: true,
            capped: self.is_raised(NO_SPACE),
            corrupt: self.is_raised(CORRUPT),
        }
    }

    fn is_raised(&self, kind: i32) -> bool {
        self.raised.iter().any(|(_, raised)| *raised == kind)
    }

    /// What a request does to the set, or why nothing.
    ///
    /// # Errors
    /// [`Problem::Poison`] if members crash on it.
    ///
    /// # Source
    /// etcd `server/etcdserver/apply.go`, `Alarm`, 3.4 and 3.5; `apply/uber_applier.go`, 3.6 on.
    pub(super) fn decide(
        &self,
        rules: &Rules,
        request: &AlarmRequest,
    ) -> Result<Result<AlarmChange, &'static str>, Problem> {
        let member = MemberId(request.member_id);
        let kind = request.alarm;
        let is_raised = self.raised.contains(&(member, kind));
        match request.action {
            GET => Ok(Err(READ_ONLY)),
            ACTIVATE if kind == NONE && rules.alarm_none_ignored => Ok(Err("alarm of no type")),
            ACTIVATE if is_raised => Ok(Err("alarm is raised already")),
            ACTIVATE if kind == NONE && member == MemberId(0) => Err(Problem::Poison(
                "an alarm of no type is raised for no member",
            )),
            ACTIVATE
                if rules.unknown_alarm_crashes
                    && ![NO_SPACE, CORRUPT].contains(&kind)
                    && !self.is_raised(kind) =>
            {
                Err(Problem::Poison("an alarm of an undefined type is raised"))
            }
            ACTIVATE => Ok(Ok(AlarmChange::Raised { member, kind })),
            DEACTIVATE if !is_raised => Ok(Err("alarm is not raised")),
            DEACTIVATE => Ok(Ok(AlarmChange::Cleared { member, kind })),
            _ => Ok(Err("unknown alarm action")),
        }
    }

    /// Makes the set as it is after a request.
    pub(super) fn apply(&mut self, change: AlarmChange) {
        let (AlarmChange::Raised { kind, .. } | AlarmChange::Cleared { kind, .. }) = change;
        let was_raised = self.is_raised(kind);
        match change {
            AlarmChange::Raised { member, kind } => self.raised.insert((member, kind)),
            AlarmChange::Cleared { member, kind } => self.raised.remove(&(member, kind)),
        };
        let is_raised = self.is_raised(kind);
        if was_raised == is_raised || ![NO_SPACE, CORRUPT].contains(&kind) {
            return;
        }
        // The first of a type or the last: every member sets its layers anew.
        self.online = Some(if is_raised {
            Layers::alone(kind)
        } else {
            Layers::PLAIN
        });
        self.restarts_seen = false;
    }
}

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;

const NONE: i32 = 0;
const NO_SPACE: i32 = 1;
const CORRUPT: i32 = 2;
