/* SPDX-License-Identifier: MIT */
#include "tools/scenarios.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool show_hashing(void *ctx, uint64_t done, uint64_t total)
{
    scenario_set *s = ctx;
    bool go_on;

    if (!s->is_hashing)
        progress_start(&s->hashing, "hashing the base", s->quiet);
    s->is_hashing = true;
    go_on = progress_update(&s->hashing, done, total);
    if (done == total || !go_on)
        progress_end(&s->hashing);
    return go_on;
}

/* What there is no memory to keep is said at once. */
static void collect_drift(void *ctx, const char *what, const char *text)
{
    scenario_set *s = ctx;
    drift_item *more = realloc(s->drift, (s->n_drift + 1) * sizeof *more);
    drift_item item = {more ? strdup(what) : NULL, more ? strdup(text) : NULL};

    if (more)
        s->drift = more;
    if (item.what && item.text) {
        s->drift[s->n_drift++] = item;
        return;
    }
    message_error("%s: %s", what, text);
    free(item.what);
    free(item.text);
}

int scenarios_failure(const scenario_set *s, const lorafmt_error *err)
{
    char done[NUMBER_TEXT_SIZE], total[NUMBER_TEXT_SIZE];

    if (err->status == LORAFMT_CANCELLED)
        return message_error("%s: interrupted after hashing %s of %s of the base", s->path, size_text(s->hashing.done, done),
                             size_text(s->hashing.total, total));
    return message_failure(err, s->path);
}

int scenarios_open(const char *verb, const char *path, const limit_args *trust, const lorakit_scenarios_options *options,
                   bool listed, bool quiet, scenario_set *out)
{
    lorakit_scenarios_options o = *options;
    lorafmt_error err;
    int code;

    memset(out, 0, sizeof *out);
    if ((code = limits_parse(verb, trust, &out->limits)))
        return code;
    out->path = path;
    out->quiet = quiet;
    o.struct_size = sizeof o;
    o.limits = trust->limits.n ? &out->limits : NULL;
    o.paranoid = trust->paranoid;
    o.progress = show_hashing;
    o.progress_ctx = out;
    o.drift = listed ? collect_drift : NULL;
    o.drift_ctx = out;
    interrupt_catch();
    return lorakit_scenarios_open(path, &o, &out->set, &err) ? scenarios_failure(out, &err) : EXIT_DONE;
}

void scenarios_close(scenario_set *s)
{
    for (size_t i = 0; i < s->n_drift; i++) {
        free(s->drift[i].what);
        free(s->drift[i].text);
    }
    free(s->drift);
    lorakit_scenarios_free(s->set);
}

int scenarios_choose(const char *verb, const lorakit_manifest *manifest, size_t n_names, char *const *names, size_t **out,
                     size_t *n)
{
    lorafmt_error err;

    *n = n_names ? n_names : manifest->n_scenarios;
    if (!*n)
        return message_error("%s: has no scenarios", manifest->path);
    if (!(*out = calloc(*n, sizeof **out)))
        return message_no_memory();
    for (size_t i = 0; i < *n; i++) {
        (*out)[i] = i;
        if (n_names && lorakit_manifest_find(manifest, names[i], &(*out)[i], &err))
            return message_failure(&err, manifest->path);
        for (size_t k = 0; k < i; k++)
            if ((*out)[k] == (*out)[i])
                return message_usage(verb, "%s is named twice", names[i]);
    }
    return EXIT_DONE;
}

void scenarios_json_drift(json_out *j, const scenario_set *s)
{
    json_array(j, "drift");
    for (size_t i = 0; i < s->n_drift; i++) {
        json_object(j, NULL);
        json_text(j, "what", s->drift[i].what);
        json_text(j, "text", s->drift[i].text);
        json_object_end(j);
    }
    json_array_end(j);
}

bool scenarios_drifted(const scenario_set *s, const lorakit_scenario *scenario)
{
    const lorakit_manifest *m = lorakit_scenarios_manifest(s->set);
    static const char adapters[] = "adapters.";

    for (size_t i = 0; i < s->n_drift; i++) {
        const char *what = s->drift[i].what;
        if (strncmp(what, adapters, sizeof adapters - 1) != 0)
            return true;
        for (size_t k = 0; k < scenario->n_adapters; k++)
            if (strcmp(what + sizeof adapters - 1, m->adapters[scenario->adapters[k].adapter].name) == 0)
                return true;
    }
    return false;
}
