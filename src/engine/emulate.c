#include "engine/emulate.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REAL, VIRTUAL };

const struct option emulate_options[] = {
    {"time", OPTION_CHOICE, offsetof(struct emulate_settings, time), REAL, REAL, VIRTUAL,
        "real|virtual: workers sleep as long as the emulated machine takes; or nobody does, clocks "
        "are added up, and the run repeats exactly",
        NULL},
    {"compute", OPTION_TEXT, offsetof(struct emulate_settings, compute), 0, 0, 32,
        "time=virtual: what a gradient and its step take, as 10ms", NULL},
    {"slow", OPTION_TEXT, offsetof(struct emulate_settings, slow), 0, 0, 256,
        "workers whose steps take longer: 2:5x,3:1.5x", NULL},
    {"freeze", OPTION_TEXT, offsetof(struct emulate_settings, freeze), 0, 0, 256,
        "workers that stop once, after so many of their steps, for so long: 1@100+2s", NULL},
    {"link", OPTION_TEXT, offsetof(struct emulate_settings, link), 0, 0, 512,
        "links between workers, c being host memory, * any: 0-1:8GB/s+5us,*-c:1GB/s; the last one "
        "counts, all others take no time",
        NULL},
    {0},
};

/* ---- words ---------------------------------------------------------------------------------- */

/* A number that is no less than `least`, after which *at stands. */
static int take_number(const char **at, double least, double *number) {
    char *end;
    if (!isdigit((unsigned char)**at) && **at != '.') return 0;
    *number = strtod(*at, &end);
    if (end == *at || !isfinite(*number) || *number < least) return 0;
    *at = end;
    return 1;
}

static int take_word(const char **at, const char *word) {
    size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0) return 0;
    *at += n;
    return 1;
}

static int take_whole(const char **at, long most, long *number) {
    char *end;
    if (!isdigit((unsigned char)**at)) return 0;
    *number = strtol(*at, &end, 10);
    *at = end;
    return *number <= most;
}

/* A worker's rank; where there is none of it, the emulation remembers which was named. */
static int take_rank(struct emulation *e, const char **at, int workers, long *rank) {
    if (!take_whole(at, LONG_MAX, rank)) return 0;
    if (*rank >= workers) e->nobody = *rank;
    return *rank < workers;
}

/* One of the words behind a number; what it stands for. */
struct unit {
    const char *word;
    double factor;
};

static const struct unit times[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {0}};
static const struct unit rates[] = {
    {"TB/s", 1e12}, {"GB/s", 1e9}, {"MB/s", 1e6}, {"KB/s", 1e3}, {"kB/s", 1e3}, {"B/s", 1}, {0}};

static int take_unit(const char **at, const struct unit *unit, double *number) {
    for (; unit->word; unit++) {
        if (!take_word(at, unit->word)) continue;
        *number *= unit->factor;
        return 1;
    }
    return 0;
}

/* Whether a piece is over. */
static int is_end(const char *at) {
    at += strspn(at, " ");
    return !*at || *at == ',';
}

/* ---- pieces --------------------------------------------------------------------------------- */

static int take_slow(struct emulation *e, const char *at, int workers) {
    long rank;
    double factor;
    if (!take_rank(e, &at, workers, &rank) || !take_word(&at, ":")) return 0;
    if (!take_number(&at, 1, &factor) || !take_word(&at, "x") || !is_end(at)) return 0;
    e->slow[rank] = factor;
    return 1;
}

static int take_freeze(struct emulation *e, const char *at, int workers) {
    long rank, step;
    double seconds;
    if (!take_rank(e, &at, workers, &rank) || !take_word(&at, "@")) return 0;
    if (!take_whole(&at, 2000000000, &step) || step == 0 || !take_word(&at, "+")) return 0;
    if (!take_number(&at, 0, &seconds) || !take_unit(&at, times, &seconds)) return 0;
    if (!is_end(at) || e->freezes == FREEZES_MOST) return 0;
    e->freeze[e->freezes++] = (struct freeze){(int)rank, step, seconds};
    return 1;
}

/* The ranks from *first to *last. */
static int take_end(struct emulation *e, const char **at, int workers, long *first, long *last) {
    *first = *last = TEAM_MOST;
    if (take_word(at, "c")) return 1;
    if (take_word(at, "*")) {
        *first = 0;
        *last = workers - 1;
        return 1;
    }
    int is_rank = take_rank(e, at, workers, first);
    *last = *first;
    return is_rank;
}

/* "8GB/s", "5us" or both with a + between. */
static int take_link(const char *at, struct emulated_link *link) {
    *link = (struct emulated_link){0, 0};
    do {
        double number;
        if (!take_number(&at, 0, &number)) return 0;
        if (take_unit(&at, rates, &number)) {
            if (!(number > 0) || link->per_byte > 0) return 0;
            link->per_byte = 1 / number;
        } else if (!take_unit(&at, times, &number)) {
            return 0;
        } else {
            link->latency += number;
        }
    } while (take_word(&at, "+"));
    return is_end(at);
}

