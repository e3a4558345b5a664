//! The decoder against byte vectors of real entries, everything it must refuse, and random bytes.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pb::{etcdpb, raftpb};

type Request = etcdpb::InternalRaftRequest;

fn committed(kind: u32, data: impl Into<Bytes>) -> Committed {
    Committed {
        index: RaftIndex(1042),
        term: Term(3),
        kind,
        data: data.into(),
    }
}

fn problem(kind: u32, data: impl Into<Bytes>) -> Problem {
    let error = decode(&committed(kind, data)).expect_err("is refused");
    assert_eq!(error.index, RaftIndex(1042));
    error.problem
}

fn header() -> etcdpb::RequestHeader {
    etcdpb::RequestHeader {
        id: 7,
        username: "alice".into(),
        auth_revision: 9,
    }
}

fn with_header(request: Request) -> Request {
    Request {
        header: Some(header()),
        ..request
    }
}

fn decode_op(request: &Request) -> Op {
    let entry = decode(&committed(0, request.encode_to_vec())).expect("is understood");
    assert_eq!(
        entry.header,
        Header {
            id: 7,
            username: "alice".into(),
            auth_revision: 9
        }
    );
    entry.op
}

/// One request of each kind with every field set, and what it is decoded to.
fn every_request() -> Vec<(Request, Op)> {
    let mut all = Vec::new();
    macro_rules! with {
        ($field:ident, $variant:ident, $message:expr) => {{
            let message = $message;
            all.push((
                with_header(Request {
                    $field: Some(message.clone()),
                    ..Request::default()
                }),
                Op::$variant(message),
            ));
        }};
        ($field:ident, $variant:ident, $message:expr, ()) => {{
            all.push((
                with_header(Request {
                    $field: Some($message),
                    ..Request::default()
                }),
                Op::$variant,
            ));
        }};
    }
    let name = || "n".to_owned();
    let key = || Bytes::from_static(b"k");
    let end = || Bytes::from_static(b"z");
    with!(range, Range, range_request());
    with!(put, Put, put_request());
    with!(delete_range, DeleteRange, delete_request());
    with!(txn, Txn, txn_request());
    with!(
        compaction,
        Compaction,
        etcdpb::CompactionRequest {
            revision: 5,
            physical: true
        }
    );
    with!(
        lease_grant,
        LeaseGrant,
        etcdpb::LeaseGrantRequest { ttl: -1, id: -7 }
    );
    with!(
        lease_revoke,
        LeaseRevoke,
        etcdpb::LeaseRevokeRequest { id: i64::MAX }
    );
    with!(
        lease_checkpoint,
        LeaseCheckpoint,
        etcdpb::LeaseCheckpointRequest {
            checkpoints: vec![
                etcdpb::LeaseCheckpoint {
                    id: 1,
                    remaining_ttl: 0
                },
                etcdpb::LeaseCheckpoint {
                    id: 2,
                    remaining_ttl: 30
                },
            ]
        }
    );
    with!(
        alarm,
        Alarm,
        etcdpb::AlarmRequest {
            action: 7,
            member_id: u64::MAX,
            alarm: -1
        }
    );
    with!(auth_enable, AuthEnable, etcdpb::AuthEnableRequest {}, ());
    with!(auth_disable, AuthDisable, etcdpb::AuthDisableRequest {}, ());
    with!(auth_status, AuthStatus, etcdpb::AuthStatusRequest {}, ());
    with!(
        authenticate,
        Authenticate,
        etcdpb::AuthenticateRequest {
            name: name(),
            password: "p".into(),
            simple_token: "t".into()
        }
    );
    with!(
        auth_user_add,
        AuthUserAdd,
        etcdpb::AuthUserAddRequest {
            name: name(),
            password: "p".into(),
            options: Some(etcdpb::UserAddOptions { no_password: true }),
            hashed_password: "h".into(),
        }
    );
    with!(
        auth_user_delete,
        AuthUserDelete,
        etcdpb::AuthUserDeleteRequest { name: name() }
    );
    with!(
        auth_user_get,
        AuthUserGet,
        etcdpb::AuthUserGetRequest { name: name() },
        ()
    );
    with!(
        auth_user_change_password,
        AuthUserChangePassword,
        etcdpb::AuthUserChangePasswordRequest {
            name: name(),
            password: "p".into(),
            hashed_password: "h".into(),
        }
    );
    with!(
        auth_user_grant_role,
        AuthUserGrantRole,
        etcdpb::AuthUserGrantRoleRequest {
            user: name(),
            role: "r".into()
        }
    );
    with!(
        auth_user_revoke_role,
        AuthUserRevokeRole,
        etcdpb::AuthUserRevokeRoleRequest {
            name: name(),
            role: "r".into()
        }
    );
    with!(
        auth_user_list,
        AuthUserList,
        etcdpb::AuthUserListRequest {},
        ()
    );
    with!(
        auth_role_list,
        AuthRoleList,
        etcdpb::AuthRoleListRequest {},
        ()
    );
    with!(
        auth_role_add,
        AuthRoleAdd,
        etcdpb::AuthRoleAddRequest { name: name() }
    );
    with!(
        auth_role_delete,
        AuthRoleDelete,
        etcdpb::AuthRoleDeleteRequest { role: name() }
    );
    with!(
        auth_role_get,
        AuthRoleGet,
        etcdpb::AuthRoleGetRequest { role: name() },
        ()
    );
    with!(
        auth_role_grant_permission,
        AuthRoleGrantPermission,
        etcdpb::AuthRoleGrantPermissionRequest {
            name: name(),
            perm: Some(etcdpb::Permission {
                perm_type: 2,
                key: key(),
                range_end: end()
            })
        }
    );
    with!(
        auth_role_revoke_permission,
        AuthRoleRevokePermission,
        etcdpb::AuthRoleRevokePermissionRequest {
            role: name(),
            key: key(),
            range_end: end()
        }
    );
    with!(
        cluster_version_set,
        ClusterVersionSet,
        etcdpb::ClusterVersionSetRequest {
            ver: "3.6.0".into()
        }
    );
    with!(
        cluster_member_attr_set,
        ClusterMemberAttrSet,
        etcdpb::ClusterMemberAttrSetRequest {
            member_id: 1,
            member_attributes: Some(etcdpb::MemberAttributes {
                name: name(),
                client_urls: vec!["http://a".into(), "http://b".into()]
            })
        }
    );
    with!(
        downgrade_info_set,
        DowngradeInfoSet,
        etcdpb::DowngradeInfoSetRequest {
            enabled: true,
            ver: "3.5.0".into()
        }
    );
    with!(
        downgrade_version_test,
        DowngradeVersionTest,
        etcdpb::DowngradeVersionTestRequest { ver: "x".into() },
        ()
    );
    all
}

