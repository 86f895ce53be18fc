/* SPDX-License-Identifier: MIT */
#include "lorafmt/version.h"

const char *lorafmt_release(void)
{
    return LORAFMT_RELEASE;
}
