#include "comm.h"

void comm_close(struct comm *c) {
    if (c) c->ops->close(c);
}

enum status comm_join(struct comm *c, int rank, struct stream *q) {
    return c->ops->join(c, rank, q);
}

void comm_sum(struct comm *c, int rank, struct stream *q, struct vec v, float scale) {
    c->ops->sum(c, rank, q, v, scale);
}

double comm_sum1(struct comm *c, int rank, struct stream *q, double a) {
    return c->ops->sum1(c, rank, q, a);
}
