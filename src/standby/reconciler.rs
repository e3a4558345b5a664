//! Keeps users, roles and auth of the standby what they are on the primary.
//!
//! ```text
//!          +--> read the store --> plan --> call, call, call --> as wanted
//!          |      (if not known)             |
//!          +------------- wait <--- failed, or nobody knows
//! ```
//!
//! The store is read once; after that it is known from our own calls, which are the only ones. It
//! is read again when a call is refused for what it presumes or was lost, and before auth is
//! enabled: from then on the standby lets in only those it knows, so our own user must be there.
//!
//! Whether our password is right cannot be tried while auth is disabled: etcd refuses every login
//! then. So it is set, by us, right before auth is enabled, and tried right behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::auth::read_store;
use super::{Auth, Error, Failure, Standby, Writer};
use crate::backoff::Backoff;
use crate::plan::auth::{Access, AuthCall, Given, Shortfall, Store, Terms, reconcile};
use crate::resolve::{AuthState, DigestKey};

/// What is shown of the standby's users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthView {
    /// Whether the standby checks requests.
    pub enabled: bool,
    /// How many users it has.
    pub users: usize,
    /// How many roles it has.
    pub roles: usize,
    /// What it cannot be given.
    pub shortfall: Shortfall,
}

/// Brings a standby's auth store from one state of the primary to the next.
#[derive(Debug)]
pub struct Reconciler {
    ours: String,
    access: Access,
    given: Given,
    store: Option<Store>,
    recheck_at: Option<Instant>,
    not_carried: BTreeSet<String>,
    /// A change was lost, and the endpoint that it went to has answered nothing since.
    is_lost: bool,
    /// A change that was lost through another endpoint may arrive until then.
    late_until: Option<Instant>,
    backoff: Backoff,
    view: watch::Sender<Option<AuthView>>,
    trouble: watch::Sender<Option<String>>,
}

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// A request that was lost may still arrive so long afterwards: etcd itself gives up after 7 s.
const LATE_AFTER: Duration = Duration::from_secs(15);

/// How often to see whether a standby that took no hashes was upgraded.
const RELEASE_PERIOD: Duration = Duration::from_secs(60);

/// A change failed.
struct Failed {
    failure: Failure,
    /// True if the standby answered nothing before either.
    is_read: bool,
}

