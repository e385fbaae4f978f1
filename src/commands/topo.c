#include "topo.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "engine/run.h"
#include "engine/team_waits.h"

static const char *const kinds[] = {"machine", "package", "node", "cache", "core", "unit"};

static int sits_on(const struct place *p, int core) {
    return core >= p->first && core < p->first + p->threads;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_bytes(FILE *f, uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int unit = 0;
    while (v >= 1024 && unit < 4) {
        v /= 1024;
        unit++;
    }
    if (bytes > 0) fprintf(f, " %.4g %s", v, units[unit]);
}

static void print_core(FILE *f, const struct seating *s, const struct twig *core) {
    const struct twig *end = s->tree->twig + s->tree->n;
    const struct place *sitting = s->place;
    int n = 0;
    fprintf(f, "core %d (unit", core->number);
    for (const struct twig *w = core + 1; w < end && w->depth > core->depth; w++) {
        fprintf(f, " %d", w->number);
    }
    fputc(')', f);
    for (int r = 0; r < s->workers; r++) {
        if (sits_on(sitting + r, core->number)) fprintf(f, "%s worker %d", n++ ? "," : ":", r);
    }
}

static void print_twig(FILE *f, const struct seating *s, const struct twig *w) {
    char text[128];
    if (w->kind == TWIG_MACHINE) {
        topology_describe(s->machine, text, sizeof text);
        fputs(text, f);
    } else if (w->kind == TWIG_CORE) {
        print_core(f, s, w);
    } else if (w->kind == TWIG_CACHE) {
        fprintf(f, "L%d", w->number);
        print_bytes(f, w->bytes);
    } else {
        fprintf(f, "%s %d", kinds[w->kind], w->number);
        print_bytes(f, w->bytes);
    }
}

/* What a core has to itself goes into its line. */
static void print_tree(FILE *f, const struct seating *s) {
    const struct twig *twig = s->tree->twig;
    int own = 0; /* the twig before was such a cache */
    for (int i = 0; i < s->tree->n; i++) {
        const struct twig *w = twig + i;
        if (w->kind == TWIG_UNIT) continue;
        if (!own) fprintf(f, "%*s", 2 * w->depth, "");
        print_twig(f, s, w);
        own = w->kind == TWIG_CACHE && w->cores == 1;
        fputs(own ? ", " : "\n", f);
    }
}

static void print_workers(FILE *f, const struct seating *s) {
    for (int r = 0; r < s->workers; r++) {
        const struct place *p = s->place + r;
        int node = tree_node_of(s->tree, p->first);
        fprintf(f, "worker %d: core%s %d", r, p->threads == 1 ? "" : "s", p->first);
        if (p->threads > 1) fprintf(f, " to %d", p->first + p->threads - 1);
        if (node >= 0) fprintf(f, ", node %d", node);
        fputs(p->shared ? ", shared with other workers\n" : "\n", f);
    }
}

static void print_link(FILE *f, struct link l, const char *when) {
    if (l.lanes == 0) return;
    fprintf(f, ", %s %g GT/s x%d (%.1f GB/s)", when, l.rate, l.lanes, link_bytes(l) / 1e9);
}

static void print_gpus(FILE *f, const struct seating *s) {
    int idle = 0;
    for (const struct gpu *g = s->gpu; g < s->gpu + s->gpus; g++) {
        const char *vendor = pci_vendor(g->vendor);
        fprintf(f, "GPU %s: %s%s%04x:%04x", g->address, vendor, *vendor ? " " : "", g->vendor,
            g->device);
        if (g->node >= 0) fprintf(f, ", node %d", g->node);
        if (g->now.lanes == 0 && g->most.lanes == 0) fputs(", link not known", f);
        print_link(f, g->now, "now");
        print_link(f, g->most, "at most");
        fputc('\n', f);
        if (g->now.rate > 0 && g->now.rate < g->most.rate) idle = 1;
    }
    if (s->gpus == 0) fputs("no GPU on the PCI bus\n", f);
    if (idle) fputs("a link that is slower now than at most may only be saving power\n", f);
}

void topo_print(FILE *f, const struct seating *s) {
    print_tree(f, s);
    print_workers(f, s);
    print_gpus(f, s);
    if (s->links) links_print(f, s->links);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* The list under this name in an object, made when it is asked for first. */
static cJSON *list_in(cJSON *object, const char *name) {
    cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);
    return list ? list : cJSON_AddArrayToObject(object, name);
}

static cJSON *twig_json(const struct seating *s, const struct twig *w) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kind", kinds[w->kind]);
    cJSON_AddNumberToObject(o, w->kind == TWIG_CACHE ? "level" : "number", w->number);
    if (w->bytes > 0) cJSON_AddNumberToObject(o, "bytes", (double)w->bytes);
    for (int r = 0; w->kind == TWIG_CORE && r < s->workers; r++) {
        if (!sits_on(s->place + r, w->number)) continue;
        cJSON_AddItemToArray(list_in(o, "workers"), cJSON_CreateNumber(r));
    }
    return o;
}

