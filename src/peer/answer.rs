//! The answers we give on the peer port. Pure.
//!
//! Some statuses make a member end its own process: 410 on a stream dial, 403 on a POST. The
//! statuses here are a closed set without them, and no answer is made in any other way.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/stream.go` dial, `util.go` checkPostResponse.

use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::handshake::Refusal;
use super::serve::{ReplyBody, ServedStream};

/// Every status that we answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    NoContent,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    PreconditionFailed,
    TooLarge,
    Refused,
    Unavailable,
}

impl Status {
    #[cfg(test)]
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::NoContent,
        Self::BadRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::Refused,
        Self::Unavailable,
    ];

    fn code(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::NoContent => StatusCode::NO_CONTENT,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An answer to be written.
pub(super) struct Answer {
    status: Status,
    headers: HeaderMap,
    body: ReplyBody,
}

impl Answer {
    /// A line of text, newline added.
    pub(super) fn text(status: Status, text: &str) -> Self {
        Self::whole(
            status,
            "text/plain; charset=utf-8",
            format!("{text}\n").into(),
        )
    }

    /// 200 with JSON.
    pub(super) fn json(json: &serde_json::Value) -> Self {
        Self::whole(Status::Ok, "application/json", format!("{json}\n").into())
    }

    /// 204.
    pub(super) fn taken() -> Self {
        Self {
            status: Status::NoContent,
            headers: HeaderMap::new(),
            body: ReplyBody::Whole(None),
        }
    }

    /// 404 for what we do not serve.
    pub(super) fn not_found() -> Self {
        Self::text(Status::NotFound, "404 page not found")
    }

    /// 405 for all methods but this one.
    pub(super) fn only(method: &'static str) -> Self {
        let mut answer = Self::text(Status::MethodNotAllowed, "Method Not Allowed");
        answer
            .headers
            .insert(ALLOW, HeaderValue::from_static(method));
        answer
    }

    /// 412 with the reason.
    pub(super) fn refusal(refusal: Refusal) -> Self {
        Self::text(Status::PreconditionFailed, refusal.text())
    }

    /// 503 as long as we do not know who we are.
    pub(super) fn not_joined() -> Self {
        Self::text(Status::Unavailable, "learner has not joined yet")
    }

    /// 200 with an endless body.
    pub(super) fn stream(stream: ServedStream) -> Self {
        Self {
            status: Status::Ok,
            headers: HeaderMap::new(),
            body: ReplyBody::Stream(Box::new(stream)),
        }
    }

    /// Adds headers.
    pub(super) fn with(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The answer as it is written. Each connection carries one request: members would otherwise
    /// keep it for minutes and lose a message whenever we close it first.
    pub(super) fn into_response(self) -> Response<ReplyBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status.code();
        *response.headers_mut() = self.headers;
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }

    fn whole(status: Status, content_type: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status,
            headers,
            body: ReplyBody::Whole(Some(body)),
        }
    }
}

/// The last look at an answer before it leaves: a status that is not ours, wherever it may come
/// from, becomes a 500. True if it had to.
pub(super) fn seal(response: &mut Response<ReplyBody>) -> bool {
    let is_ours = matches!(
        response.status(),
        StatusCode::OK
            | StatusCode::NO_CONTENT
            | StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::SERVICE_UNAVAILABLE
    );
    if !is_ours {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    !is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_ours_passes_the_seal_and_no_other() {
        for status in Status::ALL {
            let mut response = Answer::text(status, "x").into_response();
            assert!(!seal(&mut response), "{status:?}");
            assert_eq!(response.status(), status.code());
        }
        let ours = Status::ALL.map(Status::code);
        for code in 100..1000 {
            let code = StatusCode::from_u16(code).unwrap();
            let mut response = Response::new(ReplyBody::Whole(None));
            *response.status_mut() = code;
            assert_eq!(seal(&mut response), !ours.contains(&code));
            assert!(ours.contains(&response.status()), "{code} leaves");
        }
        assert!(!ours.contains(&StatusCode::FORBIDDEN) && !ours.contains(&StatusCode::GONE));
    }
}
