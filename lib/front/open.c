/* SPDX-License-Identifier: MIT */
#include "lib/front/source.h"

#include "format/base/error.h"
#include "lib/front/policy.h"
#include "lorafmt/limits.h"

#include <time.h>

#define LOOKS 5

lorafmt_status lf_source_map(const char *path, const lorafmt_source_options *options, lf_map *out, lorafmt_error *err)
{
    return lf_map_open(path, lf_policy_in_memory(options),
                       lorafmt_limits_get(options ? options->limits : NULL, LORAFMT_LIMIT_FILE_SIZE), out, err);
}

lorafmt_status lf_container_open_file(const char *path, const lorafmt_source_options *options, lf_map *map, lf_container **out,
                                      lorafmt_error *err)
{
    const struct timespec a_moment = {.tv_nsec = 1000000};
    lorafmt_status st = LORAFMT_OK;

    *map = (lf_map){0};
    *out = NULL;
    for (int look = 0; look < LOOKS; look++) {
        if (look > 0)
            nanosleep(&a_moment, NULL);
        lf_container_free(*out);
        lf_map_close(map);
        LF_TRY(lf_source_map(path, options, map, err));
        st = lf_container_open(map->bytes, map->size, 0, out, err);
        if (st ? st != LORAFMT_CORRUPT : !lf_container_is_recovered(*out))
            break;
    }
    return st;
}
