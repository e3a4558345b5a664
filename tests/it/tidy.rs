//! Rules of the tree that a compiler does not know: who may import whom, what pure modules keep away
//! from, how long files, functions and lines may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module with what it may import. A module imports only what stands above it here, so nothing
/// runs in circles, and nothing but the command line knows the whole.
const IMPORTS: &[(&str, &str)] = &[
    ("backoff", ""),
    ("base64", ""),
    ("exit", ""),
    ("ids", ""),
    ("pb", ""),
    ("secret", ""),
    ("range", ""),
    ("range_set", "range"),
    ("reserved", "range"),
    ("scope", "range range_set reserved"),
    ("version", ""),
    ("wire", ""),
    ("datadir", "exit"),
    ("session", "pb secret"),
    ("primary", "ids secret session"),
    ("checkpoint", "ids pb scope"),
    ("entry", "ids pb wire"),
    ("peer", "ids pb version"),
    ("wal", "ids pb"),
    (
        "resolve",
        "base64 entry ids pb range range_set secret version",
    ),
    ("snapshot", "ids resolve secret wire"),
    ("statefile", "exit resolve"),
    (
        "ledger",
        "checkpoint ids pb range range_set reserved resolve wire",
    ),
    ("plan", "ids ledger range range_set resolve scope secret"),
    ("learner", "checkpoint entry ids pb peer"),
    (
        "offline",
        "checkpoint entry ids learner pb peer range range_set resolve snapshot wal",
    ),
    ("capture", "entry ids learner offline"),
    ("pipeline", "entry ids learner plan resolve scope"),
    (
        "standby",
        "backoff base64 checkpoint ids pb plan range reserved resolve scope secret session",
    ),
    (
        "apply",
        "checkpoint ids learner ledger pipeline plan range reserved resolve standby",
    ),
    (
        "install",
        "checkpoint ids ledger plan range resolve scope snapshot standby",
    ),
    ("config", "peer pipeline plan scope secret"),
    ("halt", "apply exit learner pipeline standby"),
    (
        "base",
        "backoff checkpoint exit halt ids install ledger plan range reserved resolve scope standby",
    ),
    (
        "status",
        "apply halt ids install learner peer pipeline primary standby",
    ),
    (
        "app",
        "apply backoff base capture checkpoint config datadir exit halt ids install learner ledger \
         offline pb peer pipeline plan primary range reserved resolve session standby statefile \
         status",
    ),
    (
        "replay",
        "apply base checkpoint entry exit halt ids install learner offline pb pipeline plan range \
         resolve scope session snapshot standby statefile version",
    ),
    ("resync", "backoff checkpoint ids reserved secret standby"),
    (
        "cli",
        "app config entry exit ids learner offline pb range replay resolve resync scope secret session \
         snapshot standby status version wal",
    ),
    ("main", "cli"),
    ("lib", ""),
];

/// Modules in which there is no clock, no socket, no file, no task and no chance.
const PURE: &[&str] = &[
    "base64",
    "checkpoint/ack",
    "checkpoint/place",
    "checkpoint/record",
    "entry/",
    "install/diff",
    "install/piece",
    "learner/awaiting",
    "learner/convert",
    "learner/inlet",
    "learner/lag",
    "learner/log",
    "learner/membership",
    "learner/node",
    "learner/terms",
    "ledger/",
    "offline/capture/",
    "offline/effects",
    "offline/election",
    "offline/handouts",
    "offline/recovery",
    "offline/snap",
    "offline/store",
    "peer/codec/",
    "peer/filter",
    "peer/handshake",
    "peer/intake",
    "peer/reorder",
    "peer/snapshot/progress",
    "peer/snapshot/retry",
    "peer/snapshot/stored",
    "pipeline",
    "plan/",
    "replay/report",
    "resolve/",
    "scope/",
    "secret",
    "snapshot/bbolt/",
    "snapshot/contents",
    "snapshot/error",
    "snapshot/keys/",
    "snapshot/read",
    "snapshot/saved",
    "snapshot/state",
    "snapshot/store/",
    "snapshot/values",
    "wal/behind",
    "wal/decoder",
    "wal/entries",
    "wal/error",
    "wal/frame",
    "wal/log",
    "wal/name",
    "wal/reading",
    "wal/record",
    "wal/survey",
    "standby/keeper/book",
    "standby/keeper/rota",
    "wire",
    "version",
];
/// The same, by how their names begin: `range`, `range_set`.
const PURE_PREFIX: &str = "range";
const IMPURE: [&str; 7] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "fastrand",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// A source file.
struct Source {
    path: PathBuf,
    /// Below `src`, without the ending.
    name: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Whole files of tests, and what only they use.
    fn is_test(&self) -> bool {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        last == "tests" || last.ends_with("_tests") || self.name.contains("tests/")
    }

