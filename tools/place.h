/* SPDX-License-Identifier: MIT */
/* Where in a model a target is, going by its name. */
#ifndef TOOLS_PLACE_H
#define TOOLS_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A part of a target. */
typedef struct span {
    const char *text;
    size_t length;
} span;

/*
 * Of "model.layers.12.self_attn.q_proj.weight" the stack is "model.layers", the layer 12, the module "q_proj" and its path
 * "self_attn.q_proj". A module keeps what follows it unless that is ".weight" ("q_proj.bias"), and what comes before it when it is
 * a number ("to_out.0").
 */
typedef struct place {
    bool has_layer; /* the first component that is a number and has a module behind it */
    uint64_t layer;
    span stack; /* empty without a layer */
    span module, path;
} place;

place place_of(const char *target);

/* By bytes, a prefix first. */
int span_compare(span a, span b);

/* A path with "*" for each component that is a number, as "mlp.experts.*.gate_proj"; returns buf. */
#define PATH_TEXT_SIZE 1025 /* spec 4.2: targets are at most 1024 bytes */
const char *path_text(span path, char buf[PATH_TEXT_SIZE]);

/* In the order of their texts. */
int path_compare(span a, span b);

#endif
