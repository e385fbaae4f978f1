/* model.h -- what a network is: a line of text, the shapes it implies, and where its parameters
 * lie in one flat vector.
 *
 *     conv 32 5 same, relu, maxpool 2, conv 64 5 same, relu, maxpool 2, flatten, dense 512, relu,
 *     dense 10
 *
 * Layers between brackets are a residual's body: its input, or where the body changes the shape a
 * 1 x 1 convolution of it, is added to what the body gives.
 *
 *     conv 16 3 same, relu, residual ( conv 16 3 same, relu, conv 16 3 same ), relu, dense 10
 *
 * A model is made once, on the main thread, and then only read; a net (net.h) is one worker's
 * room to compute it in.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "devices/vec.h"

/* One sample between two layers: height, width, channels. A flat vector is 1, 1, n. */
struct shape {
    int h, w, c;
};

static inline size_t shape_size(struct shape s) { return (size_t)s.h * (size_t)s.w * (size_t)s.c; }

/* A named tensor of parameters. */
struct part {
    char name[32];      /* "3.dense.weight": the layer's position in the line, from 1;
                            "5.shortcut.conv.weight" */
    struct range range; /* in x, in g and in every vector of the optimizer */
    int dims;
    int dim[4];
};

struct layer; /* layer.h */

struct model {
    char *line;      /* the layers as the user wrote them, presets spelled out */
    struct shape in; /* of one sample */
    int classes;     /* logits of the last layer */
    int layers, parts;
    int output; /* the layer whose output the logits are, from 0 */
    int residuals;
    struct layer *layer; /* [layers] */
    struct part *part;   /* [parts] */
    struct part *buffer; /* [buffer_parts]: "2.batchnorm.mean"; ranges of b */
    int buffer_parts;
    size_t buffers;     /* of b, gaps included; 0 for most models */
    size_t floats;      /* of x: every part starts on 256 bytes, the gaps are zero and stay so */
    size_t parameters;  /* without the gaps */
    struct arena arena; /* owns all of the above */
};

/* A preset's line, or NULL; and the presets in order until NULL, for the help. */
struct preset {
    const char *name, *layers, *help;
};
extern const struct preset presets[];

/* `layers` is a preset's name or a line of layers. The last layer must give `classes` numbers.
 * Mistakes are STATUS_BAD_CONFIG and name the layer: its position, its words, its shape. */
enum status model_open(struct model **out, const char *layers, struct shape in, int classes);
void model_close(struct model *m);

/* x (floats) <- initial parameters, drawn on the host: normal with variance 2 / fan-in before a
 * relu or a batch norm, 1 / fan-in otherwise; a batch norm's weights 1; biases and gaps 0. The same
 * for a seed on any device. */
void model_init(const struct model *m, uint32_t seed, float *x);

/* b (buffers) <- where running statistics start: means 0, variances 1, gaps 0. */
void model_init_buffers(const struct model *m, float *b);

/* Writes a table of the layers, their shapes and parameters, to a string of at most n bytes. */
void model_describe(const struct model *m, char *text, size_t n);

#endif
