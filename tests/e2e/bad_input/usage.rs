//! The command line, the environment and the file: everything that is wrong in them ends with 64.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{assert_says, run};

const USAGE: i32 = 64;
/// The data directory is a file: reached only by a configuration that was accepted.
const DATA_DIR: i32 = 21;

const NEEDED: [(&str, &str); 4] = [
    ("primary-peer-urls", "http://127.0.0.1:1"),
    ("listen-peer-url", "http://127.0.0.1:2"),
    ("advertise-peer-url", "http://127.0.0.1:2"),
    ("standby-endpoints", "127.0.0.1:3"),
];

/// `run` with everything that is needed, but for what `changes` replace or, if none, leave out.
fn flags(changes: &[(&str, Option<&str>)]) -> Vec<String> {
    let mut args = vec!["run".to_owned()];
    for (option, value) in NEEDED {
        if changes.iter().all(|(changed, _)| *changed != option) {
            args.push(format!("--{option}={value}"));
        }
    }
    for (option, value) in changes {
        args.extend(value.map(|value| format!("--{option}={value}")));
    }
    args
}

async fn assert_code(
    folder: &Path,
    args: &[String],
    envs: &[(&str, &str)],
    code: i32,
    words: &[&str],
) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = run(folder, &args, envs).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = output.status.code();
    ensure!(
        found == Some(code),
        "{args:?}: {found:?} for {code}: {said}"
    );
    assert_says(&said, words).with_context(|| format!("{args:?}"))
}

#[tokio::test]
async fn a_wrong_option_is_named_with_what_would_be_right() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (option, value, words) in [
        (
            "primary-peer-urls",
            "127.0.0.1:2380",
            &["such as http://10.0.0.1:2380"][..],
        ),
        (
            "primary-peer-urls",
            "http://127.0.0.1:1,ftp://h",
            &["ftp://h", "use http"],
        ),
        (
            "primary-peer-urls",
            "https://127.0.0.1:2380",
            &["needs https, which is not supported"],
        ),
        (
            "standby-endpoints",
            "https://127.0.0.1:2379",
            &["TLS to clients is not supported"],
        ),
        ("standby-endpoints", "http://", &["is no URL with a host"]),
        (
            "primary-endpoints",
            "https://127.0.0.1:2379",
            &["TLS to clients is not supported"],
        ),
        (
            "listen-peer-url",
            "http://etcd.example.com:2380",
            &["must be an IP address", "http://0.0.0.0:2390"],
        ),
        (
            "listen-peer-url",
            "http://0.0.0.0",
            &["the port a number", "http://0.0.0.0:2390"],
        ),
        (
            "advertise-peer-url",
            "10.0.0.1",
            &["such as http://10.0.0.1:2380"],
        ),
        ("listen-status", "2391", &["IP:PORT"]),
        ("stream", "a/b", &["letters, digits"]),
        ("stream", "a b", &["letters, digits"]),
        ("stream", "..", &["no dot in front"]),
        ("history", "none", &["auto, keep, last"]),
        ("log-format", "xml", &["text, json"]),
        ("batch-ops-max", "0", &["at least 1"]),
        ("receive-bytes-max", "1", &["at least 16777216"]),
        ("standby-timeout", "5 parsecs", &["standby-timeout"]),
        ("standby-timeout", "0s", &["longer than nothing"]),
        ("include-prefix", "", &["an empty prefix is every key"]),
        ("include-prefix", "a/, b/", &["blanks at its ends", "\\x20"]),
        ("include-prefix", "a\\q", &["\\xHH"]),
        (
            "include-prefix",
            "-etcd-syncer-meta-/x",
            &["never replicated"],
        ),
        (
            "exclude-prefix",
            "a/,,b/",
            &["an empty prefix is every key"],
        ),
        (
            "exclude-prefix",
            "-etcd-syncer-meta-/x",
            &["no key that is included begins so"],
        ),
        ("rewrite-prefix", "a/", &["write it as FROM=TO"]),
        ("rewrite-prefix", "a/=", &["would have no name"]),
        ("rewrite-prefix", "a/=b/,a/=c/", &["only one of them"]),
        (
            "rewrite-prefix",
            "a/=-etcd-syncer-meta-/",
            &["keys of etcd-syncer itself"],
        ),
        (
            "rewrite-prefix",
            "a/=b/",
            &["a/ and b/ would both be b/", "--exclude-prefix"],
        ),
    ] {
        let args = flags(&[(option, Some(value))]);
        let mut words = words.to_vec();
        let flag = format!("--{option}");
        words.push(&flag);
        assert_code(folder.path(), &args, &[], USAGE, &words).await?;
    }
    Ok(())
}

