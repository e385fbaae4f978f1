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
command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 1; }
make -s ARCH=x86-64-v3 BUILD=build/v3 CUDA=0 build/v3/huddle >/dev/null || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
less=20 more=60

# count NAME STEPS TAU SETTING ...: self cost by function, "instructions function"
count() {
    name=$1 steps=$2 tau=$3
    shift 3
    GOMP_SPINCOUNT=1000 valgrind --tool=callgrind --separate-threads=yes --dump-instr=yes --dump-line=no \
        --compress-pos=no --compress-strings=no --callgrind-out-file="$scratch/$name.out" build/v3/huddle train \
        data.set=synthetic synthetic.height=28 synthetic.width=28 synthetic.channels=1 \
        synthetic.samples=200 data.threads=0 model.layers=2nn data.batch=10 \
        workers=1 topology.threads=1 strategy=easgd easgd.tau="$tau" schedule.rate=0.01 epochs=0 eval_every=1e9 \
        steps="$steps" folder="$scratch/runs" "$@" >"$scratch/$name.log" 2>&1 ||
        { tail -n 5 "$scratch/$name.log" >&2; exit 1; }
    # Thread 1 is the main one: it looks after the worker and the progress line by the clock.
    # A line after calls= is what the callee cost: it is counted there. Code in a file has its
    # place in the file for an address, of at most six digits; generated code has a larger one.
    awk '/^fl=|^fi=|^fe=/ { file = substr($0, 4) }
         /^ob=/ { object = substr($0, 4) }
         /^fn=/ { name = substr($0, 4) }
         /^calls=/ { callee = 1; next }
         /^0x/ && callee { callee = 0; next }
         /^0x/ { cost[length($1) > 8 ? "generated code" : file ":" name " " object] += $2 }
         END { for (f in cost) printf "%.0f\t%s\n", cost[f], f }' $(ls "$scratch/$name".out-* | grep -v -e -01$) >"$scratch/$name"
}

count alone_less $less $less "$@"
count alone_more $more $more "$@"
count easgd_less $less 10 "$@"
count easgd_more $more 10 "$@"

# What a function belongs to; the first that fits.
floats=$(sed -n 's/^info *\([0-9]*\) parameters.*/\1/p' "$scratch/easgd_more.log")
awk -F '\t' -v steps=$((more - less)) -v floats="$floats" '
    BEGIN {
        spring = "the exchange: spring"; locks = "the exchange: locks and clock"
        pass = "SGD: a pass over x and g"; products = "matrix products"
        rounds = "rounds, steps, schedules"
    }
    function group(f) {
        if (f ~ /elastic/) return spring
        if (f ~ /shared_|lock_chunk|pthread_mutex|clock_gettime|clock_seconds/) return locks
        if (f ~ /team_|round_ended|settle|schedules_|set_step|worker_|round|crew|pulse/) return rounds
        if (f ~ /:host_sgd|sgd_share/) return pass
        if (f ~ /loader|dataset|feeder|rng_|synthetic/) return "batches"
        if (f ~ /generated code|dnnl|gemm|product|libgomp|omp_|malloc|free|memalign|tls_get/) return products
        if (f ~ /kernels\//) return "other kernels"
        if (f ~ /mem(cpy|move|set)/) return "copies"
        return "the rest"
    }
    function more_than_alone(g) { return sum[g, "easgd"] - sum[g, "alone"] }
    function row(what, n) {
        printf "%-48s %14.0f %14.3f %8.1f\n", what, 10 * n, 10 * n / floats, 100 * n / difference
        left -= n
    }
    { sign = FILENAME ~ /more$/ ? 1 : -1
      side = FILENAME ~ /alone/ ? "alone" : "easgd"
      sum[group($2), side] += sign * $1 / steps
      total[side] += sign * $1 / steps
      seen[group($2)] = 1 }
    END {
        printf "%-34s %14s %14s %14s\n", "# instructions a step", "alone", "tau = 10", "difference"
        for (g in seen) printf "%-34s %14.0f %14.0f %14.0f\n", g, sum[g, "alone"], sum[g, "easgd"],
            more_than_alone(g) | "sort"
        close("sort")
        difference = left = total["easgd"] - total["alone"]
        printf "%-34s %14.0f %14.0f %14.0f\n\n", "all", total["alone"], total["easgd"], difference
        printf "%-48s %14s %14s %8s\n", "# the difference, by exchange", "instructions", "a parameter", "percent"
        row("the spring", more_than_alone(spring))
        row("a pass of its own for the SGD step", more_than_alone(pass))
        row("products write the gradient, add it to nothing", more_than_alone(products))
        row("locks and clock", more_than_alone(locks))
        row(rounds, more_than_alone(rounds))
        row("not accounted for", left)
    }' "$scratch/alone_less" "$scratch/alone_more" "$scratch/easgd_less" "$scratch/easgd_more"
