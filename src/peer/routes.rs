//! What we answer on the peer port, path by path. IO.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /raft/stream/{msgapp,message}/{id}` | an endless body ([`super::serve`]) |
//! | `POST /raft` | 204 once the message is queued or dropped |
//! | `POST /raft/snapshot` | 204 once it is installed, else cut ([`super::snapshot`]) |
//! | `GET /raft/probing` | `{"OK":true,"Now":..}` |
//! | `GET /version` | the smallest version of the voters, from memory |
//! | `GET /members` | the member list while it is fresh, else an error that is no JSON |
//! | all else | 404 |
//!
//! `/members/hashkv` and `/downgrade/enabled` are 404 on purpose: a wrong guess there ends a
//! leader's process, raises an alarm on the whole cluster, or keeps a member from starting.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/etcdhttp/peer.go` newPeerHandler,
//! `server/etcdserver/api/rafthttp/transport.go` Handler and `http.go`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use serde_json::json;

use super::answer::{Answer, Status, seal};
use super::body::{self, BodyError};
use super::codec;
use super::handshake::{self, Identity, texts};
use super::members::member_json;
use super::serve::{ReplyBody, ServedStream};
use super::shared::{Shared, StreamKind};
use super::snapshot;
use super::stats::Channel;
use super::version::Version;
use crate::ids::MemberId;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut the connection")]
pub(super) struct Cut;

/// How old the member list may be to be answered with. A member that bootstraps believes the
/// first list it gets, and ends itself if it is not in it.
const MEMBERS_AGE_MAX: Duration = Duration::from_secs(5);

/// Answers one request.
///
/// # Errors
/// [`Cut`], only for snapshots.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Cut> {
    let answer = dispatch(&shared, request).await?;
    let mut response = answer.into_response();
    if seal(&mut response) {
        shared.stats.answers_replaced.increment();
        debug_assert!(false, "an answer has a status that is not ours");
    }
    Ok(response)
}

async fn dispatch(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/raft" => return Ok(Box::pin(post_message(shared, request)).await),
        "/raft/snapshot" => return Box::pin(post_snapshot(shared, request)).await,
        "/raft/probing" => return Ok(probing()),
        "/version" => return Ok(get_only(&request).unwrap_or_else(|| version(shared))),
        "/members" => return Ok(get_only(&request).unwrap_or_else(|| members(shared))),
        "/raft/stream" => return Ok(Answer::text(Status::NotFound, texts::INVALID_PATH)),
        _ => {}
    }
    match path.strip_prefix("/raft/stream/") {
        Some(rest) => Ok(stream(shared, &request, rest)),
        None => Ok(Answer::not_found()),
    }
}

/// A member dials one of its two streams.
fn stream(shared: &Arc<Shared>, request: &Request<Incoming>, rest: &str) -> Answer {
    if let Some(refused) = get_only(request) {
        return refused;
    }
    let Some((identity, version)) = joined(shared) else {
        return Answer::not_joined();
    };
    let headers = handshake::response_headers(identity, version);
    match accept_stream(shared, request.headers(), rest, identity, version) {
        Ok(stream) => Answer::stream(stream).with(headers),
        Err(refused) => refused.with(headers),
    }
}

/// The checks in the order in which members make them. The removed-member answer, 410, is left
/// out: whoever reads it believes to be removed itself and ends its process.
fn accept_stream(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    rest: &str,
    identity: Identity,
    version: Version,
) -> Result<ServedStream, Box<Answer>> {
    let refusal = |refusal| Box::new(Answer::refusal(refusal));
    handshake::check_request(headers, identity, version).map_err(refusal)?;
    let not_found = |text| Box::new(Answer::text(Status::NotFound, text));
    let (kind, from) = match rest.split_once('/') {
        Some(("msgapp", from)) => (StreamKind::MsgApp, from),
        Some(("message", from)) => (StreamKind::Message, from),
        Some(_) | None => return Err(not_found(texts::INVALID_PATH)),
    };
    let from = MemberId::parse_hex(from).ok_or_else(|| not_found(texts::INVALID_FROM))?;
    let link = shared
        .link(from)
        .ok_or_else(|| not_found(texts::SENDER_NOT_FOUND))?;
    handshake::check_to(headers, identity).map_err(refusal)?;
    tracing::debug!(member = %from, kind = kind.name(), "serve a stream");
    Ok(ServedStream::new(Arc::clone(shared), &link, kind))
}

