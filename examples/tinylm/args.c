/* SPDX-License-Identifier: MIT */
#include "args.h"

#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinylm --model DIR [--prompt TEXT] [options]\n"
    "\n"
    "Write with a small language model whose LoRA adapters are put on while it is loaded and changed while it\n"
    "runs. The model is Llama-shaped, in bf16, and its tokens are bytes.\n"
    "\n"
    "The model and its adapters:\n"
    "  --model DIR         a directory with model.safetensors and config.json\n"
    "  --adapter X[=W]     put adapter X on while loading, W times as strong (1); X is a .lora file or a PEFT\n"
    "                      directory; several are added in the order given\n"
    "  --swap Y[=W][+Z[=W]...]\n"
    "                      when everything is done, change to these adapters, or to none with the word `base`,\n"
    "                      and do it all again; may be given many times\n"
    "  --unmerged          leave the base as it is, and write the texts of all these stacks in one batch, in which each\n"
    "                      goes through its own low-rank updates; --score and the rest as with merged ones\n"
    "  --f32               hold the weights in F32: merged ones are not rounded to BF16\n"
    "\n"
    "What to do with each:\n"
    "  --prompt TEXT       go on from TEXT; what is written begins after the sign ▸; given as many times as there are\n"
    "                      stacks, each has its own\n"
    "  --bytes N           write N bytes (200), or less where the model's context ends\n"
    "  --temperature T     choose by chance, the more freely the higher T is; 0, always the likeliest byte, is the\n"
    "                      default\n"
    "  --seed N            of that chance (0): the same seed writes the same text\n"
    "  --logits K          print the K likeliest bytes after the prompt, with their logits\n"
    "  --score FILE        print how surprising FILE is, in nats per byte: of each window of 256 bytes on its own, and\n"
    "                      on average; may be given many times\n"
    "  --digest            print the SHA-256 of all live weights, tensors in order of name\n"
    "\n"
    "  --json              print one JSON object instead of text\n"
    "  --help              print this\n"
    "\n"
    "Example, from the top of the source tree:\n"
    "  M=examples/demo-model\n"
    "  tinylm --model $M/base --adapter $M/adapters/legal --prompt 'And he said ' --temperature 0.6 \\\n"
    "      --swap $M/adapters/scripture --swap $M/adapters/scripture=0.5+$M/adapters/legal=0.5 --swap base\n";

/* Out of the way of single letters, of which there are none. */
enum { MODEL = 256, ADAPTER, SWAP, UNMERGED, F32, PROMPT, BYTES, TEMPERATURE, SEED, LOGITS, SCORE, DIGEST, JSON, HELP };

static const struct option options[] = {
    {"model", required_argument, NULL, MODEL},
    {"adapter", required_argument, NULL, ADAPTER},
    {"swap", required_argument, NULL, SWAP},
    {"unmerged", no_argument, NULL, UNMERGED},
    {"f32", no_argument, NULL, F32},
    {"prompt", required_argument, NULL, PROMPT},
    {"bytes", required_argument, NULL, BYTES},
    {"temperature", required_argument, NULL, TEMPERATURE},
    {"seed", required_argument, NULL, SEED},
    {"logits", required_argument, NULL, LOGITS},
    {"score", required_argument, NULL, SCORE},
    {"digest", no_argument, NULL, DIGEST},
    {"json", no_argument, NULL, JSON},
    {"help", no_argument, NULL, HELP},
    {0},
};

__attribute__((format(printf, 1, 2))) static args_result wrong(const char *format, ...)
{
    va_list values;

    fputs("tinylm: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputs(" (tinylm --help says more)\n", stderr);
    return ARGS_WRONG;
}

static args_result set_count(const char *name, const char *text, uint64_t most, uint64_t *out)
{
    char *end;

    *out = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || *out > most)
        return wrong("--%s %s: must be a whole number, at most %" PRIu64, name, text, most);
    return ARGS_PARSED;
}

static args_result set_size(const char *name, const char *text, size_t most, size_t *out)
{
    uint64_t value;
    const args_result result = set_count(name, text, most, &value);

    *out = (size_t)value;
    return result;
}