fn range_request() -> etcdpb::RangeRequest {
    etcdpb::RangeRequest {
        key: "k".into(),
        range_end: "z".into(),
        limit: 1,
        revision: -1,
        sort_order: 2,
        sort_target: 4,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: 4,
    }
}

fn put_request() -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        key: "k".into(),
        value: "v".into(),
        lease: -5,
        prev_kv: true,
        ignore_value: true,
        ignore_lease: true,
    }
}

fn delete_request() -> etcdpb::DeleteRangeRequest {
    etcdpb::DeleteRangeRequest {
        key: "k".into(),
        range_end: Bytes::from_static(&[0]),
        prev_kv: true,
    }
}

fn op(request: etcdpb::request_op::Request) -> etcdpb::RequestOp {
    etcdpb::RequestOp {
        request: Some(request),
    }
}

fn txn_request() -> etcdpb::TxnRequest {
    use etcdpb::compare::TargetUnion;
    use etcdpb::request_op::Request as Inner;
    let compare = |target_union| etcdpb::Compare {
        result: 3,
        target: 9,
        key: "k".into(),
        range_end: "z".into(),
        target_union,
    };
    etcdpb::TxnRequest {
        compare: vec![
            compare(Some(TargetUnion::Version(0))),
            compare(Some(TargetUnion::CreateRevision(-1))),
            compare(Some(TargetUnion::ModRevision(1))),
            compare(Some(TargetUnion::Value(Bytes::new()))),
            compare(Some(TargetUnion::Lease(0))),
            compare(None),
        ],
        success: vec![
            op(Inner::RequestRange(range_request())),
            op(Inner::RequestPut(put_request())),
            etcdpb::RequestOp { request: None },
        ],
        failure: vec![
            op(Inner::RequestDeleteRange(delete_request())),
            op(Inner::RequestTxn(etcdpb::TxnRequest::default())),
        ],
    }
}

