#include "comm.h"

void comm_close(struct comm *c) {
    if (c) c->ops->close(c);
}

enum status comm_join(struct comm *c, int rank, struct stream *q) {
    return c->ops->join(c, rank, q);
}

void comm_sum(
    struct comm *c, int rank, struct stream *q, struct vec v, float scale, struct ranks of) {
    ASSERT(of.first <= rank && rank < of.first + of.count);
    ASSERT(of.first >= 0 && of.first + of.count <= c->size);
    c->ops->sum(c, rank, q, v, scale, of);
}

void comm_mix(
    struct comm *c, int rank, struct stream *q, struct vec y, struct vec v, const float *weight) {
    ASSERT(y.n == v.n);
    c->ops->mix(c, rank, q, y, v, weight);
}

double comm_sum1(struct comm *c, int rank, struct stream *q, double a) {
    return c->ops->sum1(c, rank, q, a);
}
