#include "staleness.h"

#include <math.h>

#include "base/status.h"

void staleness_add(struct staleness *s, double value) {
    ASSERT(value >= 0);
    int bin = value < 1 ? 0 : 1 + ilogb(value);
    s->bin[bin < STALENESS_BINS ? bin : STALENESS_BINS - 1]++;
    s->counted++;
    s->sum += value;
    s->most = fmax(s->most, value);
}

void staleness_join(struct staleness *s, const struct staleness *other) {
    for (int i = 0; i < STALENESS_BINS; i++) s->bin[i] += other->bin[i];
    s->counted += other->counted;
    s->sum += other->sum;
    s->most = fmax(s->most, other->most);
}
