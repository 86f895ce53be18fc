/* SPDX-License-Identifier: MIT */
/**
 * What a reader puts up with: numbers that what comes from outside may not exceed. Each has a value that holds by itself, which is the
 * most that the format or the reader allows; who reads adapters of strangers sets smaller ones. docs/limits.md has them all.
 */
#ifndef LORAFMT_LIMITS_H
#define LORAFMT_LIMITS_H

#include "lorafmt/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Of a file, whatever of it is asked for. Sizes are bytes. */
typedef enum lorafmt_limit {
    LORAFMT_LIMIT_FILE_SIZE,   /**< the file that holds the tensors */
    LORAFMT_LIMIT_INDEX_SIZE,  /**< the index of a `.lora` */
    LORAFMT_LIMIT_HEADER_SIZE, /**< the header of an adapter's safetensors file */
    LORAFMT_LIMIT_CONFIG_SIZE, /**< adapter_config.json */
    LORAFMT_LIMIT_ADAPTERS,    /**< in a file */
    LORAFMT_LIMIT_SITES,       /**< of all its adapters together */
    LORAFMT_LIMIT_TENSORS,     /**< in a file */
    LORAFMT_LIMIT_METADATA,    /**< keys of all its adapters together */
    LORAFMT_LIMIT_NAME_SIZE,   /**< the name of an adapter, of a target */
    LORAFMT_LIMIT_RANK,
    LORAFMT_LIMIT_TENSOR_SIZE, /**< one tensor, decoded */
    LORAFMT_LIMIT_DATA_SIZE,   /**< all tensors of a file, decoded */
    LORAFMT_LIMIT_JSON_DEPTH,  /**< arrays and objects within each other, in an adapter's JSON */
    LORAFMT_LIMIT_JSON_VALUES, /**< values of one JSON text; by itself fewer, by the size of the text */
    LORAFMT_LIMIT_YAML_SIZE,   /**< a manifest or lock */
    LORAFMT_LIMIT_YAML_DEPTH,  /**< mappings and sequences within each other */
    LORAFMT_LIMIT_YAML_VALUES, /**< keys, scalars, mappings and sequences of one file */
} lorafmt_limit;

#define LORAFMT_N_LIMITS 17

typedef struct lorafmt_limits {
    size_t struct_size;                 /**< sizeof(lorafmt_limits) */
    uint64_t at_most[LORAFMT_N_LIMITS]; /**< by lorafmt_limit; 0 = lorafmt_limit_most() */
} lorafmt_limits;

/** "rank", "tensor-size": what the command line calls it. NULL for a number that is no limit. */
LORAFMT_API const char *lorafmt_limit_name(lorafmt_limit limit);

/** What holds by itself, and the most that can be set. 0 for a number that is no limit. */
LORAFMT_API uint64_t lorafmt_limit_most(lorafmt_limit limit);

/** What holds with these limits, which may be NULL. */
LORAFMT_API uint64_t lorafmt_limits_get(const lorafmt_limits *limits, lorafmt_limit limit);

/** MISUSE for a wrong struct_size, or a number above lorafmt_limit_most(). limits may be NULL. */
LORAFMT_API lorafmt_status lorafmt_limits_check(const lorafmt_limits *limits, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