/// Prefixes that are good by themselves and not together; flags, the environment and the file alike.
#[tokio::test]
async fn prefixes_that_cannot_be_meant_together_are_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let together = |rest: &[(&'static str, &'static str)]| {
        let rest = rest.iter().map(|(option, value)| (*option, Some(*value)));
        let all = [("include-prefix", Some("a/,b/"))];
        flags(&all.into_iter().chain(rest).collect::<Vec<_>>())
    };
    for (rest, words) in [
        (
            &[("exclude-prefix", "c/")][..],
            &["--exclude-prefix c/", "no key that is included"][..],
        ),
        (
            &[("exclude-prefix", "a")],
            &["--include-prefix a/", "takes all of it out"],
        ),
        (
            &[("rewrite-prefix", "c/=d/")],
            &["--rewrite-prefix c/=d/", "no key in scope"],
        ),
        (
            &[("rewrite-prefix", "a/=b/x/")],
            &["a/ and b/x/ would both be b/x/"],
        ),
        (
            &[("rewrite-prefix", "a/=c/"), ("rewrite-prefix", "b/=c/x")],
            &["a/x and b/ would both be c/x"],
        ),
    ] {
        assert_code(folder.path(), &together(rest), &[], USAGE, words).await?;
    }
    let file = folder.path().join("syncer.yaml");
    std::fs::write(&file, "rewrite-prefix: [a/=c/]\nexclude-prefix: x/\n")?;
    let args = flags(&[("config", file.to_str())]);
    let envs = [("ETCD_SYNCER_INCLUDE_PREFIX", "a/,b/")];
    let words = ["--exclude-prefix x/", "no key that is included"];
    assert_code(folder.path(), &args, &envs, USAGE, &words).await?;
    let envs = [("ETCD_SYNCER_INCLUDE_PREFIX", "")];
    let words = ["--include-prefix", "unset its variable"];
    assert_code(folder.path(), &args, &envs, USAGE, &words).await
}

#[tokio::test]
async fn a_missing_or_unknown_option_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (option, _) in NEEDED {
        let variable = format!("ETCD_SYNCER_{}", option.replace('-', "_").to_uppercase());
        let flag = format!("--{option} is missing");
        let words = [flag.as_str(), &variable, "--config"];
        assert_code(folder.path(), &flags(&[(option, None)]), &[], USAGE, &words).await?;
    }
    let unknown = flags(&[("standby-endpoint", Some("http://127.0.0.1:3"))]);
    assert_code(folder.path(), &unknown, &[], USAGE, &["--standby-endpoint"]).await?;
    assert_code(
        folder.path(),
        &["follow".to_owned()],
        &[],
        USAGE,
        &["follow"],
    )
    .await?;
    assert_code(folder.path(), &["--version".to_owned()], &[], 0, &[]).await
}

#[tokio::test]
async fn a_wrong_file_is_named_with_the_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("syncer.yaml");
    let args = flags(&[("config", file.to_str())]);
    let name = file.to_str().context("a path")?;
    assert_code(folder.path(), &args, &[], USAGE, &[name, "No such file"]).await?;
    for (text, words) in [
        (
            "stream: one\nstandby-endpoint: a\n",
            &["standby-endpoint", "line 2"][..],
        ),
        ("batch-ops-max: many\n", &["line 1"]),
        (
            "primary-peer-urls: {a: b}\n",
            &["a text with commas, or a list of texts"],
        ),
        ("stream: [\n", &["line"]),
    ] {
        std::fs::write(&file, text)?;
        let mut words = words.to_vec();
        words.push(name);
        assert_code(folder.path(), &args, &[], USAGE, &words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_has_lists_as_text_with_commas_or_as_lists() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("occupied"), "")?;
    let file = folder.path().join("syncer.yaml");
    let rest = "listen-peer-url: http://127.0.0.1:2\nadvertise-peer-url: http://127.0.0.1:2/\n\
                standby-endpoints: 127.0.0.1:3\ndata-dir: occupied\nbatch-ops-max: 10\n\
                standby-timeout: 500ms\nhistory: keep\n";
    let args = ["run".to_owned(), "--config=syncer.yaml".to_owned()];
    for (urls, code, words) in [
        ("http://a:1, http://b:2", DATA_DIR, &["occupied"][..]),
        ("[http://a:1, 'http://b:2']", DATA_DIR, &["occupied"]),
        ("\n  - http://a:1\n  - http://b:2", DATA_DIR, &["occupied"]),
        ("http://a:1,ftp://b", USAGE, &["\"ftp://b\""]),
        ("[http://a:1, ftp://b]", USAGE, &["\"ftp://b\""]),
        ("[]", USAGE, &["--primary-peer-urls is missing"]),
    ] {
        std::fs::write(&file, format!("primary-peer-urls: {urls}\n{rest}"))?;
        assert_code(folder.path(), &args, &[], code, words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_flag_counts_more_than_the_environment_and_that_more_than_the_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("syncer.yaml"),
        "stream: of/file\nstandby-endpoints: [ftp://file]\n",
    )?;
    let file = [("ETCD_SYNCER_CONFIG", "syncer.yaml")];
    let both = [
        file[0],
        ("ETCD_SYNCER_STREAM", "of/env"),
        ("ETCD_SYNCER_STANDBY_ENDPOINTS", "http://a:1,ftp://env"),
    ];
    let list = "standby-endpoints";
    for (changes, envs, word) in [
        (&[("stream", Some("of/flag"))][..], &both[..], "of/flag"),
        (&[], &both, "of/env"),
        (&[], &file, "of/file"),
        (
            &[("stream", Some("good")), (list, Some("ftp://flag"))],
            &both,
            "ftp://flag",
        ),
        (
            &[("stream", Some("good")), (list, None)],
            &both,
            "ftp://env",
        ),
        (
            &[("stream", Some("good")), (list, None)],
            &file,
            "ftp://file",
        ),
    ] {
        let word = format!("{word:?}");
        assert_code(folder.path(), &flags(changes), envs, USAGE, &[&word]).await?;
    }
    Ok(())
}