fn nested(levels: usize) -> Request {
    let mut txn = etcdpb::TxnRequest::default();
    for _ in 1..levels {
        txn = etcdpb::TxnRequest {
            success: vec![op(etcdpb::request_op::Request::RequestTxn(txn))],
            ..etcdpb::TxnRequest::default()
        };
    }
    with_header(Request {
        txn: Some(txn),
        ..Request::default()
    })
}

#[test]
fn every_request_keeps_every_field() {
    let all = every_request();
    assert_eq!(all.len(), 30);
    for (request, expected) in all {
        assert_eq!(decode_op(&request), expected);
    }
}

#[test]
fn an_empty_entry_opens_a_term() {
    let entry = decode(&committed(0, "")).unwrap();
    assert_eq!(entry.op, Op::Empty);
    assert_eq!((entry.index, entry.term), (RaftIndex(1042), Term(3)));
}

#[test]
fn a_put_of_a_real_log() {
    let bytes = b"\x22\x08\x0a\x02k0\x12\x02v0\xa2\x06\x0a\x08\x85\xf8\xad\xcf\x82\xbf\xa8\x87\x6b";
    let entry = decode(&committed(0, bytes.as_slice())).unwrap();
    assert_eq!(entry.header.id, 0x6b0e_a1f8_29eb_7c05);
    assert_eq!(
        entry.op,
        Op::Put(etcdpb::PutRequest {
            key: "k0".into(),
            value: "v0".into(),
            ..etcdpb::PutRequest::default()
        })
    );
}

/// Id, method, path and value, then the zeros that the v2 encoding writes out.
fn v2_entry(method: &str, path: &str, value: &str) -> Vec<u8> {
    let mut bytes = b"\x08\x81\xf8\xad\xcf\x82\xbf\xa8\x87\x6b".to_vec();
    for (tag, text) in [(0x12, method), (0x1a, path), (0x22, value)] {
        bytes.push(tag);
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&[0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0]);
    bytes.extend_from_slice(&[0x58, 0, 0x60, 0, 0x68, 0, 0x70, 0, 0x78, 0, 0x80, 1, 0]);
    bytes
}

#[test]
fn v2_requests_are_told_apart() {
    let path = "/0/members/2d273ed66ea46b0e/attributes";
    let value = r#"{"name":"m1","clientURLs":["http://127.0.0.1:12002"]}"#;
    let cases = [
        ("PUT", path, value),
        ("PUT", "/0/version", "3.4.0"),
        ("SYNC", "", ""),
        ("QGET", "/1/k", ""),
        ("POST", "/1/k", "v"),
        ("DELETE", "/1/k", ""),
        ("GET", "/1/k", ""),
        ("HEAD", "/1/k", ""),
    ];
    for (method, path, value) in cases {
        let entry = decode(&committed(0, v2_entry(method, path, value))).unwrap();
        assert_eq!(
            entry.op,
            Op::V2 {
                method: method.into(),
                path: path.into()
            }
        );
    }
}

