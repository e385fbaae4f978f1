#include "topology/tree.h"

#include <stdlib.h>

#ifdef HAVE_HWLOC
#include <hwloc.h>
#endif

static enum status twig_add(
    struct tree *t, enum twig_kind kind, int depth, int number, uint64_t bytes) {
    ASSERT(depth < TREE_DEPTH_MOST);
    if (t->n == t->room) {
        int room = t->room > 0 ? 2 * t->room : 64;
        struct twig *more = realloc(t->twig, (size_t)room * sizeof *more);
        if (!more) return fail(STATUS_FAILED, "no memory for the tree of the machine");
        t->twig = more;
        t->room = room;
    }
    t->twig[t->n++] = (struct twig){kind, depth, number, bytes, 0, 0};
    return STATUS_OK;
}

#ifdef HAVE_HWLOC

/* The node's memory may have a cache in front of it. */
static hwloc_obj_t memory_of(hwloc_obj_t o) {
    while (o && o->type != HWLOC_OBJ_NUMANODE) o = o->memory_first_child;
    return o;
}

/* What is no kind of ours, a die or a group, only hands on what it holds. */
static int kind_of(hwloc_obj_t o, int cores_shown, enum twig_kind *kind) {
    if (hwloc_obj_type_is_dcache(o->type)) return *kind = TWIG_CACHE, 1;
    if (o->type == HWLOC_OBJ_MACHINE) return *kind = TWIG_MACHINE, 1;
    if (o->type == HWLOC_OBJ_PACKAGE) return *kind = TWIG_PACKAGE, 1;
    if (o->type == HWLOC_OBJ_CORE) return *kind = TWIG_CORE, 1;
    if (o->type == HWLOC_OBJ_PU) return *kind = cores_shown ? TWIG_UNIT : TWIG_CORE, 1;
    return 0;
}

static int depth_of(hwloc_obj_t o, int cores_shown) {
    enum twig_kind kind;
    int depth = 0;
    for (o = o->parent; o; o = o->parent) {
        depth += kind_of(o, cores_shown, &kind) + (memory_of(o->memory_first_child) != NULL);
    }
    return depth;
}

static enum status object_add(struct tree *t, hwloc_obj_t o, int cores_shown) {
    enum twig_kind kind;
    int depth = depth_of(o, cores_shown), number = (int)o->os_index;
    if (kind_of(o, cores_shown, &kind)) {
        if (kind == TWIG_CACHE) number = (int)o->attr->cache.depth;
        if (kind == TWIG_CORE) number = (int)o->logical_index;
        if (kind == TWIG_MACHINE) number = 0;
        TRY(twig_add(t, kind, depth++, number, kind == TWIG_CACHE ? o->attr->cache.size : 0));
        if (o->type == HWLOC_OBJ_PU && kind == TWIG_CORE) {
            TRY(twig_add(t, TWIG_UNIT, depth, (int)o->os_index, 0));
        }
    }
    for (hwloc_obj_t c = o->memory_first_child; c; c = c->next_sibling) {
        hwloc_obj_t node = memory_of(c);
        int further = c != o->memory_first_child;
        if (!node) continue;
        TRY(twig_add(
            t, TWIG_NODE, depth + further, (int)node->os_index, node->attr->numanode.local_memory));
    }
    return STATUS_OK;
}

static hwloc_obj_t object_after(hwloc_obj_t o) {
    if (o->first_child) return o->first_child;
    while (o && !o->next_sibling) o = o->parent;
    return o ? o->next_sibling : NULL;
}

static enum status tree_fill(struct tree *t, const struct machine *m) {
    hwloc_topology_t h = m->hwloc;
    int cores_shown = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_CORE) > 0;
    for (hwloc_obj_t o = hwloc_get_root_obj(h); o; o = object_after(o)) {
        TRY(object_add(t, o, cores_shown));
    }
    return STATUS_OK;
}

#else

static enum status tree_fill(struct tree *t, const struct machine *m) {
    TRY(twig_add(t, TWIG_MACHINE, 0, 0, 0));
    for (int i = 0; i < m->cores; i++) {
        TRY(twig_add(t, TWIG_CORE, 1, i, 0));
        TRY(twig_add(t, TWIG_UNIT, 2, m->core[i].pu, 0));
    }
    return STATUS_OK;
}

#endif

/* A twig has the cores that follow it until one is no deeper than it. */
static void cores_count(struct tree *t) {
    for (int i = 0; i < t->n; i++) {
        struct twig *w = t->twig + i;
        for (int k = i; k < t->n && (k == i || t->twig[k].depth > w->depth); k++) {
            if (t->twig[k].kind != TWIG_CORE) continue;
            if (w->cores++ == 0) w->first = t->twig[k].number;
        }
    }
}

enum status tree_open(struct tree *t, const struct machine *m) {
    *t = (struct tree){0};
    enum status end = tree_fill(t, m);
    if (end == STATUS_OK) cores_count(t);
    if (end != STATUS_OK) tree_close(t);
    return end;
}

void tree_close(struct tree *t) {
    free(t->twig);
    *t = (struct tree){0};
}

int tree_node_of(const struct tree *t, int core) {
    int node = -1;
    for (const struct twig *w = t->twig; w < t->twig + t->n; w++) {
        if (w->kind == TWIG_NODE && core >= w->first && core < w->first + w->cores) {
            node = w->number;
        }
    }
    return node;
}
