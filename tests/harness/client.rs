//! Connections to etcd as the tests use them.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions, Error};
use tonic::Code;

/// How long one request of a client of [`connect`] may take.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// A client whose requests go to any of `endpoints`, each limited to 5 seconds. The connections
/// are made with the first requests.
///
/// # Errors
/// If an endpoint is malformed.
pub async fn connect<E: AsRef<str>>(endpoints: &[E]) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(2))
        .with_timeout(REQUEST_WITHIN);
    Client::connect(endpoints, Some(options))
        .await
        .with_context(|| {
            let names: Vec<&str> = endpoints.iter().map(AsRef::as_ref).collect();
            format!("can't make a client for {}", names.join(", "))
        })
}

/// Whether `error` means that no answer came, so that the request may have been done or not.
pub fn is_unavailable(error: &Error) -> bool {
    if let Error::GRpcStatus(status) = error {
        return matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown
                | Code::Internal
                | Code::Aborted
        );
    }
    matches!(error, Error::TransportError(_) | Error::IoError(_))
}