#[test]
fn what_only_looks_like_v2_is_refused() {
    let content = |finding: &str| Problem::Content {
        finding: finding.into(),
    };
    assert_eq!(
        problem(0, v2_entry("PATCH", "/0/version", "3.4.0")),
        content("unknown field 2 in request")
    );
    let unknown = [v2_entry("PUT", "/0/version", "3.4.0"), vec![0x90, 1, 0]].concat();
    assert_eq!(
        problem(0, unknown),
        content("unknown field 18 in v2 request")
    );
}

#[test]
fn a_wrapped_v2_request_is_refused() {
    let inner = v2_entry("PUT", "/0/version", "3.4.0");
    let mut bytes = vec![0x08, 0x01, 0x12, u8::try_from(inner.len()).unwrap()];
    bytes.extend_from_slice(&inner);
    assert_eq!(
        problem(0, bytes),
        Problem::Content {
            finding: "unknown field 2 in request".into()
        }
    );
}

#[test]
fn entry_types_beyond_conf_change_are_refused_by_name() {
    assert_eq!(
        problem(2, ""),
        Problem::EntryType {
            kind: 2,
            name: "conf change v2"
        }
    );
    assert_eq!(
        problem(3, ""),
        Problem::EntryType {
            kind: 3,
            name: "no raft type"
        }
    );
}

#[test]
fn conf_changes_are_read_with_and_without_zeros() {
    let with_zeros = [0x08, 0x05, 0x10, 0x00, 0x18, 0x00, 0x22, 0x02, b'{', b'}'];
    let without_zeros = [0x08, 0x05, 0x22, 0x02, b'{', b'}'];
    for bytes in [with_zeros.as_slice(), without_zeros.as_slice()] {
        assert_eq!(
            decode(&committed(1, bytes.to_vec())).unwrap().op,
            Op::ConfChange(raftpb::ConfChange {
                id: 5,
                r#type: 0,
                node_id: 0,
                context: "{}".into()
            })
        );
    }
    assert_eq!(problem(1, vec![0x10, 4]), Problem::ConfChangeType(4));
    assert_eq!(
        problem(1, vec![0x28, 4]),
        Problem::Content {
            finding: "unknown field 5 in conf change".into()
        }
    );
}

#[test]
fn exactly_one_request_with_an_id_is_accepted() {
    assert_eq!(
        problem(0, with_header(Request::default()).encode_to_vec()),
        Problem::NoRequest
    );
    let two = with_header(Request {
        put: Some(etcdpb::PutRequest::default()),
        auth_status: Some(etcdpb::AuthStatusRequest {}),
        ..Request::default()
    });
    assert_eq!(
        problem(0, two.encode_to_vec()),
        Problem::SeveralRequests {
            kinds: vec!["put", "auth_status"]
        }
    );
    let nameless = Request {
        put: Some(etcdpb::PutRequest::default()),
        ..Request::default()
    };
    assert_eq!(
        problem(0, nameless.encode_to_vec()),
        Problem::NoId { kind: "put" }
    );
    let old_style = Request { id: 4, ..nameless };
    let entry = decode(&committed(0, old_style.encode_to_vec())).unwrap();
    assert_eq!(entry.header.id, 4);
}

#[test]
fn an_unknown_field_is_named_at_any_depth() {
    let finding = |bytes: &[u8]| match problem(0, bytes.to_vec()) {
        Problem::Content { finding } => finding,
        other => panic!("{other:?}"),
    };
    let (put, _) = &every_request()[1];
    let top = [put.encode_to_vec(), vec![0xba, 0x06, 0x01, 0x00]].concat();
    assert_eq!(finding(&top), "unknown field 103 in request");
    // txn { success { request_put { 7: 1 } } }
    assert_eq!(
        finding(&[0x32, 0x06, 0x12, 0x04, 0x12, 0x02, 0x38, 0x01]),
        "unknown field 7 in request.txn.success.request_put"
    );
    // put { key: varint }
    assert_eq!(
        finding(&[0x22, 0x02, 0x08, 0x01]),
        "field 1 in request.put has another form than it should"
    );
    assert_eq!(
        finding(&[0x22, 0x05, 0x0a, 0x01]),
        "request cannot be read: the bytes end inside a field"
    );
}