static args_result set_temperature(const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    if (!*text || *end || !isfinite(*out) || *out < 0)
        return wrong("--temperature %s: must be a number, 0 or more", text);
    return ARGS_PARSED;
}

static args_result add_to(const char *name, char *text, stack *s)
{
    switch (stack_add(s, text)) {
    case PARSED:
        return ARGS_PARSED;
    case PARSE_NO_MEMORY:
        return ARGS_NO_MEMORY;
    case PARSE_WRONG:
        break;
    }
    return wrong("--%s takes paths of adapters, each with a finite weight after an = or without", name);
}

static args_result add_swap(char *text, args *out)
{
    stack *s = &out->stacks[out->n_stacks++];

    return strcmp(text, "base") ? add_to("swap", text, s) : ARGS_PARSED;
}

static args_result set(int option, char *value, args *out)
{
    switch (option) {
    case MODEL:
        out->model = value;
        return ARGS_PARSED;
    case ADAPTER:
        return add_to("adapter", value, &out->stacks[0]);
    case SWAP:
        return add_swap(value, out);
    case UNMERGED:
        out->unmerged = true;
        return ARGS_PARSED;
    case F32:
        out->f32 = true;
        return ARGS_PARSED;
    case PROMPT:
        out->prompts[out->n_prompts++] = value;
        return *value ? ARGS_PARSED : wrong("--prompt must not be empty: the model has no sign for the beginning of a text");
    case BYTES:
        return set_size("bytes", value, SIZE_MAX, &out->n_bytes);
    case TEMPERATURE:
        return set_temperature(value, &out->temperature);
    case SEED:
        return set_count("seed", value, UINT64_MAX, &out->seed);
    case LOGITS:
        return set_size("logits", value, VOCAB_SIZE, &out->n_logits);
    case SCORE:
        out->scores[out->n_scores++] = value;
        return ARGS_PARSED;
    case DIGEST:
        out->digest = true;
        return ARGS_PARSED;
    case JSON:
        out->json = true;
        return ARGS_PARSED;
    case HELP:
        fputs(help, stdout);
        return ARGS_HELPED;
    case ':':
        return wrong("%s needs a value", value);
    default:
        return wrong("%s is no option, or takes no value", value);
    }
}

static args_result check(const args *a)
{
    if (!a->model)
        return wrong("--model DIR is missing");
    if (a->n_prompts > 1 && a->n_prompts != a->n_stacks)
        return wrong("%zu prompts, must be one for all, or one for each of %zu stacks of adapters", a->n_prompts, a->n_stacks);
    if (a->n_logits && !a->n_prompts)
        return wrong("--logits needs --prompt TEXT");
    if (!a->n_prompts && !a->n_scores && !a->digest)
        return wrong("there is nothing to do: give --prompt TEXT, --score FILE or --digest");
    return ARGS_PARSED;
}

args_result args_parse(int argc, char **argv, args *out)
{
    args_result result = ARGS_PARSED;

    /* No list gets longer than the command line; one stack is there without any option. */
    out->prompts = calloc((size_t)argc + 1, sizeof *out->prompts);
    out->scores = calloc((size_t)argc + 1, sizeof *out->scores);
    out->stacks = calloc((size_t)argc + 1, sizeof *out->stacks);
    if (!out->prompts || !out->scores || !out->stacks)
        return ARGS_NO_MEMORY;
    out->n_stacks = 1;
    out->n_bytes = 200;
    opterr = 0;
    while (result == ARGS_PARSED) {
        char *const at = argv[optind];
        const int option = getopt_long(argc, argv, "+:", options, NULL);
        if (option == -1)
            break;
        result = set(option, optarg ? optarg : at, out);
    }
    if (result == ARGS_PARSED && optind < argc)
        result = wrong("unexpected argument %s", argv[optind]);
    return result == ARGS_PARSED ? check(out) : result;
}

void args_free(args *a)
{
    for (size_t i = 0; i < a->n_stacks; i++)
        stack_free(&a->stacks[i]);
    free(a->stacks);
    free(a->scores);
    free(a->prompts);
}
