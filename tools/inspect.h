/* SPDX-License-Identifier: MIT */
/* What an input holds, for people and for programs. Both return an exit code. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

#include "tools/input.h"

#include <stdbool.h>
#include <stddef.h>

int inspect_print(const input *in, const lorafmt_adapter *const *adapters, size_t n, bool sites);
int inspect_json(const input *in, const lorafmt_adapter *const *adapters, size_t n);

#endif
