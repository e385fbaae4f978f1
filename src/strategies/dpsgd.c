/* dpsgd.c -- decentralized SGD: workers in step mix with their neighbors only.
 *
 * dpsgd: X. Lian, C. Zhang, H. Zhang, C.-J. Hsieh, W. Zhang, J. Liu: Can decentralized algorithms
 * outperform centralized algorithms?, NIPS 2017 (arXiv:1705.09056). With g_i taken at x_i before:
 *
 *     x_i <- sum_j W_ij x_j;  x_i <- optimizer(x_i, g_i)
 *
 * W gives a worker and each of its neighbors the same weight, so its rows and columns sum to 1.
 *
 * sgp: M. Assran, N. Loizou, N. Ballas, M. Rabbat: Stochastic gradient push for distributed deep
 * learning, ICML 2019 (arXiv:1811.10792). At step t everyone sends half of (x_i, a_i) to one peer
 * and keeps the other half, after the step that g_i at z_i = x_i / a_i makes:
 *
 *     x_i <- optimizer(x_i, g_i(z_i));  x_i <- x_i / 2 + x_j / 2;  a_i <- a_i / 2 + a_j / 2
 *
 * for the j whose peer of step t is i. There is just one such j, so every a_i stays 1 to the bit
 * and z_i is x_i: the weights are neither kept nor sent.
 */
#include "engine/strategy.h"

struct dpsgd {
    struct strategy base;
    int peers; /* enum graph */
};

struct local {
    struct vec mixed; /* and the mean, when judged */
    float weight[TEAM_MOST];
};

#define ROW_PEERS(init)                                                                            \
    {                                                                                              \
        "peers", OPTION_CHOICE, offsetof(struct dpsgd, peers), init, 0, GRAPH_COMPLETE,            \
            "ring|exponential|hypercube|complete: the two beside, those 1, 2, 4, ... further, "    \
            "those "                                                                               \
            "one bit off, or all",                                                                 \
            NULL                                                                                   \
    }

static const struct option dpsgd_options[] = {ROW_PEERS(GRAPH_RING), {0}};
static const struct option sgp_options[] = {ROW_PEERS(GRAPH_EXPONENTIAL), {0}};

static enum graph graph_of(const struct strategy *base) {
    return (enum graph)((const struct dpsgd *)base)->peers;
}

static enum status dpsgd_open(struct strategy *base, struct team *team, struct vec x0) {
    (void)x0;
    return peers_check(graph_of(base), team_size(team), "dpsgd.peers");
}

static enum status sgp_open(struct strategy *base, struct team *team, struct vec x0) {
    (void)x0;
    return peers_check(graph_of(base), team_size(team), "sgp.peers");
}

static void dpsgd_describe(
    const struct strategy *base, const struct team *team, char *text, size_t n) {
    enum graph graph = graph_of(base);
    int count = peers_count(graph, team_size(team));
    snprintf(text, n, "%d neighbor%s, spectral gap %.6g", count, count == 1 ? "" : "s",
        peers_gap(graph, team_size(team)));
}

static enum status dpsgd_join(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    (void)base;
    return worker_vec(w, "mixed", &l->mixed, w->x.n, SCRATCH);
}

static void mix(struct worker *w) {
    struct local *l = w->mine;
    team_mix(w, l->mixed, w->x, l->weight);
    vec_copy(w->q, w->x, l->mixed);
}

static enum status dpsgd_round(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    enum graph graph = graph_of(base);
    int count = peers_count(graph, w->size);
    l->weight[w->rank] = 1 / (float)(count + 1);
    for (int k = 0; k < count; k++) {
        l->weight[peers_from(graph, w->size, w->rank, k)] = 1 / (float)(count + 1);
    }
    worker_grad(w);
    mix(w);
    worker_step(w);
    return STATUS_OK;
}

static enum status sgp_round(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    worker_grad(w);
    worker_step(w);
    if (w->size == 1) return STATUS_OK;
    int from = peers_from(graph_of(base), w->size, w->rank, w->round);
    l->weight[w->rank] = l->weight[from] = 0.5f;
    mix(w);
    l->weight[from] = 0;
    return STATUS_OK;
}

static struct vec dpsgd_answer(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    (void)base;
    vec_copy(w->q, l->mixed, w->x);
    team_mean(w, l->mixed);
    return l->mixed;
}

extern const struct strategy_ops strategy_dpsgd, strategy_sgp;

const struct strategy_ops strategy_dpsgd = {
    .name = "dpsgd",
    .summary = "decentralized SGD: every step mixes with the neighbors only",
    .source = "Lian, Zhang, Zhang, Hsieh, Zhang, Liu, NIPS 2017, arXiv:1705.09056",
    .help =
        "Every step, a replica and its neighbors' are mixed with equal weights, and the\n"
        "gradient taken before is applied. schedule.rate is that of a single worker or, since\n"
        "mixing averages the workers' steps, more: up to workers times as much, as for\n"
        "allreduce, where the gap is large. The log says the mixing's spectral gap: the larger,\n"
        "the sooner all agree; peers=complete has 1 and is a mean at each step. Workers step\n"
        "together, each waits for all. The mean of the replicas is judged.\n"
        "Moves the parameters once a step, worker and neighbor.",
    .size = sizeof(struct dpsgd),
    .local_size = sizeof(struct local),
    .options = dpsgd_options,
    .open = dpsgd_open,
    .describe = dpsgd_describe,
    .join = dpsgd_join,
    .round = dpsgd_round,
    .answer = dpsgd_answer,
};

const struct strategy_ops strategy_sgp = {
    .name = "sgp",
    .summary = "stochastic gradient push: every step with one peer, another at each step",
    .source = "Assran, Loizou, Ballas, Rabbat, ICML 2019, arXiv:1811.10792",
    .help =
        "After each step, everyone sends half of itself to one peer and keeps the other half.\n"
        "schedule.rate is that of a single worker or, since mixing averages the workers' steps,\n"
        "more: up to workers times as much, as for allreduce. With peers=exponential and 2^k\n"
        "workers, k steps make a mean of all. Workers step together, each waits for all. The\n"
        "mean of the replicas is judged.\n"
        "Moves the parameters once a step and worker.",
    .size = sizeof(struct dpsgd),
    .local_size = sizeof(struct local),
    .options = sgp_options,
    .open = sgp_open,
    .join = dpsgd_join,
    .round = sgp_round,
    .answer = dpsgd_answer,
};
