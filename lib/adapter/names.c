/* SPDX-License-Identifier: MIT */
/* Numbers of spec 4.4 and 4.5 in words. */
#include "lib/adapter/adapter.h"

#define NAME_OF(table, number) ((number) < sizeof(table) / sizeof *(table) && (table)[number] ? (table)[number] : "unknown")

const char *lorafmt_kind_name(unsigned kind)
{
    static const char *const names[] = {
        [LORAFMT_KIND_REPLACEMENT] = "replacement", [LORAFMT_KIND_SAVED] = "saved",   [LORAFMT_KIND_ROWS] = "rows",
        [LORAFMT_KIND_ADDITIVE] = "additive",       [LORAFMT_KIND_LINEAR] = "linear", [LORAFMT_KIND_EMBEDDING] = "embedding",
        [LORAFMT_KIND_CONV1D] = "conv1d",           [LORAFMT_KIND_CONV2D] = "conv2d", [LORAFMT_KIND_CONV3D] = "conv3d",
        [LORAFMT_KIND_EXPERTS] = "experts",
    };
    return NAME_OF(names, kind);
}

const char *lorafmt_role_name(unsigned role)
{
    static const char *const names[] = {
        [LORAFMT_ROLE_A] = "A",         [LORAFMT_ROLE_B] = "B",
        [LORAFMT_ROLE_MID] = "mid",     [LORAFMT_ROLE_MAGNITUDE] = "magnitude",
        [LORAFMT_ROLE_VALUE] = "value", [LORAFMT_ROLE_ROW_INDEX] = "row_index",
    };
    return NAME_OF(names, role);
}

const char *lorafmt_orientation_name(unsigned orientation)
{
    static const char *const names[] = {[LORAFMT_OUT_IN] = "out-in", [LORAFMT_IN_OUT] = "in-out", [LORAFMT_BY_SHAPE] = "shape"};
    return NAME_OF(names, orientation);
}

const char *lorafmt_scaling_name(unsigned scaling)
{
    static const char *const names[] = {
        [LORAFMT_SCALING_NONE] = "none",
        [LORAFMT_SCALING_ALPHA_R] = "alpha/r",
        [LORAFMT_SCALING_ALPHA_SQRT_R] = "alpha/sqrt(r)",
        [LORAFMT_SCALING_EXPLICIT] = "explicit",
    };
    return NAME_OF(names, scaling);
}
