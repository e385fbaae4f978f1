/* gossip.c -- GoSGD: now and then a worker sends half of its weight to a peer, and nobody waits.
 *
 * M. Blot, D. Picard, M. Cord, N. Thome: Gossip training for deep learning (arXiv:1611.09726),
 * algorithms 1 and 2. Worker i has a replica x_i and a weight a_i, 1/M at first, and each step
 *
 *     for each (x_j, a_j) in its box:  x_i <- (a_j x_j + a_i x_i) / (a_j + a_i);  a_i <- a_j + a_i
 *     x_i <- optimizer(x_i, g_i(x_i))
 *     with probability p, for a peer r:  a_i <- a_i / 2;  (x_i, a_i) into the box of r
 *
 * Only the sum of a and the mean of x by a matter to who takes them in: a box holds those two, so that
 * what piles up is mixed in, a message is a copy of what was sent, and nothing is ever dropped. It is no
 * sum of a x, for weights halve: a peer that stands still for some hundred messages leaves the others
 * such as no float holds. The weights of workers and boxes sum to 1 at all times, and sum a x is what
 * the steps alone make it.
 *
 * What the paper leaves open: nobody sends to itself; momentum stays a worker's own; the default of
 * p is ours. Not the paper's, whose peer is any at random: peers=near, and ring, exponential,
 * hypercube and complete, where peers take turns. As the paper says, the plain mean of the replicas is
 * judged, here with what is in the boxes taken in.
 */
#include "engine/strategy.h"

/* Drawn anew for each message, and then graphs whose neighbors take turns. */
enum { PEERS_UNIFORM, PEERS_NEAR, PEERS_GRAPH };

struct gossip {
    struct strategy base;
    float p;
    int peers, groups;
    float bias;
    struct shared *box[TEAM_MOST];
    char name[TEAM_MOST][16];
};

struct local {
    double weight;    /* a_i */
    long sent;        /* messages */
    struct vec taken; /* out of the box */
};

static const struct option options[] = {
    {"p", OPTION_REAL, offsetof(struct gossip, p), 0.1, 0, 1,
        "with what probability a step is followed by a message", NULL},
    {"peers", OPTION_CHOICE, offsetof(struct gossip, peers), PEERS_UNIFORM, 0,
        PEERS_GRAPH + GRAPH_COMPLETE,
        "uniform|near|ring|exponential|hypercube|complete: any, or rather one that sits near; or "
        "in turn those beside, those 1, 2, 4, ... further, those one bit off, or all",
        NULL},
    {"bias", OPTION_REAL, offsetof(struct gossip, bias), 0.75, 0, 1,
        "peers=near: with what probability the peer is of the sender's own group", NULL},
    {"groups", OPTION_INT, offsetof(struct gossip, groups), 0, 0, 1e6,
        "peers=near: so many groups of neighbors; 0: those who sit together", NULL},
    {0},
};

static const struct field local_fields[] = {
    {"weight", FIELD_DOUBLE, offsetof(struct local, weight)},
    {"sent", FIELD_LONG, offsetof(struct local, sent)},
    {0},
};

static enum status gossip_open(struct strategy *base, struct team *team, struct vec x0) {
    struct gossip *s = (struct gossip *)base;
    if (s->groups > 0 && s->peers != PEERS_NEAR) {
        return fail(STATUS_BAD_CONFIG,
            "gossip.groups = %d changes nothing without gossip.peers=near: say both or neither",
            s->groups);
    }
    if (s->peers >= PEERS_GRAPH) {
        TRY(peers_check((enum graph)(s->peers - PEERS_GRAPH), team_size(team), "gossip.peers"));
    }
    for (int r = 0; r < team_size(team); r++) {
        snprintf(s->name[r], sizeof s->name[r], "box%d", r);
        TRY(shared_open(&s->box[r], team, s->name[r], r, x0));
    }
    return STATUS_OK;
}

static enum status gossip_join(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    (void)base;
    l->weight = 1.0 / w->size;
    return worker_vec(w, "taken", &l->taken, w->x.n, SCRATCH);
}

/* ---- peers ---------------------------------------------------------------------------------- */

static int group_of(const struct gossip *s, const struct worker *w, int rank) {
    return s->groups > 0 ? rank * s->groups / w->size : team_group(w->team, rank);
}

static int is_mate(const struct gossip *s, const struct worker *w, int rank) {
    return group_of(s, w, rank) == group_of(s, w, w->rank);
}

