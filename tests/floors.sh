#!/bin/sh
# floors.sh -- holds the include rule: a file includes only what stands on its own floor or lower.
#
#   7 main.c commands   6 strategies   5 engine   4 tasks envs datasets
#   3 nn   2 comm topology   1 kernels devices theory   0 base
#
# Every breach is one line, file:line: words. Exit 1 where there is one. Besides:
#   - a strategy sees engine/strategy.h or engine/schedule.h and nothing else of ours;
#   - CUDA, NCCL and hwloc stay out of headers, threads and atomics in the team's machinery;
#   - folders of one floor do not include each other in a circle;
#   - each header compiles alone, and those that .cu files see also as C++.
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C
breaches=$(mktemp) || exit 1
trap 'rm -f "$breaches"' EXIT
trap 'exit 1' INT TERM

sources() { find src -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) | sort; }

sources | awk '
function folder(path,  part, n) { # "" for what lies in src itself
    n = split(path, part, "/")
    return n > 2 ? part[2] : ""
}
function floor(path) {
    if (path == "src/main.c") return 7
    return (folder(path) in floors) ? floors[folder(path)] : -1
}
function say(words) { print file ":" line ": " words }
function outside(name) {
    if (file ~ /\.h$/ && name ~ /^(cuda|cublas|cudnn|curand|cub\/|cooperative_groups|mma\.h|nvml|nvtx|nccl|hwloc)/)
        say("a header includes <" name ">: CUDA, NCCL and hwloc are for .c, .cu and .cuh")
    if (name ~ /^(pthread|stdatomic|threads)\.h$/ && file != "src/base/log.c" && file !~ threaded)
        say("includes <" name ">: threads are the engine'"'"'s, the log'"'"'s, the pulse'"'"'s, the loader'"'"'s and the commands'"'"'")
}
function ours(path,  from, to) {
    from = folder(file)
    to = folder(path)
    if (floor(path) > floor(file))
        say("floor " floor(file) " includes " substr(path, 5) " of floor " floor(path))
    if (from == "strategies" && file !~ /^src\/strategies\/strategies\.[ch]$/ &&
        path != "src/engine/strategy.h" && path != "src/engine/schedule.h")
        say("a strategy includes " substr(path, 5) ": engine/strategy.h or engine/schedule.h is all it may")
    if (from != to && floor(path) == floor(file)) {
        edge[from, to] = edge[from, to] file ":" line " "
        beside[from] = beside[to] = 1
    }
}
function include(text,  name, path) {
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", text)
    if (text !~ /^["<][^">]+[">]/) return say("an include whose name cannot be read")
    name = substr(text, 2)
    sub(/[">].*/, "", name)
    path = file
    sub(/[^\/]*$/, name, path)
    if (name ~ /\.\./) say("includes " name ": names start at src")
    else if (text ~ /^"/ && (path in known)) ours(path)
    else if (("src/" name) in known) ours("src/" name)
    else if (text ~ /^"/) say("includes \"" name "\", which is no file of ours")
    else outside(name)
}
function circles(  i, j, k, n, at, place) {
    for (k in beside) for (i in beside) for (j in beside)
        if (((i, k) in edge || (i, k) in way) && ((k, j) in edge || (k, j) in way)) way[i, j] = 1
    for (i in beside) for (j in beside) {
        if (!((i, j) in edge) || !((j, i) in edge || (j, i) in way)) continue
        n = split(edge[i, j], place, " ")
        for (at = 1; at <= n; at++)
            print place[at] ": " i " includes " j ", which includes " i ": a circle on one floor"
    }
}
BEGIN {
    n = split("base 0 theory 1 kernels 1 devices 1 comm 2 topology 2 nn 3 tasks 4 envs 4 datasets 4 engine 5 " \
              "strategies 6 commands 7", pair, " ")
    for (i = 1; i < n; i += 2) floors[pair[i]] = pair[i + 1] + 0
    threaded = "^src/((engine|datasets|commands)/|base/pulse\\.h$|comm/nccl\\.c$)"
    while ((getline file) > 0) known[files[++count] = file] = 1
    for (i = 1; i <= count; i++) {
        file = files[i]
        line = 1
        if (floor(file) < 0) say("stands on no floor")
        else for (line = 1; (getline text < file) > 0; line++)
            if (text ~ /^[ \t]*#[ \t]*include/) include(text)
        close(file)
    }
    circles()
}' >"$breaches"

alone() { # header, language, compiler and flags
    header=$1 language=$2
    shift 2
    said=$("$@" -D_GNU_SOURCE -Isrc -fsyntax-only "$header" 2>&1) && return
    echo "$header:1: does not compile alone as $language: $(echo "$said" | awk "/error|not found/{ print; exit }")"
}

for header in $(sources | grep '\.h$'); do
    alone "$header" C11 "${CC:-cc}" -std=c11 -x c
done >>"$breaches"

if echo 'int i;' | "${CXX:-g++}" -x c++ -fsyntax-only - 2>/dev/null; then
    for header in kernels/kernels.h kernels/stream.h devices/device.h base/rng.h base/philox.h base/status.h; do
        [ ! -f "src/$header" ] || alone "src/$header" C++17 "${CXX:-g++}" -std=c++17 -x c++
    done >>"$breaches"
else
    echo "floors: no C++ compiler (${CXX:-g++}): headers are not compiled as C++" >&2
fi

[ ! -s "$breaches" ] && exit 0
cat "$breaches"
exit 1
