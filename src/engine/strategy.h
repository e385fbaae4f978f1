/* strategy.h -- how workers learn from one another. All that a strategy file includes.
 *
 * A strategy is a struct whose first member is struct strategy, and one constant table. The
 * engine zeroes the struct, fills in its options and then calls round() on every worker's own
 * thread until the run is over. A round is the paper's period: some local steps and one act of
 * communication. Between rounds the engine may evaluate, log, save or stop; it does so nowhere
 * else, so no strategy has to fear being looked at half-way.
 *
 * Before round 0 every worker's x holds the same values.
 */
#ifndef STRATEGY_H
#define STRATEGY_H

#include "base/options.h"
#include "engine/peers.h"
#include "engine/team.h"
#include "nn/optimizer.h"

struct strategy {
    const struct strategy_ops *ops;
};

/* A number of a struct that a resumed run needs. Pointers and vectors are not listed: vectors are
 * claimed as STATE. */
enum field_type { FIELD_INT, FIELD_LONG, FIELD_FLOAT, FIELD_DOUBLE };

struct field {
    const char *name;
    enum field_type type;
    size_t at; /* offsetof the field */
};

/* What is known before it trains, were each gradient that of h x^2 / 2 and each step plain descent
 * at the rate eta: numbers made of numbers. */
struct forecast {
    double step;         /* that of plain descent which it acts like: 2 / h is too long for that */
    const char *name;    /* what has a bound of its own, "alpha"; NULL: nothing is known to */
    double value, bound; /* what it is, and above what it diverges */
    const char *formula; /* of the bound, "2 / (workers tau h)" */
    int rough;           /* the bound is not exact: somewhat above it may still come to rest */
};

struct strategy_ops {
    const char *name;             /* "easgd": the file, the option group, the value of `strategy` */
    const char *summary;          /* one line for the list */
    const char *source;           /* what the file follows */
    const char *help;             /* a paragraph: the rule, what to set, what it costs */
    size_t size;                  /* of the strategy's struct */
    int workers_most;             /* a run with more is refused; 0: any number */
    size_t local_size;            /* of w->mine, zeroed before join; 0 for none */
    const struct option *options; /* until OPTION_END; NULL for none */

    /* What optimizer.kind is where the user says nothing. */
    enum optimizer_kind optimizer;

    /* Until a NULL name; NULL for none: the numbers of the strategy's struct, its options aside,
     * and of w->mine that change while it runs. */
    const struct field *fields, *local_fields;

    /* Required. One round on w's thread, while the others do theirs. */
    enum status (*round)(struct strategy *s, struct worker *w);

    /* The rest are optional, in the order they are called. */

    /* Once, on the main thread, before there are workers. x0, host memory, is where all start. */
    enum status (*open)(struct strategy *s, struct team *team, struct vec x0);

    /* Main thread, after open: what it made of its settings, in one line, for the log. */
    void (*describe)(const struct strategy *s, const struct team *team, char *text, size_t n);

    /* Of p workers. Any thread, any time after open. When absent it acts like
     * plain descent at the rate eta. */
    struct forecast (*forecast)(const struct strategy *s, double eta, int p, double h);

    /* Once for each worker, on its thread: claim vectors, fill w->mine. */
    enum status (*join)(struct strategy *s, struct worker *w);

    /* The parameters to evaluate and save; w->x when absent. All workers call, after a round; it
     * may use collectives and must change nothing that a later round reads. */
    struct vec (*answer)(struct strategy *s, struct worker *w);

    /* Once, when the workers are gone; also after a failed open, so zeros must do no harm. */
    void (*close)(struct strategy *s);
};

#endif
