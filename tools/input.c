/* SPDX-License-Identifier: MIT */
#include "tools/input.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/path.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *source_kind_name(lorafmt_source_kind kind)
{
    switch (kind) {
    case LORAFMT_SOURCE_LORA:
        return "lora";
    case LORAFMT_SOURCE_PEFT:
        return "peft";
    case LORAFMT_SOURCE_SAFETENSORS:
        return "safetensors";
    }
    return "unknown";
}

static int cut_weight(const char *verb, input *in)
{
    char *at = strrchr(in->path, '=');
    double weight;

    if (!at || !parse_number(at + 1, &weight))
        return EXIT_DONE;
    if (!isfinite(weight))
        return message_usage(verb, "%s: weight %s, must be a finite number", in->path, at + 1);
    *at = '\0';
    in->weight = weight;
    return EXIT_DONE;
}

static int cut_name(const char *verb, input *in)
{
    char *at = strrchr(in->path, '#');

    if (!at || path_exists(in->path))
        return EXIT_DONE;
    *at = '\0';
    in->name = at + 1;
    if (!*in->name)
        return message_usage(verb, "%s#: the name of an adapter must follow the #", in->path);
    if (strchr(in->name, '='))
        return message_usage(verb, "%s: a weight must be a number, and names hold no =", in->name);
    return EXIT_DONE;
}

int input_parse(const char *verb, const char *text, bool weighted, input *out)
{
    int code = EXIT_DONE;

    memset(out, 0, sizeof *out);
    out->weight = 1;
    if (!(out->path = strdup(text)))
        return message_no_memory();
    if (weighted)
        code = cut_weight(verb, out);
    if (code == EXIT_DONE)
        code = cut_name(verb, out);
    if (code == EXIT_DONE && !*out->path)
        code = message_usage(verb, "the path of an adapter is empty");
    return code;
}

static void say_notes(const input *in)
{
    lorafmt_container_info info;

    for (size_t i = 0; i < lorafmt_source_n_notes(in->source); i++)
        message_note("%s: %s", in->path, lorafmt_source_note(in->source, i));
    if (lorafmt_source_container(in->source, &info) && info.recovered)
        message_warning("%s: recovered: a root slot is damaged and the other one is used", in->path);
}

bool input_is_asked(const input_args *args)
{
    return args->alpha.given || args->rslora || args->experts_orientation || args->trust.limits.n || args->trust.paranoid;
}

int input_open_base(const char *path, lorafmt_model **out)
{
    lorafmt_error err;

    *out = NULL;
    if (path && lorafmt_model_open(path, out, &err))
        return message_failure(&err, path);
    return EXIT_DONE;
}

int input_open(const char *verb, const input_args *args, const lorafmt_model *base, bool quiet, input *in)
{
    lorafmt_limits limits;
    lorafmt_source_options options = {.struct_size = sizeof options,
                                      .has_alpha = args->alpha.given,
                                      .alpha = args->alpha.value,
                                      .use_rslora = args->rslora,
                                      .adapter = in->name,
                                      .defer_digests = args->defer_digests,
                                      .policy = args->policy,
                                      .limits = args->trust.limits.n ? &limits : NULL,
                                      .paranoid = args->trust.paranoid};
    lorafmt_error err;
    int code = limits_parse(verb, &args->trust, &limits);

    if (code != EXIT_DONE)
        return code;
    if (base)
        options.base = lorafmt_model_base(base);
    if (args->experts_orientation) {
        options.has_orientation = true;
        options.orientation = args->experts_orientation == 1 ? LORAFMT_OUT_IN : LORAFMT_IN_OUT;
    }
    if (args->experts_orientation && !base)
        return message_usage(verb, "--experts-orientation needs --base");
    if (args->rslora && !args->alpha.given)
        return message_usage(verb, "--rslora needs --alpha");
    if (args->trust.paranoid && args->defer_digests)
        return message_usage(verb, "--paranoid and --defer-digests: one of them");
    if (lorafmt_source_open(in->path, &options, &in->source, &err))
        return message_failure(&err, in->path);
    if (!quiet)
        say_notes(in);
    return EXIT_DONE;
}

int input_choose(const input *in, const lorafmt_adapter **out)
{
    lorafmt_error err;

    if (lorafmt_source_choose(in->source, in->name, out, &err))
        return message_failure(&err, in->path);
    return EXIT_DONE;
}

int source_adapters(const lorafmt_source *source, const lorafmt_adapter ***out, size_t *n)
{
    *n = lorafmt_source_n_adapters(source);
    if (!(*out = calloc(*n, sizeof(const lorafmt_adapter *))))
        return message_no_memory();
    for (size_t i = 0; i < *n; i++)
        (*out)[i] = lorafmt_source_adapter(source, i);
    return EXIT_DONE;
}

int input_adapters(const input *in, const lorafmt_adapter ***out, size_t *n)
{
    int code;

    if (!in->name)
        return source_adapters(in->source, out, n);
    *n = 1;
    if (!(*out = calloc(1, sizeof(const lorafmt_adapter *))))
        return message_no_memory();
    if ((code = input_choose(in, *out)) != EXIT_DONE) {
        free(*out);
        *out = NULL;
    }
    return code;
}

void input_close(input *in)
{
    lorafmt_source_free(in->source);
    free(in->path);
    memset(in, 0, sizeof *in);
}
