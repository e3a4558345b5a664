//! Sends requests as they are, so that every field can be set, and with any token.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const WITHIN: Duration = Duration::from_secs(4);

/// A connection to one member.
#[derive(Clone)]
pub(crate) struct Connection(Channel);

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Bytes),
    /// The member says that it was not done, and why.
    Refused(String),
    /// No answer, or one that leaves open whether it was done.
    Unknown,
}

impl Connection {
    /// Connects when the first request is made.
    pub(crate) fn to(url: String) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url)?.connect_timeout(Duration::from_secs(1));
        Ok(Self(endpoint.connect_lazy()))
    }

    pub(crate) async fn send(&self, request: &Request, token: Option<&str>) -> Result<Answer> {
        let (path, body) = call(request)?;
        self.call(path, body, token).await
    }

    pub(crate) async fn call(
        &self,
        path: &'static str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<Answer> {
        let mut request = tonic::Request::new(body);
        if let Some(token) = token {
            let token = AsciiMetadataValue::try_from(token)?;
            request.metadata_mut().insert("token", token);
        }
        let mut grpc = Grpc::new(self.0.clone());
        let exchange = async {
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static(path);
            grpc.unary(request, path, Plain).await
        };
        let answer = tokio::time::timeout(WITHIN, exchange).await;
        Ok(match answer {
            Ok(Ok(answer)) => Answer::Done(answer.into_inner()),
            Ok(Err(status)) if is_certain(&status) => Answer::Refused(status.message().to_owned()),
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        })
    }
}

fn is_certain(status: &Status) -> bool {
    let doubtful = [
        Code::Unavailable,
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    // It has no code of its own.
    if status.message().contains("no password user") {
        return true;
    }
    let no_space = status.message().contains("database space exceeded");
    !no_space && !doubtful.contains(&status.code())
}

/// The method that takes the request that is set, and the request in bytes.
fn call(request: &Request) -> Result<(&'static str, Bytes)> {
    fn of(path: &'static str, body: &Option<impl Message>) -> Option<(&'static str, Bytes)> {
        let body = body.as_ref()?;
        Some((path, body.encode_to_vec().into()))
    }
    let r = request;
    [
        of("/etcdserverpb.KV/Range", &r.range),
        of("/etcdserverpb.KV/Put", &r.put),
        of("/etcdserverpb.KV/DeleteRange", &r.delete_range),
        of("/etcdserverpb.KV/Txn", &r.txn),
        of("/etcdserverpb.KV/Compact", &r.compaction),
        of("/etcdserverpb.Lease/LeaseGrant", &r.lease_grant),
        of("/etcdserverpb.Lease/LeaseRevoke", &r.lease_revoke),
        of("/etcdserverpb.Maintenance/Alarm", &r.alarm),
        of("/etcdserverpb.Auth/AuthEnable", &r.auth_enable),
        of("/etcdserverpb.Auth/AuthDisable", &r.auth_disable),
        of("/etcdserverpb.Auth/AuthStatus", &r.auth_status),
        of("/etcdserverpb.Auth/Authenticate", &r.authenticate),
        of("/etcdserverpb.Auth/UserAdd", &r.auth_user_add),
        of("/etcdserverpb.Auth/UserGet", &r.auth_user_get),
        of("/etcdserverpb.Auth/UserList", &r.auth_user_list),
        of("/etcdserverpb.Auth/UserDelete", &r.auth_user_delete),
        of(
            "/etcdserverpb.Auth/UserChangePassword",
            &r.auth_user_change_password,
        ),
        of("/etcdserverpb.Auth/UserGrantRole", &r.auth_user_grant_role),
        of(
            "/etcdserverpb.Auth/UserRevokeRole",
            &r.auth_user_revoke_role,
        ),
        of("/etcdserverpb.Auth/RoleAdd", &r.auth_role_add),
        of("/etcdserverpb.Auth/RoleGet", &r.auth_role_get),
        of("/etcdserverpb.Auth/RoleList", &r.auth_role_list),
        of("/etcdserverpb.Auth/RoleDelete", &r.auth_role_delete),
        of(
            "/etcdserverpb.Auth/RoleGrantPermission",
            &r.auth_role_grant_permission,
        ),
        of(
            "/etcdserverpb.Auth/RoleRevokePermission",
            &r.auth_role_revoke_permission,
        ),
    ]
    .into_iter()
    .flatten()
    .next()
    .with_context(|| format!("no client can send {request:?}"))
}

/// What most answers have in common.
#[derive(Clone, PartialEq, Message)]
struct Headed {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// The revision in an answer's header, 0 for none.
pub(crate) fn revision(answer: &Bytes) -> i64 {
    let headed = Headed::decode(answer.clone()).unwrap_or_default();
    headed.header.map_or(0, |header| header.revision)
}

#[derive(Clone, PartialEq, Message)]
struct Token {
    #[prost(string, tag = "2")]
    token: String,
}

/// The token in the answer to an authentication.
pub(crate) fn token(answer: &Bytes) -> Result<String> {
    Ok(Token::decode(answer.clone())?.token)
}

#[derive(Clone, PartialEq, Message)]
struct Alarms {
    #[prost(message, repeated, tag = "2")]
    alarms: Vec<Alarm>,
}

#[derive(Clone, PartialEq, Message)]
struct Alarm {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
}

/// The alarms in the answer to a question for them.
pub(crate) fn alarms(answer: &Bytes) -> Result<Vec<(u64, i32)>> {
    let alarms = Alarms::decode(answer.clone())?.alarms.into_iter();
    Ok(alarms.map(|alarm| (alarm.member, alarm.kind)).collect())
}

/// Bytes that are messages already.
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
