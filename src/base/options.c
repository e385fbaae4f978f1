#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum source { SOURCE_FILE, SOURCE_ARGUMENT };

struct setting {
    char *group, *name, *value;
    enum source source;
    char where[80]; /* "easgd.ini:12", "command line" */
};

struct settings {
    struct setting *at;
    size_t n, room;
};

enum status settings_open(struct settings **out) {
    *out = calloc(1, sizeof **out);
    return *out ? STATUS_OK : fail(STATUS_FAILED, "no memory for the settings");
}

void settings_close(struct settings *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        free(s->at[i].group);
        free(s->at[i].name);
        free(s->at[i].value);
    }
    free(s->at);
    free(s);
}

static enum status add(struct settings *s, const char *group, const char *name, const char *value,
    enum source source, const char *where) {
    for (size_t i = 0; i < s->n; i++) {
        struct setting *old = &s->at[i];
        int other = strcmp(old->group, group) != 0 || strcmp(old->name, name) != 0;
        if (other || old->source != source) continue;
        return fail(STATUS_BAD_CONFIG, "%s: %s.%s is set twice: %s and %s", where, group, name,
            old->value, value);
    }
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 32;
        struct setting *at = realloc(s->at, room * sizeof *at);
        if (!at) return fail(STATUS_FAILED, "no memory for the settings");
        s->at = at;
        s->room = room;
    }
    struct setting *new = &s->at[s->n++];
    *new = (struct setting){strdup(group), strdup(name), strdup(value), source, ""};
    snprintf(new->where, sizeof new->where, "%s", where);
    if (new->group &&new->name &&new->value) return STATUS_OK;
    return fail(STATUS_FAILED, "no memory for the settings");
}

/* ---- ini ---------------------------------------------------------------------------------- */

/* inih calls back line by line; a line that starts with a blank goes on with the value before. */
struct reading {
    struct settings *into;
    const char *where;
    FILE *file; /* or */
    const char *text;
    int line, continued, too_long;
    enum status failed;
};

static char *next_line(char *to, int room, void *user) {
    struct reading *r = user;
    char *got = to;
    if (r->file) {
        got = fgets(to, room, r->file);
    } else {
        size_t n = strcspn(r->text, "\n");
        if (r->text[n] == '\n') n++;
        if (n == 0) return NULL;
        if (n > (size_t)room - 1) n = (size_t)room - 1;
        memcpy(to, r->text, n);
        to[n] = '\0';
        r->text += n;
    }
    if (!got) return NULL;
    r->line++;
    r->continued = isblank((unsigned char)to[0]);
    if (strlen(to) == (size_t)room - 1 && to[room - 2] != '\n' && !r->too_long) {
        r->too_long = r->line;
    }
    return got;
}

static int take_line(void *user, const char *group, const char *name, const char *value) {
    struct reading *r = user;
    struct settings *s = r->into;
    if (r->failed != STATUS_OK) return 0;
    struct setting *last = s->n > 0 ? &s->at[s->n - 1] : NULL;
    if (!*group) group = "run";
    if (r->continued && last && !strcmp(last->group, group) && !strcmp(last->name, name)) {
        size_t n = strlen(last->value), more = strlen(value) + 2;
        char *longer = realloc(last->value, n + more);
        if (!longer) {
            r->failed = fail(STATUS_FAILED, "no memory for the settings");
            return 0;
        }
        snprintf(longer + n, more, " %s", value);
        last->value = longer;
        return 1;
    }
    char where[80];
    snprintf(where, sizeof where, "%s:%d", r->where, r->line);
    r->failed = add(s, group, name, value, SOURCE_FILE, where);
    return r->failed == STATUS_OK;
}

static enum status read_lines(struct reading *r) {
    int bad = ini_parse_stream(next_line, r, take_line, r);
    if (r->failed != STATUS_OK) return r->failed;
    if (r->too_long) {
        return fail(STATUS_BAD_CONFIG,
            "%s:%d: the line is too long; break it and start the next with a blank", r->where,
            r->too_long);
    }
    if (bad) {
        return fail(STATUS_BAD_CONFIG, "%s:%d: neither [group] nor name = value", r->where, bad);
    }
    return STATUS_OK;
}

enum status settings_read_text(struct settings *s, const char *text, const char *where) {
    struct reading r = {.into = s, .where = where, .text = text};
    return read_lines(&r);
}

