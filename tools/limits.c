/* SPDX-License-Identifier: MIT */
#include "tools/limits.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include <inttypes.h>
#include <string.h>

static size_t find_limit(const char *name, size_t size)
{
    size_t i = 0;

    while (i < LORAFMT_N_LIMITS &&
           (strlen(lorafmt_limit_name((lorafmt_limit)i)) != size || strncmp(lorafmt_limit_name((lorafmt_limit)i), name, size)))
        i++;
    return i;
}

static int fail_name(const char *verb, const char *text, size_t size)
{
    char names[512] = "";

    for (size_t i = 0, n = 0; i < LORAFMT_N_LIMITS && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", lorafmt_limit_name((lorafmt_limit)i));
    return message_usage(verb, "--limit %s: no limit '%.*s'; there are %s", text, (int)size, text, names);
}

/* Sizes are bytes, which have units; the others are counted. */
static bool parse_limit(const char *name, const char *text, uint64_t most, uint64_t *out)
{
    const size_t n = strlen(name);

    if (n > 5 && !strcmp(name + n - 5, "-size"))
        return parse_bytes(text, out) && *out <= most;
    return parse_whole(text, most, out) && *out;
}

static int set_limit(const char *verb, const char *text, lorafmt_limits *out)
{
    const size_t size = strcspn(text, "="), i = find_limit(text, size);
    const char *name;
    uint64_t most;

    if (i == LORAFMT_N_LIMITS)
        return fail_name(verb, text, size);
    name = lorafmt_limit_name((lorafmt_limit)i);
    most = lorafmt_limit_most((lorafmt_limit)i);
    if (!text[size] || !parse_limit(name, text + size + 1, most, &out->at_most[i]))
        return message_usage(verb, "--limit %s: must be %s=N, N from 1 to %" PRIu64 "; sizes also as 512K, 20M or 1.5G", text,
                             name, most);
    return EXIT_DONE;
}

int limits_parse(const char *verb, const limit_args *args, lorafmt_limits *out)
{
    int code = EXIT_DONE;

    *out = (lorafmt_limits){.struct_size = sizeof *out};
    for (size_t i = 0; i < args->limits.n && code == EXIT_DONE; i++)
        code = set_limit(verb, args->limits.items[i], out);
    return code;
}
