#include "engine/record.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/draft.h"
#include "base/replacement.h"
#include "engine/team_waits.h"

static const char FIRST[] = "huddle record 1", EVENTS[] = "events";

enum { NAMES_MOST = 4 * TEAM_MOST };

struct events {
    struct record_event *at;
    size_t n, room;
};

struct record {
    const char *path;
    uint64_t sum; /* of all lines but the last */
    long count;   /* events written or read */

    struct replacement file;      /* its file is NULL when the record is followed, or finished */
    pthread_mutex_t lock;         /* guards the next two */
    struct events added, written; /* they change places: one is added to while one is written */
    int lost;                     /* there was no memory for an event */

    char *config;
    char *name[NAMES_MOST]; /* of shared vectors */
    int names;
    struct events read;
    size_t passed;
    atomic_long rounds_left; /* read while others come to their next meeting */
};

/* False when there is no memory. */
static int push(struct events *all, const struct record_event *e) {
    if (all->n == all->room) {
        size_t room = all->room ? 2 * all->room : 1024;
        struct record_event *at = realloc(all->at, room * sizeof *at);
        if (!at) return 0;
        all->at = at;
        all->room = room;
    }
    all->at[all->n++] = *e;
    return 1;
}

void record_tell(const struct record_event *e, char *text, size_t n) {
    if (e->name) {
        snprintf(text, n, "%c %d %s %.17g", e->kind, e->rank, e->name, e->version);
    } else {
        snprintf(text, n, "%c %d", e->kind, e->rank);
    }
}

/* ---- written -------------------------------------------------------------------------------- */

static void put_line(struct record *r, const char *line, size_t n) {
    r->sum = checksum(r->sum, line, n);
    fprintf(r->file.file, "%.*s\n", (int)n, line);
}

static void put_lines(struct record *r, const char *text) {
    for (const char *end; *text; text = *end ? end + 1 : end) {
        end = strchrnul(text, '\n');
        put_line(r, text, (size_t)(end - text));
    }
}

static enum status open_new(struct record **out, const char *path) {
    struct record *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) return fail(STATUS_FAILED, "no memory for the record %s", path);
    r->path = path;
    pthread_mutex_init(&r->lock, NULL);
    return STATUS_OK;
}

enum status record_create(struct record **out, const char *path, const char *config) {
    TRY(open_new(out, path));
    TRY(replacement_open(&(*out)->file, path));
    put_lines(*out, FIRST);
    put_lines(*out, config);
    put_lines(*out, EVENTS);
    return STATUS_OK;
}

void record_add(struct record *r, const struct record_event *e) {
    pthread_mutex_lock(&r->lock);
    if (!push(&r->added, e)) r->lost = 1;
    pthread_mutex_unlock(&r->lock);
}

enum status record_write(struct record *r) {
    char line[256];
    pthread_mutex_lock(&r->lock);
    struct events all = r->added;
    r->added = r->written;
    r->added.n = 0;
    r->written = all;
    int lost = r->lost;
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < all.n; i++) {
        record_tell(&all.at[i], line, sizeof line);
        put_line(r, line, strlen(line));
    }
    r->count += (long)all.n;
    if (lost) return fail(STATUS_FAILED, "no memory for the record %s", r->path);
    if (!ferror(r->file.file)) return STATUS_OK;
    return fail(STATUS_IO, "cannot write %s: %s", r->path, strerror(errno));
}

enum status record_finish(struct record *r) {
    TRY(record_write(r));
    fprintf(r->file.file, "end %ld %016" PRIx64 "\n", r->count, r->sum);
    return replacement_close(&r->file);
}

/* ---- read ----------------------------------------------------------------------------------- */

/* Cuts the line to pieces; false when it is no event. */
static int parse(char *line, struct record_event *e) {
    char *end;
    *e = (struct record_event){.kind = line[0]};
    if (!line[0] || !strchr("mlrg", line[0]) || line[1] != ' ') return 0;
    long rank = strtol(line + 2, &end, 10);
    if (end == line + 2 || rank < 0 || rank >= TEAM_MOST) return 0;
    e->rank = (int)rank;
    if (e->kind != RECORD_LOCK) return !*end;
    char *blank = strrchr(line, ' ');
    if (*end != ' ' || blank <= end + 1) return 0;
    *blank = '\0';
    e->name = end + 1;
    e->version = strtod(blank + 1, &end);
    return end != blank + 1 && !*end && isfinite(e->version);
}

