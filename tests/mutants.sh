#!/bin/sh
# mutants.sh [word] -- breaks the code line by line; every break must make a test fail.
#
# tests/mutants.txt holds one mutant a line, four fields with a tab between:
#   file    test-program[,test-program]    sed expression    what it breaks
# The tests run on the simulated CUDA, so that the CUDA device and its kernels can be broken too.
# A mutant is dead when one of its test programs fails, or runs longer than two minutes. One that
# changes nothing or does not compile is a mistake in the list. With a word, only lines that hold it.
cd "$(dirname "$0")/.." || exit 1
tab=$(printf '\t')
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

grep -v -e '^#' -e '^[[:space:]]*$' tests/mutants.txt | grep -F -e "${1:-}" >"$scratch/list"
[ -s "$scratch/list" ] || { echo "mutants: tests/mutants.txt has no mutant with \"${1:-}\"" >&2; exit 1; }
mkdir "$scratch/tree"
for part in src tests Makefile data .ci; do
    [ ! -e "$part" ] || cp -R "$part" "$scratch/tree/" || exit 1
done
cd "$scratch/tree" || exit 1

build() { # test programs; also huddle, for tests that start it
    targets=
    for program in "$@"; do
        targets="$targets build/tests/$program"
        ! grep -q HUDDLE "tests/test_$program.c" || targets="$targets build/huddle"
    done
    # shellcheck disable=SC2086 # one word a target
    make -s BUILD=build SIM=1 $targets >"$scratch/log" 2>&1 </dev/null
}
passes() { # test program
    HUDDLE=build/huddle timeout -k 5 120 "build/tests/$1" >"$scratch/log" 2>&1 </dev/null
}
wrong() { # words
    echo "WRONG     $file: $1: $what"
    [ ! -s "$scratch/log" ] || sed 's/^/          /' "$scratch/log" | head -n 20
    errors=$((errors + 1))
}

# A test that fails by itself would kill everything.
programs=$(cut -f 2 "$scratch/list" | tr ',' '\n' | sort -u)
# shellcheck disable=SC2086 # one word a program
build $programs || { cat "$scratch/log"; echo "mutants: the tests do not build" >&2; exit 1; }
for program in $programs; do
    passes "$program" || { cat "$scratch/log"; echo "mutants: $program fails unbroken" >&2; exit 1; }
done

killed=0 survived=0 errors=0
while IFS=$tab read -r file tests change what; do
    : >"$scratch/log"
    if [ -z "$what" ]; then wrong "four fields with a tab between are needed"; continue; fi
    if [ ! -f "$file" ]; then wrong "no such file"; continue; fi
    cp "$file" "$scratch/original"
    if ! sed -e "$change" "$scratch/original" >"$file" 2>"$scratch/log"; then
        wrong "sed does not understand $change"
    elif cmp -s "$file" "$scratch/original"; then
        wrong "$change changes nothing"
    else
        programs=$(echo "$tests" | tr ',' ' ')
        # shellcheck disable=SC2086 # one word a program
        if ! build $programs; then
            wrong "does not compile"
        else
            by=
            for program in $programs; do
                passes "$program" || { by=$program; break; }
            done
            if [ -n "$by" ]; then
                echo "killed    $file: $what (by $by)"
                killed=$((killed + 1))
            else
                echo "SURVIVED  $file: $what"
                survived=$((survived + 1))
            fi
        fi
    fi
    cp "$scratch/original" "$file"
done <"$scratch/list"

echo "$((killed + survived + errors)) mutants: $killed killed, $survived survived, $errors wrong"
[ $((survived + errors)) -eq 0 ]
