#include "words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 1 << 24 };

enum status words_number(const char *word, const char *what, int *value) {
    char *end;
    errno = 0;
    long n = strtol(word, &end, 10);
    if (end == word || *end) {
        return fail(STATUS_BAD_CONFIG, "%s is to be a whole number, not \"%s\"", what, word);
    }
    if (errno || n < 1 || n > LARGEST) {
        return fail(STATUS_BAD_CONFIG, "%s = %s is not in 1 .. %d", what, word, LARGEST);
    }
    *value = (int)n;
    return STATUS_OK;
}

int words_are_pair(int words, char *const word[], int i, const char *name) {
    return i + 1 < words && !strcmp(word[i], name);
}

enum status words_usage(const char *usage) {
    return fail(STATUS_BAD_CONFIG, "this layer is written \"%s\"", usage);
}
