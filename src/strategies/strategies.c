#include "strategies.h"

extern const struct strategy_ops strategy_allreduce, strategy_easgd;

const struct strategy_ops *const strategies[] = {
    &strategy_allreduce,
    &strategy_easgd,
    NULL,
};
