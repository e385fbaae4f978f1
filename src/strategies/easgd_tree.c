/* easgd_tree.c -- EASGD Tree: springs on two levels.
 *
 * After the tree of S. Zhang's thesis, Distributed stochastic optimization for deep learning, 2016
 * (arXiv:1605.02216); the elastic step is EASGD's (arXiv:1412.6651), see easgd.c. Workers that sit
 * near each other are a group. A spring ties each worker's x_i to its group's center c_k, and one
 * ties each c_k to the root c. The ends of a spring of strength a move towards each other:
 *
 *     x_i <- x_i - a (x_i - c_k)       c_k <- c_k + a (x_i - c_k)       every tau steps
 *     c_k <- c_k - a (c_k - c)         c   <- c   + a (c_k - c)         every tau_root steps
 *
 * The thesis' tree is over many machines and deeper. This one is for one machine, so we chose: two
 * levels; a = beta / (d + 1) for the d springs that hang from a spring's upper end; a group's
 * first worker moves its center by its own clock; and, at a step that does both, workers come
 * before centers. As in EASGD, gradients are from before the springs pull, and whoever pulls two
 * centers takes one after the other: the second is given what the first moved by, so that no move
 * is lost and the sum of all c_k, c and x_i stays.
 */
#include <stdio.h>

#include "engine/strategy.h"

enum { GROUPS_MOST = 64 };

struct easgd_tree {
    struct strategy base;
    int tau, tau_root, groups;
    float beta;
    int size[GROUPS_MOST];  /* workers of each group */
    int first[GROUPS_MOST]; /* the lowest rank in it: this one moves its center */
    char name[GROUPS_MOST][16];
    struct shared *center[GROUPS_MOST]; /* c_k */
    struct shared *root;                /* c */
};

struct local {
    int group;
    struct vec c;    /* scratch: the root that is judged; c_k before the root pulls */
    struct vec move; /* scratch, first workers only: what the root moves c_k by */
    double version;  /* of c_k when this worker had moved it last */
};

static const struct option options[] = {
    {"tau", OPTION_INT, offsetof(struct easgd_tree, tau), 10, 1, 1e6,
        "steps from pull to pull between a worker and its group", NULL},
    {"tau_root", OPTION_INT, offsetof(struct easgd_tree, tau_root), 40, 1, 1e6,
        "steps from pull to pull between a group and the root", NULL},
    {"beta", OPTION_REAL, offsetof(struct easgd_tree, beta), 0.9, 0, 1e3,
        "strength of all springs that hang from one center, and of one more", NULL},
    {"groups", OPTION_INT, offsetof(struct easgd_tree, groups), 0, 0, GROUPS_MOST,
        "of neighboring ranks; 0: one a device or, on one device, one a NUMA node", NULL},
    {0},
};

static const struct field local_fields[] = {
    {"version", FIELD_DOUBLE, offsetof(struct local, version)},
    {0},
};

static int group_of(const struct easgd_tree *s, const struct team *team, int rank) {
    if (s->groups == 0) return team_group(team, rank);
    return (int)((long)rank * s->groups / team_size(team));
}

static int count_groups(const struct easgd_tree *s) {
    int n = 0;
    while (n < GROUPS_MOST && s->size[n] > 0) n++;
    return n;
}

static enum status easgd_tree_open(struct strategy *base, struct team *team, struct vec x0) {
    struct easgd_tree *s = (struct easgd_tree *)base;
    if (s->groups > team_size(team)) {
        return fail(STATUS_BAD_CONFIG, "easgd_tree.groups = %d, but there are only %d workers",
            s->groups, team_size(team));
    }
    TRY(shared_open(&s->root, team, "root", HOME_HOST, x0));
    for (int r = 0; r < team_size(team); r++) {
        int k = group_of(s, team, r);
        if (s->size[k]++ > 0) continue;
        s->first[k] = r;
        snprintf(s->name[k], sizeof s->name[k], "center%d", k);
        TRY(shared_open(&s->center[k], team, s->name[k], HOME_HOST, x0));
    }
    return STATUS_OK;
}

static float group_alpha(const struct easgd_tree *s, int k) {
    return s->beta / (float)(s->size[k] + 1);
}

static float root_alpha(const struct easgd_tree *s) {
    return s->beta / (float)(count_groups(s) + 1);
}

