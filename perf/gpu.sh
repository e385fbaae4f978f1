#!/bin/sh
# gpu.sh -- all that is to be had of a machine with a GPU, in one go: do the kernels hold there, what
# do steps and exchanges cost, what does PyTorch do beside. For a machine that is lent for minutes.
#
# usage: perf/gpu.sh [FILE]          a table in markdown, perf/results/gpu.md unless FILE is said
#        PARTS="tests exchange sweep steps workers torch host", in the order they are wanted
#        LIMIT=150 seconds a part at most, TEST_LIMIT=90 a test program
#        PYTHON=python with torch, SECONDS_EACH=2 a measurement of PyTorch or of a run
#        MODELS="2nn ...", BATCHES="10 16 32 128 512", TORCH_BATCHES="32 128 512", REPLICAS="1 2 4 8"
#        TESTS="cuda cuda_kernels ...", EXCHANGE="-n 9 ...", SWEEP="-c 1M,2M ...", GRIDS="-g 16,64 ...":
#        options of exchange_perf cuda; BUILD=build, MAKE_FLAGS="SIM=1 ..."
#
# Builds where there are make and a compiler; where they are missing or fail, goes on with what is in
# BUILD already. What cannot be built or run, or takes longer than it may, is a line in the table that
# says so, and the rest goes on.
set -u
cd "$(dirname "$0")/.." || exit 1
out=${1:-perf/results/gpu.md}
parts=${PARTS:-tests exchange sweep steps workers torch host}
limit=${LIMIT:-150} test_limit=${TEST_LIMIT:-90}
python=${PYTHON:-python3} seconds=${SECONDS_EACH:-2} build=${BUILD:-build}
models=${MODELS:-2nn mnist_cnn easgd_cifar resnet20} batches=${BATCHES:-10 16 32 128 512}
torch_batches=${TORCH_BATCHES:-32 128 512} replicas=${REPLICAS:-1 2 4 8}
tests=${TESTS:-cuda cuda_kernels comm center recorder reach}
exchange=${EXCHANGE:-} sweep=${SWEEP:--n 5 -b 64M -t 1 -c 1M,2M,4M,8M -d 2,4,8}
grids=${GRIDS:--n 5 -b 64M -t 1 -g 16,32,64,128,256,1024}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

build_all() {
    command -v make >/dev/null || { echo "no make here"; return 1; }
    command -v "${CC:-gcc}" >/dev/null || { echo "no ${CC:-gcc} here"; return 1; }
    wanted="$build/huddle $build/perf/step_perf $build/perf/exchange_perf"
    # shellcheck disable=SC2086 # one word a flag, one a program
    make -j"$(nproc)" BUILD="$build" ${MAKE_FLAGS:-} $wanted || return 1
    for t in $tests; do # without Criterion there are no tests, and still figures
        # shellcheck disable=SC2086
        make -j"$(nproc)" BUILD="$build" ${MAKE_FLAGS:-} "$build/tests/$t"
    done
    return 0
}
built="built here"
if ! build_all >"$scratch/make" 2>&1; then
    built="not built here ($(tail -n 1 "$scratch/make" | tr '|' ' ')): as $build has it"
    echo "gpu.sh: $built" >&2
fi

why() { # exit code, of what timeout ran
    if [ "$1" = 124 ] || [ "$1" = 137 ]; then echo "stopped after its time"; else echo "exit code $1"; fi
}
# limited SECONDS PROGRAM ...: its output; a last line that says how it ended, where that is not well
limited() {
    most=$1
    shift
    if [ ! -x "$1" ]; then
        echo "# $1 is not built"
        return 1
    fi
    timeout -k 5 "$most" "$@" 2>"$scratch/errors"
    code=$?
    [ $code = 0 ] && return 0
    echo "# $(why $code) $(tail -n 1 "$scratch/errors")"
    return 1
}
block() { # title, then a program and its words: what it prints
    echo
    echo "\`$1\`:"
    shift
    echo
    echo '```'
    limited "$limit" "$@"
    echo '```'
}

test_line() { # test program
    program=$build/tests/$1
    if [ ! -x "$program" ]; then
        echo "| $1 | not built |"
        return
    fi
    HUDDLE=$build/huddle timeout -k 5 "$test_limit" "$program" --jobs 1 --short-filename >"$scratch/test" 2>&1
    code=$?
    sums=$(sed -n 's/.*Synthesis: //p' "$scratch/test" | tr '|' ',')
    if [ $code = 0 ]; then
        echo "| $1 | $(grep -c 'SKIP' "$scratch/test") skipped; $sums |"
    else
        echo "| $1 | FAILED, $(why $code): $sums |"
        grep -A 3 FAIL "$scratch/test" >&2
    fi
}
part_tests() {
    echo
    echo "| tests | |"
    echo "| --- | --- |"
    for t in $tests; do test_line "$t"; done
}

part_exchange() {
    # shellcheck disable=SC2086 # its words
    block "exchange_perf cuda $exchange" "$build/perf/exchange_perf" cuda $exchange
}
part_sweep() {
    # shellcheck disable=SC2086
    block "exchange_perf cuda $sweep" "$build/perf/exchange_perf" cuda $sweep
    # shellcheck disable=SC2086
    block "exchange_perf cuda $grids" "$build/perf/exchange_perf" cuda $grids
}
part_host() { block "exchange_perf" "$build/perf/exchange_perf"; }

