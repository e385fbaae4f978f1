/* run_options.c -- the settings that the engine itself reads. */
#include "comm/comm.h"
#include "engine/run.h"
#include "engine/team_waits.h"
#include "nn/optimizer.h"

const struct option run_options[] = {
    {"name", OPTION_TEXT, offsetof(struct run_settings, name), 0, 0, 64,
        "its folder; \"\": the strategy and a number", ""},
    {"folder", OPTION_TEXT, offsetof(struct run_settings, folder), 0, 0, 256, "where runs are kept",
        "runs"},
    {"task", OPTION_TEXT, offsetof(struct run_settings, task), 0, 0, 32,
        "where gradients come from: classify or quadratic", "classify"},
    {"strategy", OPTION_TEXT, offsetof(struct run_settings, strategy), 0, 0, 32,
        "who learns from whom; `huddle help strategies`", "easgd"},
    {"devices", OPTION_TEXT, offsetof(struct run_settings, devices), 0, 0, 512,
        "where workers compute: auto, host, cuda, or some, \"cuda:0,cuda:2\"", "auto"},
    {"workers", OPTION_INT, offsetof(struct run_settings, workers), 4, 1, TEAM_MOST,
        "replicas that learn side by side", NULL},
    {"seed", OPTION_INT, offsetof(struct run_settings, seed), 1, 0, 2147483647,
        "names every random number of the run", NULL},
    {"order", OPTION_CHOICE, offsetof(struct run_settings, order), ORDER_FREE, 0, 1,
        "free|fixed: workers meet as they come, or in one order that gives the same bits again",
        NULL},
    {"center", OPTION_CHOICE, offsetof(struct run_settings, center), CENTER_AUTO, 0, 2,
        "zero_copy|staged|auto: GPUs exchange with vectors in host memory by kernels that reach "
        "them there, by copies in both directions at once, or whatever is faster at start",
        NULL},
    {"comm", OPTION_CHOICE, offsetof(struct run_settings, comm), COMM_AUTO, 0, 3,
        "auto|nccl|copy|host: GPUs take sums by NCCL, over peer access, or through host memory; "
        "auto: the first of these that is there",
        NULL},
    {"max_lag", OPTION_INT, offsetof(struct run_settings, max_lag), 4, 0, 1e9,
        "rounds that the fastest may be ahead; 0: any number", NULL},
    {"ahead", OPTION_INT, offsetof(struct run_settings, ahead), 8, 1, 1000,
        "rounds that the host may be ahead of a device before it waits and looks at the loss",
        NULL},
    {"graph", OPTION_INT, offsetof(struct run_settings, graph), 1, 0, 1,
        "1: on a GPU, gradient and step are recorded once and replayed; 0: launched kernel by "
        "kernel",
        NULL},
    {"tf32", OPTION_INT, offsetof(struct run_settings, tf32), 0, 0, 1,
        "1: a GPU may round what it multiplies to TF32, 10 bits behind the point: faster", NULL},
    {"cudnn", OPTION_CHOICE, offsetof(struct run_settings, cudnn), CUDNN_AUTO, 0, 2,
        "0|1|auto: on a GPU, cuDNN convolves with 1, columns and products do with 0; auto: cuDNN "
        "where it is found and run.tf32 is 1, in float32 it is the slower",
        NULL},
    {"epochs", OPTION_REAL, offsetof(struct run_settings, epochs), 40, 0, 1e9,
        "stop after; an epoch is samples drawn by all over the set's size; 0: no limit", NULL},
    {"steps", OPTION_INT, offsetof(struct run_settings, steps), 0, 0, 2e9,
        "stop after so many steps, mean over the workers; 0: no limit", NULL},
    {"seconds", OPTION_REAL, offsetof(struct run_settings, seconds), 0, 0, 1e9,
        "stop after so many seconds of training; 0: no limit", NULL},
    {"target", OPTION_REAL, offsetof(struct run_settings, target), 0, 0, 1,
        "stop at this accuracy; 0: no limit", NULL},
    {"eval_every", OPTION_REAL, offsetof(struct run_settings, eval_every), 5, 1e-6, 1e9,
        "epochs from evaluation to evaluation", NULL},
    {"save_every", OPTION_REAL, offsetof(struct run_settings, save_every), 0, 0, 1e9,
        "epochs from saved state to saved state, at the evaluation that follows; 0: each", NULL},
    {"record", OPTION_TEXT, offsetof(struct run_settings, record), 0, 0, 256,
        "free order: a file for who met whom in which order; \"\": none", ""},
    {"replay", OPTION_TEXT, offsetof(struct run_settings, replay), 0, 0, 256,
        "such a file: all meet as they did there, and so get the same bits; \"\": none", ""},
    {"watchdog", OPTION_REAL, offsetof(struct run_settings, watchdog), 300, 0, 1e9,
        "seconds without a sign of life after which a frozen worker ends the run; 0: none. Longer "
        "than the slowest gradient",
        NULL},
    {"curvature", OPTION_REAL, offsetof(struct run_settings, curvature), 1, 0, 1e9,
        "the log warns when a strategy is known to diverge on a loss of this curvature; a task "
        "that knows its own has that instead; 0: no warning",
        NULL},
    {"keep", OPTION_INT, offsetof(struct run_settings, keep), 2, 1, 1000, "saved states to keep",
        NULL},
    {"judge", OPTION_CHOICE, offsetof(struct run_settings, judge), 0, 0, 1,
        "answer|replica: evaluate the strategy's answer, or the first worker's own replica", NULL},
    {"batchnorm", OPTION_CHOICE, offsetof(struct run_settings, batchnorm), 0, 0, 2,
        "recompute|average|local: what is judged has statistics of its own, taken anew; the mean "
        "of the workers'; or the first worker's",
        NULL},
    {"batchnorm_samples", OPTION_INT, offsetof(struct run_settings, batchnorm_samples), 2048, 1,
        1e9, "recompute: training samples that they are taken of, by all workers", NULL},
    {0},
};

