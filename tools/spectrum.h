/* SPDX-License-Identifier: MIT */
/* inspect --spectrum: how many directions the updates of an adapter really use. */
#ifndef TOOLS_SPECTRUM_H
#define TOOLS_SPECTRUM_H

#include "tools/input.h"

#include <stdbool.h>

/* Of the adapters that an input stands for. Returns an exit code. */
int spectrum_show(const input *in, bool json);

#endif