/* The few names there are, each once. */
static enum status keep_name(struct record *r, struct record_event *e) {
    int i = 0;
    if (!e->name) return STATUS_OK;
    while (i < r->names && strcmp(r->name[i], e->name) != 0) i++;
    if (i == NAMES_MOST) return fail(STATUS_IO, "%s has more than %d names", r->path, NAMES_MOST);
    if (i == r->names) {
        r->name[i] = strdup(e->name);
        if (!r->name[i]) return fail(STATUS_FAILED, "no memory to read %s", r->path);
        r->names++;
    }
    e->name = r->name[i];
    return STATUS_OK;
}

static enum status read_event(struct record *r, const char *line, size_t n) {
    struct record_event e;
    char *pieces = strndup(line, n);
    enum status end = fail(STATUS_FAILED, "no memory to read %s", r->path);
    if (pieces && parse(pieces, &e)) {
        end = keep_name(r, &e);
        if (end == STATUS_OK && !push(&r->read, &e)) {
            end = fail(STATUS_FAILED, "no memory to read %s", r->path);
        }
        r->rounds_left += e.kind == RECORD_ROUND || e.kind == RECORD_GATHER;
    } else if (pieces) {
        end = fail(STATUS_IO, "%s is damaged: \"%.*s\" is no event", r->path, (int)n, line);
    }
    free(pieces);
    return end;
}

static enum status check_end(const struct record *r, const char *line) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "end %zu %016" PRIx64 "\n", r->read.n, r->sum);
    if (!strcmp(line, wanted)) return STATUS_OK;
    return fail(STATUS_IO, "%s is damaged: its last line is not \"%.*s\"", r->path,
        (int)strlen(wanted) - 1, wanted);
}

/* The line at *text, which moves on; NULL: there is no whole one. Its sum is taken. */
static const char *take_line(struct record *r, const char **text, size_t *n) {
    const char *line = *text, *end = strchr(line, '\n');
    if (!end) return NULL;
    *n = (size_t)(end - line);
    *text = end + 1;
    if (strncmp(line, "end ", 4) != 0) r->sum = checksum(r->sum, line, *n);
    return line;
}

static int is_line(const char *line, size_t n, const char *words) {
    return strlen(words) == n && !memcmp(line, words, n);
}

static enum status read_text(struct record *r, const char *text) {
    size_t n;
    const char *line = take_line(r, &text, &n), *config = text;
    if (!line || !is_line(line, n, FIRST)) {
        return fail(
            STATUS_IO, "%s is no record of a run: it does not begin with \"%s\"", r->path, FIRST);
    }
    do {
        line = take_line(r, &text, &n);
    } while (line && !is_line(line, n, EVENTS));
    if (line) r->config = strndup(config, (size_t)(line - config));
    if (line && !r->config) return fail(STATUS_FAILED, "no memory to read %s", r->path);
    while (line && (line = take_line(r, &text, &n))) {
        if (!strncmp(line, "end ", 4)) return check_end(r, line);
        TRY(read_event(r, line, n));
    }
    return fail(STATUS_IO, "%s is cut short: it has no last line", r->path);
}

static enum status load(const char *path, char **text) {
    char piece[1 << 16];
    struct draft d;
    *text = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    draft_open(&d);
    size_t all = 0;
    errno = 0;
    for (size_t n = 1; d.file && n > 0; all += n) {
        n = fread(piece, 1, sizeof piece, f);
        fwrite(piece, 1, n, d.file);
    }
    int bad = ferror(f), why = errno;
    fclose(f);
    *text = draft_close(&d);
    if (bad) return fail(STATUS_IO, "cannot read %s: %s", path, strerror(why));
    if (all == 0) return fail(STATUS_IO, "%s is empty", path);
    return *text ? STATUS_OK : fail(STATUS_FAILED, "no memory to read %s", path);
}