/* open[d]: the object of depth d that was begun last. */
static cJSON *tree_json(const struct seating *s) {
    cJSON *open[TREE_DEPTH_MOST] = {cJSON_CreateObject()};
    for (const struct twig *w = s->tree->twig; w < s->tree->twig + s->tree->n; w++) {
        if (w->depth == 0) {
            cJSON_AddNumberToObject(open[0], "cores", s->machine->cores);
            cJSON_AddNumberToObject(open[0], "nodes", s->machine->nodes);
            cJSON_AddNumberToObject(open[0], "packages", s->machine->packages);
        } else if (w->kind == TWIG_UNIT) {
            cJSON_AddItemToArray(
                list_in(open[w->depth - 1], "units"), cJSON_CreateNumber(w->number));
        } else {
            open[w->depth] = twig_json(s, w);
            cJSON_AddItemToArray(list_in(open[w->depth - 1], "holds"), open[w->depth]);
        }
    }
    return open[0];
}

static cJSON *worker_json(const struct seating *s, int rank) {
    const struct place *p = s->place + rank;
    int node = tree_node_of(s->tree, p->first);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "rank", rank);
    cJSON_AddNumberToObject(o, "first_core", p->first);
    cJSON_AddNumberToObject(o, "cores", p->threads);
    if (node >= 0) cJSON_AddNumberToObject(o, "node", node);
    cJSON_AddBoolToObject(o, "shared", p->shared);
    return o;
}

static void add_link(cJSON *gpu, const char *name, struct link l) {
    if (l.lanes == 0) return;
    cJSON *o = cJSON_AddObjectToObject(gpu, name);
    cJSON_AddNumberToObject(o, "gigatransfers_per_second", l.rate);
    cJSON_AddNumberToObject(o, "lanes", l.lanes);
    cJSON_AddNumberToObject(o, "bytes_per_second", link_bytes(l));
}

static cJSON *gpu_json(const struct gpu *g) {
    char code[8];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "address", g->address);
    snprintf(code, sizeof code, "%04x", g->vendor & 0xffff);
    cJSON_AddStringToObject(o, "vendor", code);
    snprintf(code, sizeof code, "%04x", g->device & 0xffff);
    cJSON_AddStringToObject(o, "device", code);
    if (*pci_vendor(g->vendor)) cJSON_AddStringToObject(o, "maker", pci_vendor(g->vendor));
    if (g->node >= 0) cJSON_AddNumberToObject(o, "node", g->node);
    add_link(o, "link_now", g->now);
    add_link(o, "link_most", g->most);
    return o;
}

enum status topo_print_json(FILE *f, const struct seating *s) {
    cJSON *top = cJSON_CreateObject();
    cJSON_AddItemToObject(top, "machine", tree_json(s));
    cJSON *workers = cJSON_AddArrayToObject(top, "workers");
    for (int r = 0; r < s->workers; r++) cJSON_AddItemToArray(workers, worker_json(s, r));
    cJSON *gpus = cJSON_AddArrayToObject(top, "gpus");
    for (int i = 0; i < s->gpus; i++) cJSON_AddItemToArray(gpus, gpu_json(s->gpu + i));
    if (s->links) links_add(top, s->links);
    char *text = top ? cJSON_Print(top) : NULL;
    cJSON_Delete(top);
    if (!text) return fail(STATUS_FAILED, "no memory for the machine as JSON");
    fprintf(f, "%s\n", text);
    free(text);
    return STATUS_OK;
}

/* ---- the command ------------------------------------------------------------------------------ */

/* The first kind that is not the host and of which there are any. */
static const struct device_ops *kind_linked(void) {
    for (int i = 0; devices[i]; i++) {
        if (!devices[i]->host_memory && devices[i]->count() > 0) return devices[i];
    }
    return NULL;
}

static enum status show(
    const struct machine *m, const struct run_settings *set, int json, int measure) {
    static struct links links;
    const struct device_ops *kind = kind_linked();
    static struct gpu gpus[GPUS_MOST];
    struct place place[TEAM_MOST];
    struct seating s = {.machine = m, .place = place, .workers = set->workers, .gpu = gpus};
    struct tree tree;
    TRY(plan_places(m, set->workers, set->threads, place));
    TRY(pci_gpus(pci_folder, gpus, &s.gpus));
    if (kind) TRY(links_find(&links, kind, measure));
    if (kind) s.links = &links;
    TRY(tree_open(&tree, m));
    s.tree = &tree;
    enum status end = STATUS_OK;
    if (json) end = topo_print_json(stdout, &s);
    if (!json) topo_print(stdout, &s);
    tree_close(&tree);
    return end;
}

static enum status read_run(struct run_settings *set, int words, char **word) {
    struct settings *settings;
    TRY(settings_open(&settings));
    enum status end = read_settings(settings, words, word, 1);
    if (end == STATUS_OK) end = settings_apply(settings, "run", run_options, set);
    if (end == STATUS_OK) end = settings_apply(settings, "topology", topology_options, set);
    settings_close(settings);
    return end;
}

enum status command_topo(int words, char **word) {
    struct run_settings set;
    struct machine *m;
    int json = 0, measure = 0, flags = 0;
    for (; flags < words && !strncmp(word[flags], "--", 2); flags++) {
        if (!strcmp(word[flags], "--json")) {
            json = 1;
        } else if (!strcmp(word[flags], "--measure")) {
            measure = 1;
        } else {
            break;
        }
    }
    TRY(read_run(&set, words - flags, word + flags));
    TRY(topology_open(&m, NULL));
    enum status end = show(m, &set, json, measure);
    topology_close(m);
    return end;
}