static int take_links(struct emulation *e, const char *at, int workers) {
    long a, a_last, b, b_last;
    int is_one = *at != '*';
    struct emulated_link link;
    if (!take_end(e, &at, workers, &a, &a_last) || !take_word(&at, "-")) return 0;
    if (!take_end(e, &at, workers, &b, &b_last) || !take_word(&at, ":")) return 0;
    if (!take_link(at, &link) || (is_one && a == b && b == b_last)) return 0;
    for (long i = a; i <= a_last; i++) {
        for (long j = b; j <= b_last; j++) {
            if (i != j) e->link[i][j] = e->link[j][i] = link;
        }
    }
    e->has_links = 1;
    return 1;
}

static enum status bad_piece(const struct emulation *e, const char *option, const char *piece,
    const char *form, int workers) {
    if (e->nobody >= 0) {
        return fail(STATUS_BAD_CONFIG,
            "emulate.%s: \"%s\": there is no worker %ld; with run.workers=%d the last is %d",
            option, piece, e->nobody, workers, workers - 1);
    }
    return fail(STATUS_BAD_CONFIG, "emulate.%s: \"%s\" is not %s, with %d worker%s", option, piece,
        form, workers, workers == 1 ? "" : "s");
}

/* Piece by piece, with a comma between. */
static enum status take_list(struct emulation *e, const char *text, int workers, const char *option,
    int (*take)(struct emulation *e, const char *at, int workers), const char *form) {
    for (const char *at = text + strspn(text, " "); *at;) {
        const char *end = strchrnul(at, ',');
        e->nobody = -1;
        if (!take(e, at, workers)) {
            char piece[64];
            snprintf(piece, sizeof piece, "%.*s", (int)(end - at), at);
            return bad_piece(e, option, piece, form, workers);
        }
        if (!*end) return STATUS_OK;
        at = end + 1 + strspn(end + 1, " ");
        if (!*at) return fail(STATUS_BAD_CONFIG, "emulate.%s ends with a comma", option);
    }
    return STATUS_OK;
}

static enum status take_compute(struct emulation *e, const char *text) {
    const char *at = text;
    if (*text && take_number(&at, 0, &e->compute) && take_unit(&at, times, &e->compute)) {
        if (!*at && e->compute > 0) return STATUS_OK;
    }
    if (*text) {
        return fail(STATUS_BAD_CONFIG,
            "emulate.compute: \"%s\" is not a time above 0, as 10ms, 2.5us or 1s", text);
    }
    if (!e->is_virtual) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "emulate.time=virtual needs emulate.compute, what a step takes, as emulate.compute=10ms");
}

enum status emulation_open(struct emulation *e, const struct emulate_settings *set, int workers) {
    *e = (struct emulation){.is_virtual = set->time == VIRTUAL};
    for (int r = 0; r < TEAM_MOST; r++) e->slow[r] = 1;
    TRY(take_list(
        e, set->slow, workers, "slow", take_slow, "RANK:FACTORx, as 1:5x, a factor of at least 1"));
    TRY(take_list(e, set->freeze, workers, "freeze", take_freeze,
        "RANK@STEP+TIME, as 1@100+2s, a step of at least 1"));
    TRY(take_list(e, set->link, workers, "link", take_links,
        "RANK-RANK:RATE+TIME, as 0-1:8GB/s+5us, 0-c:1GB/s or *-c:5us"));
    e->is_on = e->is_virtual || *set->slow || *set->freeze || *set->link;
    return take_compute(e, set->compute);
}

/* ---- what it takes -------------------------------------------------------------------------- */

double emulation_freeze(const struct emulation *e, int rank, long steps) {
    double seconds = 0;
    for (int i = 0; i < e->freezes; i++) {
        const struct freeze *f = &e->freeze[i];
        if (f->rank == rank && f->step == steps) seconds += f->seconds;
    }
    return seconds;
}

static double message(const struct emulated_link *link, double bytes) {
    return link->latency + link->per_byte * bytes;
}

double emulation_message(const struct emulation *e, int rank, int home, double bytes) {
    return message(&e->link[rank][home == HOME_HOST ? TEAM_MOST : home], bytes);
}

double emulation_ring(const struct emulation *e, int first, int count, double bytes) {
    double slowest = 0;
    for (int i = 0; i < count && count > 1; i++) {
        const struct emulated_link *link = &e->link[first + i][first + (i + 1) % count];
        slowest = fmax(slowest, message(link, bytes / count));
    }
    return 2 * (count - 1) * slowest;
}
