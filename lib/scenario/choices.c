/* SPDX-License-Identifier: MIT */
#include "lib/scenario/choices.h"

#include "format/base/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MORE ", ..."

lk_choices lk_choices_begin(const char *typed)
{
    const size_t n = strlen(typed);

    return (lk_choices){.typed = typed, .distance = n < 2 ? 1 : n < 4 ? 2 : 4}; // of one letter, only the other case
}

static void list(lk_choices *choices, const char *name)
{
    const size_t end = strlen(choices->all), room = sizeof choices->all - sizeof MORE - end;
    const char *comma = end ? ", " : "";

    if (lf_ends_with(choices->all, MORE))
        return;
    if (strlen(comma) + strlen(name) < room)
        snprintf(choices->all + end, room, "%s%s", comma, name);
    else
        memcpy(choices->all + end, MORE, sizeof MORE);
}

void lk_choices_add(lk_choices *choices, const char *name)
{
    const size_t n_typed = strlen(choices->typed), n = strlen(name);

    list(choices, name);
    if (n_typed <= LF_MAX_DISTANCE && n <= LF_MAX_DISTANCE) {
        const size_t distance = strcasecmp(choices->typed, name) == 0 ? 0 : lf_distance(choices->typed, n_typed, name, n);
        if (distance < choices->distance) {
            choices->distance = distance;
            choices->nearest = name;
        }
    }
}

const char *lk_choices_end(lk_choices *choices)
{
    if (!choices->all[0])
        return "there is none";
    if (choices->nearest)
        snprintf(choices->text, sizeof choices->text, "did you mean %s? Known are %s", choices->nearest, choices->all);
    else
        snprintf(choices->text, sizeof choices->text, "known are %s", choices->all);
    return choices->text;
}
