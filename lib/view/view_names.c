/* SPDX-License-Identifier: MIT */
#include "lorafmt/view.h"

const char *lorafmt_match_name(lorafmt_match match)
{
    switch (match) {
    case LORAFMT_MATCH_NONE:
        return "none";
    case LORAFMT_MATCH_EXACT:
        return "exact";
    case LORAFMT_MATCH_MAP:
        return "map";
    case LORAFMT_MATCH_BRIDGE:
        return "bridge";
    case LORAFMT_MATCH_TIED:
        return "tied";
    case LORAFMT_MATCH_NEW:
        return "new";
    }
    return "unknown";
}

const char *lorafmt_effect_name(lorafmt_effect effect)
{
    switch (effect) {
    case LORAFMT_EFFECT_NOTHING:
        return "nothing";
    case LORAFMT_EFFECT_LOW_RANK:
        return "low-rank";
    case LORAFMT_EFFECT_REPLACED:
        return "replaced";
    case LORAFMT_EFFECT_NEW:
        return "new";
    case LORAFMT_EFFECT_ROWS:
        return "rows";
    case LORAFMT_EFFECT_ADDITIVE:
        return "additive";
    }
    return "unknown";
}
