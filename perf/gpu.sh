#!/bin/sh
# gpu.sh -- all that is to be had of a machine with a GPU, in one go: do the kernels hold there, what
# do steps and exchanges cost, what does PyTorch do beside. For a machine that is lent for minutes.
#
# usage: perf/gpu.sh [FILE]          a table in markdown, perf/results/gpu.md unless FILE is said
#        PYTHON=python with torch, SECONDS_EACH=2 a measurement of PyTorch, MODELS="2nn ...",
#        BATCHES="32 128 512", BUILD=build, MAKE_FLAGS="SIM=1 ..."
#
# What cannot be built or run is a line in the table that says so, and the rest goes on.
set -u
cd "$(dirname "$0")/.." || exit 1
out=${1:-perf/results/gpu.md}
python=${PYTHON:-python3} seconds=${SECONDS_EACH:-2} build=${BUILD:-build}
models=${MODELS:-2nn mnist_cnn easgd_cifar resnet20} batches=${BATCHES:-32 128 512}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# shellcheck disable=SC2086 # one word a flag
if ! make -j"$(nproc)" BUILD="$build" ${MAKE_FLAGS:-} "$build/huddle" "$build/perf/step_perf" \
    "$build/perf/exchange_perf" >"$scratch/make" 2>&1; then
    tail -n 20 "$scratch/make"
    exit 1
fi
for t in cuda cuda_kernels; do # without Criterion there are no tests, and still figures
    # shellcheck disable=SC2086
    make BUILD="$build" ${MAKE_FLAGS:-} "$build/tests/$t" >>"$scratch/make" 2>&1
done

test_line() { # test program
    if [ ! -x "$build/tests/$1" ]; then
        echo "| $1 | not built |"
    elif "$build/tests/$1" --jobs 1 --short-filename >"$scratch/test" 2>&1; then
        echo "| $1 | $(grep -c 'SKIP' "$scratch/test") skipped; $(sed -n 's/.*Synthesis: //p' "$scratch/test" | tr '|' ',') |"
    else
        echo "| $1 | FAILED: $(sed -n 's/.*Synthesis: //p' "$scratch/test" | tr '|' ',') |"
        grep -A 3 FAIL "$scratch/test" >&2
    fi
}
torch_step() { # model batch [flag]: microseconds a step
    "$python" perf/peers/torch_step.py "$1" "$2" 4 "$seconds" --device cuda ${3:-} \
        2>>"$scratch/torch" | awk '{ printf "%.1f", 1e6 / $4 }'
}
huddle_step() { # model batch: microseconds of the step, of the launches one by one, gains, share
    "$build/perf/step_perf" cuda "$1" "$2" 2>"$scratch/step" | tee -a "$scratch/rows" |
        awk '!/^#/ { print $3, $10, $6, $11, $12 }'
}
over() { # a b: a / b
    if [ -n "$1" ] && [ -n "$2" ]; then echo "$1 $2" | awk '{ printf "%.2f", $1 / $2 }'; fi
}

{
    echo "# On a GPU"
    echo
    echo "\`perf/gpu.sh\`, commit $(git describe --always --dirty 2>/dev/null), $(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo), $(nproc) cores;"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>/dev/null ||
        echo "no GPU that nvidia-smi knows"
    "$python" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda)' 2>/dev/null ||
        echo "no PyTorch"
    echo
    echo "| tests | |"
    echo "| --- | --- |"
    test_line cuda
    test_line cuda_kernels
    echo
    echo "A step of one replica, float32 without TF32, microseconds. huddle's batch lies ready; PyTorch draws"
    echo "its own on the GPU. Gains: PyTorch's time over huddle's; several replicas over one, samples a second."
    echo
    echo "| model | B | huddle, graph | kernel by kernel | products / step | eager | compiled | over eager | over compiled | 2 replicas | 4 replicas |"
    echo "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for model in $models; do
        for batch in $batches; do
            ours=$(huddle_step "$model" "$batch")
            # shellcheck disable=SC2086 # its words
            set -- $ours
            if [ $# -lt 5 ]; then
                echo "| $model | $batch | $(tail -n 1 "$scratch/step") |"
                continue
            fi
            eager=$(torch_step "$model" "$batch")
            compiled=$(torch_step "$model" "$batch" --compile)
            echo "| $model | $batch | $1 | $2 | $3 | ${eager:--} | ${compiled:--} | $(over "$eager" "$1") | $(over "$compiled" "$1") | $4 | $5 |"
        done
    done
    echo
    echo "\`step_perf cuda\`:"
    echo
    echo '```'
    awk '/^#/ ? !seen[$0]++ : 1' "$scratch/rows"
    echo '```'
    echo
    echo "\`exchange_perf\`, the host's exchange:"
    echo
    echo '```'
    "$build/perf/exchange_perf" 2>&1
    echo '```'
} >"$out"
[ ! -s "$scratch/torch" ] || tail -n 5 "$scratch/torch" >&2
echo "$out"
