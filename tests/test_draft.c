#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/draft.h"

TestSuite(draft, .timeout = 60);

Test(draft, keeps_all_that_is_written_however_long) {
    static const int lines[] = {0, 1, 31, 255, 65537};
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
        struct draft d;
        draft_open(&d);
        cr_assert(d.file != NULL);
        fputs("begin\n", d.file);
        for (int i = 0; i < lines[k]; i++) fprintf(d.file, "%07d\n", i);
        char *text = draft_close(&d), number[16];
        cr_assert(text && strlen(text) == 6 + 8 * (size_t)lines[k]);
        for (int i = 0; i < lines[k]; i++) {
            snprintf(number, sizeof number, "%07d\n", i);
            cr_assert(memcmp(text + 6 + 8 * (size_t)i, number, 8) == 0, "line %d", i);
        }
        free(text);
    }
}

/* As a write that found no memory leaves it. */
Test(draft, a_text_that_lacks_a_piece_is_none) {
    struct draft d;
    draft_open(&d);
    fputs("all of it", d.file);
    fflush(d.file);
    d.failed = 1;
    cr_assert(draft_close(&d) == NULL);
    struct draft never = {0};
    cr_assert(draft_close(&never) == NULL);
}
