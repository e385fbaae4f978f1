/* stability.c -- huddle stability: where ADMM and EASGD come to rest, and how large a step
 * DOWNPOUR and EASGD bear. */
#include "theory/stability.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "commands/heatmap.h"

struct stability_settings {
    int method, p, points, order;
    float eta, rho;
    char csv[256], svg[256];
};

enum { METHOD_ADMM, METHOD_EASGD, METHOD_LARGEST_ETA };

const struct option stability_options[] = {
    {"method", OPTION_CHOICE, offsetof(struct stability_settings, method), METHOD_ADMM, 0, 2,
        "admm|easgd|largest_eta: |eigenvalue| over a grid of eta and rho, with alpha = eta rho "
        "for easgd; or the largest stable eta of DOWNPOUR and EASGD by workers and tau",
        NULL},
    {"p", OPTION_INT, offsetof(struct stability_settings, p), 3, 1, STABILITY_MOST, "workers",
        NULL},
    {"eta", OPTION_REAL, offsetof(struct stability_settings, eta), 1e-2, 1e-9, 1e3,
        "the grid's largest rate, times the curvature", NULL},
    {"rho", OPTION_REAL, offsetof(struct stability_settings, rho), 10, 1e-9, 1e6,
        "the grid's largest penalty", NULL},
    {"points", OPTION_INT, offsetof(struct stability_settings, points), 100, 1, 1000,
        "of the grid, each way", NULL},
    {"order", OPTION_CHOICE, offsetof(struct stability_settings, order), 0, 0, 1,
        "before|after: easgd's exchange at the point before the gradient step, or after it", NULL},
    {"csv", OPTION_TEXT, offsetof(struct stability_settings, csv), 0, 0, 256,
        "a file for all values", ""},
    {"svg", OPTION_TEXT, offsetof(struct stability_settings, svg), 0, 0, 256,
        "a file for the picture", ""},
    {0},
};

/* ---- the grid ------------------------------------------------------------------------------ */

/* Neither axis begins at 0, where nothing moves. */
static double grid_at(float most, int i, int points) { return (double)most * (i + 1) / points; }

static enum status grid_fill(const struct stability_settings *set, double *value) {
    struct stability s = {.p = set->p,
        .method = set->method == METHOD_ADMM ? STABILITY_ADMM : STABILITY_EASGD,
        .after = set->order};
    for (int j = 0; j < set->points; j++) {
        for (int i = 0; i < set->points; i++) {
            s.eta = grid_at(set->eta, i, set->points);
            s.rho = grid_at(set->rho, j, set->points);
            TRY(stability_radius(&s, value++));
        }
    }
    return STATUS_OK;
}

static enum status close_csv(FILE *f, const char *path) {
    int bad = ferror(f);
    bad |= fclose(f) != 0;
    return bad ? fail(STATUS_IO, "%s: %s", path, strerror(errno)) : STATUS_OK;
}

static enum status write_csv(const struct stability_settings *set, const double *value) {
    FILE *f = fopen(set->csv, "w");
    if (!f) return fail(STATUS_IO, "%s: %s", set->csv, strerror(errno));
    fputs("eta,rho,radius\n", f);
    for (int k = 0; k < set->points * set->points; k++) {
        fprintf(f, "%.9g,%.9g,%.12g\n", grid_at(set->eta, k % set->points, set->points),
            grid_at(set->rho, k / set->points, set->points), value[k]);
    }
    return close_csv(f, set->csv);
}

static enum status write_svg(const struct stability_settings *set, const double *value) {
    char title[96];
    snprintf(title, sizeof title, "%s, p = %d: largest |eigenvalue| of a sweep",
        set->method == METHOD_ADMM ? "ADMM" : "EASGD", set->p);
    struct heatmap h = {title, "eta", "rho", set->points, set->points, (double)set->eta,
        (double)set->rho, 1, value};
    return heatmap_write(&h, set->svg);
}

enum { SHOWN = 8 }; /* columns and rows of the table */

/* The grid's point that the k-th of the table's columns or rows shows. */
static int shown_at(int k, int points) {
    return points <= SHOWN ? k : (int)((long)(k + 1) * points / SHOWN) - 1;
}

static void print_grid(const struct stability_settings *set, const double *value) {
    int points = set->points, shown = points < SHOWN ? points : SHOWN;
    printf("%10s", "rho \\ eta");
    for (int i = 0; i < shown; i++) {
        printf(" %13.4g", grid_at(set->eta, shown_at(i, points), points));
    }
    putchar('\n');
    for (int j = shown - 1; j >= 0; j--) {
        printf("%10.4g", grid_at(set->rho, shown_at(j, points), points));
        for (int i = 0; i < shown; i++) {
            printf(" %#13.7g", value[shown_at(j, points) * points + shown_at(i, points)]);
        }
        putchar('\n');
    }
}