/// A member without a stream to us POSTs a message.
async fn post_message(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (identity, version, from) = match accept_post(shared, &request) {
        Ok(accepted) => accepted,
        Err(refused) => return *refused,
    };
    let headers = handshake::response_headers(identity, version);
    let limit_bytes = shared.config.frame_bytes_max;
    let answer = match body::read_whole(shared, request.into_body(), limit_bytes).await {
        Ok(whole) => {
            shared.stats.bytes(Channel::Post).add(whole.bytes.len());
            take_posted(shared, identity, from, &whole).await
        }
        Err(BodyError::TooLong) => {
            let text = "request body too large";
            Answer::text(Status::TooLarge, text)
        }
        Err(BodyError::NoRoom) => Answer::text(Status::Unavailable, "too many request bodies"),
        Err(BodyError::Broken | BodyError::TimedOut) => {
            Answer::text(Status::BadRequest, texts::UNREADABLE_MESSAGE)
        }
    };
    answer.with(headers)
}

async fn take_posted(
    shared: &Arc<Shared>,
    identity: Identity,
    from: MemberId,
    whole: &body::Whole<'_>,
) -> Answer {
    match codec::decode_message(whole.bytes.clone(), shared.config.frame_bytes_max) {
        Ok(message) if message.to != identity.us.0 => {
            shared.take_message(identity.us, from, message);
            Answer::text(Status::Refused, texts::REFUSED_MESSAGE)
        }
        Ok(message) => {
            shared.take_message(identity.us, from, message);
            Answer::taken()
        }
        Err(error) => {
            shared.report_unknown(from, &error).await;
            Answer::text(Status::BadRequest, texts::UNDECODABLE_MESSAGE)
        }
    }
}

async fn post_snapshot(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    match accept_post(shared, &request) {
        Ok((identity, version, from)) => {
            let headers = handshake::response_headers(identity, version);
            let Some(link) = shared.link(from) else {
                return Ok(Answer::text(Status::NotFound, texts::SENDER_NOT_FOUND).with(headers));
            };
            let answer = snapshot::take(shared, request.into_body(), identity, &link).await?;
            Ok(answer.with(headers))
        }
        Err(refused) => Ok(*refused),
    }
}

/// What the two POSTs have in common. A sender that we do not know (yet) is refused before its
/// body is read.
fn accept_post(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
) -> Result<(Identity, Version, MemberId), Box<Answer>> {
    if request.method() != Method::POST {
        return Err(Box::new(Answer::only("POST")));
    }
    let (identity, version) = joined(shared).ok_or_else(|| Box::new(Answer::not_joined()))?;
    let headers = handshake::response_headers(identity, version);
    handshake::check_request(request.headers(), identity, version)
        .map_err(|refusal| Box::new(Answer::refusal(refusal).with(headers.clone())))?;
    handshake::sender(request.headers())
        .filter(|from| shared.link(*from).is_some())
        .map(|from| (identity, version, from))
        .ok_or_else(|| {
            Box::new(Answer::text(Status::NotFound, texts::SENDER_NOT_FOUND).with(headers))
        })
}

fn probing() -> Answer {
    let now = humantime::format_rfc3339_nanos(SystemTime::now());
    Answer::json(&json!({ "OK": true, "Now": now.to_string() }))
}

/// Answered from memory at once: up to 3.5 a leader waits for the answer without any limit.
fn version(shared: &Shared) -> Answer {
    let Some(versions) = *shared.versions.borrow() else {
        return Answer::not_found();
    };
    let mut json = json!({
        "etcdserver": versions.server.to_string(),
        "etcdcluster": versions.cluster.to_string(),
    });
    if let Some(storage) = versions.storage {
        json["storage"] = storage.to_string().into();
    }
    Answer::json(&json)
}

fn members(shared: &Shared) -> Answer {
    let roster = shared.roster.borrow();
    let is_fresh = roster
        .confirmed_at
        .is_some_and(|at| at.elapsed() <= MEMBERS_AGE_MAX);
    match joined(shared) {
        Some((identity, version)) if is_fresh && !roster.members.is_empty() => {
            let list = roster.members.iter().map(member_json).collect();
            let headers = handshake::response_headers(identity, version);
            Answer::json(&serde_json::Value::Array(list)).with(headers)
        }
        Some(_) | None => Answer::text(Status::Unavailable, "member list not known"),
    }
}

fn get_only(request: &Request<Incoming>) -> Option<Answer> {
    (request.method() != Method::GET).then(|| Answer::only("GET"))
}

fn joined(shared: &Shared) -> Option<(Identity, Version)> {
    Some((shared.identity()?, shared.version()?))
}
