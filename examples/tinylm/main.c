/* SPDX-License-Identifier: MIT */
/*
 * A whole small loader and text generator on the public headers of the library: what an inference program has to do to put LoRA
 * adapters on while it loads a model, and to change them while it runs.
 *
 *   model.c     the adapters' side: weights are described to lorafmt_runtime_new(), and switched
 *   stack.c     adapters are opened
 *   unmerged.c  or they are not merged, and lorafmt_forward() adds what each does to its tokens
 *   run.c       load, write, switch, write again; or write with all of them in one batch, by text.c
 *   forward.c   the transformer, with session.c and vector.c
 *   sample.c    from logits to bytes; score.c: to losses
 */
#include "args.h"
#include "run.h"

#include <stdio.h>

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE };

static int complain(const lorafmt_error *err)
{
    char text[2048];

    lorafmt_error_format(err, text, sizeof text);
    fprintf(stderr, "tinylm: %s\n", text);
    return EXIT_FAILED;
}

static int complain_of(const char *what)
{
    fprintf(stderr, "tinylm: %s\n", what);
    return EXIT_FAILED;
}

static int run_and_report(const args *a)
{
    report r = {0};
    lorafmt_error err;
    int code = EXIT_DONE;

    if (!report_begin(&r, a->json))
        code = complain_of("out of memory");
    else if (run(a, &r, &err) != LORAFMT_OK)
        code = complain(&err);
    else if (!report_end(&r))
        code = complain_of("the results could not be written");
    report_free(&r);
    return code;
}

int main(int argc, char **argv)
{
    args a = {0};
    int code = EXIT_DONE;

    switch (args_parse(argc, argv, &a)) {
    case ARGS_PARSED:
        code = run_and_report(&a);
        break;
    case ARGS_HELPED:
        break;
    case ARGS_WRONG:
        code = EXIT_USAGE;
        break;
    case ARGS_NO_MEMORY:
        code = complain_of("out of memory");
        break;
    }
    args_free(&a);
    return code;
}
