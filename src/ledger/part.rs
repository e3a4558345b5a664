//! A [`Delta`] as the body of a record, and back. Pure.
//!
//! Secrets stay out: of a hash there is a digest under the stream's key, and of a password in the
//! clear only a mark that changes with each change of users.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::record::Error;
use super::{count, keys};
use crate::ids::{LeaseId, MemberId, Revision};
use crate::pb::ledgerpb;
use crate::range::KeyRange;
use crate::resolve::{
    AlarmParts, Alarms, AuthDelta, Delta, DigestKey, FormerParts, Login, Password, Permission,
    Role, User,
};

/// The body of a record; the puts are ascending.
pub(super) fn encode(
    delta: &Delta,
    not_carried: Option<&BTreeSet<String>>,
    digest_key: &DigestKey,
) -> Vec<u8> {
    let puts = delta.puts.iter().map(|(key, meta)| (key.as_ref(), meta));
    let granted = delta.granted.iter();
    let reputs = delta.reputs.iter();
    ledgerpb::Part {
        revoked: delta.revoked.iter().map(|id| id.0).collect(),
        deletes: delta.deletes.iter().map(range_out).collect(),
        granted: granted
            .map(|(id, ttl)| ledgerpb::Lease {
                id: id.0,
                ttl: *ttl,
            })
            .collect(),
        puts: (!delta.puts.is_empty()).then(|| keys::encode(puts)),
        reputs: reputs
            .map(|(revision, key)| ledgerpb::Reput {
                revision: revision.0,
                key: key.clone(),
            })
            .collect(),
        auth: delta.auth.as_ref().map(|auth| auth_out(auth, digest_key)),
        alarms: delta.alarms.as_ref().map(alarms_out),
        not_carried: not_carried.map(|users| ledgerpb::NotCarried {
            users: users.iter().cloned().collect(),
        }),
    }
    .encode_to_vec()
}

/// What a body says.
pub(super) fn decode(body: &[u8]) -> Result<(Delta, Option<BTreeSet<String>>), Error> {
    count::check(body)?;
    let part = ledgerpb::Part::decode(body).map_err(|_| Error::Malformed("no message"))?;
    if part.encoded_len() != body.len() {
        return Err(Error::Malformed("fields that this version does not know"));
    }
    let granted = part.granted.into_iter();
    let reputs = part.reputs.into_iter();
    let not_carried = part.not_carried;
    let delta = Delta {
        revoked: part.revoked.into_iter().map(LeaseId).collect(),
        deletes: part
            .deletes
            .into_iter()
            .map(range_in)
            .collect::<Result<_, _>>()?,
        granted: granted.map(|one| (LeaseId(one.id), one.ttl)).collect(),
        puts: part
            .puts
            .map(|puts| keys::decode(&puts))
            .transpose()?
            .unwrap_or_default(),
        reputs: reputs
            .map(|one| (Revision(one.revision), one.key))
            .collect(),
        auth: part.auth.map(auth_in).transpose()?,
        alarms: part.alarms.map(alarms_in).transpose()?,
    };
    Ok((
        delta,
        not_carried.map(|list| list.users.into_iter().collect()),
    ))
}

fn range_out(range: &KeyRange) -> ledgerpb::Range {
    ledgerpb::Range {
        key: range.start().clone(),
        range_end: range.request_end(),
    }
}

fn range_in(range: ledgerpb::Range) -> Result<KeyRange, Error> {
    KeyRange::of_request(&range.key, &range.range_end).ok_or(Error::Malformed("an empty range"))
}

fn auth_out(auth: &AuthDelta, digest_key: &DigestKey) -> ledgerpb::Auth {
    let users = auth.users.iter();
    let roles = auth.roles.iter();
    ledgerpb::Auth {
        enabled: auth.enabled,
        revision: auth.revision,
        users: users
            .map(|(name, user)| user_out(name, user.as_ref(), auth.revision, digest_key))
            .collect(),
        roles: roles
            .map(|(name, role)| role_out(name, role.as_ref()))
            .collect(),
        former: former_out(&auth.former),
        first_written: auth.former.first.clone().unwrap_or_default(),
    }
}

fn former_out(former: &FormerParts) -> Vec<ledgerpb::Former> {
    let users = former.users.iter();
    users
        .map(|(name, (is_behind, is_visible))| ledgerpb::Former {
            name: name.clone(),
            is_behind: *is_behind,
            is_visible: *is_visible,
        })
        .collect()
}

