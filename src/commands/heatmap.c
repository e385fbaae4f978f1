#include "heatmap.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEFT = 70, TOP = 50, SIDE = 500, LEGEND = 110, BOTTOM = 60, TICKS = 5 };

static double value_at(const struct heatmap *h, int i, int j) {
    return h->value[(size_t)j * (size_t)h->columns + (size_t)i];
}

/* Largest distance from the limit, on the side of the sign: the color's scale. */
static double most_beyond(const struct heatmap *h, int sign) {
    double most = 1e-12;
    for (int k = 0; k < h->columns * h->rows; k++) {
        most = fmax(most, sign * (h->value[k] - h->limit));
    }
    return most;
}

/* White at the limit, to dark blue below and dark red above. */
static void print_color(FILE *f, double beyond, double most) {
    double s = sqrt(fmin(fabs(beyond) / most, 1));
    int faint = (int)lround(255 - 200 * s), strong = (int)lround(255 - 60 * s);
    if (beyond > 0) {
        fprintf(f, "rgb(%d,%d,%d)", strong, faint, faint);
    } else {
        fprintf(f, "rgb(%d,%d,%d)", faint, faint, strong);
    }
}

static void print_cells(FILE *f, const struct heatmap *h) {
    double w = (double)SIDE / h->columns, tall = (double)SIDE / h->rows;
    double above = most_beyond(h, 1), below = most_beyond(h, -1);
    for (int j = 0; j < h->rows; j++) {
        for (int i = 0; i < h->columns; i++) {
            double beyond = value_at(h, i, j) - h->limit;
            fprintf(f, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"",
                LEFT + i * w, TOP + SIDE - (j + 1) * tall, w + 0.3, tall + 0.3);
            print_color(f, beyond, beyond > 0 ? above : below);
            fputs("\"/>\n", f);
        }
    }
}

/* An edge between each two neighbors of which one is over the limit. */
static void print_outline(FILE *f, const struct heatmap *h) {
    double w = (double)SIDE / h->columns, tall = (double)SIDE / h->rows;
    fputs("<path fill=\"none\" stroke=\"black\" stroke-width=\"1.5\" d=\"", f);
    for (int j = 0; j < h->rows; j++) {
        for (int i = 0; i < h->columns; i++) {
            int over = value_at(h, i, j) > h->limit;
            double x = LEFT + i * w, y = TOP + SIDE - (j + 1) * tall;
            if (i + 1 < h->columns && over != (value_at(h, i + 1, j) > h->limit)) {
                fprintf(f, "M%.2f %.2fv%.2f", x + w, y, tall);
            }
            if (j + 1 < h->rows && over != (value_at(h, i, j + 1) > h->limit)) {
                fprintf(f, "M%.2f %.2fh%.2f", x, y, w);
            }
        }
    }
    fputs("\"/>\n", f);
}

static void print_axes(FILE *f, const struct heatmap *h) {
    for (int k = 0; k <= TICKS; k++) {
        double at = (double)SIDE * k / TICKS;
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n", LEFT + at,
            TOP + SIDE + 20, h->x_most * k / TICKS);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 8,
            TOP + SIDE - at + 4, h->y_most * k / TICKS);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", LEFT + SIDE / 2,
        TOP + SIDE + 45, h->x);
    fprintf(f, "<text x=\"20\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", TOP + SIDE / 2, h->y);
    fprintf(f, "<text x=\"%d\" y=\"28\" text-anchor=\"middle\" font-size=\"16\">%s</text>\n",
        LEFT + SIDE / 2, h->title);
}

static void print_legend(FILE *f, const struct heatmap *h) {
    enum { STEPS = 40 };
    double above = most_beyond(h, 1), below = most_beyond(h, -1), tall = (double)SIDE / STEPS;
    for (int k = 0; k < STEPS; k++) {
        double s = 2.0 * (k + 0.5) / STEPS - 1, most = s > 0 ? above : below;
        fprintf(f, "<rect x=\"%d\" y=\"%.2f\" width=\"20\" height=\"%.2f\" fill=\"",
            LEFT + SIDE + 20, TOP + SIDE - (k + 1) * tall, tall + 0.3);
        print_color(f, s * most, most);
        fputs("\"/>\n", f);
    }
    const double mark[] = {h->limit - below, h->limit, h->limit + above};
    for (int k = 0; k < 3; k++) {
        fprintf(f, "<text x=\"%d\" y=\"%d\">%.6g</text>\n", LEFT + SIDE + 46,
            TOP + SIDE - SIDE * k / 2 + 4, mark[k]);
    }
}

static void print_all(FILE *f, const struct heatmap *h) {
    int wide = LEFT + SIDE + LEGEND, tall = TOP + SIDE + BOTTOM;
    fprintf(f,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
        wide, tall, wide, tall, wide, tall);
    print_cells(f, h);
    print_outline(f, h);
    print_axes(f, h);
    print_legend(f, h);
    fputs("</svg>\n", f);
}

enum status heatmap_write(const struct heatmap *h, const char *path) {
    char draft[4096 + 8];
    if (snprintf(draft, sizeof draft, "%s.tmp", path) >= (int)sizeof draft) {
        return fail(STATUS_IO, "the path of the picture is longer than 4096 bytes");
    }
    FILE *f = fopen(draft, "w");
    if (!f) return fail(STATUS_IO, "%s: %s", draft, strerror(errno));
    print_all(f, h);
    int bad = ferror(f);
    bad |= fclose(f) != 0;
    if (!bad && rename(draft, path) == 0) return STATUS_OK;
    enum status end = fail(STATUS_IO, "%s: %s", path, strerror(errno));
    remove(draft);
    return end;
}
