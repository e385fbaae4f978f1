#!/bin/sh
# averaging.sh -- the averaging family beside one another on CIFAR-10, as the papers compare it: what
# test error do four workers reach, after how many samples, seconds and bytes?
#
# usage: perf/averaging.sh [FOLDER]      tables.md, curves.tsv and rates.tsv in FOLDER, perf/results/averaging
#        HUDDLE=build/huddle, HUDDLE_DATA=folder with cifar10/, DEVICES=auto, EPOCHS=10, EVERY=1, TRIAL=1,
#        SEEDS="1 2 3", BATCH=128, JOBS=1 trials at a time, LIMIT=0 seconds for all (0: none), ONLY=pattern of
#        rows, GOAL=50 percent of errors, EMULATE="SETTING ..." of a machine that is not there
#
# EASGD's net, crops of 28 and flips, weight decay 1e-4, a constant rate. Each row's rate is the best of
# a few, after TRIAL epochs with another seed, on a tenth of the training part that is held out of it;
# never on what is judged. Runs come one after the other, so that seconds are a run's own; with EMULATE in
# virtual time they are those of the machine that it states.
set -uf # no name is a pattern but where it is said
out=${1:-perf/results/averaging}
huddle=${HUDDLE:-build/huddle} epochs=${EPOCHS:-10} trial=${TRIAL:-1} seeds=${SEEDS:-1 2 3}
runs=$(mktemp -d) || exit 1
trap 'rm -rf "$runs"' EXIT
mkdir -p "$out"
began=$(date +%s)

# A row: its name, the rates that are tried, its settings.
rows() {
    half=$(echo "$epochs" | awk '{ print $1 / 2 }')
    cat <<ROWS
allreduce|0.02 0.05 0.1|strategy=allreduce
easgd tau=1|0.02 0.05 0.1|strategy=easgd easgd.tau=1
easgd tau=4|0.02 0.05 0.1|strategy=easgd easgd.tau=4
easgd tau=16|0.02 0.05 0.1|strategy=easgd easgd.tau=16
easgd tau=64|0.02 0.05 0.1|strategy=easgd easgd.tau=64
eamsgd tau=1|0.002 0.005 0.01|strategy=easgd easgd.tau=1 optimizer.kind=nesterov
eamsgd tau=4|0.002 0.005 0.01|strategy=easgd easgd.tau=4 optimizer.kind=nesterov
eamsgd tau=16|0.002 0.005 0.01|strategy=easgd easgd.tau=16 optimizer.kind=nesterov
eamsgd tau=64|0.002 0.005 0.01|strategy=easgd easgd.tau=64 optimizer.kind=nesterov
downpour tau=1|0.005 0.01 0.02|strategy=downpour downpour.tau=1
downpour tau=4|0.002 0.005 0.01|strategy=downpour downpour.tau=4
downpour tau=16|0.001 0.002 0.005|strategy=downpour downpour.tau=16
gossip p=0.02|0.02 0.05 0.1|strategy=gossip gossip.p=0.02
gossip p=0.4|0.02 0.05 0.1|strategy=gossip gossip.p=0.4
local_sgd H=4|0.02 0.05 0.1|strategy=local_sgd local_sgd.H=4
local_sgd H=16|0.02 0.05 0.1|strategy=local_sgd local_sgd.H=16
post-local H=16|0.02 0.05 0.1|strategy=local_sgd local_sgd.H=16 local_sgd.post=epoch local_sgd.post_at=$half
ROWS
}

# train FOLDER SETTING ...
train() {
    folder=$1
    shift
    # shellcheck disable=SC2086 # settings have no blanks
    "$huddle" train data.set=cifar10 data.side=28 data.flip=1 model.layers=easgd_cifar ${EMULATE:-} \
        data.batch="${BATCH:-128}" optimizer.decay=1e-4 workers=4 devices="${DEVICES:-auto}" folder="$folder" name=run keep=1 "$@" \
        >"$folder.out" 2>"$folder.log"
}

# number NAME: of each line of JSON; null is nan
number() {
    sed -n 's/.*"'"$1"'":\([^,}]*\)[,}].*/\1/p' | sed 's/null/nan/'
}

# What a trial was worth: the last accuracy, 0 where the run ended otherwise.
worth() {
    got=$(number accuracy <"$1/run/metrics.jsonl" 2>/dev/null | tail -n 1)
    case $got in '' | nan) echo 0 ;; *) echo "$got" ;; esac
}

is_late() { [ "${LIMIT:-0}" -gt 0 ] && [ $(($(date +%s) - began)) -ge "$LIMIT" ]; }

rows | grep -e "${ONLY:-.}" >"$runs/rows"

# ---- which rates ----
try_rates() {
    n=0 started=0
    while IFS='|' read -r name rates settings; do
        n=$((n + 1))
        for rate in $rates; do
            # shellcheck disable=SC2086 # settings have no blanks
            train "$runs/try-$n-$rate" seed=9 data.holdout=0.1 epochs="$trial" eval_every="$trial" \
                schedule.rate="$rate" $settings &
            started=$((started + 1))
            if [ $((started % ${JOBS:-1})) = 0 ]; then wait; fi
        done
    done <"$runs/rows"
    wait
}
try_rates

