//! Options: defaults, values, and what is refused.

use super::*;

fn typed() -> Typed {
    Typed {
        primary_peer_urls: vec!["http://10.0.0.1:2380".to_owned()],
        listen_peer_url: Some("http://0.0.0.0:2390".to_owned()),
        advertise_peer_url: Some("http://10.0.0.9:2390/".to_owned()),
        standby_endpoints: vec!["10.1.0.1:2379".to_owned()],
        ..Typed::default()
    }
}

fn yaml(text: &str) -> Result<Typed, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Typed::from_file(file.path())
}

fn refused(typed: Typed) -> String {
    typed.check().expect_err("it is wrong").to_string()
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = typed().check().unwrap();
    assert_eq!(config.stream, "default");
    assert_eq!(config.data_dir, Path::new("default.etcd-syncer"));
    assert_eq!(config.listen_status, "127.0.0.1:2391".parse().unwrap());
    assert_eq!(
        config.standby_endpoints,
        ["http://10.1.0.1:2379"],
        "as etcdctl takes it"
    );
    assert_eq!(config.advertise_peer_url, "http://10.0.0.9:2390");
    assert_eq!(config.standby_timeout, Duration::from_secs(5));
    assert_eq!(config.standby_lease_ttl, Duration::from_secs(86_400));
    assert_eq!(config.compaction, CompactionPolicy::Follow);
    assert_eq!(
        (config.batch_ops_max, config.receive_bytes_max),
        (1_000, 256 << 20)
    );
    assert!(config.dump_state.is_none() && config.primary_endpoints.is_empty());
}

#[test]
fn the_file_that_is_shipped_is_a_good_one_and_names_every_default() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/etcd-syncer.yaml");
    let config = Typed::from_file(&shipped).unwrap().check().unwrap();
    let plain = typed().check().unwrap();
    assert_eq!(config.primary_peer_urls.len(), 3);
    assert_eq!(config.standby_endpoints.len(), 3);
    assert_eq!(config.batch_ops_max, plain.batch_ops_max);
    assert_eq!(config.batch_bytes_max, plain.batch_bytes_max);
    assert_eq!(config.receive_bytes_max, plain.receive_bytes_max);
    assert_eq!(config.snapshot_bytes_max, plain.snapshot_bytes_max);
    assert_eq!(config.standby_timeout, plain.standby_timeout);
    assert_eq!(config.standby_lease_ttl, plain.standby_lease_ttl);
    assert_eq!(config.compaction, plain.compaction);
    assert_eq!(config.history, plain.history);
    assert_eq!(config.listen_status, plain.listen_status);
    assert_eq!(config.stream, plain.stream);
}

#[test]
fn lists_in_the_file_are_texts_with_commas_or_lists() {
    let commas = yaml("primary-peer-urls: http://a:1, http://b:2").unwrap();
    let list = yaml("primary-peer-urls:\n  - http://a:1\n  - http://b:2").unwrap();
    assert_eq!(commas.primary_peer_urls, ["http://a:1", "http://b:2"]);
    assert_eq!(commas.primary_peer_urls, list.primary_peer_urls);
    assert!(yaml("primary-peer-urls: {a: b}").is_err());
}

