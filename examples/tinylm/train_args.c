/* SPDX-License-Identifier: MIT */
#include "train_args.h"

#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* 2^20 is the most that a `.lora` takes. */
#define MOST_RANK (UINT64_C(1) << 20)
#define MOST_THREADS 1024

static const char help[] =
    "Usage: tinylm-train --model DIR --text FILE -o OUT.lora [options]\n"
    "\n"
    "Train a new LoRA adapter for a small language model on a text. The model stays as it is; of the adapter, A is normally\n"
    "distributed at first and B zero, so that training begins with the model. Takes about a minute.\n"
    "\n"
    "  --model DIR         a directory with model.safetensors and config.json, as tinylm reads it\n"
    "  --text FILE         what to learn: at least 256 bytes\n"
    "  --heldout FILE      tell how surprising this text is before and after, in nats per byte; windows of 256 bytes\n"
    "  --target NAME       the layers to train, as `lorapack init` takes them: q_proj, *.mlp.*, ...; may be given many times\n"
    "                      (all-linear)\n"
    "  --rank R            of the adapter (8)\n"
    "  --alpha A           it is added alpha / rank times (16)\n"
    "  --seconds N         train for about so long (60)\n"
    "  --steps N           or so many steps, each of 8 windows of 256 bytes: with the same seed, the same adapter\n"
    "  --rate X            how far a step goes at most (0.003); first less, and in the end nothing\n"
    "  --seed N            of chance (0), which chooses the windows and what A is at first\n"
    "  --dtype T           of the numbers in OUT.lora: F32 (default), BF16 or F16\n"
    "  --threads N         threads to work on (one per CPU); the adapter does not depend on it\n"
    "  -o, --output FILE   the adapter, which must not exist\n"
    "  --help              print this\n"
    "\n"
    "Example, from the top of the source tree:\n"
    "  M=examples/demo-model\n"
    "  cat /usr/share/common-licenses/* >licences.txt\n"
    "  tinylm-train --model $M/base --text licences.txt --heldout $M/heldout/legal.txt -o licences.lora\n"
    "  tinylm --model $M/base --adapter licences.lora --prompt 'You may '\n";

enum { MODEL = 256, TEXT, HELDOUT, TARGET, RANK, ALPHA, SECONDS, STEPS, RATE, SEED, DTYPE, THREADS, HELP };

static const struct option options[] = {
    {"model", required_argument, NULL, MODEL},
    {"text", required_argument, NULL, TEXT},
    {"heldout", required_argument, NULL, HELDOUT},
    {"target", required_argument, NULL, TARGET},
    {"rank", required_argument, NULL, RANK},
    {"alpha", required_argument, NULL, ALPHA},
    {"seconds", required_argument, NULL, SECONDS},
    {"steps", required_argument, NULL, STEPS},
    {"rate", required_argument, NULL, RATE},
    {"seed", required_argument, NULL, SEED},
    {"dtype", required_argument, NULL, DTYPE},
    {"threads", required_argument, NULL, THREADS},
    {"output", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, HELP},
    {0},
};

__attribute__((format(printf, 1, 2))) static train_args_result wrong(const char *format, ...)
{
    va_list values;

    fputs("tinylm-train: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputs(" (tinylm-train --help says more)\n", stderr);
    return TRAIN_ARGS_WRONG;
}

static train_args_result set_count(const char *name, const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;

    *out = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || *out < least || *out > most)
        return wrong("--%s %s: must be a whole number, %" PRIu64 " .. %" PRIu64, name, text, least, most);
    return TRAIN_ARGS_PARSED;
}

static train_args_result set_number(const char *name, const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    if (!*text || *end || !isfinite(*out) || *out <= 0)
        return wrong("--%s %s: must be a number above 0", name, text);
    return TRAIN_ARGS_PARSED;
}

static train_args_result set_dtype(const char *text, lorafmt_dtype *out)
{
    *out = lorafmt_dtype_from_name(text);
    if (*out != LORAFMT_F32 && *out != LORAFMT_BF16 && *out != LORAFMT_F16)
        return wrong("--dtype %s: must be F32, BF16 or F16", text);
    return TRAIN_ARGS_PARSED;
}

static train_args_result set(int option, char *value, train_args *out)
{
    train_args_result result = TRAIN_ARGS_PARSED;
    uint64_t count = 0;

    switch (option) {
    case MODEL:
        out->model = value;
        return result;
    case TEXT:
        out->text = value;
        return result;
    case HELDOUT:
        out->heldout = value;
        return result;
    case TARGET:
        out->targets[out->n_targets++] = value;
        return result;
    case RANK:
        result = set_count("rank", value, 1, MOST_RANK, &count);
        out->rank = (uint32_t)count;
        return result;
    case ALPHA:
        return set_number("alpha", value, &out->alpha);
    case SECONDS:
        return set_count("seconds", value, 1, UINT32_MAX, &out->seconds);
    case STEPS:
        return set_count("steps", value, 1, UINT32_MAX, &out->n_steps);
    case RATE:
        return set_number("rate", value, &out->rate);
    case SEED:
        return set_count("seed", value, 0, UINT64_MAX, &out->seed);
    case DTYPE:
        return set_dtype(value, &out->dtype);
    case THREADS:
        result = set_count("threads", value, 1, MOST_THREADS, &count);
        out->n_threads = (size_t)count;
        return result;
    case 'o':
        out->output = value;
        return result;
    case HELP:
        fputs(help, stdout);
        return TRAIN_ARGS_HELPED;
    case ':':
        return wrong("%s needs a value", value);
    default:
        return wrong("%s is no option, or takes no value", value);
    }
}

static train_args_result check(const train_args *a)
{
    if (!a->model)
        return wrong("--model DIR is missing");
    if (!a->text)
        return wrong("--text FILE is missing: what is the adapter to learn?");
    if (!a->output)
        return wrong("-o OUT.lora is missing: where to put the adapter");
    return TRAIN_ARGS_PARSED;
}

static size_t count_cpus(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : (size_t)n;
}

train_args_result train_args_parse(int argc, char **argv, train_args *out)
{
    train_args_result result = TRAIN_ARGS_PARSED;

    *out = (train_args){.rank = 8, .alpha = 16, .seconds = 60, .rate = 0.003, .dtype = LORAFMT_F32, .n_threads = count_cpus()};
    out->targets = calloc((size_t)argc + 1, sizeof *out->targets); /* no list gets longer than the command line */
    if (!out->targets)
        return TRAIN_ARGS_NO_MEMORY;
    opterr = 0;
    while (result == TRAIN_ARGS_PARSED) {
        char *const at = argv[optind];
        const int option = getopt_long(argc, argv, "+:o:", options, NULL);
        if (option == -1)
            break;
        result = set(option, optarg ? optarg : at, out);
    }
    if (result == TRAIN_ARGS_PARSED && optind < argc)
        result = wrong("unexpected argument %s", argv[optind]);
    if (!out->n_targets)
        out->targets[out->n_targets++] = "all-linear";
    return result == TRAIN_ARGS_PARSED ? check(out) : result;
}
