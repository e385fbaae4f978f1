#include "net.h"

#include <stdlib.h>

#include "nn/layer.h"

struct net {
    const struct model *m;
    struct stream *q;
    int batch;
    struct rng_key key;       /* dropout's */
    struct slot *slot;        /* [m->layers]; unused where a layer is absorbed */
    float *dact[2], *scratch; /* gradients on their way back take turns in dact */
    float *workspace;

    /* Of the last forward. */
    struct vec x;
    int B;
    const struct step *step;
};

/* `bytes` from a slab that starts at base: only counted while there is no slab. */
static void *slab_take(char *base, size_t *used, size_t bytes) {
    void *at = base ? base + *used : NULL;
    *used += (bytes + 255) / 256 * 256;
    return at;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Lays everything out in the slab; n is NULL while there is none. Returns its bytes. */
static size_t net_plan(
    const struct model *m, const struct stream *q, int batch, struct net *n, char *base) {
    size_t used = 0, B = (size_t)batch, dact = 0, scratch = 0, workspace = 0;
    int before = 0; /* computing layers so far: the first one's din is the caller's */
    for (int i = 0; i < m->layers; i++) {
        const struct layer *l = &m->layer[i];
        struct slot s = {0};
        if (l->absorbed) continue;
        s.out = slab_take(base, &used, B * shape_size(l->out) * sizeof(float));
        if (l->ops->kept_bytes) s.kept = slab_take(base, &used, B * l->ops->kept_bytes(l));
        if (n) n->slot[i] = s;
        if (before++) dact = larger(dact, B * shape_size(l->in));
        if (l->act != ACTIVATION_NONE) scratch = larger(scratch, B * shape_size(l->out));
        if (l->ops->workspace) workspace = larger(workspace, l->ops->workspace(l, q, batch));
    }
    float *floats[4];
    const size_t sizes[4] = {dact, dact, scratch, workspace};
    for (int i = 0; i < 4; i++) floats[i] = slab_take(base, &used, sizes[i] * sizeof(float));
    if (n) {
        n->dact[0] = floats[0];
        n->dact[1] = floats[1];
        n->scratch = floats[2];
        n->workspace = floats[3];
    }
    return used;
}

size_t net_bytes(const struct model *m, const struct stream *q, int batch) {
    return net_plan(m, q, batch, NULL, NULL);
}

static enum status net_take(struct net *n) {
    void *slab;
    n->slot = calloc((size_t)n->m->layers, sizeof *n->slot);
    if (!n->slot) return fail(STATUS_FAILED, "no memory for a net");
    TRY(device_alloc(n->q->device, &slab, net_bytes(n->m, n->q, n->batch)));
    net_plan(n->m, n->q, n->batch, n, slab);
    return STATUS_OK;
}

enum status net_open(
    struct net **out, const struct model *m, struct stream *q, int batch, uint32_t seed, int rank) {
    ASSERT(batch > 0 && rank >= 0);
    struct net *n = calloc(1, sizeof *n);
    *out = NULL;
    if (!n) return fail(STATUS_FAILED, "no memory for a net");
    n->m = m;
    n->q = q;
    n->batch = batch;
    n->key = (struct rng_key){seed, RNG_DROPOUT, (uint32_t)rank * 4096};
    enum status status = net_take(n);
    if (status != STATUS_OK) {
        net_close(n);
        return status;
    }
    *out = n;
    return STATUS_OK;
}

void net_close(struct net *n) {
    if (!n) return;
    free(n->slot);
    free(n);
}

static struct pass net_pass(const struct net *n) {
    return (struct pass){
        .q = n->q,
        .batch = n->B,
        .replicas = 1,
        .stride = n->m->floats,
        .x = n->x.at,
        .train = n->step != NULL,
        .step = n->step,
        .key = n->key,
        .workspace = n->workspace,
    };
}

const float *net_forward(
    struct net *n, struct vec x, const float *in, int B, const struct step *step) {
    ASSERT(B >= 0 && B <= n->batch && x.n == n->m->floats);
    n->x = x;
    n->B = B;
    n->step = step;
    struct pass p = net_pass(n);
    for (int i = 0; i < n->m->layers; i++) {
        const struct layer *l = &n->m->layer[i];
        if (l->absorbed) continue;
        n->slot[i].in = in;
        l->ops->forward(l, &p, &n->slot[i]);
        in = n->slot[i].out;
    }
    return in;
}

/* Below this layer no gradient is wanted: where the samples' is, the first that computes, else the
 * first that has parameters. */
static int layer_last_back(const struct model *m, const float *din) {
    int i = 0;
    while (m->layer[i].absorbed || (!din && m->layer[i].parts == 0)) i++;
    return i;
}

void net_backward(struct net *n, struct vec g, float beta, const float *dlogits, float *din) {
    ASSERT(n->x.at && g.n == n->m->floats);
    struct pass p = net_pass(n);
    p.g = g.at;
    p.beta = beta;
    int last = layer_last_back(n->m, din), turn = 0;
    const float *d = dlogits;
    for (int i = n->m->layers - 1; i >= last; i--) {
        const struct layer *l = &n->m->layer[i];
        if (l->absorbed) continue;
        struct slot s = n->slot[i];
        s.dout = d;
        s.dscratch = n->scratch;
        s.din = i == last ? din : n->dact[turn];
        l->ops->backward(l, &p, &s);
        d = s.din;
        turn = !turn;
    }
}
