#include "model.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "nn/layer.h"
#include "nn/words.h"

enum {
    PART_ALIGN = 64,    /* floats: 256 bytes */
    LAYERS_MOST = 4095, /* a dropout's position is a part of its key */
    ITEM_MOST = 127,    /* letters of one layer's words */
    SHORTCUT_LAYERS = 4 /* an item makes one layer, or with a shortcut and a join so many */
};

static const size_t PARAMETERS_MOST = (size_t)1 << 31;

/* One layer's words, cut out of the line. */
struct item {
    char text[ITEM_MOST + 1];
    char letters[ITEM_MOST + 1]; /* the same; words end in 0 */
    int words;
    char *word[LAYER_WORDS];
};

/* Where the reading of a line is. */
struct cursor {
    const char *at;
    int position;       /* of the last item, from 1 */
    struct layer *open; /* the residual whose bracket is open, or NULL */
};

static const char BLANKS[] = " \t\r\n";

static enum status item_split(struct item *it, int position) {
    char *rest = it->letters;
    for (char *word; (word = strtok_r(rest, BLANKS, &rest)); it->words++) {
        if (it->words == LAYER_WORDS) {
            return fail(STATUS_BAD_CONFIG, "model.layers: layer %d \"%s\": too many words",
                position, it->text);
        }
        it->word[it->words] = word;
    }
    return STATUS_OK;
}

/* Reads up to the comma or bracket behind the item, or the end. */
static enum status item_read(struct item *it, struct cursor *c) {
    const char *at = c->at + strspn(c->at, BLANKS);
    size_t size = strcspn(at, ",()");
    c->at = at + size;
    c->position++;
    while (size && strchr(BLANKS, at[size - 1])) size--;
    memset(it, 0, sizeof *it);
    if (size == 0) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d is empty; layers are divided by "
            "one comma, with none at the end",
            c->position);
    }
    if (size > ITEM_MOST) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d \"%.20s...\" is too long; layers are divided by commas",
            c->position, at);
    }
    memcpy(it->text, at, size);
    memcpy(it->letters, at, size);
    return item_split(it, c->position);
}

static const struct preset *preset_find(const char *name) {
    for (const struct preset *p = presets; p->name; p++) {
        if (!strcmp(p->name, name)) return p;
    }
    return NULL;
}

static const struct layer_ops *kind_find(const char *name) {
    for (int i = 0; layer_kinds[i]; i++) {
        if (!strcmp(layer_kinds[i]->name, name)) return layer_kinds[i];
    }
    return NULL;
}

/* What the user may have meant. A single word may have been meant as a preset. */
static const char *nearest_name(const char *word, int presets_too) {
    const char *nearest = layer_kinds[0]->name;
    for (int i = 1; layer_kinds[i]; i++) {
        if (text_distance(layer_kinds[i]->name, word) < text_distance(nearest, word)) {
            nearest = layer_kinds[i]->name;
        }
    }
    for (const struct preset *p = presets; presets_too && p->name; p++) {
        if (text_distance(p->name, word) < text_distance(nearest, word)) nearest = p->name;
    }
    return nearest;
}

/* Puts the layer in front of what its parser or its shapes said. */
static enum status layer_blame(const struct item *it, int position, enum status code) {
    char why[256];
    if (code == STATUS_OK) return code;
    snprintf(why, sizeof why, "%s", fail_message());
    return fail(code, "model.layers: layer %d \"%s\": %s", position, it->text, why);
}

/* A relu, tanh or sigmoid right behind a conv, dense, batchnorm or join is done by that. */
static void layer_absorb(const struct model *m, struct layer *l) {
    enum activation act = l->ops->absorbs_into;
    if (act == ACTIVATION_NONE || l == m->layer || !l[-1].ops->absorbs) return;
    l[-1].act = act;
    l->absorbed = 1;
}

static void part_name(struct part *part, const struct layer *l, const char *name) {
    const char *where = l->shortcut ? "shortcut." : "";
    snprintf(part->name, sizeof part->name, "%d.%s%s.%s", l->position, where, l->ops->name, name);
}

