/* text.h -- how far two words are apart: for naming what the user probably meant. */
#ifndef TEXT_H
#define TEXT_H

/* The fewest letters to insert, delete or replace that turn a into b (Levenshtein). Only the
 * first 63 letters of each are looked at. */
int text_distance(const char *a, const char *b);

#endif
