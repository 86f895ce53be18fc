/* SPDX-License-Identifier: MIT */
/** The API version, from which the soname comes, and the release version are separate numbers. */
#ifndef LORAFMT_VERSION_H
#define LORAFMT_VERSION_H

#include "lorafmt/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LORAFMT_API_VERSION 0
#define LORAFMT_RELEASE "0.1.0"
#define LORAFMT_FORMAT_MAJOR 1
#define LORAFMT_FORMAT_MINOR 0

/** LORAFMT_RELEASE of the library that is linked. */
LORAFMT_API const char *lorafmt_release(void);

#ifdef __cplusplus
}
#endif

#endif
