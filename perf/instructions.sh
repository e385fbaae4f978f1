#!/bin/sh
# instructions.sh -- where the instructions of a training step go, without and with communication.
#
# usage: perf/instructions.sh [SETTING ...]        more settings for both; model.layers=2nn data.batch=10
#
# Callgrind counts the instructions of one worker on one thread; counts, unlike times, do not depend
# on what else the machine does. Runs of 20 and of 60 steps are compared, so that start and
# evaluation cancel: what is left are 40 steps. Without communication they are one round; with it,
# elastic averaging with tau = 10, they are four more rounds, each with one exchange. The columns are
# instructions a step. Valgrind knows no AVX-512: huddle is built for x86-64-v3, apart, and oneDNN
# finds no AVX-512 there either.
set -u
cd "$(dirname "$0")/.." || exit 1
command -v callgrind_annotate >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 1; }
make -s ARCH=x86-64-v3 BUILD=build/v3 CUDA=0 build/v3/huddle >/dev/null || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
less=20 more=60

# count NAME STEPS TAU SETTING ...: self cost by function, "instructions function"
count() {
    name=$1 steps=$2 tau=$3
    shift 3
    valgrind --tool=callgrind --callgrind-out-file="$scratch/$name.out" build/v3/huddle train \
        data.set=synthetic synthetic.height=28 synthetic.width=28 synthetic.channels=1 \
        synthetic.samples=200 data.threads=0 model.layers=2nn data.batch=10 \
        workers=1 topology.threads=1 strategy=easgd easgd.tau="$tau" schedule.rate=0.01 epochs=0 eval_every=1e9 \
        steps="$steps" folder="$scratch/runs" "$@" >"$scratch/$name.log" 2>&1 ||
        { tail -n 5 "$scratch/$name.log" >&2; exit 1; }
    callgrind_annotate --threshold=100 --show-percs=no "$scratch/$name.out" |
        awk '/^ *[0-9,]+ +[^ ]+:/ { gsub(",", "", $1); n = $1; sub(/^ *[0-9]+ +/, ""); print n "\t" $0 }' \
            >"$scratch/$name"
}

count alone_less $less $less "$@"
count alone_more $more $more "$@"
count easgd_less $less 10 "$@"
count easgd_more $more 10 "$@"

# What a function belongs to; the first that fits. Generated code has no name: it is oneDNN's.
awk -F '\t' -v steps=$((more - less)) '
    function group(f) {
        if (f ~ /elastic/) return "the exchange: spring"
        if (f ~ /shared_|lock_chunk|pthread_mutex|clock_gettime|clock_seconds/) return "the exchange: locks and clock"
        if (f ~ /team_|watch_loss|round_ended|settle|schedules_|set_step|worker_|round/) return "rounds, steps, schedules"
        if (f ~ /sgd_share/) return "the step: a pass over x and g"
        if (f ~ /loader|dataset|feeder|rng_|synthetic/) return "batches"
        if (f ~ /dnnl|gemm|\?\?\?|product|libgomp|omp_/) return "matrix products"
        if (f ~ /kernels\//) return "other kernels"
        if (f ~ /mem(cpy|move|set)/) return "copies"
        return "the rest"
    }
    { sign = FILENAME ~ /more$/ ? 1 : -1
      side = FILENAME ~ /alone/ ? "alone" : "easgd"
      g = group($2)
      sum[g, side] += sign * $1 / steps
      total[side] += sign * $1 / steps
      seen[g] = 1 }
    END {
      printf "%-34s %14s %14s %14s\n", "# instructions a step", "alone", "tau = 10", "difference"
      for (g in seen) printf "%-34s %14.0f %14.0f %14.0f\n", g, sum[g, "alone"], sum[g, "easgd"],
          sum[g, "easgd"] - sum[g, "alone"] | "sort -t \"\t\" -k 1"
      close("sort -t \"\t\" -k 1")
      printf "%-34s %14.0f %14.0f %14.0f\n", "all", total["alone"], total["easgd"],
          total["easgd"] - total["alone"]
    }' "$scratch/alone_less" "$scratch/alone_more" "$scratch/easgd_less" "$scratch/easgd_more"