part_steps() {
    echo
    echo "\`step_perf cuda\`:"
    echo
    echo '```'
    end=$(($(date +%s) + limit))
    for model in $models; do
        for batch in $batches; do
            left=$((end - $(date +%s)))
            if [ $left -le 0 ]; then
                echo "# $model $batch and what follows: no time left"
                break 2
            fi
            limited "$left" "$build/perf/step_perf" cuda "$model" "$batch"
        done
    done | tee "$scratch/rows" | awk '/^# perf|^# forward|^#model|^#  / ? !seen[$0]++ : 1'
    echo '```'
}

# Whole runs, batches and their copies and all. Nobody meets: what one GPU makes of several workers.
run_samples() { # model batch workers: samples a second
    limited "$limit" "$build/huddle" train data.set=synthetic synthetic.height=28 synthetic.width=28 \
        synthetic.channels=1 devices=cuda:0 model.layers="$1" data.batch="$2" workers="$3" strategy=easgd \
        easgd.tau=1000 schedule.rate=0.01 epochs=0 eval_every=1e9 seconds="$seconds" \
        folder="$scratch/runs" | awk '/^samples\/s/ { print $2 } /^#/ { print }'
}
part_workers() {
    echo
    echo "Several workers on one GPU, samples a second of all of them, by \`huddle train\`:"
    echo
    echo "| model | B | $(echo "$replicas" | sed 's/ / | /g') | the last over the first |"
    echo "| --- | ---: |$(for _ in $replicas; do printf ' ---: |'; done) ---: |"
    for model in 2nn mnist_cnn; do
        for batch in 10 32; do
            cells='' first='' last=''
            for p in $replicas; do
                last=$(run_samples "$model" "$batch" "$p")
                first=${first:-$last}
                cells="$cells $last |"
            done
            echo "| $model | $batch |$cells $(over "$last" "$first") |"
        done
    done
}

# All get ready at once, which takes compilers their time, and then are measured one after the other. CC is
# for huddle: PyTorch would compile with it too.
torch_start() { # model batch [flag]
    # shellcheck disable=SC2086 # no flag is no word
    env -u CC timeout -k 5 "$limit" "$python" perf/peers/torch_step.py "$1" "$2" 4 "$seconds" --device cuda \
        --turn "$scratch/turn" ${3:-} >"$scratch/torch-$1-$2${3:-}" 2>>"$scratch/torch" 9>&- &
    started_ones=$((started_ones + 1))
}
torch_all() {
    started_ones=0 waited=0
    exec 9>"$scratch/turn"
    flock 9
    for model in $models; do
        for batch in $torch_batches; do
            torch_start "$model" "$batch"
            torch_start "$model" "$batch" --compile
        done
    done
    while [ "$(find "$scratch" -name 'turn.*' | wc -l)" -lt $started_ones ] && [ $waited -lt $((limit / 2)) ]; do
        sleep 1
        waited=$((waited + 1))
    done
    exec 9>&-
    wait
}
torch_step() { # model batch [flag]: microseconds a step
    awk '{ printf "%.1f", 1e6 / $4 }' "$scratch/torch-$1-$2${3:-}"
}
over() { # a b: a / b, where both are numbers
    echo "$1 $2" | awk 'NF == 2 && $2 > 0 { printf "%.2f", $1 / $2 }'
}
part_torch() {
    torch_all
    echo
    echo "A step of one replica, float32 without TF32, microseconds. huddle's batch lies ready; PyTorch draws"
    echo "its own on the GPU. Gains: PyTorch's time over huddle's."
    echo
    echo "| model | B | huddle, graph | kernel by kernel | products / step | eager | compiled | over eager | over compiled |"
    echo "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for model in $models; do
        for batch in $torch_batches; do
            # shellcheck disable=SC2046 # its words
            set -- $(awk -v m="$model" -v b="$batch" '$1 == m && $2 == b { print $3, $10, $6 }' "$scratch/rows" 2>/dev/null)
            eager=$(torch_step "$model" "$batch")
            compiled=$(torch_step "$model" "$batch" --compile)
            echo "| $model | $batch | ${1:--} | ${2:--} | ${3:--} | ${eager:--} | ${compiled:--} | $(over "$eager" "${1:-}") | $(over "$compiled" "${1:-}") |"
        done
    done
    if [ -s "$scratch/torch" ]; then tail -n 5 "$scratch/torch" >&2; fi
}

{
    echo "# On a GPU"
    echo
    echo "\`perf/gpu.sh\`, commit $(git describe --always --dirty 2>/dev/null), $(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo), $(nproc) cores; $built;"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,pcie.link.gen.max,pcie.link.width.max \
        --format=csv,noheader 2>/dev/null || echo "no GPU that nvidia-smi knows"
    "$python" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda)' 2>/dev/null ||
        { echo "no PyTorch"; parts=$(echo " $parts " | sed 's/ torch / /'); }
    for part in $parts; do
        started=$(date +%s)
        case $part in
        tests | exchange | sweep | steps | workers | torch | host) "part_$part" ;;
        *) echo "no part is called $part" ;;
        esac
        echo "gpu.sh: $part took $(($(date +%s) - started)) s" >&2
    done
} >"$out"
echo "$out"
