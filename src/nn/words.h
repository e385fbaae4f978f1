/* words.h -- what the layers' parsers share: reading the numbers and words behind a layer's name. */
#ifndef WORDS_H
#define WORDS_H

#include "base/status.h"

/* *value <- the whole number that `word` is, in 1 .. 2^24; `what` names it in the failure. */
enum status words_number(const char *word, const char *what, int *value);

/* True where the words are "name N" from number i on. */
int words_are_pair(int words, char *const word[], int i, const char *name);

/* Says what a layer should look like. */
enum status words_usage(const char *usage);

#endif
