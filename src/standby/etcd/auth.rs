//! Users and roles of the real standby. What the client library cannot send goes out as it is:
//! hashes of passwords, and permissions of a kind that it does not know.
//!
//! # Source
//! etcd `api/etcdserverpb/rpc.proto`, service Auth; `api/v3rpc/rpctypes/error.go` for the texts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use prost::Message;

use super::Etcd;
use crate::base64;
use crate::pb::etcdpb;
use crate::plan::auth::{AuthCall, FirstPassword, NewPassword};
use crate::resolve::Permission;
use crate::session::{Connection, Login};
use crate::standby::{Auth, Failure, Standby as _};

/// A request that answers with nothing to read.
type Done = etcdpb::AuthDone;

/// Each question is a commit of the standby up to 3.6.
const QUESTIONS_AT_A_TIME: usize = 32;

/// A cluster agrees on its version some 4 s after its start, and not while a member that it was
/// made with has never come.
const UNSETTLED_MAX: Duration = Duration::from_secs(30);

/// Each new user keeps one processor of the standby busy with a hash for some 60 ms.
const HASHES_AT_A_TIME: usize = 4;

impl Auth for Etcd {
    async fn is_auth_enabled(&mut self) -> Result<bool, Failure> {
        let asked = self.send(STATUS, etcdpb::AuthStatusRequest {}).await;
        let status: etcdpb::AuthStatusResponse = match asked {
            Ok(status) => status,
            Err(Failure::Refused(what)) if what.contains("AuthStatus") => {
                return self.is_login_possible().await;
            }
            Err(other) => return Err(other),
        };
        Ok(status.enabled)
    }

    async fn takes_hashes(&mut self) -> Result<bool, Failure> {
        let asked = self.call(|mut to| async move { to.client.status().await });
        let version = asked.await?.version().to_owned();
        let mut numbers = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        match (numbers.next(), numbers.next()) {
            (Some(3), Some(minor)) => self.is_cluster_at_least_3_5(minor).await,
            (Some(major), Some(_)) => Ok(major > 3),
            _ => Ok(false),
        }
    }

    async fn users(&mut self) -> Result<Vec<String>, Failure> {
        let list: etcdpb::AuthUserListResponse =
            self.send(USER_LIST, etcdpb::AuthUserListRequest {}).await?;
        Ok(list.users)
    }

    async fn roles_of(&mut self, users: &[String]) -> Result<Vec<Option<Vec<String>>>, Failure> {
        let request = |name: &String| etcdpb::AuthUserGetRequest { name: name.clone() };
        let requests = users.iter().map(request).collect();
        let found: Vec<Option<etcdpb::AuthUserGetResponse>> =
            self.send_all(USER_GET, requests).await?;
        let roles = |user: etcdpb::AuthUserGetResponse| user.roles;
        Ok(found.into_iter().map(|user| user.map(roles)).collect())
    }

    async fn roles(&mut self) -> Result<Vec<String>, Failure> {
        let list: etcdpb::AuthRoleListResponse =
            self.send(ROLE_LIST, etcdpb::AuthRoleListRequest {}).await?;
        Ok(list.roles)
    }

    async fn permissions_of(
        &mut self,
        roles: &[String],
    ) -> Result<Vec<Option<Vec<Permission>>>, Failure> {
        let request = |role: &String| etcdpb::AuthRoleGetRequest { role: role.clone() };
        let requests = roles.iter().map(request).collect();
        let found: Vec<Option<etcdpb::AuthRoleGetResponse>> =
            self.send_all(ROLE_GET, requests).await?;
        let read = |permission: etcdpb::Permission| Permission {
            kind: permission.perm_type,
            key: permission.key,
            range_end: permission.range_end,
        };
        let list =
            |role: etcdpb::AuthRoleGetResponse| role.perm.into_iter().map(read).collect::<Vec<_>>();
        Ok(found.into_iter().map(|role| role.map(list)).collect())
    }

