#!/usr/bin/env bash
# Makes sure that what building and testing need is there: protoc, and the etcd binaries.
#
#   tests/setup.sh          both
#   tests/setup.sh build    protoc only
#
# protoc is installed from Debian's packages where that is possible without asking; elsewhere one
# sentence says what to install.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

if ! command -v protoc > /dev/null; then
  if command -v apt-get > /dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing protoc (package protobuf-compiler)" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq protobuf-compiler > /dev/null
  else
    echo "protoc is missing: install it (Debian: apt-get install protobuf-compiler)" >&2
    exit 1
  fi
fi

if [ "${1:-all}" = all ]; then
  "$here/etcd/install.sh"
fi
