/* text.h -- words for the user: how far two are apart, to name what was probably meant; numbers. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

/* The fewest letters to insert, delete or replace that turn a into b (Levenshtein). Only the
 * first 63 letters of each are looked at. */
int text_distance(const char *a, const char *b);

/* v as %g has it, or "not a number", into a buffer of n bytes, which is returned. */
const char *text_number(char *text, size_t n, double v);

/* The shortest decimal, of 6 digits or more, that reads back to the same float; likewise. */
const char *text_float(char *text, size_t n, float v);

#endif
