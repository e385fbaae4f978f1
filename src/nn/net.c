#include "net.h"

#include <stdlib.h>

#include "nn/layer.h"

enum { DACTS = 3 };

static const float BATCHNORM_MOMENTUM = 0.1f;

struct net {
    const struct model *m;
    struct stream *q;
    int batch;
    struct rng_key key; /* dropout's */
    struct slot *slot;  /* [m->layers]; unused where a layer is absorbed */
    float *dact[DACTS]; /* gradients on their way back; the last one only with a residual */
    float *scratch;
    float *workspace;

    /* Of the last forward. */
    struct vec x, b;
    float momentum; /* batch norm's */
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
    for (int i = 0; i < m->layers; i++) {
        const struct layer *l = &m->layer[i];
        struct slot s = {0};
        if (l->absorbed) continue;
        s.out = slab_take(base, &used, B * shape_size(l->out) * sizeof(float));
        if (l->ops->kept_bytes) s.kept = slab_take(base, &used, B * l->ops->kept_bytes(l));
        if (l->ops->kept_floats) {
            s.kept_floats = slab_take(base, &used, l->ops->kept_floats(l) * sizeof(float));
        }
        if (n) n->slot[i] = s;
        if (l->input >= 0 || l->shortcut) dact = larger(dact, B * shape_size(l->in));
        if (l->act != ACTIVATION_NONE) scratch = larger(scratch, B * shape_size(l->out));
        if (l->ops->workspace) workspace = larger(workspace, l->ops->workspace(l, q, batch));
    }
    float *floats[DACTS + 2];
    const size_t sizes[] = {dact, dact, m->residuals ? dact : 0, scratch, workspace};
    for (int i = 0; i < DACTS + 2; i++) {
        floats[i] = slab_take(base, &used, sizes[i] * sizeof(float));
    }
    if (n) {
        for (int i = 0; i < DACTS; i++) n->dact[i] = floats[i];
        n->scratch = floats[DACTS];
        n->workspace = floats[DACTS + 1];
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
        .b = n->b.at,
        .momentum = n->momentum,
        .train = n->step != NULL,
        .step = n->step,
        .key = n->key,
        .workspace = n->workspace,
    };
}

/* What layer i gave; -1: the samples. */
static const float *output_of(const struct net *n, int i, const float *in) {
    return i < 0 ? in : n->slot[i].out;
}

static const float *forward(struct net *n, const float *in) {
    struct pass p = net_pass(n);
    for (int i = 0; i < n->m->layers; i++) {
        const struct layer *l = &n->m->layer[i];
        if (l->absorbed) continue;
        n->slot[i].in = output_of(n, l->input, in);
        n->slot[i].other = output_of(n, l->other, in);
        l->ops->forward(l, &p, &n->slot[i]);
    }
    return n->slot[n->m->output].out;
}

static void pass_begin(struct net *n, struct vec x, struct vec b, int B) {
    ASSERT(B >= 0 && B <= n->batch && x.n == n->m->floats && b.n == n->m->buffers);
    n->x = x;
    n->b = b;
    n->B = B;
}

const float *net_forward(
    struct net *n, struct vec x, struct vec b, const float *in, int B, const struct step *step) {
    pass_begin(n, x, b, B);
    n->step = step;
    n->momentum = step ? BATCHNORM_MOMENTUM : 0;
    return forward(n, in);
}

void net_statistics(struct net *n, struct vec x, struct vec b, const float *in, int B) {
    pass_begin(n, x, b, B);
    n->step = NULL;
    n->momentum = 1;
    forward(n, in);
}

/* Below this layer no gradient is wanted: where the samples' is, the first that computes, else the
 * first that has parameters. */
static int layer_last_back(const struct model *m, const float *din) {
    int i = 0;
    while (m->layer[i].absorbed || (!din && m->layer[i].parts == 0)) i++;
    return i;
}

/* The gradient on its way back. Past a join it goes two ways: first through the shortcut's own
 * layers, if any, while `held` keeps it for the body; then through the body, while `side` keeps what
 * came out of the shortcut, to be added where the ways part. */
struct way {
    int last;       /* no gradient is wanted below this layer */
    float *din;     /* the caller's, for the samples */
    const float *d; /* with respect to the output of the layer that comes next */
    const float *held, *side;
    float *written; /* by the last layer; d, unless that is the caller's dlogits */
};

/* Whether anybody wants the gradient with respect to what l reads. */
static int is_wanted(const struct way *way, const struct layer *l) {
    return l->input < 0 ? way->din != NULL : l->input >= way->last;
}

/* Where l's din goes; NULL: nobody wants it. A join's is always wanted, by one way or the other. */
static float *gradient_room(const struct net *n, const struct way *way, const struct layer *l) {
    int i = 0;
    if (l->input < 0 && !l->shortcut) return way->din;
    if (l->ops != &layer_join && !is_wanted(way, l)) return NULL;
    while (n->dact[i] == way->d || n->dact[i] == way->held || n->dact[i] == way->side) i++;
    ASSERT(i < DACTS);
    return n->dact[i];
}

static void backward_layer(
    const struct net *n, const struct pass *p, struct way *way, const struct layer *l) {
    struct slot s = n->slot[l - n->m->layer];
    s.dout = way->d;
    s.dscratch = n->scratch;
    s.din = way->written = gradient_room(n, way, l);
    l->ops->backward(l, p, &s);
    way->d = s.din;
    if (!l->shortcut || l[-1].shortcut) return;
    way->side = way->d;
    way->d = way->held;
    way->held = NULL;
}

/* The sum's gradient is also its two terms'. */
static void backward_join(
    const struct net *n, const struct pass *p, struct way *way, const struct layer *l) {
    int own = l[-1].shortcut;
    if (l->act != ACTIVATION_NONE) backward_layer(n, p, way, l);
    *(own ? &way->held : &way->side) = way->d;
}

/* The body's gradient and the shortcut's meet. */
static void backward_opening(
    const struct net *n, const struct pass *p, struct way *way, const struct layer *l) {
    size_t floats = (size_t)n->B * shape_size(l->in);
    if (is_wanted(way, l)) p->q->kernels->mix(p->q, way->written, 1, 1, way->side, floats);
    way->side = NULL;
}

void net_backward(struct net *n, struct vec g, float beta, const float *dlogits, float *din) {
    ASSERT(n->x.at && g.n == n->m->floats);
    struct pass p = net_pass(n);
    p.g = g.at;
    p.beta = beta;
    struct way way = {.last = layer_last_back(n->m, din), .din = din, .d = dlogits};
    for (int i = n->m->layers - 1; i >= 0; i--) {
        const struct layer *l = &n->m->layer[i];
        if (l->ops->opens) {
            backward_opening(n, &p, &way, l);
        } else if (l->absorbed || i < way.last) {
            continue;
        } else if (l->ops == &layer_join) {
            backward_join(n, &p, &way, l);
        } else {
            backward_layer(n, &p, &way, l);
        }
    }
}
