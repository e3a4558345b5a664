//! Who we are to a cluster: a name, and a password that is never an argument, as those are shown to
//! everybody on the machine.

use std::path::Path;

use super::{Error, Typed};
use crate::secret::{Credentials, Secret};

/// What bcrypt takes of a password.
const PASSWORD_BYTES_MAX: usize = 72;

/// Where the password of our user of the standby may be.
pub(super) const STANDBY_PASSWORD: &str = "ETCD_SYNCER_STANDBY_PASSWORD";

/// The default name of our user.
const USER: &str = "etcd-syncer";

/// Who we are to one cluster.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name of our user.
    pub user: String,
    /// The same with its password, if there is one.
    pub credentials: Option<Credentials>,
}

/// Our user of the standby, for who reads no file; its password may be in the environment.
///
/// # Errors
/// [`Error::Password`].
pub fn standby_login(user: Option<&str>, password_file: Option<&Path>) -> Result<Login, Error> {
    let user = user.filter(|user| !user.is_empty()).unwrap_or(USER);
    let password_file = password_file.filter(|path| !path.as_os_str().is_empty());
    let variable = from_environment(STANDBY_PASSWORD)?;
    Ok(Login {
        user: user.to_owned(),
        credentials: credentials(user, password_file, variable.as_ref())?,
    })
}

/// Who we are to both clusters.
pub(super) struct Logins {
    pub(super) standby_user: String,
    pub(super) standby: Option<Credentials>,
    pub(super) primary: Option<Credentials>,
}

impl Logins {
    pub(super) fn of(typed: &Typed) -> Result<Self, Error> {
        let passwords = &typed.passwords;
        let standby_user = typed.standby_user.as_deref().unwrap_or(USER);
        let primary_user = typed.primary_user.as_deref().unwrap_or(USER);
        Ok(Self {
            standby_user: standby_user.to_owned(),
            standby: credentials(
                standby_user,
                typed.standby_password_file.as_deref(),
                passwords.standby.as_ref(),
            )?,
            primary: credentials(
                primary_user,
                typed.primary_password_file.as_deref(),
                passwords.primary.as_ref(),
            )?,
        })
    }
}

/// The password in a variable of the environment, if it is set to something.
pub(super) fn from_environment(variable: &'static str) -> Result<Option<Secret>, Error> {
    let Some(value) = std::env::var_os(variable) else {
        return Ok(None);
    };
    let text = value.into_string().map_err(|_| Error::Password {
        place: variable.to_owned(),
        why: "it is not UTF-8".to_owned(),
    })?;
    if text.is_empty() {
        return Ok(None);
    }
    checked(text.into_bytes(), variable).map(Some)
}

/// Puts a name and a password together; the file weighs more than the variable.
fn credentials(
    name: &str,
    file: Option<&Path>,
    variable: Option<&Secret>,
) -> Result<Option<Credentials>, Error> {
    let password = match file {
        Some(path) => Some(from_file(path)?),
        None => variable.cloned(),
    };
    Ok(password.map(|password| Credentials {
        name: name.to_owned(),
        password,
    }))
}

/// The first line of a file, which is all of it.
fn from_file(path: &Path) -> Result<Secret, Error> {
    let place = path.display().to_string();
    let mut bytes = std::fs::read(path).map_err(|error| Error::Password {
        place: place.clone(),
        why: error.to_string(),
    })?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    checked(bytes, &place)
}

fn checked(bytes: Vec<u8>, place: &str) -> Result<Secret, Error> {
    let why = if bytes.is_empty() {
        "it is empty"
    } else if bytes.len() > PASSWORD_BYTES_MAX {
        "it is longer than 72 bytes, which etcd does not take"
    } else if std::str::from_utf8(&bytes).is_err() {
        "it is not UTF-8"
    } else if bytes.iter().any(u8::is_ascii_control) {
        "it holds more than one line, or a control character"
    } else {
        return Ok(Secret::new(bytes));
    };
    Err(Error::Password {
        place: place.to_owned(),
        why: why.to_owned(),
    })
}