#[test]
fn a_key_that_is_no_option_is_refused_with_its_name() {
    let error = yaml("standby-endpoint: http://a:1")
        .unwrap_err()
        .to_string();
    assert!(error.contains("standby-endpoint"), "{error}");
    let error = Typed::from_file(Path::new("/nowhere.yaml"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere.yaml"), "{error}");
}

#[test]
fn what_somebody_wrote_earlier_weighs_more() {
    let flags = Typed {
        stream: Some("flag".to_owned()),
        ..Typed::default()
    };
    let file = Typed {
        stream: Some("file".to_owned()),
        batch_ops_max: Some(7),
        ..typed()
    };
    let config = flags.or(file).check().unwrap();
    assert_eq!((config.stream.as_str(), config.batch_ops_max), ("flag", 7));
}

#[test]
fn wrong_values_name_the_option_and_what_would_be_right() {
    type Spoil = fn(&mut Typed);
    let cases: [(Spoil, &str); 16] = [
        (
            |t| t.primary_peer_urls.clear(),
            "--primary-peer-urls is missing",
        ),
        (
            |t| t.advertise_peer_url = None,
            "ETCD_SYNCER_ADVERTISE_PEER_URL",
        ),
        (
            |t| t.primary_peer_urls = vec!["10.0.0.1:2380".into()],
            "--primary-peer-urls",
        ),
        (
            |t| t.listen_peer_url = Some("http://name:1".into()),
            "IP address",
        ),
        (
            |t| t.listen_peer_url = Some("http://0.0.0.0:99999".into()),
            "--listen-peer-url",
        ),
        (|t| t.standby_endpoints = vec!["https://a:1".into()], "TLS"),
        (|t| t.stream = Some("a/b".into()), "--stream"),
        (|t| t.stream = Some("x".repeat(65)), "--stream"),
        (|t| t.listen_status = Some("2391".into()), "IP:PORT"),
        (|t| t.log_format = Some("xml".into()), "text, json"),
        (|t| t.history = Some("some".into()), "auto, keep, last"),
        (|t| t.receive_bytes_max = Some(1), "at least 16777216"),
        (
            |t| t.standby_timeout = Some("0s".into()),
            "--standby-timeout",
        ),
        (
            |t| t.standby_lease_ttl = Some("29s".into()),
            "whole seconds from 30s",
        ),
        (
            |t| t.standby_lease_ttl = Some("1m 1ms".into()),
            "--standby-lease-ttl",
        ),
        (|t| t.compaction = Some("some".into()), "follow, none"),
    ];
    for (spoil, expected) in cases {
        let mut typed = typed();
        spoil(&mut typed);
        let message = refused(typed);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn a_scope_is_made_of_flags_or_of_the_file() {
    let file = yaml(
        "include-prefix: [a/, 'b,c/', \"d\\\\x2c\"]\nexclude-prefix: a/x/,a/y/\nrewrite-prefix: a/=e/\n",
    );
    let file = file.unwrap();
    let both = file.clone().or(typed()).check().unwrap();
    assert_eq!(
        both.scope.prefixes().to_string(),
        "--include-prefix=a/ --include-prefix='b\\x2cc/' --include-prefix='d\\x2c' \
         --exclude-prefix=a/x/ --exclude-prefix=a/y/ --rewrite-prefix=a/=e/"
    );
    let flags = Typed {
        include_prefix: vec!["a/".to_owned()],
        ..typed()
    };
    let config = flags.or(file).check().unwrap();
    let (include, exclude) = (
        &config.scope.prefixes().include,
        &config.scope.prefixes().exclude,
    );
    assert_eq!((include.len(), exclude.len()), (1, 2));
    let plain = typed().check().unwrap();
    assert_eq!(plain.scope.prefixes().to_string(), "every key");
}

#[test]
fn a_scope_that_cannot_be_meant_names_the_option() {
    let text = |text: &str| vec![text.to_owned()];
    for (include, exclude, rewrite, expected) in [
        (" a/", "", "", "--include-prefix \" a/\": blanks"),
        ("a\\q", "", "", "--include-prefix \"a\\\\q\": a backslash"),
        ("a", "b", "", "--exclude-prefix b: no key"),
        (
            "a",
            "",
            "ab",
            "--rewrite-prefix \"ab\": write it as FROM=TO",
        ),
        (
            "a",
            "",
            "a=-etcd-syncer-meta-/",
            "--rewrite-prefix a=-etcd-syncer-meta-/",
        ),
    ] {
        let list = |given: &str| {
            if given.is_empty() {
                Vec::new()
            } else {
                text(given)
            }
        };
        let message = refused(Typed {
            include_prefix: text(include),
            exclude_prefix: list(exclude),
            rewrite_prefix: list(rewrite),
            ..typed()
        });
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    // What is left of a variable that was not set is not every key.
    for lists in [
        Typed {
            include_prefix: text(""),
            ..typed()
        },
        Typed {
            exclude_prefix: text(""),
            ..typed()
        },
        Typed {
            rewrite_prefix: text(""),
            ..typed()
        },
    ] {
        let message = refused(lists.or(Typed::default()));
        assert!(message.contains("-prefix"), "{message}");
    }
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let empty = || Some(String::new());
    let flags = Typed {
        stream: empty(),
        history: empty(),
        primary_endpoints: vec![String::new()],
        data_dir: Some(PathBuf::new()),
        ..Typed::default()
    };
    let config = flags.or(typed()).check().unwrap();
    assert_eq!(config.stream, "default");
    assert!(config.primary_endpoints.is_empty());
    assert_eq!(config.data_dir, Path::new("default.etcd-syncer"));
}

fn password_file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_and_is_not_shown() {
    let plain = typed().check().unwrap();
    assert_eq!(plain.standby_user, "etcd-syncer");
    assert!(plain.standby_login.is_none() && plain.primary_login.is_none());

    let file = password_file(b"pass word\r\n");
    let with = Typed {
        standby_password_file: Some(file.path().to_owned()),
        primary_user: Some("root".to_owned()),
        passwords: Passwords {
            standby: Some(Secret::new("of the environment")),
            primary: Some(Secret::new("for the primary")),
        },
        ..typed()
    };
    assert!(!format!("{with:?}").contains("environment"));
    let config = with.or(Typed::default()).check().unwrap();
    let shown = |login: Option<Credentials>| {
        let login = login.unwrap();
        (login.name, login.password.expose().clone())
    };
    assert!(!format!("{config:?}").contains("pass word"));
    let standby = shown(config.standby_login);
    assert_eq!(standby, ("etcd-syncer".to_owned(), "pass word".into()));
    let primary = shown(config.primary_login);
    assert_eq!(primary, ("root".to_owned(), "for the primary".into()));
}

#[test]
fn a_password_that_etcd_would_not_take_is_refused_and_not_shown() {
    let long = [b'x'; 73];
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"\n", "empty"),
        (b"two\nlines", "one line"),
        (b"p\xff", "UTF-8"),
        (&long, "72 bytes"),
    ] {
        let file = password_file(bytes);
        let message = refused(Typed {
            standby_password_file: Some(file.path().to_owned()),
            ..typed()
        });
        let place = file.path().display().to_string();
        assert!(
            message.contains(expected) && message.contains(&place),
            "{message}"
        );
        assert!(
            !message.contains("lines") || expected == "one line",
            "{message}"
        );
    }
    let message = refused(Typed {
        primary_password_file: Some("/nowhere/password".into()),
        ..typed()
    });
    assert!(message.contains("/nowhere/password"), "{message}");
}

#[test]
fn no_password_is_taken_from_a_file_of_options() {
    for key in ["standby-password", "passwords"] {
        let error = yaml(&format!("{key}: x")).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