const struct option topology_options[] = {
    {"threads", OPTION_INT, offsetof(struct run_settings, threads), 0, 0, 1024,
        "cores for each worker; 0: as many as there are for all", NULL},
    {"bind", OPTION_INT, offsetof(struct run_settings, bind), 1, 0, 1,
        "1 binds workers to cores, 0 leaves them to the system", NULL},
    {0},
};

const struct option optimizer_options[] = {
    {"kind", OPTION_CHOICE, offsetof(struct optimizer_settings, kind), OPTIMIZER_SGD, 0, 4,
        "sgd|momentum|nesterov|rmsprop|adam: Nesterov's takes the gradient at x + momentum v",
        NULL},
    {"momentum", OPTION_REAL, offsetof(struct optimizer_settings, momentum), 0.9, 0, 1,
        "delta, of momentum and nesterov", NULL},
    {"decay", OPTION_REAL, offsetof(struct optimizer_settings, decay), 0, 0, 1e3,
        "lambda: weight decay, lambda x added to the gradient", NULL},
    {"rho", OPTION_REAL, offsetof(struct optimizer_settings, rho), 0.99, 0, 0.999999,
        "of rmsprop: how much of the mean square is kept at each step", NULL},
    {"beta1", OPTION_REAL, offsetof(struct optimizer_settings, beta1), 0.9, 0, 0.999999,
        "of adam: how much of the mean gradient is kept at each step", NULL},
    {"beta2", OPTION_REAL, offsetof(struct optimizer_settings, beta2), 0.999, 0, 0.999999,
        "of adam: how much of the mean square is kept at each step", NULL},
    {"epsilon", OPTION_REAL, offsetof(struct optimizer_settings, epsilon), 1e-8, 1e-20, 1e3,
        "of rmsprop and adam: keeps the divisor from 0", NULL},
    {"epsilon_form", OPTION_CHOICE, offsetof(struct optimizer_settings, epsilon_form),
        EPSILON_OUTSIDE, 0, 1,
        "outside|inside: rmsprop and adam divide by sqrt(s) + epsilon, or by sqrt(s + epsilon)",
        NULL},
    {0},
};

/* In float32, by its deterministic algorithms and in NHWC, it took 1.4 to 3 times as long as columns and
 * cuBLAS for the presets on an H200: perf/results/gpu.md. */
int run_wants_cudnn(const struct run_settings *set) {
    return set->cudnn == CUDNN_AUTO ? set->tf32 : set->cudnn != CUDNN_OFF;
}
