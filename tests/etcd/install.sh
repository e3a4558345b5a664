#!/usr/bin/env bash
#
# Puts real etcd binaries for the tests into a cache folder outside the
# repository.
#
#   tests/etcd/install.sh [VERSION...]
#
# VERSION is a minor release (3.6: the patch release below) or a full one
# (3.6.14). Without arguments: 3.4 3.5 3.6 3.7.
#
# For each version one line "<full version> <folder>" is printed on stdout; the
# folder holds etcd, etcdctl and, from 3.5 on, etcdutl. They are taken from the
# first of:
#
#   1. the folder named by ETCD_SYNCER_ETCD_<MAJOR>_<MINOR>,
#      such as ETCD_SYNCER_ETCD_3_6=/opt/etcd-3.6/bin (a mismatch is an error);
#   2. the folder of the etcd on PATH, if it is the version asked for;
#   3. the cache, ${ETCD_SYNCER_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/etcd-syncer}/etcd;
#   4. for 3.5 and later a build from the Go module proxy (needs go), for 3.4
#      the Debian packages (needs apt-get and dpkg).
#
# A version that can't be had is named on stderr; the others are still tried and
# the exit code is 1.

set -euo pipefail

readonly DEFAULT_VERSIONS=(3.4 3.5 3.6 3.7)

cache="${ETCD_SYNCER_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/etcd-syncer}/etcd"
scratch=""

say() {
  printf 'install.sh: %s\n' "$*" >&2
}

cleanup() {
  [[ -z "$scratch" ]] || rm -rf "$scratch"
}

# The patch release that stands for a minor release.
full_version() {
  case "$1" in
    3.4) echo 3.4.23 ;;
    3.5) echo 3.5.33 ;;
    3.6) echo 3.6.14 ;;
    3.7) echo 3.7.1 ;;
    3.[4-9].*) echo "$1" ;;
    *)
      say "etcd $1: no such version is known; ask for 3.4 to 3.7 or a full version such as 3.6.14"
      return 1
      ;;
  esac
}

# The version an etcd binary reports, or nothing.
reported_version() {
  "$1" --version 2>/dev/null | sed -n 's/^etcd Version: *//p' || true
}

# The tools besides etcd that a version has.
tools_of() {
  case "$1" in
    3.4.*) echo "etcdctl" ;;
    *) echo "etcdctl etcdutl" ;;
  esac
}

# Whether folder $2 holds every tool of version $1; names the first missing one.
has_tools() {
  local tool
  for tool in etcd $(tools_of "$1"); do
    if [[ ! -x "$2/$tool" ]]; then
      say "$2 has no $tool"
      return 1
    fi
  done
}

# Whether reported version $2 is what was asked for as $1: any patch release
# of a minor release, or exactly the full version.
matches() {
  [[ "$2" == "$1" || ("$1" =~ ^[0-9]+\.[0-9]+$ && "$2" == "$1".*) ]]
}

# Folder set by ETCD_SYNCER_ETCD_<MAJOR>_<MINOR>: prints the line, or returns 1
# when unset and 2 when it does not hold what was asked for.
from_variable() {
  local wanted="$1" major minor name folder found
  IFS=. read -r major minor _ <<<"$wanted"
  name="ETCD_SYNCER_ETCD_${major}_${minor}"
  folder="${!name:-}"
  [[ -n "$folder" ]] || return 1
  found="$(reported_version "$folder/etcd")"
  if ! matches "$wanted" "$found"; then
    say "etcd $wanted: $name=$folder holds version '${found:-none}'"
    return 2
  fi
  has_tools "$found" "$folder" || return 2
  echo "$found $folder"
}

# Folder of the etcd on PATH, if it is the version asked for.
from_path() {
  local wanted="$1" binary found folder
  binary="$(command -v etcd)" || return 1
  found="$(reported_version "$binary")"
  matches "$wanted" "$found" || return 1
  folder="$(dirname "$binary")"
  has_tools "$found" "$folder" || return 1
  echo "$found $folder"
}