enum status settings_read_file(struct settings *s, const char *path) {
    struct reading r = {.into = s, .where = path, .file = fopen(path, "r")};
    if (!r.file) return fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    enum status end = read_lines(&r);
    if (ferror(r.file)) end = fail(STATUS_IO, "cannot read %s: %s", path, strerror(errno));
    fclose(r.file);
    return end;
}

enum status settings_read_argument(struct settings *s, const char *argument) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument) {
        return fail(STATUS_BAD_CONFIG, "\"%s\" is not group.name=value", argument);
    }
    const char *dot = memchr(argument, '.', (size_t)(equals - argument));
    const char *start = dot ? dot + 1 : argument;
    char *group = dot ? strndup(argument, (size_t)(dot - argument)) : strdup("run");
    char *name = strndup(start, (size_t)(equals - start));
    enum status end = fail(STATUS_FAILED, "no memory for the settings");
    if (group && name) end = add(s, group, name, equals + 1, SOURCE_ARGUMENT, "command line");
    free(group);
    free(name);
    return end;
}

/* ---- tables ------------------------------------------------------------------------------- */

void option_word(const struct option *o, int i, char *word, size_t n) {
    const char *at = o->help;
    size_t size = 0;
    for (; i >= 0; i--) {
        size = strcspn(at, "|: ");
        if (i == 0) break;
        if (at[size] != '|') size = 0;
        if (at[size] != '|') break;
        at += size + 1;
    }
    if (size >= n) size = n - 1;
    memcpy(word, at, size);
    word[size] = '\0';
}

static enum status bad_value(const struct setting *s, const struct option *o) {
    char lo[32], hi[32];
    if (o->type == OPTION_CHOICE) {
        int n = (int)strcspn(o->help, ": ");
        return fail(STATUS_BAD_CONFIG, "%s: %s.%s = %s is none of %.*s", s->where, s->group,
            s->name, s->value, n, o->help);
    }
    if (o->type == OPTION_TEXT) {
        return fail(STATUS_BAD_CONFIG, "%s: %s.%s is longer than %.0f characters", s->where,
            s->group, s->name, o->hi - 1);
    }
    snprintf(lo, sizeof lo, "%.10g", o->lo);
    snprintf(hi, sizeof hi, "%.10g", o->hi);
    return fail(STATUS_BAD_CONFIG, "%s: %s.%s = %s is not %s in %s .. %s", s->where, s->group,
        s->name, s->value, o->type == OPTION_INT ? "a whole number" : "a number", lo, hi);
}

static enum status set_choice(const struct setting *s, const struct option *o, int *field) {
    char word[32];
    for (int i = 0; (double)i <= o->hi; i++) {
        option_word(o, i, word, sizeof word);
        if (strcmp(word, s->value) != 0) continue;
        *field = i;
        return STATUS_OK;
    }
    return bad_value(s, o);
}

/* What inih would take for a comment or could not hold in a line must not get in. */
enum { WIDTH = 100, WORD_MOST = 150 };

/* A long value is broken at a blank between letters only: inih takes all blanks off both ends of a
 * line, and one comes back. */
static int is_break(const char *text, size_t at) {
    return text[at] == ' ' && at > 0 && !isspace((unsigned char)text[at - 1]) && text[at + 1] &&
           !isspace((unsigned char)text[at + 1]);
}

static int can_be_written(const char *value) {
    size_t word = 0;
    if (value[strcspn(value, ";#\n\r")]) return 0;
    for (size_t at = 0; value[at]; at++) {
        if (is_break(value, at)) word = at + 1;
        if (at + 1 - word > WORD_MOST) return 0;
    }
    return 1;
}

/* Without the blanks at both ends, which a file's values do not have either. */
static enum status set_text(const struct setting *s, const struct option *o, char *field) {
    const char *from = s->value;
    while (isspace((unsigned char)*from)) from++;
    size_t n = strlen(from);
    while (n > 0 && isspace((unsigned char)from[n - 1])) n--;
    if (n >= (size_t)o->hi) return bad_value(s, o);
    memcpy(field, from, n);
    field[n] = '\0';
    if (can_be_written(field)) return STATUS_OK;
    return fail(STATUS_BAD_CONFIG,
        "%s: %s.%s holds a ; or # or a line break or a word of more than %d letters, which "
        "config.ini could not keep",
        s->where, s->group, s->name, WORD_MOST);
}

