#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 63 };

static int least(int a, int b) { return a < b ? a : b; }

int text_distance(const char *a, const char *b) {
    int an = (int)strnlen(a, LONGEST), bn = (int)strnlen(b, LONGEST);
    int row[LONGEST + 1]; /* from the first i letters of a to the first j of b, for all j */
    for (int j = 0; j <= bn; j++) row[j] = j;
    for (int i = 1; i <= an; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= bn; j++) {
            int above = row[j];
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = least(replaced, 1 + least(above, row[j - 1]));
            diagonal = above;
        }
    }
    return row[bn];
}

const char *text_number(char *text, size_t n, double v) {
    if (isnan(v)) {
        snprintf(text, n, "not a number");
    } else {
        snprintf(text, n, "%g", v);
    }
    return text;
}

const char *text_float(char *text, size_t n, float v) {
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, n, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    return text;
}
