/* allreduce.c -- synchronous SGD: every step with the mean of all gradients.
 *
 * The baseline of all: p workers with batches of B do what one does with a batch of p B.
 *
 *     g <- (1/p) sum_i g_i(x)
 *     x <- optimizer(x, g)            alike on all, so the replicas stay equal to the bit
 */
#include "engine/strategy.h"

static enum status allreduce_round(struct strategy *s, struct worker *w) {
    (void)s;
    struct range r = worker_grad(w);
    team_mean(w, vec_part(w->g, r));
    worker_step(w);
    return STATUS_OK;
}

extern const struct strategy_ops strategy_allreduce;

const struct strategy_ops strategy_allreduce = {
    .name = "allreduce",
    .summary = "synchronous SGD: every step with the mean of all gradients",
    .source = "synchronous data parallelism; no paper of its own",
    .help =
        "A step of p workers is a step of one worker with a p times larger batch. A rule of\n"
        "thumb: schedule.rate p times that of one worker, with momentum likewise, and a warm-up\n"
        "over the first epochs where that is long (schedule.use=warmup warmup.epochs=5); with\n"
        "rmsprop and adam, whose steps do not grow with the gradient, less. Every step waits\n"
        "for the slowest.\n"
        "Moves 2 (p-1)/p times the parameters a step and worker.",
    .size = sizeof(struct strategy),
    .round = allreduce_round,
};
