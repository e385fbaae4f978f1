/* synthetic.h -- a data set that is drawn, not read. */
#ifndef SYNTHETIC_H
#define SYNTHETIC_H

#include "base/options.h"
#include "datasets/dataset.h"

extern const struct option
    synthetic_options[]; /* group "synthetic", of struct synthetic_settings */

/* Fills both parts; the same seed gives the same bytes. */
enum status synthetic_read(struct dataset *d, const struct synthetic_settings *set, uint32_t seed);

#endif