fn former_in(former: Vec<ledgerpb::Former>, first: String) -> FormerParts {
    let users = former.into_iter();
    FormerParts {
        users: users
            .map(|one| (one.name, (one.is_behind, one.is_visible)))
            .collect(),
        // No user has an empty name.
        first: Some(first).filter(|first| !first.is_empty()),
    }
}

fn user_out(
    name: &str,
    user: Option<&User>,
    auth_revision: u64,
    digest_key: &DigestKey,
) -> ledgerpb::User {
    let mut out = ledgerpb::User {
        name: name.to_owned(),
        gone: user.is_none(),
        ..ledgerpb::User::default()
    };
    let Some(user) = user else {
        return out;
    };
    let mark = format!("password of {name} at {auth_revision}");
    let digest = user.password.to_digest(&mark, digest_key);
    out.has_password = digest.is_some();
    out.password_digest = digest
        .map(|digest| digest.to_vec().into())
        .unwrap_or_default();
    out.login = match user.login {
        Login::Password => 0,
        Login::NoPassword => 1,
        Login::Unspecified => 2,
    };
    out.roles.clone_from(&user.roles);
    out
}

fn role_out(name: &str, role: Option<&Role>) -> ledgerpb::Role {
    let permissions = role.into_iter().flat_map(Role::permissions);
    let unordered = role.into_iter().flat_map(Role::unordered);
    ledgerpb::Role {
        name: name.to_owned(),
        gone: role.is_none(),
        permissions: permissions
            .map(|one| ledgerpb::Permission {
                kind: one.kind,
                key: one.key.clone(),
                range_end: one.range_end.clone(),
            })
            .collect(),
        unordered: unordered.cloned().collect(),
    }
}

fn auth_in(auth: ledgerpb::Auth) -> Result<AuthDelta, Error> {
    let mut users = BTreeMap::new();
    for user in auth.users {
        let name = user.name.clone();
        users.insert(
            name,
            if user.gone {
                None
            } else {
                Some(user_in(user)?)
            },
        );
    }
    let roles = auth.roles.into_iter();
    Ok(AuthDelta {
        enabled: auth.enabled,
        revision: auth.revision,
        users,
        roles: roles
            .map(|role| {
                let known = (!role.gone).then(|| role_in(role.permissions, role.unordered));
                (role.name, known)
            })
            .collect(),
        former: former_in(auth.former, auth.first_written),
    })
}

fn user_in(user: ledgerpb::User) -> Result<User, Error> {
    let password = if user.has_password {
        let digest = user.password_digest.as_ref().try_into();
        Password::Digest(digest.map_err(|_| Error::Malformed("a digest of another length"))?)
    } else {
        Password::None
    };
    let login = match user.login {
        0 => Login::Password,
        1 => Login::NoPassword,
        2 => Login::Unspecified,
        _ => return Err(Error::Malformed("an unknown kind of login")),
    };
    Ok(User {
        password,
        login,
        roles: user.roles,
    })
}

fn role_in(permissions: Vec<ledgerpb::Permission>, unordered: Vec<bytes::Bytes>) -> Role {
    let permissions = permissions.into_iter().map(|one| Permission {
        kind: one.kind,
        key: one.key,
        range_end: one.range_end,
    });
    Role::restored(permissions.collect(), BTreeSet::from_iter(unordered))
}

fn alarms_out(alarms: &Alarms) -> ledgerpb::Alarms {
    let parts = alarms.parts();
    let raised = parts.raised.into_iter();
    ledgerpb::Alarms {
        raised: raised
            .map(|(member, kind)| ledgerpb::Alarm {
                member: member.0,
                kind,
            })
            .collect(),
        online: parts.online.map(Vec::from).unwrap_or_default(),
        restarts_seen: parts.restarts_seen,
    }
}

fn alarms_in(alarms: ledgerpb::Alarms) -> Result<Alarms, Error> {
    let raised = alarms.raised.into_iter();
    let online = match alarms.online.as_slice() {
        [] => None,
        flags => {
            let flags = flags.try_into();
            Some(flags.map_err(|_| Error::Malformed("another number of layers"))?)
        }
    };
    Ok(Alarms::of_parts(AlarmParts {
        raised: raised.map(|one| (MemberId(one.member), one.kind)).collect(),
        online,
        restarts_seen: alarms.restarts_seen,
    }))
}