    async fn change_auth(&mut self, calls: &[AuthCall]) -> Vec<Result<(), Failure>> {
        let all = |failure: &Failure| calls.iter().map(|_| Err(failure.clone())).collect();
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(failure) => return all(&failure),
        };
        let (this, to) = (&*self, &connection);
        let attempts = calls.iter().cloned();
        let attempts = attempts.map(|call| async move { this.attempt(to, &call).await });
        let attempts = stream::iter(attempts).buffered(HASHES_AT_A_TIME);
        let mut answers: Vec<_> = attempts.collect().await;
        if self.session.is_refused() {
            if let Err(failure) = self.log_in(&connection).await {
                return all(&failure);
            }
            for (call, answer) in calls.iter().zip(&mut answers) {
                if matches!(answer, Err(Failure::NotApplied(_))) {
                    *answer = self.attempt(&connection, call).await;
                }
            }
        }
        for (call, answer) in calls.iter().zip(&mut answers) {
            *answer = meaning(call, std::mem::replace(answer, Ok(())));
            if *call == AuthCall::Enable && answer.is_ok() {
                *answer = self.prove().await;
            }
            if *call == AuthCall::Disable && answer.is_ok() {
                self.session.forget();
            }
        }
        answers
    }

    fn leave_endpoint(&mut self) {
        self.try_another_endpoint();
    }
}

/// Answers that say that a change is done already, unless it presumes what is missing.
const DONE_ALREADY: [&str; 6] = [
    "user name already exists",
    "role name already exists",
    "user name not found",
    "role name not found",
    "role is not granted to the user",
    "permission is not granted to the role",
];

/// Answers that say that the store is not what it was thought to be.
const PRESUMPTIONS: [&str; 3] = [
    "root user does not exist",
    "root user does not have root role",
    "invalid auth management",
];

/// What an answer to a change means.
fn meaning(call: &AuthCall, answer: Result<(), Failure>) -> Result<(), Failure> {
    let Err(Failure::Refused(text) | Failure::NotApplied(text) | Failure::Unknown(text)) = &answer
    else {
        return answer;
    };
    let says = |part: &&str| text.contains(*part);
    // A role or a user that is not there cannot be given anything.
    let presumes = match call {
        AuthCall::GrantRole { .. }
        | AuthCall::GrantPermission { .. }
        | AuthCall::SetPassword { .. } => text.contains("name not found"),
        AuthCall::Enable
        | AuthCall::Disable
        | AuthCall::AddUser { .. }
        | AuthCall::DeleteUser { .. }
        | AuthCall::RevokeRole { .. }
        | AuthCall::AddRole { .. }
        | AuthCall::DeleteRole { .. }
        | AuthCall::RevokePermission { .. } => false,
    };
    if presumes || PRESUMPTIONS.iter().any(says) {
        return Err(Failure::NotApplied(text.clone()));
    }
    if DONE_ALREADY.iter().any(says) {
        return Ok(());
    }
    answer
}