static void print_largest(const struct stability_settings *set, const double *value) {
    int points = set->points, n = points * points, at = 0, over = 0;
    for (int k = 0; k < n; k++) {
        if (value[k] > value[at]) at = k;
        over += value[k] > 1;
    }
    printf("\nlargest %.10g at eta %.4g, rho %.4g; over 1 at %.1f %% of %d points\n", value[at],
        grid_at(set->eta, at % points, points), grid_at(set->rho, at / points, points),
        100.0 * over / n, n);
}

static enum status show_grid(const struct stability_settings *set) {
    double *value = calloc((size_t)set->points * (size_t)set->points, sizeof *value);
    if (!value) return fail(STATUS_FAILED, "no memory for %d points squared", set->points);
    enum status end = grid_fill(set, value);
    if (end == STATUS_OK && *set->csv) end = write_csv(set, value);
    if (end == STATUS_OK && *set->svg) end = write_svg(set, value);
    if (end == STATUS_OK) {
        printf("largest |eigenvalue| of one sweep of %s, p = %d; stable up to 1\n\n",
            set->method == METHOD_ADMM ? "ADMM" : "EASGD", set->p);
        print_grid(set, value);
        print_largest(set, value);
    }
    free(value);
    return end;
}

/* ---- the largest stable eta ---------------------------------------------------------------- */

static const int workers_of[] = {1, 4, 8, 16}, taus_of[] = {1, 4, 16, 64};

enum { KINDS = 4 };

/* Of one method, by workers and tau. */
struct bounds {
    double eta[KINDS][KINDS];
};

static enum status find_bounds(struct bounds *b, int method) {
    for (int i = 0; i < KINDS; i++) {
        for (int k = 0; k < KINDS; k++) {
            struct stability s = {
                .method = method, .p = workers_of[i], .tau = taus_of[k], .beta = 0.9};
            TRY(stability_bound(s, &b->eta[i][k]));
        }
    }
    return STATUS_OK;
}

static void print_bounds(const char *name, const struct bounds *b) {
    printf("\n%-10s", name);
    for (int k = 0; k < KINDS; k++) printf("   tau = %-3d", taus_of[k]);
    putchar('\n');
    for (int i = 0; i < KINDS; i++) {
        printf("  p = %-4d", workers_of[i]);
        for (int k = 0; k < KINDS; k++) printf("%12.4g", b->eta[i][k]);
        putchar('\n');
    }
}

static void write_bounds(FILE *f, const char *name, const struct bounds *b) {
    for (int i = 0; i < KINDS; i++) {
        for (int k = 0; k < KINDS; k++) {
            fprintf(f, "%s,%d,%d,%.9g\n", name, workers_of[i], taus_of[k], b->eta[i][k]);
        }
    }
}

static enum status write_all_bounds(
    const char *path, const struct bounds *downpour, const struct bounds *easgd) {
    FILE *f = fopen(path, "w");
    if (!f) return fail(STATUS_IO, "%s: %s", path, strerror(errno));
    fputs("method,p,tau,largest_eta\n", f);
    write_bounds(f, "downpour", downpour);
    write_bounds(f, "easgd", easgd);
    return close_csv(f, path);
}

static enum status show_largest_eta(const struct stability_settings *set) {
    struct bounds downpour, easgd;
    if (*set->svg) {
        return fail(STATUS_BAD_CONFIG,
            "stability.svg: method=largest_eta is a table, of which there is no picture; csv= "
            "writes it");
    }
    TRY(find_bounds(&downpour, STABILITY_DOWNPOUR));
    TRY(find_bounds(&easgd, STABILITY_EASGD_TAU));
    if (*set->csv) TRY(write_all_bounds(set->csv, &downpour, &easgd));
    puts("largest stable eta times curvature, workers in lock step; EASGD with beta = 0.9");
    print_bounds("DOWNPOUR", &downpour);
    print_bounds("EASGD", &easgd);
    return STATUS_OK;
}

/* ---- the command --------------------------------------------------------------------------- */

static enum status read_words(struct settings *s, int words, char **word) {
    static const struct option_group group[] = {{"stability", "", stability_options}, {0}};
    for (int i = 0; i < words; i++) {
        char argument[600];
        snprintf(argument, sizeof argument, "%s%s",
            strncmp(word[i], "stability.", 10) ? "stability." : "", word[i]);
        TRY(settings_read_argument(s, argument));
    }
    return settings_check(s, group);
}

enum status command_stability(int words, char **word) {
    struct settings *settings;
    struct stability_settings set;
    TRY(settings_open(&settings));
    enum status end = read_words(settings, words, word);
    if (end == STATUS_OK) end = settings_apply(settings, "stability", stability_options, &set);
    settings_close(settings);
    TRY(end);
    return set.method == METHOD_LARGEST_ETA ? show_largest_eta(&set) : show_grid(&set);
}
