/* strategies.h -- the list. A new strategy is one file and two lines in strategies.c. */
#ifndef STRATEGIES_H
#define STRATEGIES_H

#include "engine/strategy.h"

extern const struct strategy_ops *const strategies[]; /* until NULL */

#endif