#[test]
fn what_etcd_would_not_write_is_refused() {
    // put twice, which decoders merge
    let (put, _) = &every_request()[1];
    let twice = [vec![0x22, 0x03, 0x0a, 0x01, b'a'], put.encode_to_vec()].concat();
    assert_eq!(
        problem(0, twice.clone()),
        Problem::NotCanonical {
            message: "the request",
            given_bytes: twice.len(),
            encoded_bytes: twice.len() - 5,
        }
    );
}

#[test]
fn text_that_is_no_text_is_refused() {
    let bytes = [0xca, 0x44, 0x03, 0x0a, 0x01, 0xff];
    let error = decode(&committed(0, bytes.to_vec())).expect_err("is refused");
    assert!(matches!(error.problem, Problem::Content { .. }), "{error}");
}

#[test]
fn nesting_has_a_limit() {
    let deepest = schema::DEPTH_MAX / 2;
    assert!(decode(&committed(0, nested(deepest).encode_to_vec())).is_ok());
    assert_eq!(
        problem(0, nested(deepest + 1).encode_to_vec()),
        Problem::Content {
            finding: schema::Finding::TooDeep.to_string()
        }
    );
}

#[test]
fn no_message_holds_content() {
    let secret = "hunter2";
    let mut request = every_request().remove(13).0;
    let add = request.auth_user_add.as_mut().unwrap();
    add.password = secret.into();
    add.name = secret.into();
    let op = decode_op(&request);
    request.put = Some(etcdpb::PutRequest {
        key: secret.into(),
        value: secret.into(),
        ..etcdpb::PutRequest::default()
    });
    let several = decode(&committed(0, request.encode_to_vec())).expect_err("is refused");
    let unknown = [request.encode_to_vec(), vec![0x80, 0x7d, 0x00]].concat();
    let unknown = decode(&committed(0, unknown)).expect_err("is refused");
    for text in [
        several.to_string(),
        format!("{several:?}"),
        unknown.to_string(),
        format!("{unknown:?}"),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    let Op::AuthUserAdd(add) = op else {
        panic!("another op");
    };
    assert!(
        !format!(
            "{:?}",
            Op::AuthUserAdd(etcdpb::AuthUserAddRequest {
                name: String::new(),
                ..add
            })
        )
        .contains(secret)
    );
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let originals: Vec<Vec<u8>> = every_request()
        .iter()
        .map(|(request, _)| request.encode_to_vec())
        .chain([
            v2_entry("PUT", "/0/version", "3.4.0"),
            nested(60).encode_to_vec(),
        ])
        .collect();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0_u8..3);
    (
        prop::sample::select(originals),
        prop::collection::vec(change, 0..4),
    )
        .prop_map(|(mut bytes, changes)| {
            for (place, byte, how) in changes {
                if bytes.is_empty() {
                    break;
                }
                let place = place.index(bytes.len());
                match how {
                    0 => bytes[place] = byte,
                    1 => bytes.insert(place, byte),
                    _ => bytes.truncate(place),
                }
            }
            bytes
        })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(kind in 0_u32..4, data: Vec<u8>) {
        let _ = decode(&committed(kind, data));
    }

    /// What is accepted is a v2 request or exactly what the request says when written again.
    #[test]
    fn changed_entries_are_decoded_or_refused(data in mutated()) {
        if let Ok(entry) = decode(&committed(0, data.clone())) {
            let again = Request::decode(data.as_slice()).map(|request| request.encoded_len());
            let known = matches!(entry.op, Op::V2 { .. } | Op::Empty);
            prop_assert!(known || again == Ok(data.len()));
        }
    }
}
