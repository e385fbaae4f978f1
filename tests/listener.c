/* listener.c -- a tool that NVTX loads into a program (NVTX_INJECTION64_PATH): it counts ranges.
 *
 * At the program's end the file LISTENER_TOLD has a line "thread range times" for each name that
 * was begun on a named thread, and "open n" where n ranges were not ended on their thread.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_NVTX

#include <nvToolsExt.h>

enum { KINDS = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kind {
    char thread[32], range[32];
    long times;
} kinds[KINDS];
static int known, unended;
static _Thread_local char thread[32];

static int begin(const char *name) {
    int i = 0;
    pthread_mutex_lock(&lock);
    while (i < known && (strcmp(kinds[i].thread, thread) || strcmp(kinds[i].range, name))) i++;
    if (i == known && known < KINDS) {
        snprintf(kinds[i].thread, sizeof kinds[i].thread, "%s", thread);
        snprintf(kinds[i].range, sizeof kinds[i].range, "%s", name);
        known++;
    }
    if (i < known) kinds[i].times++;
    unended++;
    pthread_mutex_unlock(&lock);
    return 0;
}

static int end(void) {
    pthread_mutex_lock(&lock);
    unended--;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void name_thread(uint32_t id, const char *name) {
    (void)id;
    snprintf(thread, sizeof thread, "%s", name);
}

static void tell(void) {
    const char *path = getenv("LISTENER_TOLD");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    for (int i = 0; i < known; i++) {
        fprintf(f, "%s %s %ld\n", kinds[i].thread, kinds[i].range, kinds[i].times);
    }
    fprintf(f, "open %d\n", unended);
    fclose(f);
}

/* NVTX gives tables of the places where it keeps the functions that its own call. */
static void put(NvtxFunctionTable table, unsigned size, unsigned at, NvtxFunctionPointer function) {
    if (at < size && table[at]) *table[at] = function;
}

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table);

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table) {
    const NvtxExportTableCallbacks *callbacks = export_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned size = 0;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size)) {
        return 0;
    }
    put(table, size, NVTX_CBID_CORE_RangePushA, (NvtxFunctionPointer)begin);
    put(table, size, NVTX_CBID_CORE_RangePop, (NvtxFunctionPointer)end);
    put(table, size, NVTX_CBID_CORE_NameOsThreadA, (NvtxFunctionPointer)name_thread);
    atexit(tell);
    return 1;
}

#endif