static enum status set_field(const struct setting *s, const struct option *o, void *field) {
    char *end;
    if (o->type == OPTION_CHOICE) return set_choice(s, o, field);
    if (o->type == OPTION_TEXT) return set_text(s, o, field);
    double v = strtod(s->value, &end);
    while (isspace((unsigned char)*end)) end++;
    int whole = o->type != OPTION_INT || v == floor(v);
    if (end == s->value || *end || !whole || !(v >= o->lo && v <= o->hi)) return bad_value(s, o);
    if (o->type == OPTION_INT) {
        *(int *)field = (int)v;
    } else {
        *(float *)field = (float)v;
    }
    return STATUS_OK;
}

static void set_default(const struct option *o, void *field) {
    if (o->type == OPTION_REAL) {
        *(float *)field = (float)o->init;
    } else if (o->type == OPTION_TEXT) {
        snprintf(field, (size_t)o->hi, "%s", o->text ? o->text : "");
    } else {
        *(int *)field = (int)o->init;
    }
}

static const struct option *find_option(const struct option *o, const char *name) {
    for (; o && o->type != OPTION_END; o++) {
        if (!strcmp(o->name, name)) return o;
    }
    return NULL;
}

enum status settings_apply(
    const struct settings *s, const char *group, const struct option *options, void *into) {
    for (const struct option *o = options; o && o->type != OPTION_END; o++) {
        set_default(o, (char *)into + o->at);
    }
    for (int source = SOURCE_FILE; source <= SOURCE_ARGUMENT; source++) {
        for (size_t i = 0; i < s->n; i++) {
            const struct setting *set = &s->at[i];
            if ((int)set->source != source || strcmp(set->group, group) != 0) continue;
            const struct option *o = find_option(options, set->name);
            if (o) TRY(set_field(set, o, (char *)into + o->at));
        }
    }
    return STATUS_OK;
}

int settings_has(const struct settings *s, const char *group, const char *name) {
    for (size_t i = 0; i < s->n; i++) {
        if (!strcmp(s->at[i].group, group) && !strcmp(s->at[i].name, name)) return 1;
    }
    return 0;
}

void settings_list(const struct settings *s, const char *group, int spoken, char *list, size_t n) {
    for (size_t i = 0; i < s->n; i++) {
        const struct setting *set = &s->at[i];
        size_t at = strlen(list);
        if (strcmp(set->group, group) != 0 || (spoken && set->source != SOURCE_ARGUMENT)) continue;
        if (at + strlen(group) + strlen(set->name) + 4 > n) continue;
        snprintf(list + at, n - at, "%s%s.%s", at > 0 ? ", " : "", group, set->name);
    }
}

/* ---- what no table knows ------------------------------------------------------------------ */

static enum status unknown_group(const struct setting *s, const struct option_group *groups) {
    const char *nearest = groups->name;
    for (const struct option_group *g = groups; g->name; g++) {
        if (text_distance(g->name, s->group) < text_distance(nearest, s->group)) nearest = g->name;
    }
    return fail(STATUS_BAD_CONFIG, "%s: there is no group \"%s\" (in %s.%s); did you mean \"%s\"?",
        s->where, s->group, s->group, s->name, nearest);
}

/* "a.tau, b.tau or c.tau", all options of this name whatever their group; how many. */
static int name_all(const char *name, const struct option_group *groups, char *list, size_t n) {
    size_t at = 0, last = 0;
    int count = 0;
    *list = '\0';
    for (const struct option_group *g = groups; g->name; g++) {
        if (!find_option(g->options, name)) continue;
        if (at + strlen(g->name) + strlen(name) + 8 > n) break;
        last = at;
        at += (size_t)snprintf(list + at, n - at, "%s%s.%s", count ? ", " : "", g->name, name);
        count++;
    }
    if (count < 2) return count;
    char *rest = strdup(list + last + 2);
    if (rest) snprintf(list + last, n - last, " or %s", rest);
    free(rest);
    return count;
}

/* Of the group that was named where an option should be, the first that the value fits. */
static const struct option *fits(const struct setting *s, const struct option_group *groups) {
    double field[128];
    for (; groups->name && strcmp(groups->name, s->name) != 0; groups++) continue;
    for (const struct option *o = groups->options; o && o->type != OPTION_END; o++) {
        int has_room = o->type != OPTION_TEXT || (size_t)o->hi <= sizeof field;
        if (has_room && set_field(s, o, field) == STATUS_OK) return o;
    }
    return groups->name ? groups->options : NULL;
}