    /// What is compiled into the program: without tests and comments.
    fn program(&self) -> Vec<(usize, &str)> {
        let mut program = Vec::new();
        if self.is_test() {
            return program;
        }
        let mut lines = self.lines();
        while let Some((number, line)) = lines.next() {
            if line == "#[cfg(test)]" {
                // One item: it ends where it began, or with a brace at the margin.
                let mut item = lines.by_ref().map(|(_, line)| line);
                let begin = item.find(|line| !line.starts_with("#["));
                if begin.is_some_and(|line| !line.ends_with(';')) {
                    item.find(|line| *line == "}");
                }
            } else if !line.trim_start().starts_with("//") {
                program.push((number, line));
            }
        }
        program
    }

    fn is_pure(&self) -> bool {
        let listed = PURE.iter().any(|pure| match pure.strip_suffix('/') {
            Some(_) => self.name.starts_with(pure),
            None => self.name == *pure,
        });
        listed || self.name.starts_with(PURE_PREFIX)
    }

    fn module(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = root.join(folder);
    let mut folders = vec![base.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&base).unwrap().with_extension("");
                found.push(Source {
                    text: std::fs::read_to_string(&path).unwrap(),
                    name: name.to_str().unwrap().to_owned(),
                    path: path.strip_prefix(root).unwrap().to_owned(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn assert_none(violations: &[String], rule: &str) {
    assert!(
        violations.is_empty(),
        "{rule}:\n  {}",
        violations.join("\n  ")
    );
}

/// The modules of this crate that a text names.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "etcd_syncer::"] {
        for (at, _) in text.match_indices(root) {
            let whole = text[..at]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != '$');
            if whole {
                found.extend(heads(&text[at + root.len()..]));
            }
        }
    }
    found
}

/// The first names of a path: one, or those of a list in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else {
        return vec![head(path)];
    };
    let mut depth = 0;
    let mut starts = vec![0];
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'}' => depth -= 1,
            b',' if depth == 0 => starts.push(at + 1),
            _ => {}
        }
    }
    let heads = starts.iter().map(|start| head(list[*start..].trim_start()));
    heads.filter(|name| !name.is_empty()).collect()
}

