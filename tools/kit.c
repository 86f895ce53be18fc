/* SPDX-License-Identifier: MIT */
#include "tools/kit.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/progress.h"
#include "tools/stats.h"
#include "tools/text.h"

#include "lorafmt/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int rank_parse(const char *verb, const rank_args *args, lorakit_rank *out)
{
    const struct {
        const char *name;
        const option_number *given;
        lorakit_rule rule;
        double most;
    } rules[] = {{"energy", &args->energy, LORAKIT_ENERGY, 1},
                 {"max-error", &args->max_error, LORAKIT_MAX_ERROR, 1},
                 {"sv-ratio", &args->sv_ratio, LORAKIT_SV_RATIO, HUGE_VAL},
                 {"sv-cumulative", &args->sv_cumulative, LORAKIT_SV_CUMULATIVE, 1},
                 {"sv-fro", &args->sv_fro, LORAKIT_SV_FRO, 1}};
    const char *first = NULL;

    *out = (lorakit_rank){.most = args->rank};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const double value = rules[i].given->value;
        if (!rules[i].given->given)
            continue;
        if (first)
            return message_usage(verb, "--%s and --%s: one of them", first, rules[i].name);
        if (value < 0 || value > rules[i].most || (value == 0 && rules[i].rule != LORAKIT_MAX_ERROR))
            return message_usage(verb, "--%s %g: must be %s", rules[i].name, value,
                                 isinf(rules[i].most) ? "above 0" : "a share, 0 .. 1");
        first = rules[i].name;
        out->rule = rules[i].rule;
        out->value = value;
    }
    if (!first && args->rank)
        out->rule = LORAKIT_FIXED;
    return EXIT_DONE;
}

int seed_parse(const char *verb, const char *text, uint64_t *out)
{
    *out = 0;
    if (text && !parse_whole(text, UINT64_MAX, out))
        return message_usage(verb, "--seed %s: must be a whole number below 2^64", text);
    return EXIT_DONE;
}

int bytes_parse(const char *verb, const char *name, const char *text, uint64_t *out)
{
    if (!parse_bytes(text, out))
        return message_usage(verb, "--%s %s: must be a number of bytes, as 20000, 512K, 20M or 1.5G", name, text);
    return EXIT_DONE;
}

lorafmt_dtype factor_dtype(unsigned chosen)
{
    static const lorafmt_dtype dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16, LORAFMT_F64};

    return dtypes[chosen];
}

/* The id is of what is recorded of the base, too. */
static int read_id(const char *path, uint8_t id[32])
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .defer_digests = true};
    lorafmt_source *source;
    lorafmt_error err;

    if (lorafmt_source_open(path, &options, &source, &err))
        return message_unread(&err, path);
    lorafmt_adapter_id(lorafmt_source_adapter(source, 0), id);
    lorafmt_source_free(source);
    return EXIT_DONE;
}

int kit_write(const lorafmt_adapter *adapter, const lorafmt_model *base, const char *output, bool force, uint8_t id[32])
{
    const lorafmt_pack_options options = {.struct_size = sizeof options, .base = base, .headers_only = base, .force = force};
    progress none = {0};
    lorafmt_error err;

    interrupt_catch(); /* an adapter is small: finish what was begun rather than leave half of it */
    if (lorafmt_pack(&adapter, 1, output, &options, &err))
        return progress_failure(&none, &err, output);
    return read_id(output, id);
}

void kit_print_id(const uint8_t id[32], const char *output)
{
    char text[DIGEST_TEXT_SIZE];

    print_line(stdout, "%s: id %s", output, digest_text(id, text));
}

double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}
