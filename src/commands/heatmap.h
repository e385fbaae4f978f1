/* heatmap.h -- a function of two numbers as a picture: SVG, one rectangle a value. */
#ifndef HEATMAP_H
#define HEATMAP_H

#include "base/status.h"

/* value[j * columns + i] belongs to (x, y) = ((i + 1) x_most / columns, (j + 1) y_most / rows), the
 * middle of its rectangle. Values over `limit` are drawn in reds, those below in blues, and a line
 * runs between. */
struct heatmap {
    const char *title, *x, *y; /* plain text, no markup */
    int columns, rows;
    double x_most, y_most, limit;
    const double *value;
};

/* Written to a temporary file beside it, then renamed. */
enum status heatmap_write(const struct heatmap *h, const char *path);

#endif
