/* SPDX-License-Identifier: MIT */
/*
 * A command line, its words ended by NUL, of a command that has every kind of option and what is written in them: inputs with names
 * and weights, sums, ranks, sizes, seeds, parts, rules for weights, patterns and maps. Whatever is wrong is said in lines that a
 * terminal may show; no file is opened.
 */
#include "fuzz/fuzz.h"

#include "format/base/text.h"
#include "tools/binding.h"
#include "tools/command.h"
#include "tools/kit.h"
#include "tools/message.h"
#include "tools/stack.h"
#include "tools/syntax.h"

#include <math.h>
#include <string.h>

#define MAX_WORDS 32
#define NAME "fuzz"

typedef struct arguments {
    bool flag;
    text_list weights, patterns, parts, budgets;
    const char *seed;
    binding_args binding;
    input_args input;
    rank_args rank;
} arguments;

static const option options[] = {
    {"flag", 'f', NULL, OPTION_FLAG, offsetof(arguments, flag), "a flag"},
    {"weight", 'w', "NAME:PATTERN=W", OPTION_LIST, offsetof(arguments, weights), "rules for weights"},
    {"target", 't', "PATTERN", OPTION_LIST, offsetof(arguments, patterns), "patterns"},
    {"part", 'p', "K/N", OPTION_LIST, offsetof(arguments, parts), "parts"},
    {"budget", 'b', "BYTES", OPTION_LIST, offsetof(arguments, budgets), "sizes"},
    {"seed", 's', "N", OPTION_TEXT, offsetof(arguments, seed), "a seed"},
    BINDING_OPTIONS(arguments, binding),
    CPU_OPTION(arguments, binding),
    INPUT_OPTIONS(arguments, input),
    RANK_OPTIONS(arguments, rank),
    {0},
};

/* --- patterns --- */

#define MAX_TARGET 64

/* spec/manifest.md 3.5 without sets: which beginnings of the text each beginning of the pattern matches. */
static bool matches_by_table(const char *pattern, const char *text, size_t n)
{
    bool reached[MAX_TARGET + 1] = {true};

    for (; *pattern; pattern++) {
        const bool star = *pattern == '*', any = *pattern == '?';
        pattern += pattern[0] == '\\' && pattern[1];
        for (size_t i = 1; star && i <= n; i++)
            reached[i] |= reached[i - 1];
        for (size_t i = n; !star && i > 0; i--)
            reached[i] = reached[i - 1] && (any || *pattern == text[i - 1]);
        reached[0] &= star;
    }
    return reached[n];
}

static void check_pattern(const char *pattern)
{
    static const char *const targets[] = {"a.b.weight", "model.layers.11.mlp.up_proj.weight", ".weight", "", "**a?\\[b]"};

    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        const char *text = targets[i];
        const size_t n = strlen(text);
        const bool found = lf_glob_matches(pattern, text, n);
        if (!strchr(pattern, '['))
            require(found == matches_by_table(pattern, text, n));
        require(!found || lf_target_matches(pattern, text));
    }
}

/* --- maps --- */

static lorafmt_status bind(void *ctx, const lorafmt_bind_options *bind_options, lorafmt_error *err)
{
    static const float data[4] = {1, 2, 3, 4};
    const lorafmt_factor factors[2] = {{LORAFMT_ROLE_A,
                                        {.dtype = LORAFMT_F32, .n_dims = 2, .shape = {1, 2}, .size = 8, .data = data}},
                                       {LORAFMT_ROLE_B,
                                        {.dtype = LORAFMT_F32, .n_dims = 2, .shape = {2, 1}, .size = 8, .data = data}}};
    const lorafmt_site site = {.target = "a.b.weight",
                               .kind = LORAFMT_KIND_LINEAR,
                               .scaling = LORAFMT_SCALING_ALPHA_R,
                               .rank = 1,
                               .alpha = 1,
                               .scale = 1,
                               .n_factors = 2,
                               .factors = factors};
    const lorafmt_adapter adapter = {.name = "x", .base_name = "", .base_revision = "", .n_sites = 1, .sites = &site};
    const lorafmt_base_tensor tensors[] = {{"a.b.weight", LORAFMT_F32, 2, {2, 2}, 16},
                                           {"c.b.weight", LORAFMT_F32, 2, {2, 2}, 16}};
    const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 2, .tensors = tensors};
    const lorafmt_stack_entry stack = {&adapter, 1};
    lorafmt_view *view;
    const lorafmt_status status = lorafmt_bind(&base, &stack, 1, bind_options, &view, err);

    (void)ctx;
    lorafmt_view_free(view);
    return status;
}