impl Reconciler {
    /// For a standby whose passwords were set as `given` says, in which our own user is `ours`.
    #[must_use]
    pub fn new(
        ours: &str,
        access: Access,
        given: Given,
        view: watch::Sender<Option<AuthView>>,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            ours: ours.to_owned(),
            access,
            given,
            store: None,
            recheck_at: None,
            not_carried: BTreeSet::new(),
            is_lost: false,
            late_until: None,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            view,
            trouble,
        }
    }

    /// Brings the standby to `wanted`; waits as long as waiting can help.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby refuses a change for good.
    ///
    /// # Cancel safety
    /// Dropped half-way it is unknown what was done; the next call finds out.
    pub async fn bring<S: Auth>(
        &mut self,
        standby: &mut S,
        wanted: &AuthState,
        digest_key: &DigestKey,
    ) -> Result<(), Error> {
        if let Some(until) = self.late_until {
            self.store = None;
            self.late_until = Some(until).filter(|until| *until > Instant::now());
        }
        loop {
            let Err(failed) = self.attempt(standby, wanted, digest_key).await else {
                self.backoff.reset();
                if self.trouble.send_replace(None).is_some() {
                    tracing::info!("the standby takes users and roles again");
                }
                return Ok(());
            };
            self.store = None;
            match failed.failure {
                Failure::NotApplied(_) | Failure::Unknown(_) | Failure::NoSpace(_) => {
                    self.wait(standby, &failed).await;
                }
                failure @ (Failure::TooLarge(_)
                | Failure::TooManyOps(_)
                | Failure::Diverged(_)
                | Failure::LeaseNotFound(_)
                | Failure::Already(_)
                | Failure::Refused(_)) => return Err(Error::Refused(failure)),
            }
        }
    }

    /// The same behind what the writer has written, if the stream is still its own: nothing guards
    /// users as a transaction guards keys.
    ///
    /// # Errors
    /// As [`Reconciler::bring`], and [`Error::Fenced`].
    pub async fn bring_behind<S: Standby + Auth>(
        &mut self,
        writer: &mut Writer<S>,
        wanted: &AuthState,
        digest_key: &DigestKey,
    ) -> Result<(), Error> {
        writer.check().await?;
        self.bring(writer.standby(), wanted, digest_key).await
    }

    /// When to call [`Reconciler::bring`] again though nothing changed, if ever.
    #[must_use]
    pub fn recheck_at(&self) -> Option<Instant> {
        self.recheck_at
    }

    /// Users whose password the standby did not have after it was brought to what was wanted last.
    #[must_use]
    pub fn not_carried(&self) -> &BTreeSet<String> {
        &self.not_carried
    }

    async fn attempt<S: Auth>(
        &mut self,
        standby: &mut S,
        wanted: &AuthState,
        digest_key: &DigestKey,
    ) -> Result<(), Failed> {
        let terms = Terms {
            ours: &self.ours,
            access: self.access,
            digest_key,
        };
        let mut is_fresh = self.store.is_none();
        let mut store = match self.store.take() {
            Some(mut store) => {
                if !store.takes_hashes {
                    store.takes_hashes = standby.takes_hashes().await.map_err(unread)?;
                }
                store
            }
            None => read(standby).await?,
        };
        let mut plan = reconcile(wanted, &self.given, &store, &terms);
        if plan.calls.contains(&AuthCall::Enable) && !is_fresh {
            is_fresh = true;
            store = read(standby).await?;
            plan = reconcile(wanted, &self.given, &store, &terms);
        }
        if is_fresh {
            self.is_lost = false;
        }
        for calls in plan.calls.chunk_by(AuthCall::goes_with) {
            self.change(standby, &mut store, calls).await?;
        }
        let is_release_short = !store.takes_hashes && !plan.shortfall.passwords.is_empty();
        self.recheck_at = self
            .late_until
            .or_else(|| is_release_short.then(|| Instant::now() + RELEASE_PERIOD));
        let short = plan.shortfall.passwords.iter();
        self.not_carried = short.map(|(user, _)| user.clone()).collect();
        self.show(&store, plan.shortfall);
        self.store = Some(store);
        Ok(())
    }

    /// Does calls that do not depend on each other.
    async fn change<S: Auth>(
        &mut self,
        standby: &mut S,
        store: &mut Store,
        calls: &[AuthCall],
    ) -> Result<(), Failed> {
        for call in calls {
            tracing::debug!(call = call.kind(), "change the standby's users");
            // Whatever happens to this call or to us, it may have been done.
            self.given.doubt(call);
        }
        let mut worst = None;
        for (call, answer) in calls.iter().zip(standby.change_auth(calls).await) {
            match answer {
                Ok(()) => {
                    self.given.note(call);
                    store.apply(call);
                }
                Err(failure) => {
                    self.is_lost |= matches!(failure, Failure::Unknown(_) | Failure::NoSpace(_));
                    let is_worse = worst
                        .as_ref()
                        .is_none_or(|_| matches!(failure, Failure::Refused(_)));
                    if is_worse {
                        worst = Some(failure);
                    }
                }
            }
        }
        match worst {
            Some(failure) => Err(Failed {
                failure,
                is_read: false,
            }),
            None => Ok(()),
        }
    }

    fn show(&self, store: &Store, shortfall: Shortfall) {
        let old = self.view.borrow().clone();
        let old = old.map(|view| view.shortfall).unwrap_or_default();
        for (user, why) in &shortfall.passwords {
            if !old.passwords.contains(&(user.clone(), *why)) {
                tracing::warn!(%user, %why, "the standby does not take this user's password");
            }
        }
        for (role, permission) in &shortfall.permissions {
            if !old
                .permissions
                .contains(&(role.clone(), permission.clone()))
            {
                let (key, range_end) = (&permission.key, &permission.range_end);
                tracing::warn!(%role, ?key, ?range_end, "the standby would refuse this permission");
            }
        }
        if shortfall.is_ours_taken && !old.is_ours_taken {
            tracing::warn!(
                user = self.ours,
                "the primary has a user with the name of our own in the standby, and that one is not \
                 replicated; choose another --standby-user if it matters"
            );
        }
        match shortfall.enable {
            Some(why) if shortfall.enable != old.enable => {
                tracing::warn!(%why, "auth is enabled on the primary and not yet on the standby");
            }
            Some(_) | None => {}
        }
        self.view.send_replace(Some(AuthView {
            enabled: store.enabled,
            users: store.users.len(),
            roles: store.roles.len(),
            shortfall,
        }));
    }

    async fn wait<S: Auth>(&mut self, standby: &mut S, failed: &Failed) {
        let wait = self.backoff.next_wait();
        let failure = &failed.failure;
        if self.trouble.borrow().is_none() {
            tracing::warn!(standby_says = %failure, "the standby does not take a user, retrying");
        }
        self.trouble.send_replace(Some(failure.to_string()));
        // A change whose answer was lost may still be under way through this endpoint. What is
        // asked there next comes behind it; another one is tried only if there is no answer.
        if failed.is_read && failure.suggests_another_endpoint() {
            if std::mem::take(&mut self.is_lost) {
                self.late_until = Some(Instant::now() + LATE_AFTER);
            }
            standby.leave_endpoint();
        }
        tokio::time::sleep(wait).await;
    }
}

async fn read<S: Auth>(standby: &mut S) -> Result<Store, Failed> {
    read_store(standby).await.map_err(unread)
}

fn unread(failure: Failure) -> Failed {
    let is_read = true;
    Failed { failure, is_read }
}
