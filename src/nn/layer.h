/* layer.h -- one layer of a model: how its words are read, what shapes it makes, and its arithmetic.
 *
 * A layer is one file, layer_<name>.c, with one constant table; layers.c is the list. The model
 * reads the words and the shapes at start; a net calls forward and backward with its buffers.
 */
#ifndef LAYER_H
#define LAYER_H

#include "devices/device.h"
#include "nn/model.h"

enum { LAYER_PARTS = 2, LAYER_BUFFERS = 2, LAYER_WORDS = 7 };

/* A fan-in that is none: the part starts at one. */
enum { PART_ONES = -1 };

/* One layer of one model. Read-only once the model is open. */
struct layer {
    const struct layer_ops *ops;
    int position;           /* in the line, from 1; a shortcut's and a join's is the residual's */
    char *text;             /* its words */
    struct shape in, out;   /* of one sample */
    int size, stride, same; /* conv, pool: window; conv: 'same' padding */
    int units;              /* dense: outputs; conv: channels */
    float rate;             /* dropout: share that is dropped */
    enum activation act;    /* of a layer that absorbs: what follows, done in one pass */
    int absorbed;           /* this layer's work is done by the one before it */
    int input;              /* the layer whose output it reads, from 0; -1: the samples */
    int other;              /* join: the same of the shortcut */
    int nobias;             /* conv */
    int shortcut;           /* it belongs to a residual's shortcut */
    int parts;
    int part[LAYER_PARTS];     /* its tensors, as indices into the model's */
    struct range weight, bias; /* the same, as ranges; n = 0 for none */
    struct range mean, var;    /* batch norm: its buffers, in b */
};

/* A pass of one net over one batch; what every call of a layer sees. */
struct pass {
    struct stream *q;
    int batch;               /* samples */
    int replicas;            /* parameter sets side by side; 1 */
    size_t stride;           /* floats from one replica's parameters to the next's */
    const float *x;          /* parameters, whole vector */
    float *b;                /* buffers, whole vector */
    float momentum;          /* batch norm: the batch's share in b; 0: reads b and lets it be */
    float *g;                /* gradient, whole vector; backward only */
    float beta;              /* backward: g <- beta g + gradient */
    int train;               /* dropout is on */
    const struct step *step; /* device memory: keys what a step draws */
    struct rng_key key;      /* dropout's; the layer's position is added to key.id */
    float *workspace;        /* as much as workspace() asked for */
};

/* A layer's buffers in one net, device memory. */
struct slot {
    const float *in;    /* (batch, in) */
    const float *other; /* join: (batch, in); what the shortcut gives */
    float *out;         /* (batch, out); kept until the next forward, never overwritten in place */
    uint8_t *kept;      /* what kept_bytes() asked for a sample, times the batch: masks, argmaxes */
    float *kept_floats; /* what kept_floats() asked for */
    const float *dout;  /* (batch, out); backward */
    float *dscratch;    /* (batch, out) floats; where dout is taken through the activation */
    float *din;         /* (batch, in); NULL: not wanted */
};

struct layer_ops {
    const char *name;  /* its word in the line */
    const char *usage; /* "conv CHANNELS SIZE [stride N] [same|valid]" */

    /* Required. Reads words[1 ..] into l. The words are known, in number and kind, only here. */
    enum status (*parse)(struct layer *l, int words, char *const word[]);

    /* Required. l->in is set: set l->out, or say why it cannot be. */
    enum status (*infer)(struct layer *l);

    /* Optional: none without. Number p's name ("weight"), dims and sizes; returns 0 past the last.
     * fan_in is 0 for what starts at zero, PART_ONES for what starts at one. */
    int (*part)(
        const struct layer *l, int p, const char **name, int *dims, int dim[4], int *fan_in);

    /* Optional: none without. Buffer number p's name ("mean"), floats, and what they start at;
     * returns 0 past the last. */
    int (*buffer)(const struct layer *l, int p, const char **name, int *n, float *start);

    /* Optional: 0 without. Bytes of `kept` for one sample; floats kept for any batch; floats of
     * workspace for a batch. */
    size_t (*kept_bytes)(const struct layer *l);
    size_t (*kept_floats)(const struct layer *l);
    size_t (*workspace)(const struct layer *l, const struct stream *q, int batch);

    /* Required, but of a layer that is always absorbed. forward reads in, writes out and kept;
     * backward reads dout and what forward left, writes din and then its share of p->g, which
     * may be x itself. */
    void (*forward)(const struct layer *l, const struct pass *p, const struct slot *s);
    void (*backward)(const struct layer *l, const struct pass *p, const struct slot *s);

    /* Reserved for products with the Hessian (Pearlmutter's R-operator); NULL until then. */
    void (*tangent_forward)(const struct layer *l, const struct pass *p, const struct slot *s);
    void (*tangent_backward)(const struct layer *l, const struct pass *p, const struct slot *s);

    enum activation absorbs_into; /* relu, tanh, sigmoid: what the layer before may do */
    int absorbs; /* conv, dense, join, batchnorm: does so with one that follows at once */
    int opens;   /* residual: brackets with its body follow */
};

extern const struct layer_ops layer_join; /* the end of a residual; nobody writes it */
extern const struct layer_ops layer_batchnorm;

extern const struct layer_ops *const layer_kinds[]; /* until NULL; layers.c */

#endif
