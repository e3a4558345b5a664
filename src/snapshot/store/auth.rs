//! The records of buckets `authUsers` and `authRoles`.

use bytes::Bytes;

use super::{Flaw, bytes, number, open_enum, text};
use crate::resolve::{Login, Password, Permission, Role, User};
use crate::secret::Secret;
use crate::wire::Fields;

/// Reads a user and its name.
///
/// The hash is the one that the member whose file it is stored: of a password that an entry of 3.4
/// set, each member has another one.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn user(key: &[u8], value: &[u8]) -> Result<(String, User), Flaw> {
    let mut name: &[u8] = b"";
    let mut hash: &[u8] = b"";
    let mut login = Login::Unspecified;
    let mut roles = Vec::new();
    let mut fields = Fields::of(value);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => name = bytes(field, wire)?,
            2 => hash = bytes(field, wire)?,
            3 => roles.push(text("the name of a role", bytes(field, wire)?)?),
            4 => login = options(bytes(field, wire)?)?,
            _ => {}
        }
    }
    if name != key {
        return Err(Flaw::Mismatch("users"));
    }
    roles.sort();
    let password = if hash.is_empty() && login == Login::NoPassword {
        Password::None
    } else {
        Password::Hash(Secret::new(Bytes::copy_from_slice(hash)))
    };
    let user = User {
        password,
        login,
        roles,
    };
    Ok((text("the name of a user", name)?, user))
}

fn options(options: &[u8]) -> Result<Login, Flaw> {
    let mut login = Login::Password;
    let mut fields = Fields::of(options);
    while let Some((field, wire)) = fields.next()? {
        if field == 1 {
            login = match number(field, wire)? {
                0 => Login::Password,
                1.. => Login::NoPassword,
            };
        }
    }
    Ok(login)
}

/// Reads a role and its name. Its permissions are in the order that etcd keeps them in.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn role(key: &[u8], value: &[u8]) -> Result<(String, Role), Flaw> {
    let mut name: &[u8] = b"";
    let mut permissions = Vec::new();
    let mut fields = Fields::of(value);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => name = bytes(field, wire)?,
            2 => permissions.push(permission(bytes(field, wire)?)?),
            _ => {}
        }
    }
    if name != key {
        return Err(Flaw::Mismatch("roles"));
    }
    Ok((text("the name of a role", name)?, Role::new(permissions)))
}

fn permission(permission: &[u8]) -> Result<Permission, Flaw> {
    let mut found = Permission {
        kind: 0,
        key: Bytes::new(),
        range_end: Bytes::new(),
    };
    let mut fields = Fields::of(permission);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => found.kind = open_enum(field, wire)?,
            2 => found.key = Bytes::copy_from_slice(bytes(field, wire)?),
            3 => found.range_end = Bytes::copy_from_slice(bytes(field, wire)?),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read() {
        let stored = b"\x0a\x05alice\x12\x04hash\x1a\x01b\x1a\x01a\x22\x00";
        let (name, found) = user(b"alice", stored).unwrap();
        let expected = User {
            password: Password::Hash(Secret::new("hash")),
            login: Login::Password,
            roles: vec!["a".into(), "b".into()],
        };
        assert_eq!((name.as_str(), found), ("alice", expected));
    }

    #[test]
    fn a_password_may_be_missing_in_three_ways() {
        let login = |options: &[u8]| {
            let (_, user) = user(b"a", &[b"\x0a\x01a", options].concat()).unwrap();
            (user.login, user.password)
        };
        let empty = Password::Hash(Secret::new(""));
        assert_eq!(
            login(b"\x22\x02\x08\x01"),
            (Login::NoPassword, Password::None)
        );
        assert_eq!(login(b"\x22\x00"), (Login::Password, empty.clone()));
        assert_eq!(login(b"\x22\x02\x08\x00"), (Login::Password, empty.clone()));
        assert_eq!(login(b""), (Login::Unspecified, empty));
    }

    #[test]
    fn a_role_keeps_the_order_of_its_permissions() {
        let stored = b"\x0a\x01r\x12\x03\x12\x01k\x12\x08\x08\x02\x12\x01k\x1a\x01z";
        let (name, role) = role(b"r", stored).unwrap();
        let permission = |kind, range_end: &'static str| Permission {
            kind,
            key: "k".into(),
            range_end: range_end.into(),
        };
        assert_eq!(name, "r");
        assert_eq!(role.permissions(), [permission(0, ""), permission(2, "z")]);
    }

    #[test]
    fn names_must_be_text_and_those_of_the_keys() {
        assert!(user(b"b", b"\x0a\x01a").is_err());
        assert!(user(b"\xff", b"\x0a\x01\xff").is_err());
        assert!(user(b"a", b"\x0a\x01a\x1a\x01\xff").is_err());
        assert!(role(b"b", b"\x0a\x01a").is_err());
        assert!(role(b"\xff", b"\x0a\x01\xff").is_err());
    }
}
