/* SPDX-License-Identifier: MIT */
/** Everything in liblorakit. */
#ifndef LORAKIT_LORAKIT_H
#define LORAKIT_LORAKIT_H

#include "lorakit/adapter.h"
#include "lorakit/build.h"
#include "lorakit/compose.h"
#include "lorakit/diff.h"
#include "lorakit/emit.h"
#include "lorakit/extract.h"
#include "lorakit/init.h"
#include "lorakit/manifest.h"
#include "lorakit/resize.h"
#include "lorakit/scenarios.h"
#include "lorakit/spectrum.h"
#include "lorakit/uniform.h"

#endif