enum status record_read(struct record **out, const char *path) {
    char *text = NULL;
    TRY(open_new(out, path));
    enum status end = load(path, &text);
    if (end == STATUS_OK) end = read_text(*out, text);
    free(text);
    return end;
}

enum status record_groups(const struct record *r, int workers, int *group) {
    static const char name[] = "\ngroup =";
    int then[TEAM_MOST], n = 0, groups = 0;
    const char *at = strstr(r->config, "[compute]\n");
    if (at) at = strstr(at, name);
    if (!at) {
        return fail(STATUS_BAD_CONFIG,
            "%s does not say who sat together, as the records of this huddle do: record the run "
            "anew",
            r->path);
    }
    for (at += strlen(name); *at == ' '; n++) {
        char *end;
        long k = strtol(at, &end, 10);
        if (end == at || n == TEAM_MOST || k < 0 || k > groups) {
            return fail(STATUS_IO, "%s is damaged: its groups have gaps", r->path);
        }
        then[n] = (int)k;
        groups += k == groups;
        at = end;
    }
    if (n == workers) memcpy(group, then, (size_t)n * sizeof *group);
    return STATUS_OK;
}

/* ---- compared ------------------------------------------------------------------------------- */

/* "group.name" of what may differ; a name that ends with a dot: all of the group. */
static const char *const free_to_differ[] = {"run.name", "run.folder", "run.record", "run.replay",
    "run.devices", "run.epochs", "run.steps", "run.seconds", "run.target", "run.eval_every",
    "run.save_every", "run.watchdog", "run.curvature", "run.keep", "topology.", "emulate."};

struct setting {
    char group[64], line[768];
};

static int may_differ(const struct setting *s) {
    char both[sizeof s->group + sizeof s->line];
    snprintf(both, sizeof both, "%s.%s", s->group, s->line);
    for (size_t i = 0; i < sizeof free_to_differ / sizeof *free_to_differ; i++) {
        const char *name = free_to_differ[i];
        size_t n = strlen(name);
        if (!strncmp(both, name, n) && (name[n - 1] == '.' || both[n] == ' ')) return 1;
    }
    return 0;
}

/* The next setting that must be the same; false at the end. */
static int next_setting(const char **text, struct setting *s) {
    while (**text) {
        const char *end = strchrnul(*text, '\n');
        int n = (int)(end - *text);
        if (**text == '[') {
            snprintf(s->group, sizeof s->group, "%.*s", n > 2 ? n - 2 : 0, *text + 1);
            n = 0;
        }
        snprintf(s->line, sizeof s->line, "%.*s", n, *text);
        *text = *end ? end + 1 : end;
        if (n > 0 && !may_differ(s)) return 1;
    }
    snprintf(s->line, sizeof s->line, "nothing more");
    return 0;
}

enum status record_check(const struct record *r, const char *config) {
    struct setting was = {"", ""}, is = {"", ""};
    const char *then = r->config, *now = config;
    int more;
    do {
        more = next_setting(&then, &was);
        int here = next_setting(&now, &is);
        if (more == here && !strcmp(was.group, is.group) && !strcmp(was.line, is.line)) continue;
        return fail(STATUS_BAD_CONFIG,
            "%s is the record of another run: it has [%s] %.100s where this one has [%s] %.100s",
            r->path, was.group, was.line, is.group, is.line);
    } while (more);
    return STATUS_OK;
}

/* ---- followed ------------------------------------------------------------------------------- */

const struct record_event *record_next(const struct record *r) {
    return r->passed < r->read.n ? &r->read.at[r->passed] : NULL;
}

void record_pass(struct record *r) {
    const struct record_event *e = &r->read.at[r->passed++];
    r->rounds_left -= e->kind == RECORD_ROUND || e->kind == RECORD_GATHER;
}

long record_passed(const struct record *r) { return (long)r->passed; }
long record_rounds_left(const struct record *r) { return r->rounds_left; }

void record_close(struct record *r) {
    if (!r) return;
    if (r->file.file) {
        fclose(r->file.file);
        unlink(r->file.beside);
    }
    pthread_mutex_destroy(&r->lock);
    for (int i = 0; i < r->names; i++) free(r->name[i]);
    free(r->config);
    free(r->added.at);
    free(r->written.at);
    free(r->read.at);
    free(r);
}