/* One of the others, of the worker's group or not; where only one of the two is there, that. */
static int draw_near(const struct gossip *s, struct worker *w) {
    int mates = -1, r = 0;
    for (int i = 0; i < w->size; i++) mates += is_mate(s, w, i);
    int strangers = w->size - 1 - mates;
    int near = strangers == 0 || (mates > 0 && worker_chance(w, s->bias));
    int left = (int)worker_draw(w, (uint32_t)(near ? mates : strangers));
    for (;; r++) {
        if (r != w->rank && is_mate(s, w, r) == near && left-- == 0) return r;
    }
}

static int draw_peer(const struct gossip *s, struct worker *w) {
    struct local *l = w->mine;
    if (s->peers == PEERS_NEAR) return draw_near(s, w);
    if (s->peers == PEERS_UNIFORM) {
        int r = (int)worker_draw(w, (uint32_t)w->size - 1);
        return r < w->rank ? r : r + 1;
    }
    return peers_to((enum graph)(s->peers - PEERS_GRAPH), w->size, w->rank, l->sent);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void push(const struct gossip *s, struct worker *w) {
    struct local *l = w->mine;
    struct shared *box = s->box[draw_peer(s, w)];
    l->weight /= 2;
    l->sent++;
    shared_lock(w, box);
    double *mass = shared_mass(box), all = *mass + l->weight;
    double share = *mass > 0 ? l->weight / all : 1;
    shared_mix(w, box, (float)(1 - share), (float)share, w->x);
    *mass = all;
    shared_unlock(w, box);
}

/* What is in the worker's box: its weight, and in l->taken the mean of x; it stays there if kept. */
static double look(const struct gossip *s, struct worker *w, int keep) {
    struct local *l = w->mine;
    struct shared *box = s->box[w->rank];
    shared_lock(w, box);
    double *mass = shared_mass(box), weight = *mass;
    if (weight > 0) shared_read(w, box, l->taken);
    if (!keep) *mass = 0;
    shared_unlock(w, box);
    return weight;
}

static void take_in(const struct gossip *s, struct worker *w) {
    struct local *l = w->mine;
    double came = look(s, w, 0), all = l->weight + came;
    if (!(came > 0)) return;
    vec_mix(w->q, w->x, (float)(l->weight / all), (float)(came / all), l->taken);
    l->weight = all;
}

static enum status gossip_round(struct strategy *base, struct worker *w) {
    const struct gossip *s = (const struct gossip *)base;
    take_in(s, w);
    worker_grad(w);
    worker_step(w);
    if (w->size > 1 && worker_chance(w, s->p)) push(s, w);
    return STATUS_OK;
}

static struct vec gossip_answer(struct strategy *base, struct worker *w) {
    struct local *l = w->mine;
    double came = look((const struct gossip *)base, w, 1), all = l->weight + came;
    if (came > 0) {
        vec_mix(w->q, l->taken, (float)(came / all), (float)(l->weight / all), w->x);
    } else {
        vec_copy(w->q, l->taken, w->x);
    }
    team_mean(w, l->taken);
    worker_note(w, "in_flight", came, OVER_SUM);
    worker_note(w, "weight", all, OVER_SUM);
    worker_note(w, "weight_least", l->weight, OVER_LEAST);
    return l->taken;
}

static void gossip_close(struct strategy *base) {
    struct gossip *s = (struct gossip *)base;
    for (int r = 0; r < TEAM_MOST; r++) shared_close(s->box[r]);
}

extern const struct strategy_ops strategy_gossip;

const struct strategy_ops strategy_gossip = {
    .name = "gossip",
    .summary = "GoSGD: now and then half of a worker's weight goes to a peer; nobody waits",
    .source = "Blot, Picard, Cord, Thome, arXiv:1611.09726",
    .help =
        "After a step, with probability p, a worker sends a copy of its replica to the box of a\n"
        "peer, who mixes it in by weight before its next step. No center, no meeting, no\n"
        "answer. schedule.rate is that of a single worker. Where replicas drift apart (column\n"
        "consensus_distance), a larger p or a smaller rate. The mean of the replicas is judged.\n"
        "The paper's is peers=uniform; the other peers are ours.\n"
        "Columns: weight, of all workers and boxes, which is 1; in_flight, the part of it that\n"
        "lies in boxes; weight_least, of the worker that has least.\n"
        "Moves the parameters once a message, once more where one lies in the box already, and\n"
        "once to take in what is there.",
    .size = sizeof(struct gossip),
    .local_size = sizeof(struct local),
    .options = options,
    .local_fields = local_fields,
    .open = gossip_open,
    .join = gossip_join,
    .round = gossip_round,
    .answer = gossip_answer,
    .close = gossip_close,
};
