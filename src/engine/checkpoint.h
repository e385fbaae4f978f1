/* checkpoint.h -- a task's parameters and buffers in a file, and back. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "tasks/task.h"

/* x (floats), and behind it b (buffers), host memory; config: the resolved configuration, kept with the weights. */
enum status checkpoint_write(
    const char *path, const struct task *t, const float *x, const char *config);

/* The configuration that a checkpoint was made with, malloc-ed. */
enum status checkpoint_config(const char *path, char **config);

/* x <- the parameters, and behind them the buffers; STATUS_IO when the file's tensors are not the task's, name by name and
 * shape by shape. */
enum status checkpoint_read(const char *path, const struct task *t, float *x);

#endif