static size_t whole_lines(size_t n) { return (n + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN; }

static enum status part_add(struct model *m, struct layer *l, int p) {
    struct part *part = &m->part[m->parts];
    const char *name;
    int fan_in;
    size_t n = 1;
    if (!l->ops->part || !l->ops->part(l, p, &name, &part->dims, part->dim, &fan_in)) {
        return STATUS_OK;
    }
    for (int i = 0; i < part->dims; i++) n *= (size_t)part->dim[i];
    if (n > PARAMETERS_MOST - m->parameters) {
        return fail(STATUS_BAD_CONFIG, "the model would have more than 2^31 parameters");
    }
    part_name(part, l, name);
    part->range = (struct range){m->floats, n};
    *(p == 0 ? &l->weight : &l->bias) = part->range;
    l->part[l->parts++] = m->parts++;
    m->parameters += n;
    m->floats += whole_lines(n);
    return STATUS_OK;
}

static void buffer_add(struct model *m, struct layer *l, int p) {
    struct part *part = &m->buffer[m->buffer_parts];
    const char *name;
    float start;
    if (!l->ops->buffer || !l->ops->buffer(l, p, &name, part->dim, &start)) return;
    part_name(part, l, name);
    part->dims = 1;
    part->range = (struct range){m->buffers, (size_t)part->dim[0]};
    *(p == 0 ? &l->mean : &l->var) = part->range;
    m->buffer_parts++;
    m->buffers += whole_lines(part->range.n);
}

/* The nearest layer before l that computes; -1: none does. */
static int layer_before(const struct model *m, const struct layer *l) {
    int i = (int)(l - m->layer) - 1;
    while (i >= 0 && m->layer[i].absorbed) i--;
    return i;
}

/* l's words are read, l->in and l->input are set: its shapes and its tensors follow. */
static enum status layer_place(struct model *m, struct layer *l) {
    TRY(l->ops->infer(l));
    if (shape_size(l->out) > INT_MAX) {
        return fail(STATUS_BAD_CONFIG, "its output of %d x %d x %d is too large", l->out.h,
            l->out.w, l->out.c);
    }
    for (int p = 0; p < LAYER_PARTS; p++) TRY(part_add(m, l, p));
    for (int p = 0; p < LAYER_BUFFERS; p++) buffer_add(m, l, p);
    return STATUS_OK;
}

static struct layer *layer_append(struct model *m, const struct layer_ops *ops, int position) {
    struct layer *l = &m->layer[m->layers++];
    l->ops = ops;
    l->position = position;
    l->in = l == m->layer ? m->in : l[-1].out;
    l->input = layer_before(m, l);
    return l;
}

static enum status layer_text(struct model *m, struct layer *l, const char *text) {
    size_t size = strlen(text) + 1;
    l->text = arena_take(&m->arena, size);
    if (!l->text) return fail(STATUS_FAILED, "no memory for a model");
    memcpy(l->text, text, size);
    return STATUS_OK;
}

/* ---- residuals ---- */

/* The stride with which windows of 1 x 1 make `out` of `in`; 0: none does. */
static int stride_between(struct shape in, struct shape out) {
    for (int s = 1; s <= in.h || s <= in.w; s++) {
        if ((in.h - 1) / s + 1 == out.h && (in.w - 1) / s + 1 == out.w) return s;
    }
    return 0;
}

static int has_batchnorm(const struct layer *from, const struct layer *to) {
    while (from < to && from->ops != &layer_batchnorm) from++;
    return from < to;
}

/* The shortcut of a body that changes the shape; normalized where the body is. */
static enum status shortcut_open(struct model *m, const struct layer *opening, struct shape out) {
    char text[64];
    struct shape in = opening->in;
    int stride = stride_between(in, out);
    if (stride == 0) {
        return fail(STATUS_BAD_CONFIG,
            "its body makes %d x %d x %d of %d x %d x %d, and no stride of a 1 x 1 convolution "
            "does so: use 'same'",
            out.h, out.w, out.c, in.h, in.w, in.c);
    }
    struct layer *l = layer_append(m, kind_find("conv"), opening->position);
    l->shortcut = 1;
    l->units = out.c;
    l->size = 1;
    l->stride = stride;
    l->nobias = has_batchnorm(opening, l);
    l->in = in;
    l->input = opening->input;
    snprintf(text, sizeof text, "(shortcut) conv %d 1 stride %d", out.c, stride);
    TRY(layer_text(m, l, text));
    TRY(layer_place(m, l));
    if (!l->nobias) return STATUS_OK;
    l = layer_append(m, &layer_batchnorm, opening->position);
    l->shortcut = 1;
    TRY(layer_text(m, l, "(shortcut) batchnorm"));
    return layer_place(m, l);
}

/* At the closing bracket: the shortcut and the join. */
static enum status residual_close(struct model *m, const struct layer *opening) {
    const struct layer *body = &m->layer[m->layers - 1];
    struct shape in = opening->in, out = body->out;
    int from = layer_before(m, body + 1), other = opening->input;
    if (from == opening->input) {
        return fail(STATUS_BAD_CONFIG, "there is nothing to compute between its brackets");
    }
    if (in.h != out.h || in.w != out.w || in.c != out.c) {
        TRY(shortcut_open(m, opening, out));
        other = m->layers - 1;
    }
    struct layer *l = layer_append(m, &layer_join, opening->position);
    l->in = out;
    l->input = from;
    l->other = other;
    m->residuals++;
    TRY(layer_text(m, l, ")"));
    return layer_place(m, l);
}

/* The opening bracket, or the lack of one, is right behind the item. */
static enum status bracket_open(struct cursor *c, struct layer *l) {
    if (*c->at != '(') return l->ops->opens ? words_usage(l->ops->usage) : STATUS_OK;
    if (!l->ops->opens) {
        return fail(STATUS_BAD_CONFIG, "there is a \"(\" behind it, which only a residual has");
    }
    if (c->open) {
        return fail(STATUS_BAD_CONFIG,
            "a residual does not hold another one; put it behind the other's \")\"");
    }
    c->open = l;
    return STATUS_OK;
}

/* The closing bracket, if there is one, is right behind the item. */
static enum status bracket_close(struct model *m, struct cursor *c) {
    struct layer *opening = c->open;
    struct item it = {.text = "residual (...)"};
    if (*c->at != ')') return STATUS_OK;
    if (!opening) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: there is a \")\" behind layer %d, and no \"residual (\" before it",
            c->position);
    }
    TRY(layer_blame(&it, opening->position, residual_close(m, opening)));
    c->open = NULL;
    c->at++;
    c->at += strspn(c->at, BLANKS);
    if (*c->at == ',' || *c->at == '\0') return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "model.layers: behind the \")\" of layer %d there is to be a comma, or the end",
        opening->position);
}