# Builds the binaries of version $1 into folder $2. A module of our own is
# needed since `go install module@version` refuses modules whose go.mod has
# replace directives, as those of etcd do.
build_with_go() {
  local version="$1" out="$2" module="$scratch/module" tool
  if ! command -v go >/dev/null; then
    say "etcd $version: go is needed to build it"
    return 1
  fi
  mkdir -p "$module"
  (
    cd "$module"
    export CGO_ENABLED=0
    go mod init etcd-binaries 2>/dev/null || exit 1
    go get "go.etcd.io/etcd/server/v3@v$version" \
      "go.etcd.io/etcd/etcdctl/v3@v$version" \
      "go.etcd.io/etcd/etcdutl/v3@v$version" >"$scratch/get.log" 2>&1 ||
      { cat "$scratch/get.log" >&2; exit 1; }
    for tool in server:etcd etcdctl:etcdctl etcdutl:etcdutl; do
      go build -mod=mod -trimpath -ldflags="-s -w" \
        -o "$out/${tool#*:}" "go.etcd.io/etcd/${tool%:*}/v3" >&2 || exit 1
    done
  )
}

# Unpacks the Debian packages of version $1 into folder $2.
unpack_debian() {
  local version="$1" out="$2" packages="$scratch/packages" package
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    say "etcd $version: comes from Debian packages (apt-get and dpkg are needed)"
    return 1
  fi
  mkdir -p "$packages"
  (
    cd "$packages"
    # Without package lists the download fails: fetch them and try once more.
    apt-get download etcd-server etcd-client >"$scratch/apt.log" 2>&1 ||
      { apt-get update && apt-get download etcd-server etcd-client; } >>"$scratch/apt.log" 2>&1 ||
      { cat "$scratch/apt.log" >&2; exit 1; }
    for package in ./*.deb; do
      dpkg -x "$package" "$scratch/root" || exit 1
    done
    cp "$scratch/root/usr/bin/etcd" "$scratch/root/usr/bin/etcdctl" "$out/"
  )
}

# Makes the cache folder of full version $1, verified, in one rename.
make_cached() {
  local version="$1" out found
  scratch="$(mktemp -d "$cache/.install.XXXXXX")" || return 1
  out="$scratch/out"
  mkdir "$out" || return 1
  say "etcd $version: installing into $cache/$version"
  case "$version" in
    3.4.*) unpack_debian "$version" "$out" || return 1 ;;
    *) build_with_go "$version" "$out" || return 1 ;;
  esac
  found="$(reported_version "$out/etcd")"
  if [[ "$found" != "$version" ]]; then
    say "etcd $version: the binary got reports version '${found:-none}'"
    return 1
  fi
  has_tools "$version" "$out" || return 1
  # Whoever renames first wins; a folder that exists is complete and verified.
  mv -T "$out" "$cache/$version" 2>/dev/null || [[ -x "$cache/$version/etcd" ]]
}

# One version under a lock, so that concurrent runs build it once.
install_cached() {
  local version="$1"
  if [[ ! -x "$cache/$version/etcd" ]]; then
    mkdir -p "$cache"
    (
      if command -v flock >/dev/null; then
        flock 9
      fi
      trap cleanup EXIT
      [[ -x "$cache/$version/etcd" ]] || make_cached "$version"
    ) 9>"$cache/.$version.lock" || return 1
  fi
  echo "$version $cache/$version"
}

install() {
  local wanted="$1" version status=0
  version="$(full_version "$wanted")" || return 1
  from_variable "$wanted" || status=$?
  case "$status" in
    0) return 0 ;;
    2) return 1 ;;
  esac
  from_path "$wanted" || install_cached "$version"
}

main() {
  local wanted failed=()
  if (($# == 0)); then
    set -- "${DEFAULT_VERSIONS[@]}"
  fi
  for wanted in "$@"; do
    install "$wanted" || failed+=("$wanted")
  done
  if ((${#failed[@]} > 0)); then
    say "could not be had: ${failed[*]}; ETCD_SYNCER_ETCD_<MAJOR>_<MINOR> can name a folder with the binaries"
    exit 1
  fi
}

main "$@"
