/* SPDX-License-Identifier: MIT */
/*
 * A small trainer on the public headers of the libraries: what a program has to do to train a LoRA adapter.
 *
 *   trainable.c  the adapter's side: a new one by lorakit_init(), its numbers, saved by lorafmt_pack()
 *   train.c      steps by lorafmt_adamw_step(), with batch.c, which has windows of a text learnt on several threads
 *   backward.c   back through the transformer, and by lorafmt_backward() through the adapter; its memory is in learner.c
 *   forward.c    tinylm's forward pass, which keeps what it computed
 */
#include "train.h"

#include <stdio.h>
#include <stdlib.h>

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE };

static int complain(const char *what)
{
    fprintf(stderr, "tinylm-train: %s\n", what);
    return EXIT_FAILED;
}

static int run(const train_args *a)
{
    lorafmt_error err;
    char text[2048];

    if (train(a, &err) != LORAFMT_OK) {
        lorafmt_error_format(&err, text, sizeof text);
        return complain(text);
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_DONE : complain("the results could not be written");
}

int main(int argc, char **argv)
{
    train_args a;
    int code = EXIT_DONE;

    switch (train_args_parse(argc, argv, &a)) {
    case TRAIN_ARGS_PARSED:
        code = run(&a);
        break;
    case TRAIN_ARGS_HELPED:
        break;
    case TRAIN_ARGS_WRONG:
        code = EXIT_USAGE;
        break;
    case TRAIN_ARGS_NO_MEMORY:
        code = complain("out of memory");
        break;
    }
    free(a.targets);
    return code;
}
