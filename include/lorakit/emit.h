/* SPDX-License-Identifier: MIT */
/** Scenarios for engines that serve adapters beside one base: PEFT directories in the form that each engine reads. */
#ifndef LORAKIT_EMIT_H
#define LORAKIT_EMIT_H

#include "lorakit/scenarios.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lorakit_engine {
    LORAKIT_PEFT = 1,
    LORAKIT_VLLM,
    LORAKIT_SGLANG,
    LORAKIT_LORAX,
} lorakit_engine;

/** "peft" and so on; NULL for a number that is no engine. */
LORAKIT_API const char *lorakit_engine_name(unsigned engine);

/** How an engine starts with a whole model, whose path follows. */
LORAKIT_API const char *lorakit_engine_start(lorakit_engine engine);

/** How a scenario is expressed. */
typedef enum lorakit_expression {
    LORAKIT_NOT_EXPRESSED = 0, /**< not at all */
    LORAKIT_EXPRESSED_BASE,    /**< it is the base, without an adapter */
    LORAKIT_EXPRESSED_AS_IS,   /**< the adapter as it is */
    LORAKIT_EXPRESSED_ONE,     /**< one adapter, weights in its scale, brought to one rank */
    LORAKIT_EXPRESSED_SUM,     /**< several, added up into one */
} lorakit_expression;

/** "none", "base", "as-is", "one", "sum"; "unknown" for other numbers. Never NULL. */
LORAKIT_API const char *lorakit_expression_name(lorakit_expression form);

typedef struct lorakit_emitted {
    size_t scenario; /**< of the manifest */
    lorakit_expression form;
    uint32_t rank;   /**< the largest; 0 without an adapter */
    double scale;    /**< of all sites; 0 where they have their own */
    size_t n_filled; /**< sites added that add nothing: see docs/serving.md */
    double rounding; /**< the most that an update was changed, relative to its norm (Frobenius); 0 = the same numbers */
    char why[1536];  /**< LORAKIT_NOT_EXPRESSED: what the engine does not take, and where */
} lorakit_emitted;

typedef struct lorakit_emit_options {
    size_t struct_size;      /**< sizeof(lorakit_emit_options) */
    const size_t *scenarios; /**< of the manifest, each once; NULL = all */
    size_t n_scenarios;
    bool all;           /**< fail unless every one of them can be expressed */
    unsigned n_threads; /**< 0 = one per CPU */

    /** Called for what does not fit the base, as in lorafmt_bind_options; may be NULL. */
    void (*report)(void *ctx, const char *adapter, const char *target, const char *text);
    void *report_ctx;
    lorakit_progress progress; /**< scenarios that are done, before each */
    void *progress_ctx;
} lorakit_emit_options;

/**
 * Write a directory, whole or not at all, that does not exist yet: SCENARIO/ with adapter_config.json and
 * adapter_model.safetensors for each scenario that has an adapter, adapters.json, and what starts the engine with them: serve.sh,
 * for PEFT load.py. What is written for which engine, and why: docs/serving.md.
 *
 * @param options  may be NULL
 * @param emitted  one for each scenario of the options, or of the manifest; filled also where this fails as UNSUPPORTED
 *
 * @return LORAFMT_OK; UNSUPPORTED (a scenario cannot be expressed, with options->all; or none can); MISUSE; what
 *         lorakit_scenarios_bind() returns; IO (os_error EEXIST when path exists); CANCELLED; NO_MEMORY
 */
LORAKIT_API lorafmt_status lorakit_emit(lorakit_scenarios *set, lorakit_engine engine, const char *path,
                                        const lorakit_emit_options *options, lorakit_emitted *emitted, lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