choose_rates() {
    n=0
    while IFS='|' read -r name rates settings; do
        n=$((n + 1))
        best='' most=0
        for rate in $rates; do
            got=$(worth "$runs/try-$n-$rate")
            printf '%s\t%s\t%s\n' "$name" "$rate" "$got"
            if [ -z "$best" ] || [ "$(echo "$got $most" | awk '{ print ($1 > $2) }')" = 1 ]; then
                best=$rate most=$got
            fi
        done
        echo "$best" >"$runs/rate-$n"
    done <"$runs/rows"
}
choose_rates >"$out/rates.tsv"

# ---- the runs ----
curve() { # name rate seed metrics: a line an evaluation
    for column in samples seconds bytes train_loss accuracy consensus_distance; do
        number "$column" <"$4" >"$runs/$column"
    done
    (cd "$runs" && paste samples seconds bytes train_loss accuracy consensus_distance) |
        awk -v name="$1" -v rate="$2" -v seed="$3" -v OFS='\t' \
            '{ print name, rate, seed, $1, $2, $3, $4, 100 * (1 - $5), $6 }'
}
run_all() {
    printf 'row\trate\tseed\tsamples\tseconds\tbytes\ttraining loss\ttest error (%%)\tconsensus distance\n'
    for seed in $seeds; do
        n=0
        while IFS='|' read -r name rates settings; do
            n=$((n + 1))
            rate=$(cat "$runs/rate-$n")
            if is_late; then
                echo "averaging.sh: no time left for $name, seed $seed" >&2
                continue
            fi
            # shellcheck disable=SC2086
            train "$runs/run-$n-$seed" seed="$seed" epochs="$epochs" eval_every="${EVERY:-1}" schedule.rate="$rate" $settings ||
                echo "averaging.sh: $name, seed $seed: $(tail -n 1 "$runs/run-$n-$seed.log")" >&2
            curve "$name" "$rate" "$seed" "$runs/run-$n-$seed/run/metrics.jsonl"
        done <"$runs/rows"
    done
}
run_all >"$out/curves.tsv"

# ---- the tables ----
# Of the seeds: the best and the mean of the least errors; samples, seconds and bytes until GOAL, median.
tables() {
    awk -F '\t' -v goal="${GOAL:-50}" '
        NR == 1 { next }
        !($1 in rate) { rate[$1] = $2; order[++rows] = $1 }
        {
            run = $1 SUBSEP $3
            if (!(run in least)) { seeds[$1] = seeds[$1] " " $3; least[run] = 1000 }
            if ($8 < least[run]) least[run] = $8
            if ($8 <= goal && !(run in samples)) { samples[run] = $4; seconds[run] = $5; bytes[run] = $6 }
            last_seconds[run] = $5; last_bytes[run] = $6; last_samples[run] = $4; apart[run] = $9
        }
        function median(list, n, i, j, t) {
            for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (list[j] < list[i]) { t = list[i]; list[i] = list[j]; list[j] = t }
            return list[int((n + 1) / 2)]
        }
        END {
            print "| | rate | test error, each seed (%) | mean | samples/s | MB a 1000 samples | apart at the end | samples to " goal " % | seconds | MB |"
            print "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            for (k = 1; k <= rows; k++) {
                name = order[k]; n = split(seeds[name], s, " "); sum = 0; each = ""; reached = 0
                for (i = 1; i <= n; i++) {
                    run = name SUBSEP s[i]; sum += least[run]; each = each (i > 1 ? " " : "") sprintf("%.2f", least[run])
                    speed[i] = last_samples[run] / last_seconds[run]; cost[i] = last_bytes[run] / last_samples[run] / 1000; far[i] = apart[run]
                    if (run in samples) { reached++; a[reached] = samples[run]; b[reached] = seconds[run]; c[reached] = bytes[run] / 1e6 }
                }
                printf "| %s | %s | %s | %.2f | %.0f | %.2f | %.3g |", name, rate[name], each, sum / n, median(speed, n), median(cost, n), median(far, n)
                if (reached == n) printf " %d | %.2f | %.0f |\n", median(a, n), median(b, n), median(c, n)
                else printf " %s | | |\n", reached ? "only " reached " of " n : "-"
            }
        }' "$out/curves.tsv"
}
{
    echo "CIFAR-10: trained on batches 1 to 4, judged on batch 5 where there is no test_batch.bin; four workers, B = ${BATCH:-128}, $epochs epochs${EMULATE:+, $EMULATE}."
    find "$runs" -name 'run-*.log' -exec grep -h -e 'workers of ' -e 'workers on ' {} + 2>/dev/null | head -n 1
    echo
    tables
} >"$out/tables.md"
echo "$out/tables.md"