/* ---- the line ---- */

static enum status layer_open(struct model *m, struct cursor *c, const struct item *it) {
    const struct layer_ops *ops = kind_find(it->word[0]);
    if (!ops) {
        int alone = c->position == 1 && it->words == 1 && *c->at == '\0';
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d \"%s\": there is no %s \"%s\"; did you mean \"%s\"?",
            c->position, it->text, alone ? "layer or preset" : "layer", it->word[0],
            nearest_name(it->word[0], alone));
    }
    struct layer *l = layer_append(m, ops, c->position);
    TRY(layer_text(m, l, it->text));
    TRY(layer_blame(it, c->position, ops->parse(l, it->words, it->word)));
    TRY(layer_blame(it, c->position, bracket_open(c, l)));
    layer_absorb(m, l);
    return layer_blame(it, c->position, layer_place(m, l));
}

static enum status line_read(struct model *m) {
    struct cursor c = {.at = m->line};
    for (int more = 1; more; c.at += more) {
        struct item it;
        TRY(item_read(&it, &c));
        TRY(layer_open(m, &c, &it));
        TRY(bracket_close(m, &c));
        more = *c.at != '\0';
    }
    if (!c.open) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG, "model.layers: layer %d \"residual\": its \"(\" is never closed",
        c.open->position);
}

static enum status model_take(struct model *m, const char *layers) {
    const struct preset *preset = preset_find(layers);
    const char *line = preset ? preset->layers : layers;
    size_t size = strlen(line) + 1;
    size_t items = 1, most; /* at most: a residual adds a shortcut and a join */
    if (line[strspn(line, BLANKS)] == 0) {
        return fail(STATUS_BAD_CONFIG, "model.layers is empty; try model.layers=2nn");
    }
    for (const char *c = line; *c; c++) items += *c == ',' || *c == '(';
    if (items > LAYERS_MOST) {
        return fail(STATUS_BAD_CONFIG, "model.layers: more than %d layers", LAYERS_MOST);
    }
    m->line = arena_take(&m->arena, size);
    most = SHORTCUT_LAYERS * items;
    m->layer = arena_take(&m->arena, most * sizeof *m->layer);
    m->part = arena_take(&m->arena, most * LAYER_PARTS * sizeof *m->part);
    m->buffer = arena_take(&m->arena, most * LAYER_BUFFERS * sizeof *m->buffer);
    if (!m->line || !m->layer || !m->part || !m->buffer) {
        return fail(STATUS_FAILED, "no memory for a model");
    }
    memcpy(m->line, line, size);
    return STATUS_OK;
}