impl Etcd {
    async fn send<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let asked = self.call(|to| {
            let request = request.clone();
            async move {
                let answer = to.call(path, request).await;
                answer.map_err(etcd_client::Error::GRpcStatus)
            }
        });
        asked.await
    }

    /// Asks several at a time; none for a user or a role that is not there.
    async fn send_all<Q, A>(
        &mut self,
        path: &'static str,
        requests: Vec<Q>,
    ) -> Result<Vec<Option<A>>, Failure>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let connection = self.connection().await?;
        let asked = requests.clone().into_iter();
        let asked = asked.map(|request| self.send_on(&connection, path, request));
        let asked = stream::iter(asked).buffered(QUESTIONS_AT_A_TIME);
        let answers: Vec<Result<A, Failure>> = asked.collect().await;
        let mut found = Vec::with_capacity(answers.len());
        for (request, answer) in requests.into_iter().zip(answers) {
            let answer = match answer {
                Err(Failure::NotApplied(_)) if self.session.credentials().is_some() => {
                    self.send(path, request).await
                }
                answer => answer,
            };
            found.push(unless_gone(answer)?);
        }
        Ok(found)
    }

    async fn send_on<Q, A>(
        &self,
        connection: &Connection,
        path: &'static str,
        request: Q,
    ) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let request = async {
            let answer = connection.call(path, request).await;
            answer.map_err(etcd_client::Error::GRpcStatus)
        };
        self.ask(Box::pin(request)).await
    }

    /// One change, once.
    async fn attempt(&self, to: &Connection, call: &AuthCall) -> Result<(), Failure> {
        let answer: Result<Done, Failure> = match call {
            AuthCall::Enable => self.send_on(to, ENABLE, etcdpb::AuthEnableRequest {}).await,
            AuthCall::Disable => {
                let request = etcdpb::AuthDisableRequest {};
                self.send_on(to, DISABLE, request).await
            }
            AuthCall::AddUser { name, first } => {
                let request = self.add_user(name, *first)?;
                self.send_on(to, USER_ADD, request).await
            }
            AuthCall::DeleteUser { name } => {
                let name = name.clone();
                let request = etcdpb::AuthUserDeleteRequest { name };
                self.send_on(to, USER_DELETE, request).await
            }
            AuthCall::SetPassword { name, password } => {
                let request = self.set_password(name, password)?;
                self.send_on(to, USER_CHANGE_PASSWORD, request).await
            }
            AuthCall::GrantRole { user, role } => {
                let (user, role) = (user.clone(), role.clone());
                let request = etcdpb::AuthUserGrantRoleRequest { user, role };
                self.send_on(to, USER_GRANT_ROLE, request).await
            }
            AuthCall::RevokeRole { user, role } => {
                let (name, role) = (user.clone(), role.clone());
                let request = etcdpb::AuthUserRevokeRoleRequest { name, role };
                self.send_on(to, USER_REVOKE_ROLE, request).await
            }
            AuthCall::AddRole { name } => {
                let name = name.clone();
                let request = etcdpb::AuthRoleAddRequest { name };
                self.send_on(to, ROLE_ADD, request).await
            }
            AuthCall::DeleteRole { name } => {
                let role = name.clone();
                let request = etcdpb::AuthRoleDeleteRequest { role };
                self.send_on(to, ROLE_DELETE, request).await
            }
            AuthCall::GrantPermission { role, permission } => {
                let request = grant(role, permission);
                self.send_on(to, ROLE_GRANT_PERMISSION, request).await
            }
            AuthCall::RevokePermission {
                role,
                key,
                range_end,
            } => {
                let request = revoke(role, key, range_end);
                self.send_on(to, ROLE_REVOKE_PERMISSION, request).await
            }
        };
        answer.map(drop)
    }

    /// A new user's request, which never has an empty password unless that is meant.
    fn add_user(
        &self,
        name: &str,
        first: FirstPassword,
    ) -> Result<etcdpb::AuthUserAddRequest, Failure> {
        let password = match first {
            FirstPassword::Random => random_password()?,
            FirstPassword::Nothing => String::new(),
            FirstPassword::Ours => self.our_password()?,
        };
        Ok(etcdpb::AuthUserAddRequest {
            name: name.to_owned(),
            password,
            options: Some(etcdpb::UserAddOptions {
                no_password: first == FirstPassword::Nothing,
            }),
            hashed_password: String::new(),
        })
    }

    fn set_password(
        &self,
        name: &str,
        password: &NewPassword,
    ) -> Result<etcdpb::AuthUserChangePasswordRequest, Failure> {
        let (password, hashed_password) = match password {
            NewPassword::Random => (random_password()?, String::new()),
            NewPassword::Ours => (self.our_password()?, String::new()),
            NewPassword::Clear(clear) => (text(clear.expose())?, String::new()),
            NewPassword::Hash(hash) => (String::new(), base64::encode(hash.expose())),
        };
        if password.is_empty() && hashed_password.is_empty() {
            return Err(Failure::Refused("an empty password".to_owned()));
        }
        Ok(etcdpb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password,
            hashed_password,
        })
    }

    fn our_password(&self) -> Result<String, Failure> {
        let credentials = self.session.credentials();
        let credentials =
            credentials.ok_or_else(|| Failure::Refused("no password of our own".to_owned()))?;
        text(credentials.password.expose())
    }

    /// Right after requests began to be checked: are ours let through?
    async fn prove(&mut self) -> Result<(), Failure> {
        if self.session.credentials().is_none() {
            return Ok(());
        }
        let connection = self.connection().await?;
        match self.log_in(&connection).await {
            Ok(Login::Done | Login::AuthIsOff) => Ok(()),
            Err(Failure::Refused(what)) => Err(Failure::Refused(format!(
                "auth was enabled there, as on the primary, and now {what}; log in as root with the \
                 primary's password and correct that, or `etcdctl auth disable`"
            ))),
            Err(other) => Err(other),
        }
    }

    /// Whether requests are checked, of etcd 3.4, which does not say so itself.
    async fn is_login_possible(&mut self) -> Result<bool, Failure> {
        if self.session.credentials().is_some() {
            let connection = self.connection().await?;
            return Ok(self.log_in(&connection).await? == Login::Done);
        }
        let nobody = etcdpb::AuthenticateRequest {
            name: "-".to_owned(),
            ..etcdpb::AuthenticateRequest::default()
        };
        let asked: Result<etcdpb::AuthenticateResponse, _> = self.send(AUTHENTICATE, nobody).await;
        match asked {
            Ok(_) => Ok(true),
            Err(Failure::Refused(what)) if what.contains("authentication is not enabled") => {
                Ok(false)
            }
            Err(Failure::Refused(what)) if what.contains("authentication failed") => Ok(true),
            Err(other) => Err(other),
        }
    }

    /// A member of 3.4 drops hashes in silence, also out of entries that others propose. The
    /// version of the cluster is that of its oldest member, and is told to whoever asks whether it
    /// could go down by one.
    ///
    /// # Source
    /// etcd `server/etcdserver/v3_server.go`, downgradeValidate; `server.go`, monitorVersions: a
    /// new cluster has version 3.0 until all its members have told theirs, some 4 s later.
    async fn is_cluster_at_least_3_5(&mut self, member_minor: u32) -> Result<bool, Failure> {
        if member_minor < 5 {
            return Ok(false);
        }
        for minor in (4..=member_minor).rev() {
            let request = etcdpb::DowngradeRequest {
                action: DOWNGRADE_VALIDATE,
                version: format!("3.{}.0", minor - 1),
            };
            let asked: Result<Done, _> = self.send(DOWNGRADE, request).await;
            let is_at_least_3_5 = match asked {
                Ok(_) => minor > 4,
                Err(
                    Failure::Refused(what) | Failure::Unknown(what) | Failure::NotApplied(what),
                ) if what.contains("downgrade job in progress") => minor > 5,
                Err(Failure::Refused(what) | Failure::Unknown(what))
                    if what.contains("invalid downgrade target version") =>
                {
                    continue;
                }
                Err(
                    Failure::Refused(what) | Failure::Unknown(what) | Failure::NotApplied(what),
                ) if what.contains("cluster version not found") => break,
                Err(other) => return Err(other),
            };
            self.unsettled_since = None;
            return Ok(is_at_least_3_5);
        }
        let since = *self.unsettled_since.get_or_insert_with(Instant::now);
        if since.elapsed() < UNSETTLED_MAX {
            return Err(Failure::NotApplied(
                "its members have not agreed on a version of the cluster yet; until then it is not \
                 known whether it takes hashes of passwords"
                    .to_owned(),
            ));
        }
        Ok(false)
    }
}