/* The nearest name in the setting's own group; for a name without a dot, in any. */
static enum status near_name(const struct setting *s, const struct option_group *groups) {
    const char *group = "", *nearest = NULL;
    int best = INT_MAX;
    for (const struct option_group *g = groups; g->name; g++) {
        int other = strcmp(g->name, s->group) != 0;
        if (other && strcmp(s->group, "run") != 0) continue;
        for (const struct option *o = g->options; o && o->type != OPTION_END; o++) {
            int d = 2 * text_distance(o->name, s->name) + other;
            if (d >= best) continue;
            best = d;
            group = g->name;
            nearest = o->name;
        }
    }
    if (!nearest) {
        return fail(STATUS_BAD_CONFIG, "%s: group \"%s\" has no options, so no \"%s\"", s->where,
            s->group, s->name);
    }
    return fail(STATUS_BAD_CONFIG, "%s: there is no option %s.%s; did you mean %s.%s?", s->where,
        s->group, s->name, group, nearest);
}

static enum status unknown_name(const struct setting *s, const struct option_group *groups) {
    char list[300];
    if (strcmp(s->group, "run") != 0) return near_name(s, groups);
    if (name_all(s->name, groups, list, sizeof list) > 0) {
        return fail(STATUS_BAD_CONFIG, "%s: there is no option run.%s; did you mean %s?", s->where,
            s->name, list);
    }
    const struct option *o = fits(s, groups);
    if (!o) return near_name(s, groups);
    return fail(STATUS_BAD_CONFIG,
        "%s: %s is a group of options, not an option; did you mean %s.%s=%s?", s->where, s->name,
        s->name, o->name, s->value);
}

static enum status check_one(const struct setting *s, const struct option_group *groups) {
    for (const struct option_group *g = groups; g->name; g++) {
        if (strcmp(g->name, s->group) != 0) continue;
        const struct option *o = find_option(g->options, s->name);
        if (!o) return unknown_name(s, groups);
        char *field = malloc(o->type == OPTION_TEXT ? (size_t)o->hi : sizeof(double));
        if (!field) return fail(STATUS_FAILED, "no memory for the settings");
        enum status end = set_field(s, o, field);
        free(field);
        return end;
    }
    return unknown_group(s, groups);
}

enum status settings_check(const struct settings *s, const struct option_group *groups) {
    for (size_t i = 0; i < s->n; i++) TRY(check_one(&s->at[i], groups));
    return STATUS_OK;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void value_text(const struct option *o, const void *field, char *text, size_t n) {
    switch (o->type) {
    case OPTION_INT:
        snprintf(text, n, "%d", *(const int *)field);
        break;
    case OPTION_REAL:
        text_float(text, n, *(const float *)field);
        break;
    case OPTION_CHOICE:
        option_word(o, *(const int *)field, text, n);
        break;
    case OPTION_TEXT:
        snprintf(text, n, "%s", (const char *)field);
        break;
    case OPTION_END:
        *text = '\0';
        break;
    }
}

/* inih reads lines of limited length: a long value goes on in lines that start with a blank. */
static void write_value(FILE *f, const char *text) {
    while (strlen(text) > WIDTH) {
        size_t cut = WIDTH;
        while (cut > 0 && !is_break(text, cut)) cut--;
        while (text[cut] && !is_break(text, cut)) cut++;
        if (!text[cut]) break;
        fprintf(f, "%.*s\n    ", (int)cut, text);
        text += cut + 1;
    }
    fprintf(f, "%s\n", text);
}

void options_write(FILE *f, const char *group, const struct option *options, const void *from) {
    char text[1024];
    if (!options || options->type == OPTION_END) return;
    fprintf(f, "[%s]\n", group);
    for (const struct option *o = options; o->type != OPTION_END; o++) {
        value_text(o, (const char *)from + o->at, text, sizeof text);
        fprintf(f, "%s = ", o->name);
        write_value(f, text);
    }
    fputc('\n', f);
}

void options_help(FILE *f, const char *group, const struct option *options) {
    for (const struct option *o = options; o && o->type != OPTION_END; o++) {
        char name[64], init[1024], field[1024];
        snprintf(name, sizeof name, "%s.%s", group, o->name);
        if (o->type == OPTION_TEXT) {
            snprintf(init, sizeof init, "%s", o->text && *o->text ? o->text : "\"\"");
        } else {
            set_default(o, field);
            value_text(o, field, init, sizeof init);
        }
        fprintf(f, "  %-24s %-10s %s", name, init, o->help);
        if (o->type == OPTION_INT || o->type == OPTION_REAL) {
            fprintf(f, "  (%.10g .. %.10g)", o->lo, o->hi);
        }
        fputc('\n', f);
    }
}