static void easgd_tree_describe(
    const struct strategy *base, const struct team *team, char *text, size_t n) {
    const struct easgd_tree *s = (const struct easgd_tree *)base;
    int groups = count_groups(s);
    size_t at = (size_t)snprintf(text, n, "%d group%s: ", groups, groups == 1 ? "" : "s");
    (void)team;
    for (int k = 0; k < groups && at < n; k++) {
        at += (size_t)snprintf(text + at, n - at, "%d worker%s at alpha %g, ", s->size[k],
            s->size[k] == 1 ? "" : "s", (double)group_alpha(s, k));
    }
    if (at < n) snprintf(text + at, n - at, "the root at alpha %g", (double)root_alpha(s));
}

static enum status easgd_tree_join(struct strategy *base, struct worker *w) {
    const struct easgd_tree *s = (const struct easgd_tree *)base;
    struct local *l = w->mine;
    l->group = group_of(s, w->team, w->rank);
    TRY(worker_vec(w, "center", &l->c, w->x.n, SCRATCH));
    if (s->first[l->group] != w->rank) return STATUS_OK;
    return worker_vec(w, "move", &l->move, w->x.n, SCRATCH);
}

/* What others changed c_k by meanwhile is counted, the root among them. */
static void pull_worker(const struct easgd_tree *s, struct worker *w) {
    struct local *l = w->mine;
    int k = l->group;
    double met = shared_elastic(w, s->center[k], group_alpha(s, k), w->x);
    worker_staleness(w, met - l->version);
    l->version = met + 1;
}

/* Others may pull c_k while its copy meets the root, so it is given the move, not the copy. */
static void pull_group(const struct easgd_tree *s, struct worker *w) {
    struct local *l = w->mine;
    struct shared *center = s->center[l->group];
    shared_lock(w, center);
    shared_read(w, center, l->c);
    shared_unlock(w, center);
    vec_copy(w->q, l->move, l->c);
    shared_elastic(w, s->root, root_alpha(s), l->move);
    vec_diff(w->q, l->move, 1, l->move, l->c);
    shared_lock(w, center);
    shared_mix(w, center, 1, 1, l->move);
    shared_unlock(w, center);
    l->version++;
}

static enum status easgd_tree_round(struct strategy *base, struct worker *w) {
    const struct easgd_tree *s = (const struct easgd_tree *)base;
    int is_first = s->first[((struct local *)w->mine)->group] == w->rank;
    for (int t = 0; t < s->tau; t++) {
        worker_grad(w);
        if (t == 0) pull_worker(s, w);
        if (is_first && w->steps % s->tau_root == 0) pull_group(s, w);
        worker_step(w);
    }
    return STATUS_OK;
}

static struct vec easgd_tree_answer(struct strategy *base, struct worker *w) {
    const struct easgd_tree *s = (const struct easgd_tree *)base;
    struct local *l = w->mine;
    shared_lock(w, s->root);
    shared_read(w, s->root, l->c);
    shared_unlock(w, s->root);
    return l->c;
}

static void easgd_tree_close(struct strategy *base) {
    struct easgd_tree *s = (struct easgd_tree *)base;
    for (int k = 0; k < GROUPS_MOST; k++) shared_close(s->center[k]);
    shared_close(s->root);
}

extern const struct strategy_ops strategy_easgd_tree;

const struct strategy_ops strategy_easgd_tree = {
    .name = "easgd_tree",
    .summary = "elastic averaging on two levels: within groups often, between them seldom",
    .source = "after Zhang, thesis, 2016, arXiv:1605.02216; what it leaves open we chose",
    .help =
        "Springs pull workers and their group's center towards each other, every tau steps, and\n"
        "each group's center and the root, every tau_root steps. All springs at one center are\n"
        "equally strong: beta over one more than there are below it, workers below a group's\n"
        "center, groups below the root. The root is judged and saved. schedule.rate is that of\n"
        "a single worker, as for easgd. A worker's steps must be many times tau_root, or the\n"
        "root is still where it began. Groups are workers of one device or NUMA node; with\n"
        "groups=2 of neighboring ranks, two of them. On one NUMA node there is one group unless\n"
        "groups says otherwise, and a second level then gains nothing over easgd. Columns\n"
        "staleness, staleness_most and staleness_histogram: how often others moved a group's\n"
        "center between two pulls of a worker.\n"
        "Moves twice the parameters a pull and worker, and five times a pull at the root.",
    .size = sizeof(struct easgd_tree),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .round = easgd_tree_round,
    .open = easgd_tree_open,
    .describe = easgd_tree_describe,
    .join = easgd_tree_join,
    .answer = easgd_tree_answer,
    .close = easgd_tree_close,
};
