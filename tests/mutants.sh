#!/bin/sh
# mutants.sh [--check] [word] -- breaks the code line by line; every break must make a test fail.
#
# tests/mutants.txt holds one mutant a line, four fields with a tab between:
#   file    test-program[,test-program]    sed expression    what it breaks
# The tests run on the simulated CUDA, so that the CUDA device and its kernels can be broken too.
# A mutant is dead when one of its test programs fails, or runs longer than two minutes: on a busy
# machine what was killed "by time" may have been slow only. One that changes nothing or does not
# compile is a mistake in the list. With a word, only lines that hold it.
# --check builds nothing and only looks for lines that are not what is said here, or change nothing.
cd "$(dirname "$0")/.." || exit 1
tab=$(printf '\t')
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

check=
[ "${1:-}" != --check ] || { check=1; shift; }
grep -v -e '^#' -e '^[[:space:]]*$' tests/mutants.txt | grep -F -e "${1:-}" >"$scratch/list"
[ -s "$scratch/list" ] || { echo "mutants: tests/mutants.txt has no mutant with \"${1:-}\"" >&2; exit 1; }

wrong() { # words
    echo "WRONG     $file: $1: $what"
    [ ! -s "$scratch/log" ] || sed 's/^/          /' "$scratch/log" | head -n 20
    errors=$((errors + 1))
}
# break_it: leaves the broken file in $scratch/broken; where the line is wrong, says so.
break_it() {
    : >"$scratch/log"
    case $what in '' | *"$tab"*) wrong "four fields with a tab between are needed"; return 1 ;; esac
    [ -f "$file" ] || { wrong "no such file"; return 1; }
    programs=$(echo "$tests" | tr ',' ' ')
    for program in $programs; do
        [ -f "tests/test_$program.c" ] || { wrong "there is no tests/test_$program.c"; return 1; }
    done
    if ! sed -e "$change" "$file" >"$scratch/broken" 2>"$scratch/log"; then
        wrong "sed does not understand $change"
    elif cmp -s "$scratch/broken" "$file"; then
        wrong "$change changes nothing"
    else
        return 0
    fi
    return 1
}

killed=0 survived=0 errors=0
if [ -n "$check" ]; then
    while IFS=$tab read -r file tests change what; do break_it; done <"$scratch/list"
    [ $errors -eq 0 ]
    exit
fi

mkdir "$scratch/tree"
for part in src tests Makefile data .ci; do
    [ ! -e "$part" ] || cp -R "$part" "$scratch/tree/" || exit 1
done
cd "$scratch/tree" || exit 1

build() { # test programs; also huddle, for tests that start it
    targets=
    for program in "$@"; do
        targets="$targets build/tests/$program"
        ! grep -q 'include "program.h"' "tests/test_$program.c" || targets="$targets build/huddle"
    done
    # shellcheck disable=SC2086 # one word a target
    make -s BUILD=build SIM=1 $targets >"$scratch/log" 2>&1 </dev/null
}
passes() { # test program
    HUDDLE=build/huddle timeout -k 5 120 "build/tests/$1" --fail-fast >"$scratch/log" 2>&1 </dev/null
}

# A test that fails by itself would kill everything.
programs=$(cut -f 2 "$scratch/list" | tr ',' '\n' | sort -u)
# shellcheck disable=SC2086 # one word a program
build $programs || { cat "$scratch/log"; echo "mutants: the tests do not build" >&2; exit 1; }
for program in $programs; do
    passes "$program" || { cat "$scratch/log"; echo "mutants: $program fails unbroken" >&2; exit 1; }
done

while IFS=$tab read -r file tests change what; do
    break_it || continue
    cp "$file" "$scratch/original"
    cp "$scratch/broken" "$file"
    # shellcheck disable=SC2086 # one word a program
    if ! build $programs; then
        wrong "does not compile"
    else
        by='' time=''
        for program in $programs; do
            passes "$program" && continue
            if [ $? -eq 124 ] || grep -q 'Timed out' "$scratch/log"; then time=", by time"; fi
            by=$program$time
            break
        done
        if [ -n "$by" ]; then
            echo "killed    $file: $what (by $by)"
            killed=$((killed + 1))
        else
            echo "SURVIVED  $file: $what"
            survived=$((survived + 1))
        fi
    fi
    cp "$scratch/original" "$file"
done <"$scratch/list"

echo "$((killed + survived + errors)) mutants: $killed killed, $survived survived, $errors wrong"
[ $((survived + errors)) -eq 0 ]
