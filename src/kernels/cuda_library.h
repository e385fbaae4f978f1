/* cuda_library.h -- functions of a library under their own names, from the library that is loaded
 * when one is first called. Linked as usual, it would make every start of huddle wait until half a
 * gigabyte is mapped, also on a machine without a GPU. */
#ifndef CUDA_LIBRARY_H
#define CUDA_LIBRARY_H

#include <dlfcn.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* The function of this name, NULL where there is none. Threads that look at once find the same. */
static inline void *library_find(void **known, const char *library, const char *name) {
    void *at = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    if (at) return at;
    void *open = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (open) at = dlsym(open, name);
    __atomic_store_n(known, at, __ATOMIC_RELEASE);
    return at;
}

/* Defines `name`, which returns `missing` where the library is not there. ISO C has no cast between
 * the two kinds of pointer, hence memcpy. */
#define FORWARD(library, type, missing, name, parameters, arguments)                               \
    type name parameters {                                                                         \
        static void *known;                                                                        \
        __typeof__(name) *real;                                                                    \
        void *at = library_find(&known, library, TEXT(name));                                      \
        if (!at) return missing;                                                                   \
        memcpy(&real, &at, sizeof real);                                                           \
        return real arguments;                                                                     \
    }

#define LIBRARY_MISSING(library) library " cannot be loaded: LD_LIBRARY_PATH can name its folder"

#endif
