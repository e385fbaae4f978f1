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

enum {
    PART_ALIGN = 64,    /* floats: 256 bytes */
    LAYERS_MOST = 4095, /* a dropout's position is a part of its key */
    ITEM_MOST = 127     /* letters of one layer's words */
};

static const size_t PARAMETERS_MOST = (size_t)1 << 31;

/* One layer's words, cut out of the line. */
struct item {
    char text[ITEM_MOST + 1];
    char letters[ITEM_MOST + 1]; /* the same; words end in 0 */
    int words;
    char *word[LAYER_WORDS];
};

/* Where the item at `position` (from 1) starts, without blanks around it, and its size. */
static const char *item_find(const char *line, int position, size_t *size) {
    for (; position > 1; position--) line = strchr(line, ',') + 1;
    line += strspn(line, " \t\r\n");
    *size = strcspn(line, ",");
    while (*size && strchr(" \t\r\n", line[*size - 1])) --*size;
    return line;
}

static enum status item_read(struct item *it, const char *line, int position) {
    size_t size;
    const char *at = item_find(line, position, &size);
    memset(it, 0, sizeof *it);
    if (size == 0) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d is empty; layers are divided by "
            "one comma, with none at the end",
            position);
    }
    if (size > ITEM_MOST) {
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d \"%.20s...\" is too long; layers are divided by commas",
            position, at);
    }
    memcpy(it->text, at, size);
    memcpy(it->letters, at, size);
    char *rest = it->letters;
    for (char *word; (word = strtok_r(rest, " \t\r\n", &rest)); it->words++) {
        if (it->words == LAYER_WORDS) {
            return fail(STATUS_BAD_CONFIG, "model.layers: layer %d \"%s\": too many words",
                position, it->text);
        }
        it->word[it->words] = word;
    }
    return STATUS_OK;
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

/* A relu, tanh or sigmoid right behind a conv or dense is done by that. */
static void layer_absorb(struct layer *l) {
    enum activation act = l->ops->absorbs_into;
    if (act == ACTIVATION_NONE || l->position == 1 || !l[-1].ops->absorbs) return;
    l[-1].act = act;
    l->absorbed = 1;
}

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
    snprintf(part->name, sizeof part->name, "%d.%s.%s", l->position, l->ops->name, name);
    part->range = (struct range){m->floats, n};
    *(p == 0 ? &l->weight : &l->bias) = part->range;
    l->part[l->parts++] = m->parts++;
    m->parameters += n;
    m->floats += (n + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
    return STATUS_OK;
}

/* l's words are read: its shapes and its tensors follow. */
static enum status layer_place(struct model *m, struct layer *l) {
    l->in = l->position == 1 ? m->in : l[-1].out;
    TRY(l->ops->infer(l));
    if (shape_size(l->out) > INT_MAX) {
        return fail(STATUS_BAD_CONFIG, "its output of %d x %d x %d is too large", l->out.h,
            l->out.w, l->out.c);
    }
    for (int p = 0; p < LAYER_PARTS; p++) TRY(part_add(m, l, p));
    return STATUS_OK;
}

static enum status layer_open(struct model *m, int position) {
    struct layer *l = &m->layer[position - 1];
    struct item it;
    TRY(item_read(&it, m->line, position));
    l->position = position;
    l->ops = kind_find(it.word[0]);
    if (!l->ops) {
        int alone = m->layers == 1 && it.words == 1;
        return fail(STATUS_BAD_CONFIG,
            "model.layers: layer %d \"%s\": there is no %s \"%s\"; did you mean \"%s\"?", position,
            it.text, alone ? "layer or preset" : "layer", it.word[0],
            nearest_name(it.word[0], alone));
    }
    TRY(layer_blame(&it, position, l->ops->parse(l, it.words, it.word)));
    layer_absorb(l);
    return layer_blame(&it, position, layer_place(m, l));
}

static enum status model_take(struct model *m, const char *layers) {
    const struct preset *preset = preset_find(layers);
    const char *line = preset ? preset->layers : layers;
    size_t size = strlen(line) + 1;
    m->layers = 1;
    if (line[strspn(line, " \t\r\n")] == 0) {
        return fail(STATUS_BAD_CONFIG, "model.layers is empty; try model.layers=2nn");
    }
    for (const char *c = line; *c; c++) m->layers += *c == ',';
    if (m->layers > LAYERS_MOST) {
        return fail(STATUS_BAD_CONFIG, "model.layers: more than %d layers", LAYERS_MOST);
    }
    m->line = arena_take(&m->arena, size);
    m->layer = arena_take(&m->arena, (size_t)m->layers * sizeof *m->layer);
    m->part = arena_take(&m->arena, (size_t)m->layers * LAYER_PARTS * sizeof *m->part);
    if (!m->line || !m->layer || !m->part) return fail(STATUS_FAILED, "no memory for a model");
    memcpy(m->line, line, size);
    return STATUS_OK;
}

static enum status model_build(struct model *m, const char *layers) {
    TRY(model_take(m, layers));
    for (int i = 1; i <= m->layers; i++) TRY(layer_open(m, i));
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

/* A part that names no fan-in starts at zero. */
static void part_init(
    const struct model *m, const struct layer *l, int p, uint32_t seed, float *x) {
    const char *name;
    int dims, dim[4], fan_in;
    const struct part *part = &m->part[l->part[p]];
    float *at = x + part->range.offset;
    l->ops->part(l, p, &name, &dims, dim, &fan_in);
    if (fan_in == 0) return;
    struct rng_key key = {seed, RNG_INIT, (uint32_t)l->position};
    float deviation = (float)sqrt((l->act == ACTIVATION_RELU ? 2.0 : 1.0) / fan_in);
    rng_normals(key, 0, at, part->range.n);
    for (size_t i = 0; i < part->range.n; i++) at[i] *= deviation;
}

void model_init(const struct model *m, uint32_t seed, float *x) {
    memset(x, 0, m->floats * sizeof *x);
    for (int i = 0; i < m->layers; i++) {
        for (int p = 0; p < m->layer[i].parts; p++) part_init(m, &m->layer[i], p, seed, x);
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
        size_t size;
        const char *words = item_find(m->line, l->position, &size);
        text_add(text, n, &used, "%5d  %-28.*s %6d x %3d x %3d", l->position, (int)size, words,
            l->out.h, l->out.w, l->out.c);
        if (l->parts) text_add(text, n, &used, " %12zu", l->weight.n + l->bias.n);
        text_add(text, n, &used, "\n");
    }
    text_add(text, n, &used, "%5s  %-28s %18s %12zu\n", "", "all", "", m->parameters);
}
