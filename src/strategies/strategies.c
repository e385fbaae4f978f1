#include "strategies.h"

extern const struct strategy_ops strategy_allreduce, strategy_easgd, strategy_easgd_tree,
    strategy_downpour, strategy_adownpour, strategy_mvadownpour, strategy_mdownpour, strategy_sgd,
    strategy_msgd, strategy_asgd, strategy_mvasgd, strategy_admm, strategy_gossip, strategy_sgp,
    strategy_adpsgd, strategy_dpsgd, strategy_local_sgd, strategy_bmuf, strategy_slowmo,
    strategy_diloco, strategy_lookahead;

const struct strategy_ops *const strategies[] = {
    &strategy_allreduce,
    &strategy_easgd,
    &strategy_easgd_tree,
    &strategy_downpour,
    &strategy_adownpour,
    &strategy_mvadownpour,
    &strategy_mdownpour,
    &strategy_sgd,
    &strategy_msgd,
    &strategy_asgd,
    &strategy_mvasgd,
    &strategy_admm,
    &strategy_gossip,
    &strategy_sgp,
    &strategy_adpsgd,
    &strategy_dpsgd,
    &strategy_local_sgd,
    &strategy_bmuf,
    &strategy_slowmo,
    &strategy_diloco,
    &strategy_lookahead,
    NULL,
};
