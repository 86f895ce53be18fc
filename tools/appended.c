/* SPDX-License-Identifier: MIT */
#include "tools/appended.h"

#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/text.h"

#include <inttypes.h>

static void print_json(const char *path, const lorafmt_append_result *result)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", path);
    json_u64(&j, "generation", result->generation);
    json_u64(&j, "n_bytes", result->n_bytes);
    json_object_end(&j);
}

int appended_report(const char *path, lorafmt_status st, const lorafmt_error *err, const lorafmt_append_result *result,
                    const char *what, bool json, bool quiet)
{
    char size[NUMBER_TEXT_SIZE];

    if (st)
        return message_failure(err, path);
    if (result->n_ignored_sections && !quiet)
        message_note("%s: left out %zu section%s of a newer format; the generation before has them", path,
                     result->n_ignored_sections, result->n_ignored_sections == 1 ? "" : "s");
    if (json)
        print_json(path, result);
    else if (!quiet)
        print_line(stdout, "%s: generation %" PRIu64 ", %s; %s more", path, result->generation, what,
                   size_text(result->n_bytes, size));
    return EXIT_DONE;
}