static enum status model_build(struct model *m, const char *layers) {
    TRY(model_take(m, layers));
    TRY(line_read(m));
    m->output = layer_before(m, m->layer + m->layers);
    size_t last = shape_size(m->layer[m->layers - 1].out);
    if (last != (size_t)m->classes) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: the last layer gives %zu numbers for %d classes; end with \"dense %d\"",
            last, m->classes, m->classes);
    }
    if (m->parameters == 0) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: there is nothing to learn; use at least one conv or dense");
    }
    return STATUS_OK;
}

enum status model_open(struct model **out, const char *layers, struct shape in, int classes) {
    ASSERT(in.h > 0 && in.w > 0 && in.c > 0 && shape_size(in) <= INT_MAX && classes > 0);
    struct model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return fail(STATUS_FAILED, "no memory for a model");
    m->in = in;
    m->classes = classes;
    enum status status = model_build(m, layers);
    if (status != STATUS_OK) {
        model_close(m);
        return status;
    }
    *out = m;
    return STATUS_OK;
}

void model_close(struct model *m) {
    if (!m) return;
    arena_close(&m->arena);
    free(m);
}

/* Whether half of what l gives is likely to be cut off: behind it is a relu, or a batch norm, behind
 * which usually is one. */
static int keeps_half(const struct model *m, const struct layer *l) {
    int last = l == &m->layer[m->layers - 1];
    return l->act == ACTIVATION_RELU || (!last && l[1].ops == &layer_batchnorm);
}

/* A part that names no fan-in starts at zero or one. */
static void part_init(
    const struct model *m, const struct layer *l, int p, uint32_t seed, float *x) {
    const char *name;
    int dims, dim[4], fan_in;
    const struct part *part = &m->part[l->part[p]];
    float *at = x + part->range.offset;
    l->ops->part(l, p, &name, &dims, dim, &fan_in);
    for (size_t i = 0; fan_in == PART_ONES && i < part->range.n; i++) at[i] = 1;
    if (fan_in <= 0) return;
    struct rng_key key = {seed, RNG_INIT, (uint32_t)l->position};
    float deviation = (float)sqrt((keeps_half(m, l) ? 2.0 : 1.0) / fan_in);
    rng_normals(key, 0, at, part->range.n);
    for (size_t i = 0; i < part->range.n; i++) at[i] *= deviation;
}

void model_init(const struct model *m, uint32_t seed, float *x) {
    memset(x, 0, m->floats * sizeof *x);
    for (int i = 0; i < m->layers; i++) {
        for (int p = 0; p < m->layer[i].parts; p++) part_init(m, &m->layer[i], p, seed, x);
    }
}

void model_init_buffers(const struct model *m, float *b) {
    memset(b, 0, m->buffers * sizeof *b);
    for (int i = 0; i < m->layers; i++) {
        const struct layer *l = &m->layer[i];
        const char *name;
        float start;
        int n;
        for (int p = 0; l->ops->buffer && l->ops->buffer(l, p, &name, &n, &start); p++) {
            float *at = b + (p == 0 ? l->mean : l->var).offset;
            for (int k = 0; k < n; k++) at[k] = start;
        }
    }
}

/* Adds to a text of n bytes, of which *used are in use; what does not fit is cut off. */
__attribute__((format(printf, 4, 5))) static void text_add(
    char *text, size_t n, size_t *used, const char *format, ...) {
    va_list ap;
    if (*used >= n) return;
    va_start(ap, format);
    int more = vsnprintf(text + *used, n - *used, format, ap);
    va_end(ap);
    if (more > 0) *used += (size_t)more;
}

void model_describe(const struct model *m, char *text, size_t n) {
    size_t used = 0;
    if (n) text[0] = 0;
    text_add(text, n, &used, "%5s  %-28s %16s %12s\n", "layer", "", "output", "parameters");
    text_add(
        text, n, &used, "%5s  %-28s %6d x %3d x %3d\n", "", "input", m->in.h, m->in.w, m->in.c);
    for (int i = 0; i < m->layers; i++) {
        const struct layer *l = &m->layer[i];
        text_add(text, n, &used, "%5d  %-28s %6d x %3d x %3d", l->position, l->text, l->out.h,
            l->out.w, l->out.c);
        if (l->parts) text_add(text, n, &used, " %12zu", l->weight.n + l->bias.n);
        text_add(text, n, &used, "\n");
    }
    text_add(text, n, &used, "%5s  %-28s %18s %12zu\n", "", "all", "", m->parameters);
}