/* --- values --- */

static void check_stack(const adapter_stack *stack, int code)
{
    for (size_t i = 0; i < stack->n && code == EXIT_DONE; i++)
        require(*stack->inputs[i].path && isfinite(stack->inputs[i].weight));
}

static void use_inputs(const text_list *inputs)
{
    adapter_stack stack = {0};

    check_stack(&stack, stack_parse(NAME, inputs, &stack));
    stack_close(&stack);
    for (size_t i = 0; i < inputs->n; i++) {
        check_stack(&stack, stack_parse_sum(NAME, inputs->items[i], &stack));
        stack_close(&stack);
    }
}

static void use_weight(const char *text)
{
    char *copy = strdup(text);
    const char *pattern;
    double weight;

    require(copy != NULL);
    if (weight_rule_cut(copy, &pattern, &weight)) {
        require(*pattern && isfinite(weight) && strncmp(text, copy, strlen(copy)) == 0);
        check_pattern(pattern);
    }
    free(copy);
}

static void use_part(const char *text)
{
    char again[64];
    unsigned k, n;

    if (!fraction_parse(text, 1000000, &k, &n))
        return;
    snprintf(again, sizeof again, "%u/%u", k, n);
    require(k <= n && n >= 1 && n <= 1000000 && strcmp(again, text) == 0);
}

static void use_limits(const limit_args *args)
{
    lorafmt_limits limits;

    if (limits_parse(NAME, args, &limits) == EXIT_DONE)
        require(lorafmt_limits_check(&limits, NULL) == LORAFMT_OK);
}

static void use_arguments(const arguments *args)
{
    lorakit_rank rank;
    uint64_t number;

    for (size_t i = 0; i < args->weights.n; i++)
        use_weight(args->weights.items[i]);
    for (size_t i = 0; i < args->patterns.n; i++)
        check_pattern(args->patterns.items[i]);
    for (size_t i = 0; i < args->parts.n; i++)
        use_part(args->parts.items[i]);
    for (size_t i = 0; i < args->budgets.n; i++)
        if (bytes_parse(NAME, "budget", args->budgets.items[i], &number) == EXIT_DONE)
            require(number >= 1);
    use_limits(&args->input.trust);
    seed_parse(NAME, args->seed, &number);
    rank_parse(NAME, &args->rank, &rank);
    binding_run(NAME, &args->binding, false, false, NULL, bind, NULL);
}

static size_t split(char *words, size_t size, char *argv[MAX_WORDS])
{
    size_t n = 0;

    for (size_t at = 0; at < size && n < MAX_WORDS; at += strlen(words + at) + 1)
        argv[n++] = words + at;
    return n;
}

static void use_words(char *words, size_t size)
{
    arguments args = {0};
    char *argv[MAX_WORDS];
    const char *items[MAX_WORDS];
    text_list inputs = {.items = items};
    const option_result result = options_parse(NAME, options, split(words, size, argv), argv, &args, &inputs.n);

    if (result == OPTION_HELP)
        options_help(stderr, options);
    if (result == OPTION_PARSED) {
        memcpy(items, argv, inputs.n * sizeof *items);
        use_inputs(&inputs);
        use_arguments(&args);
    }
    options_free(options, &args);
}

/* Lines of printable text. */
static void check_messages(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        require(text[i] == '\n' || ((uint8_t)text[i] >= ' ' && text[i] != 0x7f));
    require(size == 0 || text[size - 1] == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words = malloc(size + 1), *said = NULL;
    FILE *const screen = stderr;
    size_t n_said = 0;

    require(words != NULL && (stderr = open_memstream(&said, &n_said)) != NULL);
    memcpy(words, data, size);
    words[size] = '\0';
    use_words(words, size);
    fclose(stderr);
    stderr = screen;
    check_messages(said, n_said);
    free(said);
    free(words);
    return 0;
}