/// None instead of the failure that says that a user or a role is not there.
fn unless_gone<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Failure::Refused(what)) if what.contains("name not found") => Ok(None),
        Err(other) => Err(other),
    }
}

fn grant(role: &str, permission: &Permission) -> etcdpb::AuthRoleGrantPermissionRequest {
    etcdpb::AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(etcdpb::Permission {
            perm_type: permission.kind,
            key: permission.key.clone(),
            range_end: permission.range_end.clone(),
        }),
    }
}

fn revoke(role: &str, key: &Bytes, range_end: &Bytes) -> etcdpb::AuthRoleRevokePermissionRequest {
    etcdpb::AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.clone(),
        range_end: range_end.clone(),
    }
}

fn text(password: &Bytes) -> Result<String, Failure> {
    String::from_utf8(password.to_vec())
        .map_err(|_| Failure::Refused("a password that is no text".to_owned()))
}

/// 256 bits, below the 72 bytes that etcd takes.
fn random_password() -> Result<String, Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::NotApplied(format!("draw a random password: {error}")))?;
    Ok(base64::encode(&random))
}

const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
const STATUS: &str = "/etcdserverpb.Auth/AuthStatus";
const ENABLE: &str = "/etcdserverpb.Auth/AuthEnable";
const DISABLE: &str = "/etcdserverpb.Auth/AuthDisable";
const USER_LIST: &str = "/etcdserverpb.Auth/UserList";
const USER_GET: &str = "/etcdserverpb.Auth/UserGet";
const USER_ADD: &str = "/etcdserverpb.Auth/UserAdd";
const USER_DELETE: &str = "/etcdserverpb.Auth/UserDelete";
const USER_CHANGE_PASSWORD: &str = "/etcdserverpb.Auth/UserChangePassword";
const USER_GRANT_ROLE: &str = "/etcdserverpb.Auth/UserGrantRole";
const USER_REVOKE_ROLE: &str = "/etcdserverpb.Auth/UserRevokeRole";
const ROLE_LIST: &str = "/etcdserverpb.Auth/RoleList";
const ROLE_GET: &str = "/etcdserverpb.Auth/RoleGet";
const ROLE_ADD: &str = "/etcdserverpb.Auth/RoleAdd";
const ROLE_DELETE: &str = "/etcdserverpb.Auth/RoleDelete";
const ROLE_GRANT_PERMISSION: &str = "/etcdserverpb.Auth/RoleGrantPermission";
const ROLE_REVOKE_PERMISSION: &str = "/etcdserverpb.Auth/RoleRevokePermission";
const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";
const DOWNGRADE_VALIDATE: i32 = 0;