fn head(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn modules_import_only_what_stands_below_them() {
    for (place, (module, allowed)) in IMPORTS.iter().enumerate() {
        for import in allowed.split_whitespace() {
            let below = IMPORTS[..place].iter().any(|(name, _)| *name == import);
            assert!(below, "the table: {import} does not stand above {module}");
        }
    }
    let mut violations = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let row = IMPORTS.iter().find(|(name, _)| *name == module);
        let Some((_, allowed)) = row else {
            violations.push(format!(
                "{}: {module} is not in the table",
                source.path.display()
            ));
            continue;
        };
        let lines: Vec<&str> = source.program().iter().map(|(_, line)| *line).collect();
        for import in imports(&lines.join("\n")) {
            let known = IMPORTS.iter().any(|(name, _)| *name == import);
            let is_allowed = allowed.split_whitespace().any(|name| name == import);
            if known && import != module && !is_allowed {
                violations.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert_none(&violations, "imports that the table does not allow");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::a::B;\nuse crate::{c, d::{e, f}, g::*};\nlet x: crate::h::I = 1;\n\
                $crate::no::J; mycrate::no::K; etcd_syncer::l::m();\n";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["a", "c", "d", "g", "h", "l"]);
}

#[test]
fn pure_modules_are_pure() {
    let sources = sources("src");
    for name in PURE {
        let exists = sources.iter().any(|source| match name.strip_suffix('/') {
            Some(folder) => source.module() == folder || source.name.starts_with(name),
            None => source.name == *name,
        });
        assert!(exists, "the list: there is no {name}");
    }
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.is_pure()) {
        for (number, line) in source.program() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                violations.push(format!("{}: {word}", source.at(number)));
            }
        }
    }
    assert_none(
        &violations,
        "pure modules with a clock, IO, tasks or chance",
    );
}

#[test]
fn files_are_short() {
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let lines = source.lines().map(|(_, line)| line);
        let count = lines.take_while(|line| *line != "#[cfg(test)]").count();
        if count > FILE_LINES_MAX {
            violations.push(format!("{}: {count} lines", source.path.display()));
        }
    }
    assert_none(
        &violations,
        "files with more than 500 lines before their tests",
    );
}

/// Where functions begin, and how many lines they have; as the formatter lays them out, a body ends
/// with a brace under the function's first letter.
fn functions(lines: &[(usize, &str)]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, (first, line)) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let starts = code.split_whitespace().take_while(|word| {
            let qualifiers = ["pub", "pub(super)", "pub(crate)", "async", "const", "fn"];
            qualifiers.contains(word)
        });
        if starts.last() != Some("fn") || code.ends_with('}') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        for (number, line) in &lines[at..] {
            let is_end = *line == end;
            let no_body = line.ends_with(';') && line.len() - line.trim_start().len() == indent;
            if is_end || no_body {
                found.push((*first, number - first + 1));
                break;
            }
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut violations = Vec::new();
    let mut count = 0;
    for source in sources("src") {
        for (line, length) in functions(&source.program()) {
            count += 1;
            if length > FUNCTION_LINES_MAX {
                violations.push(format!("{}: {length} lines", source.at(line)));
            }
        }
    }
    assert!(count > 500, "only {count} functions were found");
    assert_none(&violations, "functions with more than 70 lines");
}

#[test]
fn lines_are_short_and_nothing_is_left_over() {
    // In pieces, as this file is read too.
    let markers = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
    ]
    .map(|pieces| pieces.concat());
    let mut violations = Vec::new();
    for source in ["src", "tests", "proto"].into_iter().flat_map(sources) {
        for (number, line) in source.lines() {
            let chars = line.chars().count();
            // A text that cannot be broken is left as it is by the formatter too.
            if chars > LINE_CHARS_MAX && source.path.starts_with("src") && !is_text(line) {
                violations.push(format!("{}: {chars} characters", source.at(number)));
            }
            for marker in markers.iter().filter(|marker| line.contains(*marker)) {
                violations.push(format!("{}: {marker}", source.at(number)));
            }
        }
    }
    assert_none(&violations, "long lines and leftovers");
}

/// True in the middle of a text that goes on in the next line, and for one that ends a line.
fn is_text(line: &str) -> bool {
    line.ends_with('\\') || line.contains('"')
}

#[test]
fn every_module_says_what_it_is() {
    let sources = sources("src");
    let silent = sources
        .iter()
        .filter(|source| !source.is_test() && !source.text.starts_with("//! "));
    let silent: Vec<String> = silent
        .map(|source| source.path.display().to_string())
        .collect();
    assert_none(&silent, "modules without a word about them at the top");
}
