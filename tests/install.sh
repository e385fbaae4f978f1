#!/bin/sh
# install.sh [make's arguments] -- installs huddle into a folder of its own and uses it from there,
# where no data/ is: it must find the digits that came with it, and judge what it trained.
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d) || exit 1
trap 'rm -rf "$to"' EXIT
trap 'exit 1' INT TERM
unset HUDDLE_DATA

does() { # words: a command
    "$@" >"$to/said" 2>&1 && return
    echo "install: this failed: $*" >&2
    cat "$to/said" >&2
    exit 1
}

does make install PREFIX="$to/here" "$@"
does make install PREFIX="$to/here" DESTDIR="$to/stage" "$@"
does diff -r "$to/here" "$to/stage$to/here"
cd "$to" || exit 1
does here/bin/huddle train steps=5 folder="$to/runs" name=five
does sh -c 'here/bin/huddle evaluate runs/five | grep "^accuracy  *[0-9]"'
